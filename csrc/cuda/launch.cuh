// Runs kernels that are written in steps (steps.cuh) on the current device's stream. Included by .cu files.
#pragma once
#include <cuda_runtime.h>

#include "cuda/device.h"
#include "cuda/roles.cuh"
#include "cuda/steps.cuh"
#include "geometry/launch_plan.h"

namespace deconvkit::cuda {

#ifdef __CUDA_ARCH__
constexpr int kArchitecture = __CUDA_ARCH__ / 10;
#else
constexpr int kArchitecture = 0;
#endif

// A launch's shared memory is the last parameter of run_steps and run_roles, though they need it not: so it
// is in the name by which ptxas calls the kernel, where .ci/ptxas_gate.py reads it.
template <class Kernel, int64_t>
__global__ void __launch_bounds__(Kernel::kThreads, kResident<Kernel>)
    run_steps(const __grid_constant__ Kernel kernel) {
  if constexpr (kArchitecture >= kLeastArchitecture<Kernel>) {
    extern __shared__ __align__(16) unsigned char memory[];
    auto& shared = *reinterpret_cast<typename Kernel::Shared*>(memory);
    static_assert(sizeof(Kernel) <= 4096, "older drivers take no larger parameters");
    typename Kernel::Own own;
    const Place place{blockIdx.x, gridDim.x, static_cast<int32_t>(threadIdx.x)};
    const int64_t steps = kernel.steps(place.block, place.blocks);
    for (int64_t i = 0; i < steps; ++i) {
      if (i) __syncthreads();
      kernel.step(i, place, shared, own);
    }
  }
}

template <class Kernel>
constexpr auto kernel_of() {
  if constexpr (kHasRoles<Kernel>) {
    return &run_roles<Kernel, kShared<Kernel>>;
  } else {
    return &run_steps<Kernel, kShared<Kernel>>;
  }
}

// A kernel as the module knows it: made ready for a device before its first launch there (device.h). Each .cu
// that has the kernel has a host function of its own for it, and the first one is registered: launches take
// that one, by its number.
template <class Kernel>
struct Entry {
  // Its number.
  static inline const int registered =
      register_kernel(reinterpret_cast<const void*>(kernel_of<Kernel>()), Kernel::kThreads, kShared<Kernel>,
                      kLeastArchitecture<Kernel>, kOnlyArchitecture<Kernel>);
};

// The launcher that entries take. Makes the stream's device the current one for as long as it lives.
class DeviceLauncher {
 public:
  explicit DeviceLauncher(const Stream& stream) : stream_(stream), guard_(stream.device) {}

  template <class Kernel>
  void operator()(const Kernel& kernel, int64_t tiles) const {
    if (tiles <= 0) return;
    // A block more than are resident would run alone, after the others.
    const int64_t blocks =
        persistent_blocks(tiles, resident_blocks(Entry<Kernel>::registered, stream_.device));
    void* arguments[] = {const_cast<Kernel*>(&kernel)};
    check(cudaLaunchKernel(kernel_address(Entry<Kernel>::registered), dim3(static_cast<unsigned>(blocks)),
                           dim3(Kernel::kThreads), arguments, kShared<Kernel>,
                           static_cast<cudaStream_t>(stream_.handle)),
          "a kernel could not be launched");
  }

  // Whether the code that this device runs has the kernel.
  template <class Kernel>
  bool can_run() const {
    return resident_blocks(Entry<Kernel>::registered, stream_.device) > 0;
  }

  // Makes the map of a box that is legal; whether the driver did.
  bool encode(const TensorBox& box, TensorMap& map) const { return cuda::encode(box, map.opaque); }

 private:
  Stream stream_;
  DeviceGuard guard_;
};

}  // namespace deconvkit::cuda
