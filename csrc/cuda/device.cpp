#include "cuda/device.h"

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
  int least_architecture;
};
std::vector<Registered>& registry() {
  static std::vector<Registered> kernels;
  return kernels;
}

// For each prepared device, how many blocks of each kernel it runs at once.
constexpr int kMaxDevices = 64;
std::atomic<const int64_t*> resident[kMaxDevices];

int64_t multiprocessors(int device) {
  int count = 0;
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "no such device");
  return count;
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

int register_kernel(const void* address, int threads, int64_t shared, int least_architecture) {
  registry().push_back({address, threads, shared, least_architecture});
  return registered_kernels() - 1;
}

int registered_kernels() { return static_cast<int>(registry().size()); }

void prepare(int device) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  const DeviceGuard guard(device);
  if (device >= kMaxDevices) throw std::runtime_error("deconvkit: expected at most 64 devices");
  if (resident[device]) return;
  std::unique_ptr<int64_t[]> blocks(new int64_t[registry().size()]);
  int64_t* next = blocks.get();
  for (const Registered& kernel : registry()) {
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
    *next++ = multiprocessors(device) * (count < 1 ? 1 : count);
  }
  resident[device] = blocks.release();  // for as long as the process lives
}

int64_t resident_blocks(int kernel, int device) {
  const int64_t* const blocks = device >= 0 && device < kMaxDevices ? resident[device].load() : nullptr;
  if (!blocks) throw std::runtime_error("deconvkit: the kernels were not prepared for the device");
  return blocks[kernel];
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
