// How kernels are written whose warps have different parts to play (steps.cuh is for all others).
//
// A role is a group of threads that goes through steps of its own; before a step it waits for a barrier in
// shared memory, or its own threads meet. That is all that the roles know of each other: on the CPU the tests
// take a step of any role whose barrier lets it pass, in any order (tests/native/cuda_host_roles.h).
//
// A kernel of roles is a struct that holds its arguments and has
// - static constexpr int kThreads, struct Shared as in steps.cuh, of at most 1024 bytes' alignment
// - int64_t begin(Shared&) const: makes the barriers, by one thread
// - struct Producer and struct Consumer: what a thread of this role keeps from step to step, and
//   static constexpr int kFirst, kGroup, kGroups, kRegisters: its first thread, threads of a group, groups,
//   and the registers of a thread. Consumers come first and fill warpgroups, of 128 threads; the last
//   warpgroup is the producer's, whose other threads do nothing
// - steps(place, role), need(i, shared, role), step(i, place, shared, role) of both; place.thread counts from
//   the role's first one
#pragma once
#include "cuda/async_copy_sm90.cuh"
#include "cuda/steps.cuh"

namespace deconvkit::cuda {

// What a step waits for: the end of the phase of this parity of a barrier, or, without one, that the group's
// threads have done the step before.
struct Need {
  Barrier* barrier = nullptr;
  uint32_t parity = 0;
};

#ifdef __CUDACC__
template <class Role, class Kernel>
__device__ __forceinline__ void play(const Kernel& kernel, typename Kernel::Shared& shared) {
  const Place place{blockIdx.x, gridDim.x, static_cast<int32_t>(threadIdx.x) - Role::kFirst};
  Role role;
  const int64_t steps = kernel.steps(place, role);
  for (int64_t i = 0; i < steps; ++i) {
    const Need need = kernel.need(i, shared, role);
    if (need.barrier) {
      wait(*need.barrier, need.parity);
    } else if constexpr (Role::kGroup > 1) {
      // Barrier 0 is __syncthreads's.
      asm volatile("bar.sync %0, %1;" ::"r"(1 + place.thread / Role::kGroup), "n"(Role::kGroup) : "memory");
    }
    kernel.step(i, place, shared, role);
  }
}

constexpr int kAllRegisters = 1 << 16;  // of a multiprocessor

// How many of them each thread of a warpgroup has from now on; a multiple of 8.
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <class Kernel, int64_t>
__global__ void __launch_bounds__(Kernel::kThreads, 1) run_roles(const __grid_constant__ Kernel kernel) {
  static_assert(sizeof(Kernel) <= 4096, "older drivers take no larger parameters");
  extern __shared__ __align__(1024) unsigned char aligned_memory[];
  auto& shared = *reinterpret_cast<typename Kernel::Shared*>(aligned_memory);
  if (threadIdx.x == 0) {
    kernel.begin(shared);
    show_barriers();
  }
  __syncthreads();
  using Producer = typename Kernel::Producer;
  using Consumer = typename Kernel::Consumer;
  // A block has its multiprocessor for itself. The consumers' taking waits for the producer's giving.
  constexpr int kConsumers = Consumer::kGroup * Consumer::kGroups, kProducers = Kernel::kThreads - kConsumers;
  static_assert(kConsumers % 128 == 0 && kProducers == 128 && Producer::kFirst == kConsumers &&
                    Consumer::kFirst == 0 && Producer::kGroups == 1,
                "roles fill warpgroups");
  static_assert(kConsumers * Consumer::kRegisters + kProducers * Producer::kRegisters <= kAllRegisters &&
                    Consumer::kRegisters >= kAllRegisters / Kernel::kThreads / 8 * 8 &&
                    Producer::kRegisters <= kAllRegisters / Kernel::kThreads / 8 * 8,
                "the registers that one role gives suffice for the other");
  if (threadIdx.x < kConsumers) {
    take_registers<Consumer::kRegisters>();
    play<Consumer>(kernel, shared);
  } else {
    give_registers<Producer::kRegisters>();
    if (threadIdx.x < Producer::kFirst + Producer::kGroup) play<Producer>(kernel, shared);
  }
}
#endif

}  // namespace deconvkit::cuda
