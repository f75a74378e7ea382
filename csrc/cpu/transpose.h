// Transposing square blocks in registers, and interleaving. Included by per-ISA kernel files only.
#pragma once
#include <utility>

#include "cpu/simd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// Lanes chosen from a (0 .. N-1) and b (N .. 2N-1) by a constexpr function of the destination lane.
template <class Choice, class V, int... I>
inline V choose(V a, V b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, Choice::from(I)...);
}

// a0 b0 a1 b1 ...: the first half (Half = 0) or the second.
template <int N, int Half>
struct Interleave {
  static constexpr int from(int i) { return Half * (N / 2) + i / 2 + i % 2 * N; }
};
// The same inside each block of K lanes, for groups of G lanes.
template <int N, int K, int G, int Half>
struct BlockInterleave {
  static constexpr int from(int i) {
    const int group = i % K / G;
    return i / K * K + (Half * (K / G / 2) + group / 2) * G + i % G + group % 2 * N;
  }
};
// Blocks of K lanes: where bit B of the block number is clear, block number + Half·B of a; where set, of b.
template <int N, int K, int B, int Half>
struct BlockSwap {
  static constexpr int from(int i) {
    const int block = i / K;
    return ((block & ~B) + Half * B) * K + i % K + (block & B ? N : 0);
  }
};

template <class T, int N, int Half>
inline Vec<T, N> interleave(Vec<T, N> a, Vec<T, N> b) {
  return choose<Interleave<N, Half>>(a, b, std::make_integer_sequence<int, N>{});
}

namespace transposing {

template <class T, int N, int K, int B>
[[gnu::always_inline]] inline void swap_blocks(Vec<T, N>* v) {
  if constexpr (B * K < N) {
    constexpr auto lanes = std::make_integer_sequence<int, N>{};
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) {
      if (i / K & B) continue;
      const Vec<T, N> a = v[i], b = v[i + B * K];
      v[i] = choose<BlockSwap<N, K, B, 0>>(a, b, lanes);
      v[i + B * K] = choose<BlockSwap<N, K, B, 1>>(a, b, lanes);
    }
    swap_blocks<T, N, K, 2 * B>(v);
  }
}

}  // namespace transposing

// v[i][j] <-> v[j][i] of N vectors of N elements: inside blocks of 16 bytes first, then the blocks, so that
// the shuffles are the cheap ones. Unrolled and inlined, or the vectors would live in memory.
template <int N, class T>
[[gnu::always_inline]] inline void transpose(Vec<T, N>* v) {
  constexpr int K = 16 / static_cast<int>(sizeof(T));
  constexpr auto lanes = std::make_integer_sequence<int, N>{};
#pragma GCC unroll 16
  for (int g = 0; g < N; g += K) {
    if constexpr (K == 4) {
      const Vec<T, N> a = choose<BlockInterleave<N, K, 1, 0>>(v[g], v[g + 1], lanes);
      const Vec<T, N> b = choose<BlockInterleave<N, K, 1, 1>>(v[g], v[g + 1], lanes);
      const Vec<T, N> c = choose<BlockInterleave<N, K, 1, 0>>(v[g + 2], v[g + 3], lanes);
      const Vec<T, N> d = choose<BlockInterleave<N, K, 1, 1>>(v[g + 2], v[g + 3], lanes);
      v[g] = choose<BlockInterleave<N, K, 2, 0>>(a, c, lanes);
      v[g + 1] = choose<BlockInterleave<N, K, 2, 1>>(a, c, lanes);
      v[g + 2] = choose<BlockInterleave<N, K, 2, 0>>(b, d, lanes);
      v[g + 3] = choose<BlockInterleave<N, K, 2, 1>>(b, d, lanes);
    } else {
      const Vec<T, N> a = v[g], b = v[g + 1];
      v[g] = choose<BlockInterleave<N, K, 1, 0>>(a, b, lanes);
      v[g + 1] = choose<BlockInterleave<N, K, 1, 1>>(a, b, lanes);
    }
  }
  transposing::swap_blocks<T, N, K, 1>(v);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
