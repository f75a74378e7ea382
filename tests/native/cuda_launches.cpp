// test_cuda_launches: every kernel that an entry launches was prepared, for the shared memory it asks for,
// and runs on its stream's device, which is the current one for no longer than that. Needs nvcc's code and no
// GPU: the runtime is this one, which notes what it is told and runs nothing.
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <map>
#include <set>
#include <string>

#include "cuda/kernels.h"

namespace {
constexpr int kDevice = 1, kPlainShared = 48 << 10;
int current = 0, changes = 0, launches = 0, failures = 0;
std::map<const void*, const char*> names;  // of the host functions that nvcc registers
std::map<const void*, size_t> prepared;    // the shared memory that each may ask for
std::set<const void*> launched;

void expect(bool holds, const char* what, const char* where) {
  if (!holds) std::printf("FAILED: %s: %.120s\n", what, where), ++failures;
}

CUresult encode_tiled(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                      const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                      CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  return CUDA_SUCCESS;
}
cudaError_t find_encoder(void** address, cudaDriverEntryPointQueryResult* result) {
  *address = reinterpret_cast<void*>(&encode_tiled);
  *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
}  // namespace

extern "C" {
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "it never fails"; }
cudaError_t cudaGetDevice(int* device) { return *device = current, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return current = device, ++changes, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int*) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int*) { return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  *value = which == cudaDevAttrComputeCapabilityMajor   ? 9
           : which == cudaDevAttrComputeCapabilityMinor ? 0
                                                        : 132;
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  expect(current == kDevice, "prepared for another device", names[kernel]);
  prepared[kernel] = kPlainShared;
  attributes->ptxVersion = 90;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute which, int value) {
  if (which == cudaFuncAttributeMaxDynamicSharedMemorySize) prepared[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
  return *blocks = 2, cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t,
                                                                   unsigned) {
  return *blocks = 2, cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** address, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  return find_encoder(address, result);
}
cudaError_t cudaGetDriverEntryPoint(const char*, void** address, unsigned long long,
                                    cudaDriverEntryPointQueryResult* result) {
  return find_encoder(address, result);
}
cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                             cudaStream_t) {
  ++launches;
  const auto found = prepared.find(kernel);
  expect(found != prepared.end(), "launched, not prepared", names[kernel]);
  expect(found == prepared.end() || shared <= found->second, "asks for more shared memory than was allowed",
         names[kernel]);
  launched.insert(kernel);
  expect(current == kDevice, "launched on another device", names[kernel]);
  expect(grid.x && block.x && arguments[0], "launched as nothing", names[kernel]);
  return cudaSuccess;
}

// What nvcc's host code calls.
void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*,
                            dim3*, int*) {
  names[host] = name;
}
unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, CUstream_st*) { return 0; }
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void*) {
  return *grid = *block = dim3(1), *shared = 0, cudaSuccess;
}
cudaError_t __cudaGetKernel(const void** kernel, const void* host) { return *kernel = host, cudaSuccess; }
cudaError_t __cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                               CUstream_st* stream) {
  return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}
}

namespace deconvkit {
namespace {

const cuda::Stream kStream{kDevice, nullptr};

// A tensor whose elements nobody reads.
TensorRef tensor(DType dtype, std::initializer_list<int64_t> sizes, bool channels_last = false) {
  alignas(128) static char somewhere[1];
  TensorRef t;
  t.data = somewhere;
  t.dtype = dtype;
  t.rank = static_cast<int32_t>(sizes.size());
  int i = 0;
  for (const int64_t size : sizes) t.size[i++] = size;
  int64_t stride = 1;
  for (i = t.rank - 1; i >= 0; --i) {
    if (channels_last && i == 1) continue;
    t.stride[i] = channels_last ? stride * t.size[1] : stride;
    stride *= t.size[i];
    if (channels_last && i == 0) t.stride[i] = stride * t.size[1];
  }
  if (channels_last) t.stride[1] = 1;
  return t;
}

void pool(DType dtype, DType switches_dtype, const PoolShape& s, int64_t channels, bool channels_last) {
  const auto big = tensor(dtype, {2, channels, s.h.input, s.w.input}, channels_last);
  const auto small = tensor(dtype, {2, channels, s.h.output, s.w.output}, channels_last);
  const auto switches = tensor(switches_dtype, {2, channels, s.h.output, s.w.output}, channels_last);
  cuda::max_pool2d_with_switches(big, small, switches, s, kStream);
  cuda::max_pool2d_backward(small, switches, big, s, kStream);
  cuda::max_pool2d_gather(big, switches, small, s, kStream);
  cuda::max_unpool2d(small, switches, big, s, kStream);
  cuda::max_unpool2d_backward(big, switches, small, s, kStream);
}

void sparse(DType dtype, int64_t units, int64_t inner) {
  const DType compute = dtype == DType::kFloat64 ? dtype : DType::kFloat32;
  const auto z = tensor(dtype, {2, 100, units, inner}), none = TensorRef();
  const auto sums = tensor(DType::kFloat64, {2, 2, units}), penalty = tensor(compute, {2});
  const auto slope = tensor(compute, {2, units}), workspace = tensor(DType::kFloat64, {1 << 20});
  cuda::sparse_sigmoid(z, z, none, penalty, slope, 0.1, 1, workspace, kStream);
  cuda::sparse_sigmoid(z, z, sums, none, none, 0.1, 1, workspace, kStream);
  cuda::sparse_kl(z, none, penalty, slope, 0.1, 1, workspace, kStream);
  cuda::sparse_kl_from_sums(tensor(DType::kFloat64, {2, units}), workspace, tensor(compute, {1}),
                            tensor(compute, {units}), 1, 0.1, 1, workspace, kStream);
  cuda::sparse_sigmoid_backward(z, z, slope, penalty, z, kStream);
}

void convolve(DType dtype, int64_t channels, int64_t groups, bool channels_last, ConvAlgorithm algorithm) {
  const ConvShape s{2, channels, channels, groups, {8, 16, 4, 2, 1, 1}, {8, 16, 4, 2, 1, 1}};
  const auto small = tensor(dtype, {2, channels, 8, 8}, channels_last);
  const auto large = tensor(dtype, {2, channels, 16, 16}, channels_last);
  const auto weight = tensor(dtype, {channels, channels / groups, 4, 4}, channels_last);
  const auto bias = tensor(dtype, {channels}), workspace = tensor(DType::kFloat64, {1 << 20});
  ConvOptions options;
  options.algorithm = algorithm;
  cuda::conv_transpose2d(small, weight, bias, large, s, options, workspace, kStream);
  cuda::conv2d(large, weight, bias, small, s, options, workspace, kStream);
  cuda::conv_weight_grad(small, large, weight, bias, BiasSide::kLarge, s, algorithm, workspace, kStream);
}

void launch_everything() {
  const auto side_by_side = [](int64_t n) { return PoolAxis{2 * n, n, 2, 2, 0, 1}; };
  const PoolShape overlapping{{31, 15, 3, 2, 0, 1}, {31, 15, 3, 2, 0, 1}};
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16}) {
    for (const bool channels_last : {false, true}) {
      for (const DType switches : {DType::kUInt8, DType::kInt32}) {
        for (const int64_t channels : {3, 16}) {
          for (const int64_t width : {7, 14, 16}) {
            pool(dtype, switches, {side_by_side(16), side_by_side(width)}, channels, channels_last);
          }
          pool(dtype, switches, overlapping, channels, channels_last);
        }
      }
      for (const auto algorithm : {ConvAlgorithm::kDirect, ConvAlgorithm::kImplicitGemm,
                                   ConvAlgorithm::kImplicitGemmTF32, ConvAlgorithm::kImplicitGemmMma}) {
        for (const int64_t channels : {3, 16, 64, 256})
          convolve(dtype, channels, 1, channels_last, algorithm);
        convolve(dtype, 16, 16, channels_last, algorithm);
      }
    }
    for (const int64_t units : {1, 25, 256}) {
      for (const int64_t inner : {1, 7, 64}) sparse(dtype, units, inner);
    }
  }
}

}  // namespace
}  // namespace deconvkit

int main() {
  try {
    deconvkit::cuda::prepare(kDevice);
    expect(current == 0, "another device is current", "prepare");
    deconvkit::launch_everything();
  } catch (const std::exception& error) {
    expect(false, error.what(), "");
  }
  expect(current == 0 && changes > 0, "another device is current", "launches");
  current = kDevice, changes = 0;
  deconvkit::sparse(deconvkit::DType::kFloat32, 25, 1);
  expect(changes == 0, "the current device is made the current one, which makes a context there", "");
  expect(launched.size() * 10 > prepared.size() * 9, "nearly all kernels are launched", "");
  std::printf("%d launches of %zu kernels, of %zu prepared: %s\n", launches, launched.size(), prepared.size(),
              failures ? "FAILED" : "ok");
  return failures ? 1 : 0;
}
