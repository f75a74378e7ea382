// The matrix product in the middle of every Winograd pass, for a panel of kPanel output columns:
//
//   m[r][0..kPanel) (+)= Σ_i a(r, i) · b[i][0..kPanel),   i in [0, depth)
//
// Rows are broadcast, columns lie in the lanes. kRows x 2 accumulators stay in registers over the whole
// depth, then are added to m: sums over longer depths are split by the caller, which halves the rounding
// error as well. Floor: one fused multiply-add per product; kRows + 2 loads for each 2·kRows of them.
#pragma once
#include "cpu/simd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

template <class C>
struct WinogradGemm {
  static constexpr int L = kLanes<C>;
  static constexpr int kVectors = 2;
  static constexpr int64_t kPanel = kVectors * L;
  static constexpr int kRows = kVectorRegisters == 32 ? 12 : 6;
  using V = Vec<C, L>;

  // a(r, i) = a[r * row + i * step]: channels of a tile are adjacent (step 1) in the forward pass, rows are
  // (row 1) in the weight gradient.
  template <bool kAdjacentRows>
  static void run(int64_t rows, int64_t depth, const C* a, int64_t stride, const C* b, C* m,
                  bool accumulate) {
    int64_t r = 0;
    const int64_t row = kAdjacentRows ? 1 : stride;
    for (; r + kRows <= rows; r += kRows) {
      tile<kRows, kAdjacentRows>(depth, a + r * row, stride, b, m + r * kPanel, accumulate);
    }
    if (r < rows) {
      rest<kRows - 1, kAdjacentRows>(static_cast<int>(rows - r), depth, a + r * row, stride, b,
                                     m + r * kPanel, accumulate);
    }
  }

 private:
  template <int kR, bool kAdjacentRows>
  static void tile(int64_t depth, const C* __restrict a, int64_t stride, const C* __restrict b,
                   C* __restrict m, bool accumulate) {
    V sum[kR][kVectors] = {};
    const int64_t row = kAdjacentRows ? 1 : stride, step = kAdjacentRows ? stride : 1;
    for (int64_t i = 0; i < depth; ++i) {
      V column[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) column[v] = load_vec<L>(b + i * kPanel + v * L);
#pragma GCC unroll 12
      for (int r = 0; r < kR; ++r) {
        const V x = splat<C, L>(a[r * row + i * step]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[r][v] += x * column[v];
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        C* p = m + r * kPanel + v * L;
        store_vec<L>(p, accumulate ? sum[r][v] + load_vec<L>(p) : sum[r][v]);
      }
    }
  }

  template <int kR, bool kAdjacentRows>
  static void rest(int rows, int64_t depth, const C* a, int64_t stride, const C* b, C* m, bool accumulate) {
    if constexpr (kR > 0) {
      if (rows == kR) return tile<kR, kAdjacentRows>(depth, a, stride, b, m, accumulate);
      rest<kR - 1, kAdjacentRows>(rows, depth, a, stride, b, m, accumulate);
    }
  }
};

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
