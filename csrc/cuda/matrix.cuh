// The tensor core's matrix product, and the loads that deal its operands out to the lanes of a warp.
//
// A warp multiplies 16 rows by 8 columns over 32 bytes of depth: m16n8k16 of bfloat16 and float16, m16n8k8 of
// TF32, all with sums in float32. Where both operands lie in shared memory with the depth innermost, 16 bytes
// of a row are a row of the 8x8 matrices that ldmatrix deals out, whatever the type; where rows and columns
// are innermost, the load turns them, for TF32 number by number.
//
// On the GPU every lane runs this code for itself. On the CPU lane 0 runs it for all 32: what a lane holds is
// an array of kLanes, and multiply() is the instruction's definition.
#pragma once
#include <type_traits>

#include "cuda/number.cuh"

namespace deconvkit::cuda {

constexpr int kWarpLanes = 32;
#ifdef __CUDA_ARCH__
constexpr int kLanes = 1;
#else
constexpr int kLanes = kWarpLanes;
#endif

// Whether this thread runs the code of its warp.
DECONVKIT_INLINE bool leads_warp([[maybe_unused]] int32_t thread) {
  return kLanes == 1 || thread % kWarpLanes == 0;
}
// What lane `l` of those that this call stands for keeps from step to step (steps.cuh); `own` is the
// caller's.
template <class Own>
DECONVKIT_INLINE Own& own_of(Own& own, int l) {
  return (&own)[l];
}

// A lane's part of four 8x8 matrices: two rows of two (an operand's 16 rows by 32 bytes), or a column of two
// for each of two neighbours (the other operand's 16 columns).
struct Fragment {
  uint32_t at[4];
};

// Deals out four matrices; row(l) is where row l % 8 of matrix l / 8 lies, for each of the 32 lanes.
template <class Row>
DECONVKIT_INLINE void load_matrices(Fragment (&to)[kLanes], [[maybe_unused]] int32_t thread, Row&& row) {
#ifdef __CUDA_ARCH__
  const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row(thread % kWarpLanes)));
  uint32_t* const x = to[0].at;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(at));
#else
  for (int l = 0; l < kLanes; ++l) {
    for (int m = 0; m < 4; ++m) {
      memcpy(&to[l].at[m], static_cast<const unsigned char*>(row(8 * m + l / 4)) + 4 * (l % 4), 4);
    }
  }
#endif
}

// The same of matrices that lie turned, for the product of T: row(l) is where line l % 8 of the depth lies,
// of matrix l / 8. Such a matrix is 8 rows (or columns) by 16 bytes of depth: of float32, 4 lines of 8.
template <class T, class Row>
DECONVKIT_INLINE void load_turned(Fragment (&to)[kLanes], [[maybe_unused]] int32_t thread, Row&& row) {
  if constexpr (sizeof(T) == 4) {
    DECONVKIT_UNROLL
    for (int l = 0; l < kLanes; ++l) {
      const int lane = kLanes == 1 ? thread % kWarpLanes : l;
      DECONVKIT_UNROLL
      for (int m = 0; m < 4; ++m) {
        to[l].at[m] = reinterpret_cast<const uint32_t*>(row(8 * m + lane % 4))[lane / 4];
      }
    }
  } else {
#ifdef __CUDA_ARCH__
    const auto at = static_cast<uint32_t>(__cvta_generic_to_shared(row(thread % kWarpLanes)));
    uint32_t* const x = to[0].at;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(at));
#else
    for (int l = 0; l < kLanes; ++l) {
      for (int m = 0; m < 4; ++m) {
        for (int i = 0; i < 2; ++i) {
          const auto* const line = static_cast<const unsigned char*>(row(8 * m + l % 4 * 2 + i));
          memcpy(reinterpret_cast<unsigned char*>(&to[l].at[m]) + 2 * i, line + 2 * (l / 4), 2);
        }
      }
    }
#endif
  }
}

#ifndef __CUDA_ARCH__
// The numbers of a fragment's register.
template <class T>
DECONVKIT_INLINE void numbers_of(uint32_t bits, float (&to)[2]) {
  to[0] = widen(T{static_cast<uint16_t>(bits)});
  to[1] = widen(T{static_cast<uint16_t>(bits >> 16)});
}
template <>
DECONVKIT_INLINE void numbers_of<float>(uint32_t bits, float (&to)[2]) {
  to[0] = bits_as<float>(bits & 0xffffe000u);  // TF32: the instruction does not see the last 13 bits
}
#endif

// Adds the product of two fragments to a lane's four sums, sums(l): (row l / 4, columns 2 (l % 4) and the
// next), and the same of the row 8 further down. `half` chooses the left or the right 8 columns of b.
template <class T, class Sums>
DECONVKIT_INLINE void multiply(Sums&& sums, const Fragment (&a)[kLanes], const Fragment (&b)[kLanes],
                               int half) {
#ifdef __CUDA_ARCH__
#if __CUDA_ARCH__ >= 800
  float(&c)[4] = sums(0);
  const uint32_t *const x = a[0].at, *const y = b[0].at + 2 * half;
#define DECONVKIT_MMA(shape, type)                                     \
  asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type \
               ".f32 {%0, %1, %2, %3}, "                               \
               "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"         \
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])        \
               : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]))
  if constexpr (std::is_same_v<T, BFloat16>) {
    DECONVKIT_MMA("m16n8k16", "bf16");
  } else if constexpr (std::is_same_v<T, Float16>) {
    DECONVKIT_MMA("m16n8k16", "f16");
  } else {
    DECONVKIT_MMA("m16n8k8", "tf32");
  }
#undef DECONVKIT_MMA
#endif
#else
  constexpr int n = 4 / sizeof(T), depth = 8 * n;
  float rows[16][depth], columns[8][depth];
  for (int l = 0; l < kLanes; ++l) {
    for (int m = 0; m < 4; ++m) {
      float x[2];
      numbers_of<T>(a[l].at[m], x);
      for (int i = 0; i < n; ++i) rows[l / 4 + 8 * (m % 2)][(4 * (m / 2) + l % 4) * n + i] = x[i];
      if (m >= 2) continue;
      numbers_of<T>(b[l].at[2 * half + m], x);
      for (int i = 0; i < n; ++i) columns[l / 4][(4 * m + l % 4) * n + i] = x[i];
    }
  }
  for (int l = 0; l < kLanes; ++l) {
    float(&c)[4] = sums(l);
    for (int i = 0; i < 4; ++i) {
      const int row = l / 4 + 8 * (i / 2), column = 2 * (l % 4) + i % 2;
      float sum = c[i];
      for (int k = 0; k < depth; ++k) sum += rows[row][k] * columns[column][k];
      c[i] = sum;
    }
  }
#endif
}

// float32 as TF32, to nearest: what a product of TF32 takes of its operands. What would round to infinity is
// cut off instead; infinities and NaN stay what they are.
DECONVKIT_INLINE uint32_t tf32(float x) {
  const uint32_t bits = bits_as<uint32_t>(x), cut = bits & 0xffffe000u;
  if ((bits & 0x7fffffffu) < 0x7f7ff000u) return (bits + 0x1000u) & 0xffffe000u;
  return x != x ? cut | 0x400000u : cut;
}
// What that leaves of x, 0 of infinities and NaN: with it three products have nearly float32's accuracy.
DECONVKIT_INLINE uint32_t rest_of_tf32(float x, uint32_t big) {
  return (big & 0x7f800000u) == 0x7f800000u ? 0u : tf32(x - bits_as<float>(big));
}

}  // namespace deconvkit::cuda
