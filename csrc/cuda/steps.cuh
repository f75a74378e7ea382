// How the CUDA kernels are written, so that tests can run them on the CPU.
//
// A kernel is a struct that holds its arguments and has
// - static constexpr int kThreads: threads of a block
// - static constexpr int kResident, if it needs many registers: blocks resident on a multiprocessor at least
// - static constexpr int kLeastArchitecture, if older ones lack its instructions (80 for 8.0), or
//   kOnlyArchitecture, if only one has them
// - struct Shared: what the threads of a block share (may be empty)
// - struct Own: what a thread keeps from step to step (may be empty)
// - int64_t steps(int64_t block, int64_t blocks) const
// - void step(int64_t i, const Place&, Shared&, Own&) const, like steps() for host and device
//
// Between two steps all threads of a block meet; within a step none reads what another writes. On the GPU the
// wrapper in launch.cuh calls the steps with __syncthreads() between; on the CPU tests/native/cuda_host.h
// loops over blocks and threads, in any order. All results leave through the stores of number.cuh.
//
// An entry (max_pool2d.cuh, ...) is a template that takes the launcher as its first argument: anything with
// void operator()(const Kernel&, int64_t tiles) const, which launches the kernel as a grid of at most `tiles`
// blocks: a kernel loops while its blocks are fewer.
#pragma once
#include <cstdint>
#include <type_traits>

#include "geometry/host_device.h"

namespace deconvkit::cuda {

struct Place {
  int64_t block, blocks;
  int32_t thread;
};

struct Empty {};

// ---- what a launch must know of a kernel ----

// Bytes of shared memory.
template <class Kernel>
constexpr int64_t kShared = std::is_empty_v<typename Kernel::Shared> ? 0 : sizeof(typename Kernel::Shared);

// Blocks that must be resident on a multiprocessor at once, which bounds the registers; 0: as ptxas thinks,
// which may mean a few bytes spilled for one block more.
template <class Kernel, class = void>
constexpr int kResident = 0;
template <class Kernel>
constexpr int kResident<Kernel, std::void_t<decltype(Kernel::kResident)>> = Kernel::kResident;

// The first architecture that has a kernel's instructions; code for an older one has no such kernel.
template <class Kernel, class = void>
constexpr int kLeastArchitecture = 0;
template <class Kernel>
constexpr int kLeastArchitecture<Kernel, std::void_t<decltype(Kernel::kLeastArchitecture)>> =
    Kernel::kLeastArchitecture;
// The only architecture that has a kernel, where it is one's own.
template <class Kernel, class = void>
constexpr int kOnlyArchitecture = 0;
template <class Kernel>
constexpr int kOnlyArchitecture<Kernel, std::void_t<decltype(Kernel::kOnlyArchitecture)>> =
    Kernel::kOnlyArchitecture;

// Whether a kernel is one of roles (roles.cuh).
template <class Kernel, class = void>
constexpr bool kHasRoles = false;
template <class Kernel>
constexpr bool kHasRoles<Kernel, std::void_t<typename Kernel::Producer>> = true;

}  // namespace deconvkit::cuda
