// The matrix product of one tile (geometry/conv_tiles.h): its operands in shared memory, its sums in
// registers, 4x4 a thread.
#pragma once
#include "cuda/number.cuh"
#include "geometry/conv_tiles.h"

namespace deconvkit::cuda {

template <class C>
struct Product {
  static constexpr int kThreads = 256, kOwn = 4;
  static constexpr int kTile = ProductTile::kTile, kDepth = ProductTile::kDepth;
  static constexpr int kAcross = kTile / kOwn;
  static_assert(kAcross * kAcross == kThreads, "a thread owns 4x4 sums");

  // [term][row]; the gap spreads a thread's terms over the banks.
  struct alignas(16) Operands {
    C rows[kDepth][kTile + 4];
    C columns[kDepth][kTile + 4];
  };
  struct Sums {
    C at[kOwn][kOwn];
  };

  // Calls f(term, row) for a thread's share of an operand; neighbouring threads have neighbouring terms, or
  // neighbouring rows: whichever lie side by side in memory.
  template <class F>
  DECONVKIT_INLINE static void share(bool terms_first, int32_t thread, F&& f) {
    DECONVKIT_UNROLL
    for (int32_t i = thread; i < kTile * kDepth; i += kThreads) {
      const int32_t a = terms_first ? i % kDepth : i / kTile, b = terms_first ? i / kDepth : i % kTile;
      f(a, b);
    }
  }

  DECONVKIT_INLINE static void clear(Sums& sums) {
    DECONVKIT_UNROLL
    for (int i = 0; i < kOwn * kOwn; ++i) sums.at[i / kOwn][i % kOwn] = 0;
  }

  // A thread's first row and column.
  DECONVKIT_INLINE static int32_t first_row(bool rows_first, int32_t thread) {
    return kOwn * (rows_first ? thread % kAcross : thread / kAcross);
  }
  DECONVKIT_INLINE static int32_t first_column(bool rows_first, int32_t thread) {
    return kOwn * (rows_first ? thread / kAcross : thread % kAcross);
  }

  DECONVKIT_INLINE static void multiply(const Operands& o, int32_t row, int32_t column, Sums& sums) {
    DECONVKIT_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      const Group<C, kOwn> a = load<kOwn>(o.rows[k] + row), b = load<kOwn>(o.columns[k] + column);
      DECONVKIT_UNROLL
      for (int i = 0; i < kOwn; ++i) {
        DECONVKIT_UNROLL
        for (int j = 0; j < kOwn; ++j) sums.at[i][j] += a.at[i] * b.at[j];
      }
    }
  }

  // Calls f(row, column, sum) for the sums of a thread.
  template <class F>
  DECONVKIT_INLINE static void for_sums(int32_t row, int32_t column, const Sums& sums, F&& f) {
    DECONVKIT_UNROLL
    for (int i = 0; i < kOwn; ++i) {
      DECONVKIT_UNROLL
      for (int j = 0; j < kOwn; ++j) f(row + i, column + j, sums.at[i][j]);
    }
  }
};

}  // namespace deconvkit::cuda
