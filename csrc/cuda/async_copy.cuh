// Copies of 16 bytes from global to shared memory that go on while the thread computes (cp.async, sm_80 on).
//
// A thread's copies since its last commit are a group; wait<N>() returns when all groups but its N youngest
// have landed, and the next barrier shows them to the other threads. On the CPU the tests decide when a
// copy lands, as early or as late as may be (tests/native/cuda_host_gemm.cpp).
#pragma once
#include "cuda/number.cuh"

namespace deconvkit::cuda {

#ifndef __CUDACC__
void on_copy(void* to, const void* from, bool valid);
void on_commit();
void on_wait(int groups);
#endif

// 16 bytes, aligned; zeros where not `valid`, whatever `from` is.
DECONVKIT_INLINE void copy_async([[maybe_unused]] void* to, [[maybe_unused]] const void* from,
                                 [[maybe_unused]] bool valid) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
#elif !defined(__CUDACC__)
  on_copy(to, from, valid);
#endif
}

DECONVKIT_INLINE void commit_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#elif !defined(__CUDACC__)
  on_commit();
#endif
}

template <int N>
DECONVKIT_INLINE void wait_for_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#elif !defined(__CUDACC__)
  on_wait(N);
#endif
}

}  // namespace deconvkit::cuda
