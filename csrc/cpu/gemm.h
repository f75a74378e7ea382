// The micro-kernel of the convolution family. Included by per-ISA kernel files only.
//
// A tile of the result is kTileRows rows (pixels) by kTileCols lanes (channels), held in registers. Each step
// of k loads one row of a packed panel (kTileCols consecutive numbers) and broadcasts one number a row. Rows
// come through offsets, one for each tap and row, so that taps, strides, borders and ragged images are all
// the same to the kernel; a row that lies outside the image points at zeros, and a tap that meets no pixel of
// the tile is left out.
#pragma once
#include <cstdint>

#include "cpu/simd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// 12 (of 16 registers) or 24 (of 32) accumulators: enough to hide the latency of two multiply-adds a cycle,
// and fewer loads than multiply-adds.
constexpr int kTileRows = kVectorRegisters == 32 || kVectorBytes == 64 ? 12 : 6;
constexpr int kTileVecs = 2;
template <class C>
constexpr int kTileCols = kTileVecs * kLanes<C>;

// Columns of the panel that starts at column m of so many: a full one, or one vector for the rest.
template <class C>
constexpr int panel_width(int64_t columns, int64_t m) {
  return columns - m > kLanes<C> ? kTileCols<C> : kLanes<C>;
}
// Columns with the padding of the last panel.
template <class C>
constexpr int64_t padded_columns(int64_t columns) {
  return (columns + kLanes<C> - 1) / kLanes<C> * kLanes<C>;
}

// The taps that one tile sums: the steps of tap j are [j·len, (j + 1)·len) of the panel.
struct TileTaps {
  const int32_t* offsets;  // kTileRows for each tap: from the base to the row's first number
  const int32_t* taps;
  int64_t count;
};

// out[i][·] (+)= Σ_taps Σ_k base[offset[tap][i] + k] · panel[tap·len + k][·], where a number of base and
// panel is a C, or K = Pair: two bfloat16.
template <class C, class K = C>
using GatherKernel = void (*)(const K* base, const TileTaps& taps, int64_t len, const K* panel, C* out,
                              int64_t ldc, bool accumulate);

template <class C, class K, int R, int V>
[[gnu::noinline]] void gather_kernel(const K* base, const TileTaps& taps, int64_t len, const K* panel, C* out,
                                     int64_t ldc, bool accumulate) {
  constexpr int L = kLanes<C>;
  using W = Vec<C, L>;
  W acc[R][V] = {};
  const int32_t* offsets = taps.offsets;
  for (int64_t t = 0; t < taps.count; ++t, offsets += kTileRows) {
    const K* rows[R];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) rows[i] = base + offsets[i];
    const K* p = panel + taps.taps[t] * len * (V * L);
    for (int64_t k = 0; k < len; ++k, p += V * L) {
      Vec<K, L> b[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) b[v] = load_vec<L>(p + v * L);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const Vec<K, L> a = splat<K, L>(rows[i][k]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) multiply_add(acc[i][v], a, b[v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      C* o = out + i * ldc + v * L;
      store_vec<L>(o, accumulate ? acc[i][v] + load_vec<L>(o) : acc[i][v]);
    }
  }
}

// table[rows - 1][vectors - 1]
template <class C, class K>
struct GatherKernels {
  GatherKernel<C, K> table[kTileRows][kTileVecs];

  constexpr GatherKernels() : table() { fill<kTileRows>(); }
  template <int R>
  constexpr void fill() {
    table[R - 1][0] = gather_kernel<C, K, R, 1>;
    table[R - 1][1] = gather_kernel<C, K, R, 2>;
    if constexpr (R > 1) fill<R - 1>();
  }
};
template <class C, class K = C>
constexpr GatherKernels<C, K> kGatherKernels{};

// A run of positions that both factors of an outer product walk through, in positions.
struct Run {
  int32_t a, b, count;
};

// One factor: `at` elements from one position to the next, `step` from one step of a run to the next.
template <class C>
struct Factor {
  const C* data;
  int64_t at, step;
};

// out[i][·] += Σ_runs Σ_k a[run.a·at + k·step + i] · b[run.b·at + k·step + ·]
template <class C>
using OuterKernel = void (*)(const Factor<C>& a, const Factor<C>& b, const Run* runs, int64_t count, C* out,
                             int64_t ldc);

template <class C, int R, int V>
[[gnu::noinline]] void outer_kernel(const Factor<C>& a, const Factor<C>& b, const Run* runs, int64_t count,
                                    C* out, int64_t ldc) {
  constexpr int L = kLanes<C>;
  using W = Vec<C, L>;
  W acc[R][V] = {};
  for (const Run* run = runs; run < runs + count; ++run) {
    const C* p = a.data + run->a * a.at;
    const C* q = b.data + run->b * b.at;
    const int64_t p_step = a.step, q_step = b.step;
    for (int64_t k = run->count; k > 0; --k, p += p_step, q += q_step) {
      W x[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) x[v] = load_vec<L>(q + v * L);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const W y = splat<C, L>(p[i]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[i][v] += y * x[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      C* o = out + i * ldc + v * L;
      store_vec<L>(o, load_vec<L>(o) + acc[i][v]);
    }
  }
}

template <class C>
struct OuterKernels {
  OuterKernel<C> table[kTileRows][kTileVecs];

  constexpr OuterKernels() : table() { fill<kTileRows>(); }
  template <int R>
  constexpr void fill() {
    table[R - 1][0] = outer_kernel<C, R, 1>;
    table[R - 1][1] = outer_kernel<C, R, 2>;
    if constexpr (R > 1) fill<R - 1>();
  }
};
template <class C>
constexpr OuterKernels<C> kOuterKernels{};

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
