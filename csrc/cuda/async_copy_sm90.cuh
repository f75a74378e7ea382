// Copies by Hopper's copy engine, and the barriers that they arrive at (PTX ISA: mbarrier, cp.async.bulk).
//
// A barrier goes from phase to phase: a phase ends when all its arrivals have come, and all bytes that they
// told it to expect. wait(b, parity) returns once the phase of this parity is over: 0 for the first, then 1,
// 0,
// ...; of a new barrier the phase of parity 1 counts as over. What was copied, or done before an arrival, is
// then visible. On the CPU the tests keep the barriers, and land copies when they please
// (tests/native/cuda_host_sm90.cpp).
#pragma once
#include <cstdint>

#include "cuda/number.cuh"
#include "geometry/tensor_map.h"

namespace deconvkit::cuda {

struct Barrier {
  uint64_t opaque;
};

// A TensorBox as the copy engine reads it, from a kernel's parameters (encode() of the launchers makes it).
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

#ifndef __CUDACC__
void on_barrier(Barrier& barrier, int arrivals);
void on_arrive(Barrier& barrier, int64_t bytes);
void on_copy_box(void* to, const TensorMap& map, const int32_t (&corner)[TensorBox::kRank], Barrier& barrier);
void on_copy_bytes(void* to, const void* from, int64_t bytes, Barrier& barrier);
uint32_t on_shared_address(const void* of);
#endif

// Where the instructions see something in shared memory.
DECONVKIT_INLINE uint32_t shared_address([[maybe_unused]] const void* of) {
#ifdef __CUDA_ARCH__
  return static_cast<uint32_t>(__cvta_generic_to_shared(of));
#elif !defined(__CUDACC__)
  return on_shared_address(of);
#else
  return 0;
#endif
}

DECONVKIT_INLINE void make_barrier([[maybe_unused]] Barrier& barrier, [[maybe_unused]] int arrivals) {
#ifdef __CUDA_ARCH__
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals)
               : "memory");
#elif !defined(__CUDACC__)
  on_barrier(barrier, arrivals);
#endif
}

// Once, by the thread that made the barriers, before the block's threads meet.
DECONVKIT_INLINE void show_barriers() {
#ifdef __CUDA_ARCH__
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

DECONVKIT_INLINE void arrive([[maybe_unused]] Barrier& barrier) {
#ifdef __CUDA_ARCH__
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
#elif !defined(__CUDACC__)
  on_arrive(barrier, 0);
#endif
}
// Before the copies of these bytes are started.
DECONVKIT_INLINE void arrive_and_expect([[maybe_unused]] Barrier& barrier, [[maybe_unused]] int32_t bytes) {
#ifdef __CUDA_ARCH__
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)),
               "r"(bytes)
               : "memory");
#elif !defined(__CUDACC__)
  on_arrive(barrier, bytes);
#endif
}

#ifdef __CUDACC__
// A wait that lasts for seconds is a mistake of ours: the kernel is given up, rather than the device lost.
__device__ __forceinline__ void wait(Barrier& barrier, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
  constexpr uint64_t kPatience = 20'000'000'000;  // nanoseconds
  const uint32_t at = shared_address(&barrier);
  for (uint64_t begin = 0;;) {
    uint32_t over;
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}"
        : "=r"(over)
        : "r"(at), "r"(parity)
        : "memory");
    if (over) return;
    uint64_t now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    if (begin == 0) begin = now;
    if (now - begin > kPatience) __trap();
  }
#endif
}
#endif

// A box that begins at this corner, in the swizzle of geometry/warpgroup_matrix.h.
DECONVKIT_INLINE void copy_box([[maybe_unused]] void* to, [[maybe_unused]] const TensorMap& map,
                               [[maybe_unused]] const int32_t (&corner)[TensorBox::kRank],
                               [[maybe_unused]] Barrier& barrier) {
#ifdef __CUDA_ARCH__
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(&barrier)), "r"(corner[0]), "r"(corner[1]), "r"(corner[2]),
      "r"(corner[3]), "r"(corner[4])
      : "memory");
#elif !defined(__CUDACC__)
  on_copy_box(to, map, corner, barrier);
#endif
}

// Neighbouring bytes, a multiple of 16, aligned to as many on both sides.
DECONVKIT_INLINE void copy_bytes([[maybe_unused]] void* to, [[maybe_unused]] const void* from,
                                 [[maybe_unused]] int32_t bytes, [[maybe_unused]] Barrier& barrier) {
#ifdef __CUDA_ARCH__
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(to)),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(&barrier))
      : "memory");
#elif !defined(__CUDACC__)
  on_copy_bytes(to, from, bytes, barrier);
#endif
}

}  // namespace deconvkit::cuda
