// Rows of pixels with channels in the lanes, from and to tensors of any layout: NCHW through a transpose in
// registers, channels_last as it lies, anything else element by element. Included by per-ISA kernel files
// only.
#pragma once
#include "cpu/transpose.h"
#include "tensor_ref.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// One group's channels of a (N, C, H, W) tensor. Strides are in elements.
template <class T>
struct Image {
  T* data;
  int64_t n, c, h, w;
  int64_t channels, height, width;

  static Image of(const TensorRef& x, int64_t first_channel, int64_t channels) {
    return {x.as<T>() + first_channel * x.stride[1],
            x.stride[0],
            x.stride[1],
            x.stride[2],
            x.stride[3],
            channels,
            x.size[2],
            x.size[3]};
  }
};

// dst[i][lane] = channel c + lane at (image, y, x + i), i < columns; zero outside the tensor. Room for
// columns rounded up to whole vectors.
template <class T, class C, int L = kLanes<C>>
inline void load_row(const Image<T>& image, int64_t n, int64_t c, int64_t y, int64_t x, int64_t columns,
                     C* dst) {
  const bool inside = y >= 0 && y < image.height;
  int64_t begin = x < 0 ? -x : 0, end = image.width - x;
  if (end > columns) end = columns;
  if (!inside || begin >= end) begin = end = columns;
  for (int64_t i = 0; i < begin; ++i) store_vec<L>(dst + i * L, Vec<C, L>{});
  for (int64_t i = end; i < columns; ++i) store_vec<L>(dst + i * L, Vec<C, L>{});
  if (begin == end) return;

  const T* src = image.data + n * image.n + c * image.c + y * image.h + x * image.w;
  const int lanes = image.channels - c < L ? static_cast<int>(image.channels - c) : L;
  if (image.c == 1 && lanes == L) {
    for (int64_t i = begin; i < end; ++i) store_vec<L>(dst + i * L, load_vec<L>(src + i * image.w));
    return;
  }
  for (int64_t i = begin; i < end; i += L) {
    Vec<C, L> block[L];
    if (image.w == 1 && lanes == L && end - begin >= L) {
      if (i + L > end) i = end - L;  // the last block overlaps its neighbour
      for (int l = 0; l < L; ++l) block[l] = load_vec<L>(src + l * image.c + i);
    } else {
      const int count = end - i < L ? static_cast<int>(end - i) : L;
      C part[L * L] = {};
      for (int l = 0; l < lanes; ++l) {
        for (int j = 0; j < count; ++j) part[l * L + j] = load(src + l * image.c + (i + j) * image.w);
      }
      for (int l = 0; l < L; ++l) block[l] = load_vec<L>(part + l * L);
    }
    transpose<L, C>(block);
    const int count = end - i < L ? static_cast<int>(end - i) : L;
    for (int j = 0; j < count; ++j) store_vec<L>(dst + (i + j) * L, block[j]);
  }
}

// The way back, for x >= 0: pixels and channels beyond the tensor are dropped.
template <class T, class C, int L = kLanes<C>>
inline void store_row(const Image<T>& image, int64_t n, int64_t c, int64_t y, int64_t x, int64_t columns,
                      const C* src) {
  if (y >= image.height) return;
  const int64_t end = image.width - x < columns ? image.width - x : columns;
  T* dst = image.data + n * image.n + c * image.c + y * image.h + x * image.w;
  const int lanes = image.channels - c < L ? static_cast<int>(image.channels - c) : L;
  if (image.c == 1 && lanes == L) {
    for (int64_t i = 0; i < end; ++i) store_vec<L>(dst + i * image.w, load_vec<L>(src + i * L));
    return;
  }
  if (image.w != 1 || lanes < L || end < L) {
    for (int l = 0; l < lanes; ++l) {
      for (int64_t i = 0; i < end; ++i) store(dst + l * image.c + i * image.w, src[i * L + l]);
    }
    return;
  }
  for (int64_t i = 0; i < end; i += L) {
    if (i + L > end) i = end - L;
    Vec<C, L> block[L];
    for (int j = 0; j < L; ++j) block[j] = load_vec<L>(src + (i + j) * L);
    transpose<L, C>(block);
    for (int l = 0; l < L; ++l) store_vec<L>(dst + l * image.c + i, block[l]);
  }
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
