// Hopper's matrix product of a warpgroup: 64 rows by 16, 64 or 128 columns over 16 numbers of depth, both
// operands in shared memory (geometry/warpgroup_matrix.h), sums in float32.
//
// Products run asynchronously: multiply() starts one, wait_for_products() waits for all, and not before that
// may the sums be read or the operands be overwritten. All threads of a warpgroup call these together. On the
// CPU its first thread calls them for all, and the tests compute the products when they are waited for, by
// the instruction's definition (tests/native/cuda_host_sm90.cpp).
#pragma once
#include <type_traits>

#include "cuda/number.cuh"
#include "geometry/warpgroup_matrix.h"

namespace deconvkit::cuda {

#ifndef __CUDACC__
// sums: of the first thread; those of the next are `apart` bytes further on.
void on_multiply(float* sums, size_t apart, int columns, DType dtype, uint64_t a, uint64_t b);
void on_wait_for_products();
#endif

// Whether this thread runs the code of its warpgroup.
DECONVKIT_INLINE bool leads_warpgroup([[maybe_unused]] int32_t thread) {
#ifdef __CUDA_ARCH__
  return true;
#else
  return thread % WarpgroupMatrix::kThreads == 0;
#endif
}

// Keeps the compiler from touching sums while products are under way, about which it does not know.
template <int kMatrices, int kFragments>
DECONVKIT_INLINE void hold([[maybe_unused]] float (&sums)[kMatrices][kFragments][4]) {
#ifdef __CUDA_ARCH__
  DECONVKIT_UNROLL
  for (int i = 0; i < kMatrices * kFragments * 4; ++i) {
    asm volatile("" : "+f"(sums[i / 4 / kFragments][i / 4 % kFragments][i % 4])::"memory");
  }
#endif
}

// Before the first product that adds to sums which were written by other instructions.
template <int kMatrices, int kFragments>
DECONVKIT_INLINE void begin_products(float (&sums)[kMatrices][kFragments][4]) {
  hold(sums);
#ifdef __CUDA_ARCH__
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
template <int kMatrices, int kFragments>
DECONVKIT_INLINE void wait_for_products(float (&sums)[kMatrices][kFragments][4]) {
#ifdef __CUDA_ARCH__
  asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
#elif !defined(__CUDACC__)
  on_wait_for_products();
#endif
  hold(sums);
}

#define DECONVKIT_4(i) "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
#define DECONVKIT_16(i) DECONVKIT_4(i), DECONVKIT_4(i + 1), DECONVKIT_4(i + 2), DECONVKIT_4(i + 3)
// Both operands have the depth innermost (0, 0) and their own sign (1, 1); the sums are added to (p).
#define DECONVKIT_WGMMA(columns, type, registers, left, right, ...)                                \
  asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\nwgmma.mma_async.sync.aligned.m64n" columns \
               "k16.f32." type "." type " {" registers "}, " left ", " right ", p, 1, 1, 0, 0;\n}" \
               : __VA_ARGS__                                                                       \
               : "l"(a), "l"(b))
#define DECONVKIT_REGISTERS_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define DECONVKIT_REGISTERS_32                                                                           \
  DECONVKIT_REGISTERS_8                                                                                  \
  ", %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, " \
  "%28, %29, %30, %31"
#define DECONVKIT_REGISTERS_64                                                                             \
  DECONVKIT_REGISTERS_32                                                                                   \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, " \
  "%52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// Adds the product of two operands, by their descriptors, to the sums of this thread: c[j][i] is its i-th of
// columns 8 j and the 7 after. Those of the next thread are `apart` bytes further on, where that matters.
template <class T, int kFragments>
DECONVKIT_INLINE void multiply(float (&c)[kFragments][4], [[maybe_unused]] size_t apart, uint64_t a,
                               uint64_t b) {
  static_assert(kFragments == 2 || kFragments == 8 || kFragments == 16, "16, 64 or 128 columns");
#ifdef __CUDA_ARCH__
#define DECONVKIT_WGMMA_OF(type)                                                                         \
  if constexpr (kFragments == 2) {                                                                       \
    DECONVKIT_WGMMA("16", type, DECONVKIT_REGISTERS_8, "%8", "%9", DECONVKIT_4(0), DECONVKIT_4(1));      \
  } else if constexpr (kFragments == 8) {                                                                \
    DECONVKIT_WGMMA("64", type, DECONVKIT_REGISTERS_32, "%32", "%33", DECONVKIT_16(0), DECONVKIT_16(4)); \
  } else {                                                                                               \
    DECONVKIT_WGMMA("128", type, DECONVKIT_REGISTERS_64, "%64", "%65", DECONVKIT_16(0), DECONVKIT_16(4), \
                    DECONVKIT_16(8), DECONVKIT_16(12));                                                  \
  }
  if constexpr (std::is_same_v<T, BFloat16>) {
    DECONVKIT_WGMMA_OF("bf16")
  } else {
    DECONVKIT_WGMMA_OF("f16")
  }
#undef DECONVKIT_WGMMA_OF
#elif !defined(__CUDACC__)
  on_multiply(&c[0][0], apart, 8 * kFragments,
              std::is_same_v<T, BFloat16> ? DType::kBFloat16 : DType::kFloat16, a, b);
#endif
}

#undef DECONVKIT_4
#undef DECONVKIT_16
#undef DECONVKIT_WGMMA
#undef DECONVKIT_REGISTERS_8
#undef DECONVKIT_REGISTERS_32
#undef DECONVKIT_REGISTERS_64

}  // namespace deconvkit::cuda
