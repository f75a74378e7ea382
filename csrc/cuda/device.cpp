#include "cuda/device.h"

#include <cuda.h>
#include <cuda_runtime.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "geometry/launch_plan.h"

namespace deconvkit::cuda {
namespace {

struct Registered {
  const void* address;
  int threads;
  int64_t shared;
  int least_architecture, only_architecture;
};
std::vector<Registered>& registry() {
  static std::vector<Registered> kernels;
  return kernels;
}

// For each prepared device, how many blocks of each kernel it runs at once.
constexpr int kMaxDevices = 64;
std::atomic<const int64_t*> resident[kMaxDevices];

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "no such device");
  return value;
}
// Whether a call failed. The runtime forgets it then: else the next launch, whoever's, would report it.
bool failed(int status) {
  if (status == cudaSuccess) return false;
  cudaGetLastError();
  return true;
}
// 90 for 9.0.
int architecture(int device) {
  return 10 * attribute(cudaDevAttrComputeCapabilityMajor, device) +
         attribute(cudaDevAttrComputeCapabilityMinor, device);
}

// The driver's function, by its address: the module links no libcuda. nullptr where it has none.
decltype(&cuTensorMapEncodeTiled) tensor_map_encoder() {
  static const auto encoder = [] {
    void* address = nullptr;
    cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &address, 12000,
                                                                cudaEnableDefault, &result);
#else
    const cudaError_t status =
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &address, cudaEnableDefault, &result);
#endif
    const bool found = !failed(status) && result == cudaDriverEntryPointSuccess;
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found ? address : nullptr);
  }();
  return encoder;
}

}  // namespace

Versions versions() {
  Versions v{0, 0};
  cudaRuntimeGetVersion(&v.runtime);
  if (failed(cudaDriverGetVersion(&v.driver))) v.driver = 0;
  return v;
}

void check(int status, const char* what) {
  if (!failed(status)) return;
  throw std::runtime_error(std::string("deconvkit: ") + what + ": " +
                           cudaGetErrorString(static_cast<cudaError_t>(status)));
}

int register_kernel(const void* address, int threads, int64_t shared, int least_architecture,
                    int only_architecture) {
  registry().push_back({address, threads, shared, least_architecture, only_architecture});
  return registered_kernels() - 1;
}

int registered_kernels() { return static_cast<int>(registry().size()); }

const void* kernel_address(int kernel) { return registry()[kernel].address; }

void prepare(int device) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  const DeviceGuard guard(device);
  if (device >= kMaxDevices) throw std::runtime_error("deconvkit: expected at most 64 devices");
  if (resident[device]) return;
  std::unique_ptr<int64_t[]> blocks(new int64_t[registry().size()]);
  int64_t* next = blocks.get();
  const int here = architecture(device);
  for (const Registered& kernel : registry()) {
    if (kernel.only_architecture && kernel.only_architecture != here) {
      *next++ = 0;
      continue;
    }
    cudaFuncAttributes attributes;
    check(cudaFuncGetAttributes(&attributes, kernel.address), "a kernel could not be loaded");
    if (attributes.ptxVersion < kernel.least_architecture) {
      *next++ = 0;
      continue;
    }
    if (kernel.shared > kPlainShared) {
      check(cudaFuncSetAttribute(kernel.address, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(kernel.shared)),
            "a kernel's shared memory was refused");
    }
    int count = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&count, kernel.address, kernel.threads,
                                                        static_cast<size_t>(kernel.shared)),
          "a kernel does not fit the device");
    *next++ = int64_t{attribute(cudaDevAttrMultiProcessorCount, device)} * (count < 1 ? 1 : count);
  }
  resident[device] = blocks.release();  // for as long as the process lives
}

int64_t resident_blocks(int kernel, int device) {
  const int64_t* const blocks = device >= 0 && device < kMaxDevices ? resident[device].load() : nullptr;
  if (!blocks) throw std::runtime_error("deconvkit: the kernels were not prepared for the device");
  return blocks[kernel];
}

bool encode(const TensorBox& box, void* map) {
  static_assert(sizeof(CUtensorMap) == 128 && TensorBox::kRank == 5, "as kernels declare it");
  const auto encoder = tensor_map_encoder();
  if (!encoder) return false;
  cuuint64_t sizes[TensorBox::kRank], strides[TensorBox::kRank - 1];
  cuuint32_t boxes[TensorBox::kRank], steps[TensorBox::kRank];
  for (int i = 0; i < TensorBox::kRank; ++i) {
    sizes[i] = static_cast<cuuint64_t>(box.size[i]);
    boxes[i] = static_cast<cuuint32_t>(box.box[i]);
    steps[i] = 1;
    if (i) strides[i - 1] = static_cast<cuuint64_t>(box.stride[i]);
  }
  return encoder(static_cast<CUtensorMap*>(map), CU_TENSOR_MAP_DATA_TYPE_UINT16, TensorBox::kRank,
                 reinterpret_cast<void*>(box.address), sizes, strides, boxes, steps,
                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                 CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

DeviceGuard::DeviceGuard(int device) : former_(device), changed_(false) {
  check(cudaGetDevice(&former_), "no current device");
  if (former_ == device) return;
  check(cudaSetDevice(device), "no such device");
  changed_ = true;
}

DeviceGuard::~DeviceGuard() {
  if (changed_) failed(cudaSetDevice(former_));
}

}  // namespace deconvkit::cuda
