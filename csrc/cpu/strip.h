// Rows of pixels with channels in the lanes, from and to tensors of any layout: NCHW through a transpose in
// registers, channels_last as it lies, anything else element by element. Included by per-ISA kernel files
// only.
#pragma once
#include "cpu/integers.h"
#include "cpu/transpose.h"
#include "dispatch.h"
#include "tensor_ref.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// One group's channels of a (N, C, H, W) tensor. Strides are in elements. Folded (geometry/fold.h), each
// channel stands for fold_h x fold_w channels that load_row() reads, (b_h, b_w, channel) in this order.
struct Image {
  void* data;
  DType dtype;
  int64_t first_channel;
  int64_t n, c, h, w;
  int64_t channels, height, width;
  int64_t fold_h = 1, fold_w = 1;

  static Image of(const TensorRef& x, int64_t first_channel, int64_t channels) {
    return {x.data,      x.dtype,     first_channel, x.stride[0], x.stride[1],
            x.stride[2], x.stride[3], channels,      x.size[2],   x.size[3]};
  }
  template <class T>
  T* at(int64_t image, int64_t channel, int64_t y, int64_t x) const {
    return static_cast<T*>(data) + image * n + (first_channel + channel) * c + y * h + x * w;
  }
};

// Calls f with the storage types that are computed in C.
template <class C, class F>
inline void for_storage_of(DType dtype, F&& f) {
  if constexpr (sizeof(C) == sizeof(double)) {
    f(Type<double>{});
  } else if (dtype == DType::kBFloat16) {
    f(Type<BFloat16>{});
  } else if (dtype == DType::kFloat16) {
    f(Type<Float16>{});
  } else {
    f(Type<float>{});
  }
}

namespace strip_detail {

// dst[j][lane] = src[lane][j], j < L. One path from loads to stores keeps the block in registers.
template <class T, class C, int L>
inline void load_block(const T* src, int64_t lane_stride, C* dst) {
  Vec<C, L> block[L];
#pragma GCC unroll 16
  for (int l = 0; l < L; ++l) block[l] = load_vec<L>(src + l * lane_stride);
  transpose<L, C>(block);
#pragma GCC unroll 16
  for (int j = 0; j < L; ++j) store_vec<L>(dst + j * L, block[j]);
}

// columns [begin, end) of the row that starts at src, all inside the tensor.
template <class T, class C, int L>
inline void load_columns(const Image& image, const T* src, int lanes, int64_t begin, int64_t end, C* dst) {
  if (image.c == 1 && lanes == L) {
    for (int64_t i = begin; i < end; ++i) store_vec<L>(dst + i * L, load_vec<L>(src + i * image.w));
    return;
  }
  if (image.w == 1 && lanes == L && end - begin >= L) {
    for (int64_t i = begin; i < end; i += L) {
      if (i + L > end) i = end - L;  // the last block overlaps its neighbour
      load_block<T, C, L>(src + i, image.c, dst + i * L);
    }
    return;
  }
  for (int64_t i = begin; i < end; ++i) {
    for (int l = 0; l < L; ++l) {
      dst[i * L + l] = l < lanes ? C(load(src + l * image.c + i * image.w)) : C(0);
    }
  }
}

template <class T, class C, int L>
inline void store_columns(const Image& image, T* dst, int lanes, int64_t end, const C* src) {
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

// One number after the other.
template <class T, class C, int L>
inline void load_folded(const Image& image, int64_t n, int64_t c, int64_t y, int64_t x, int64_t columns,
                        C* dst) {
  for (int64_t i = 0; i < columns; ++i) store_vec<L>(dst + i * L, Vec<C, L>{});
  for (int64_t l = 0; l < L && c + l < image.fold_h * image.fold_w * image.channels; ++l) {
    const int64_t channel = (c + l) % image.channels, grid = (c + l) / image.channels;
    const int64_t row = y * image.fold_h + grid / image.fold_w, first = grid % image.fold_w;
    if (row < 0 || row >= image.height) continue;
    const int64_t begin = max64(0, -x), end = min64(columns, ceil_div(image.width - first, image.fold_w) - x);
    const int64_t step = image.fold_w * image.w;
    const T* src = image.at<const T>(n, channel, row, first) + x * step;
    for (int64_t i = begin; i < end; ++i) dst[i * L + l] = C(load(src + i * step));
  }
}

}  // namespace strip_detail

// dst[i][lane] = channel c + lane at (image, y, x + i), i < columns; zero outside the tensor.
template <class C, int L = kLanes<C>>
inline void load_row(const Image& image, int64_t n, int64_t c, int64_t y, int64_t x, int64_t columns,
                     C* dst) {
  if (image.fold_h * image.fold_w > 1) {
    for_storage_of<C>(image.dtype, [&](auto t) {
      strip_detail::load_folded<typename decltype(t)::type, C, L>(image, n, c, y, x, columns, dst);
    });
    return;
  }
  int64_t begin = x < 0 ? -x : 0, end = image.width - x;
  if (end > columns) end = columns;
  if (y < 0 || y >= image.height || begin >= end) begin = end = columns;
  for (int64_t i = 0; i < begin; ++i) store_vec<L>(dst + i * L, Vec<C, L>{});
  for (int64_t i = end; i < columns; ++i) store_vec<L>(dst + i * L, Vec<C, L>{});
  if (begin == end) return;
  const int lanes = image.channels - c < L ? static_cast<int>(image.channels - c) : L;
  for_storage_of<C>(image.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    strip_detail::load_columns<T, C, L>(image, image.at<const T>(n, c, y, x), lanes, begin, end, dst);
  });
}

// The way back, for x >= 0: pixels and channels beyond the tensor are dropped.
template <class C, int L = kLanes<C>>
inline void store_row(const Image& image, int64_t n, int64_t c, int64_t y, int64_t x, int64_t columns,
                      const C* src) {
  if (y >= image.height) return;
  const int64_t end = image.width - x < columns ? image.width - x : columns;
  const int lanes = image.channels - c < L ? static_cast<int>(image.channels - c) : L;
  for_storage_of<C>(image.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    strip_detail::store_columns<T, C, L>(image, image.at<T>(n, c, y, x), lanes, end, src);
  });
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
