// Transposing a square block of vectors in registers. Included by per-ISA kernel files only.
#pragma once
#include <utility>

#include "cpu/simd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

namespace transpose_detail {

// Exchanges the off-diagonal D x D blocks of each 2D x 2D block that rows a (upper) and b (lower) run
// through.
template <int D, class V, int... I>
inline void exchange(V& a, V& b, std::integer_sequence<int, I...>) {
  constexpr int N = sizeof...(I);
  const V upper = __builtin_shufflevector(a, b, ((I & D) ? N + I - D : I)...);
  const V lower = __builtin_shufflevector(a, b, ((I & D) ? N + I : I + D)...);
  a = upper;
  b = lower;
}

template <int D, int N, class V>
inline void stages(V* rows) {
  if constexpr (D < N) {
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) {
      if (!(i & D)) exchange<D>(rows[i], rows[i + D], std::make_integer_sequence<int, N>{});
    }
    stages<2 * D, N>(rows);
  }
}

}  // namespace transpose_detail

// rows[i][j] <-> rows[j][i] of N vectors of N elements: log2(N) stages of N shuffles.
template <int N, class T>
inline void transpose(Vec<T, N>* rows) {
  transpose_detail::stages<1, N>(rows);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
