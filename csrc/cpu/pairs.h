// bfloat16 in pairs of channels, as vdpbf16ps multiplies them: staging of an input, packing of a weight. An
// odd last channel is paired with zero. Included by per-ISA kernel files only.
#pragma once
#include <cstdint>
#include <cstring>

#include "cpu/stage.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

constexpr int64_t pairs_of(int64_t channels) { return (channels + 1) / 2; }

namespace pairs_detail {

inline Pair pair(const BFloat16* from, int64_t c, int64_t channels, int64_t stride) {
  const uint32_t high = c + 1 < channels ? from[(c + 1) * stride].bits : 0;
  return static_cast<Pair>(from[c * stride].bits | high << 16);
}

// kLanes<Pair> neighbours, each in the low half of a lane.
inline auto widen_half(const BFloat16* from) {
  Vec<uint16_t, kLanes<Pair>> half;
  std::memcpy(&half, from, sizeof half);
  return __builtin_convertvector(half, Vec<uint32_t, kLanes<Pair>>);
}

// to[j·to_stride + i] = pair i of column j, for i < pairs_of(channels), j < columns.
inline void transpose_pairs(const BFloat16* from, int64_t channel, int64_t channels, int64_t columns,
                            Pair* to, int64_t to_stride) {
  constexpr int L = kLanes<Pair>;
  using Bits = Vec<uint32_t, L>;
  const int64_t rows = pairs_of(channels);
  if (rows < L || columns < L) {
    for (int64_t j = 0; j < columns; ++j) {
      for (int64_t i = 0; i < rows; ++i) to[j * to_stride + i] = pair(from + j, 2 * i, channels, channel);
    }
    return;
  }
  const auto load_row = [&](int64_t c, int64_t j) {
    return c < channels ? widen_half(from + c * channel + j) : Bits{};
  };
  // The last block of either axis overlaps the one before.
  for (int64_t i = 0;;) {
    for (int64_t j = 0;;) {
      Vec<Pair, L> v[L];
      for (int r = 0; r < L; ++r) {
        const int64_t c = 2 * (i + r);
        v[r] = bit_cast<Vec<Pair, L>>(load_row(c, j) | load_row(c + 1, j) << 16);
      }
      transpose<L, Pair>(v);
      for (int r = 0; r < L; ++r) store_vec<L>(to + (j + r) * to_stride + i, v[r]);
      if (j + L >= columns) break;
      j = j + 2 * L <= columns ? j + L : columns - L;
    }
    if (i + L >= rows) break;
    i = i + 2 * L <= rows ? i + L : rows - L;
  }
}

}  // namespace pairs_detail

// As stage() of stage.h; the innermost axis of `to` is pairs of channels.
inline void stage(const BFloat16* from, const Strides4& fs, const Extent4& size, Pair* to,
                  const Strides4& ts) {
  const bool whole = fs.w == 1 && fs.h == size.w && ts.h == size.w * ts.w;  // planes are one long row
  const int64_t rows = whole ? 1 : size.h, columns = whole ? size.h * size.w : size.w;
  for (int64_t n = 0; n < size.n; ++n) {
    for (int64_t h = 0; h < rows; ++h) {
      const BFloat16* f = from + n * fs.n + h * fs.h;
      Pair* t = to + n * ts.n + h * ts.h;
      if (fs.w == 1 && fs.c != 1) {
        pairs_detail::transpose_pairs(f, fs.c, size.c, columns, t, ts.w);
        continue;
      }
      for (int64_t w = 0; w < columns; ++w, f += fs.w, t += ts.w) {
        const int64_t even = fs.c == 1 ? size.c / 2 : 0;
        std::memcpy(t, f, even * sizeof(Pair));
        for (int64_t i = even; i < pairs_of(size.c); ++i) t[i] = pairs_detail::pair(f, 2 * i, size.c, fs.c);
      }
    }
  }
}

// Rows 2i and 2i + 1 of `width` floats, which bfloat16 holds exactly, become row i of pairs.
inline void pair_rows(const float* from, int64_t rows, int64_t width, Pair* to) {
  constexpr int L = kLanes<Pair>;
  using Bits = Vec<uint32_t, L>;
  for (int64_t i = 0; i < rows; i += 2, from += 2 * width, to += width) {
    for (int64_t lane = 0; lane < width; lane += L) {
      const Bits low = bit_cast<Bits>(load_vec<L>(from + lane)) >> 16;
      const Bits high = i + 1 < rows ? bit_cast<Bits>(load_vec<L>(from + width + lane)) : Bits{};
      store_vec<L>(to + lane, bit_cast<Vec<Pair, L>>(low | (high & 0xffff0000u)));
    }
  }
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
