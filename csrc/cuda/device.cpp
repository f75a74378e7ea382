#include "cuda/device.h"

#include <cuda_runtime.h>

#include <stdexcept>
#include <utility>
#include <vector>

#include "geometry/launch_plan.h"

namespace deconvkit::cuda {
namespace {

struct Registered {
  const void* address;
  int64_t shared;
};
std::vector<Registered>& registry() {
  static std::vector<Registered> kernels;
  return kernels;
}

}  // namespace

Versions versions() {
  Versions v{0, 0};
  cudaRuntimeGetVersion(&v.runtime);
  if (cudaDriverGetVersion(&v.driver) != cudaSuccess) v.driver = 0;
  return v;
}

void check(int status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string("deconvkit: ") + what + ": " +
                           cudaGetErrorString(static_cast<cudaError_t>(status)));
}

bool register_kernel(const void* address, int64_t shared) {
  registry().push_back({address, shared});
  return true;
}

int registered_kernels() { return static_cast<int>(registry().size()); }

void prepare(int device) {
  const DeviceGuard guard(device);
  for (const Registered& kernel : registry()) {
    cudaFuncAttributes attributes;
    check(cudaFuncGetAttributes(&attributes, kernel.address), "a kernel could not be loaded");
    if (kernel.shared > kPlainShared) {
      check(cudaFuncSetAttribute(kernel.address, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(kernel.shared)),
            "a kernel's shared memory was refused");
    }
  }
}

int64_t multiprocessors(int device) {
  int count = 0;
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "no such device");
  return count;
}

int code_architecture(const void* kernel) {
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, kernel), "a kernel could not be loaded");
  return attributes.ptxVersion;
}

DeviceGuard::DeviceGuard(int device) : former_(device), changed_(false) {
  check(cudaGetDevice(&former_), "no current device");
  if (former_ == device) return;
  check(cudaSetDevice(device), "no such device");
  changed_ = true;
}

DeviceGuard::~DeviceGuard() {
  if (changed_) cudaSetDevice(former_);
}

}  // namespace deconvkit::cuda
