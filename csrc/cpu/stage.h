// Staging: a region of a strided tensor copied into a dense block whose innermost axis is the channels,
// converted to the type of the arithmetic. Included by per-ISA kernel files only.
#pragma once
#include <cstdint>

#include "cpu/simd.h"
#include "cpu/transpose.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// Batch, channel, row, column.
struct Strides4 {
  int64_t n, c, h, w;
};

// `n` images of `h` rows of `w` columns of `c` channels.
struct Extent4 {
  int64_t n, c, h, w;
};

// to[j·to_stride + i] = from[i·from_stride + j] for i < rows, j < columns; from is contiguous along j.
template <class T>
inline void transpose_copy(const T* from, int64_t from_stride, int64_t rows, int64_t columns, Compute<T>* to,
                           int64_t to_stride) {
  using C = Compute<T>;
  constexpr int L = kLanes<C>;
  using W = Vec<C, L>;
  if (rows < L || columns < L) {
    for (int64_t j = 0; j < columns; ++j) {
      for (int64_t i = 0; i < rows; ++i) to[j * to_stride + i] = load(from + i * from_stride + j);
    }
    return;
  }
  // The last block of either axis overlaps the one before.
  for (int64_t i = 0;;) {
    for (int64_t j = 0;;) {
      W v[L];
      for (int r = 0; r < L; ++r) v[r] = load_vec<L>(from + (i + r) * from_stride + j);
      transpose<L, C>(v);
      for (int r = 0; r < L; ++r) store_vec<L>(to + (j + r) * to_stride + i, v[r]);
      if (j + L >= columns) break;
      j = j + 2 * L <= columns ? j + L : columns - L;
    }
    if (i + L >= rows) break;
    i = i + 2 * L <= rows ? i + L : rows - L;
  }
}

template <class T>
inline void convert_copy(const T* from, Compute<T>* to, int64_t n) {
  constexpr int L = kLanes<Compute<T>>;
  int64_t i = 0;
  for (; i + L <= n; i += L) store_vec<L>(to + i, load_vec<L>(from + i));
  for (; i < n; ++i) to[i] = load(from + i);
}

// to[n·ts.n + h·ts.h + w·ts.w + c] = from[...]; ts.c is 1.
template <class T>
inline void stage(const T* from, const Strides4& fs, const Extent4& size, Compute<T>* to,
                  const Strides4& ts) {
  if (fs.c == 1) {
    for (int64_t n = 0; n < size.n; ++n) {
      for (int64_t h = 0; h < size.h; ++h) {
        const T* f = from + n * fs.n + h * fs.h;
        Compute<T>* t = to + n * ts.n + h * ts.h;
        for (int64_t w = 0; w < size.w; ++w) convert_copy(f + w * fs.w, t + w * ts.w, size.c);
      }
    }
  } else if (fs.w == 1) {
    // Whole planes are one long row.
    const bool whole = fs.h == size.w && ts.h == size.w * ts.w;
    const int64_t rows = whole ? 1 : size.h, columns = whole ? size.h * size.w : size.w;
    for (int64_t n = 0; n < size.n; ++n) {
      for (int64_t h = 0; h < rows; ++h) {
        transpose_copy(from + n * fs.n + h * fs.h, fs.c, size.c, columns, to + n * ts.n + h * ts.h, ts.w);
      }
    }
  } else {
    for (int64_t n = 0; n < size.n; ++n) {
      for (int64_t h = 0; h < size.h; ++h) {
        for (int64_t w = 0; w < size.w; ++w) {
          const T* f = from + n * fs.n + h * fs.h + w * fs.w;
          Compute<T>* t = to + n * ts.n + h * ts.h + w * ts.w;
          for (int64_t c = 0; c < size.c; ++c) t[c] = load(f + c * fs.c);
        }
      }
    }
  }
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
