// The transforms of F(4, 3): four outputs of a three-tap filter from six products. Points 0, ±1/√2, ±√2, ∞:
// they cost a rounding error of about twice the direct sum's, where 0, ±1, ±2, ∞ cost four times
// (cpu/README.md).
//
//   y = Aᵀ [(G g) ⊙ (Bᵀ d)],   d: 6 inputs, g: 3 taps, y: 4 outputs
//
// Each function is one of the three matrices or its transpose, over elements that are vectors of channels.
// The transposes serve the weight gradient: dg = Gᵀ [(Bᵀ d) ⊙ (A dy)].
#pragma once
#include "cpu/simd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

template <class C>
struct WinogradPoints {
  static constexpr C kA = static_cast<C>(0.70710678118654752440);  // 1/√2; its square is 1/2
  static constexpr C kB = static_cast<C>(1.41421356237309504880);  // √2; its square is 2
};

// o = Bᵀ d. Strides are in vectors.
template <class C, class V>
inline void input_transform(const V* d, int ds, V* o, int os) {
  using Points = WinogradPoints<C>;
  const V d1 = d[ds], d2 = d[2 * ds], d3 = d[3 * ds], d4 = d[4 * ds];
  const V even_a = d4 - C(2) * d2, odd_a = Points::kA * (d3 - C(2) * d1);
  const V even_b = d4 - C(0.5) * d2, odd_b = Points::kB * (d3 - C(0.5) * d1);
  o[0] = d[0] - C(2.5) * d2 + d4;
  o[os] = even_a + odd_a;
  o[2 * os] = even_a - odd_a;
  o[3 * os] = even_b + odd_b;
  o[4 * os] = even_b - odd_b;
  o[5 * os] = d1 - C(2.5) * d3 + d[5 * ds];
}

// y = Aᵀ m.
template <class C, class V>
inline void output_transform(const V* m, int ms, V* y, int ys) {
  using Points = WinogradPoints<C>;
  const V sum_a = m[ms] + m[2 * ms], difference_a = m[ms] - m[2 * ms];
  const V sum_b = m[3 * ms] + m[4 * ms], difference_b = m[3 * ms] - m[4 * ms];
  y[0] = m[0] + sum_a + sum_b;
  y[ys] = Points::kA * difference_a + Points::kB * difference_b;
  y[2 * ys] = C(0.5) * sum_a + C(2) * sum_b;
  y[3 * ys] = (C(0.5) * Points::kA) * difference_a + (C(2) * Points::kB) * difference_b + m[5 * ms];
}

// m = A y.
template <class C, class V>
inline void output_transform_adjoint(const V* y, int ys, V* m, int ms) {
  using Points = WinogradPoints<C>;
  const V y0 = y[0], y1 = y[ys], y2 = y[2 * ys], y3 = y[3 * ys];
  const V even_a = y0 + C(0.5) * y2, odd_a = Points::kA * (y1 + C(0.5) * y3);
  const V even_b = y0 + C(2) * y2, odd_b = Points::kB * (y1 + C(2) * y3);
  m[0] = y0;
  m[ms] = even_a + odd_a;
  m[2 * ms] = even_a - odd_a;
  m[3 * ms] = even_b + odd_b;
  m[4 * ms] = even_b - odd_b;
  m[5 * ms] = y3;
}

// u = G g.
template <class C, class V>
inline void weight_transform(const V* g, int gs, V* u, int us) {
  using Points = WinogradPoints<C>;
  constexpr C kScaleA = static_cast<C>(-1 / 1.5), kScaleB = static_cast<C>(1 / 6.0);
  const V g0 = g[0], g1 = g[gs], g2 = g[2 * gs];
  const V even_a = (g0 + C(0.5) * g2) * kScaleA, odd_a = g1 * (Points::kA * kScaleA);
  const V even_b = (g0 + C(2) * g2) * kScaleB, odd_b = g1 * (Points::kB * kScaleB);
  u[0] = g0;
  u[us] = even_a + odd_a;
  u[2 * us] = even_a - odd_a;
  u[3 * us] = even_b + odd_b;
  u[4 * us] = even_b - odd_b;
  u[5 * us] = g2;
}

// g = Gᵀ u.
template <class C, class V>
inline void weight_transform_adjoint(const V* u, int us, V* g, int gs) {
  using Points = WinogradPoints<C>;
  constexpr C kScaleA = static_cast<C>(-1 / 1.5), kScaleB = static_cast<C>(1 / 6.0);
  const V sum_a = (u[us] + u[2 * us]) * kScaleA, sum_b = (u[3 * us] + u[4 * us]) * kScaleB;
  g[0] = u[0] + sum_a + sum_b;
  g[gs] = (u[us] - u[2 * us]) * (Points::kA * kScaleA) + (u[3 * us] - u[4 * us]) * (Points::kB * kScaleB);
  g[2 * gs] = C(0.5) * sum_a + C(2) * sum_b + u[5 * us];
}

// A column of six inputs, `stride` elements apart, to another, which may be the same.
template <class C, int L = kLanes<C>>
inline void input_column(const C* column, int64_t stride, C* to, int64_t to_stride) {
  Vec<C, L> d[6], o[6];
  for (int i = 0; i < 6; ++i) d[i] = load_vec<L>(column + i * stride);
  input_transform<C>(d, 1, o, 1);
  for (int i = 0; i < 6; ++i) store_vec<L>(to + i * to_stride, o[i]);
}

// The others over both axes of a tile in registers. PH is 6, or 1 where the vertical axis is left as it is.
//
// The products of a tile are read column by column, `stride` elements apart: they would not all fit
// registers.
template <class C, int PH, class V>
inline void output_tile(const C* m, int64_t stride, V* y) {  // [PH][6] -> [tile height][4]
  constexpr int kRows = PH == 6 ? 4 : 1, L = sizeof(V) / sizeof(C);
  V t[kRows * 6];
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    if constexpr (PH == 6) {
      V column[6];
#pragma GCC unroll 6
      for (int i = 0; i < 6; ++i) column[i] = load_vec<L>(m + (i * 6 + j) * stride);
      output_transform<C>(column, 1, t + j, 6);
    } else {
      t[j] = load_vec<L>(m + j * stride);
    }
  }
  for (int i = 0; i < kRows; ++i) output_transform<C>(t + i * 6, 1, y + i * 4, 1);
}

template <class C, int PH, class V>
inline void output_tile_adjoint(const V* y, V* m) {  // [tile height][4] -> [PH][6]
  constexpr int kRows = PH == 6 ? 4 : 1;
  V t[kRows * 6];
  for (int i = 0; i < kRows; ++i) output_transform_adjoint<C>(y + i * 4, 1, t + i * 6, 1);
  for (int j = 0; j < 6; ++j) {
    if constexpr (PH == 6) {
      output_transform_adjoint<C>(t + j, 6, m + j, 6);
    } else {
      m[j] = t[j];
    }
  }
}

template <class C, int PH, class V>
inline void weight_tile(const V* g, V* u) {  // [3 or 1][3] -> [PH][6]
  constexpr int kRows = PH == 6 ? 3 : 1;
  V t[kRows * 6];
  for (int i = 0; i < kRows; ++i) weight_transform<C>(g + i * 3, 1, t + i * 6, 1);
  for (int j = 0; j < 6; ++j) {
    if constexpr (PH == 6) {
      weight_transform<C>(t + j, 6, u + j, 6);
    } else {
      u[j] = t[j];
    }
  }
}

template <class C, int PH, class V>
inline void weight_tile_adjoint(const V* u, V* g) {  // [PH][6] -> [3 or 1][3]
  constexpr int kRows = PH == 6 ? 3 : 1;
  V t[kRows * 6];
  for (int j = 0; j < 6; ++j) {
    if constexpr (PH == 6) {
      weight_transform_adjoint<C>(u + j, 6, t + j, 6);
    } else {
      t[j] = u[j];
    }
  }
  for (int i = 0; i < kRows; ++i) weight_transform_adjoint<C>(t + i * 6, 1, g + i * 3, 1);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
