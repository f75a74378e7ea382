// test_cuda_errors: a call of the CUDA runtime that failed is told once. Needs the toolkit's headers and no
// GPU: the runtime is this one, which fails throughout and, as the real one, remembers that until it is
// asked.
#include <cuda_runtime.h>

#include <cstdio>
#include <stdexcept>

#include "cuda/device.h"

static cudaError_t last = cudaSuccess;
static cudaError_t fail() { return last = cudaErrorInvalidDevice; }

extern "C" {
cudaError_t cudaGetLastError() {
  const cudaError_t told = last;
  last = cudaSuccess;
  return told;
}
const char* cudaGetErrorString(cudaError_t) { return "it always fails"; }
cudaError_t cudaGetDevice(int*) { return fail(); }
cudaError_t cudaSetDevice(int) { return fail(); }
cudaError_t cudaRuntimeGetVersion(int*) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int*) { return fail(); }
cudaError_t cudaDeviceGetAttribute(int*, cudaDeviceAttr, int) { return fail(); }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void*) { return fail(); }
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return fail(); }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int*, const void*, int, size_t) { return fail(); }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int*, const void*, int, size_t, unsigned) {
  return fail();
}
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void**, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult*) {
  return fail();
}
cudaError_t cudaGetDriverEntryPoint(const char*, void**, unsigned long long,
                                    cudaDriverEntryPointQueryResult*) {
  return fail();
}
}

int main() {
  using namespace deconvkit::cuda;
  int failed = 0;
  const auto expect = [&](bool holds, const char* what) {
    if (!holds || last != cudaSuccess) std::printf("FAILED: %s\n", what), ++failed;
    last = cudaSuccess;
  };
  bool told = false;
  try {
    DeviceGuard guard(1);
  } catch (const std::runtime_error&) {
    told = true;
  }
  expect(told, "a device that is none");
  expect(versions().driver == 0, "no driver");
  deconvkit::TensorBox box{};
  expect(!encode(box, nullptr), "a driver without tensor maps");
  if (!failed) std::printf("ok\n");
  return failed;
}
