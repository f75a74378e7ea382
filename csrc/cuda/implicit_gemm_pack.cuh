// What implicit GEMMs read, in the order in which they read it: the weights by (sheet, term, column, channel)
// (geometry/implicit_gemm.h), swizzled where Hopper's instruction reads them, and an input whose channels do
// not lie side by side, 16 bytes of them aligned, as (image, h, w, group, channel), unless the layer is bound
// by memory: then implicit_gemm.cuh reads it by numbers where it lies. Channels that fill up 16
// bytes, and columns that fill up a tile, are zeros. Floor: a read and a write of either.
#pragma once
#include "cuda/number.cuh"
#include "cuda/view.cuh"
#include "cuda/windows.cuh"
#include "geometry/implicit_gemm.h"
#include "geometry/warpgroup_matrix.h"

namespace deconvkit::cuda {

// The types that tensor cores multiply.
template <class F>
inline void for_gemm_dtype(DType dtype, F&& f) {
  if (dtype == DType::kBFloat16) return f(Type<BFloat16>{});
  if (dtype == DType::kFloat16) return f(Type<Float16>{});
  return f(Type<float>{});
}

// Channels of a group, filled up to 16 bytes.
template <class T>
constexpr int64_t padded_channels(int64_t channels) {
  return (channels + kVector<T> - 1) / kVector<T> * kVector<T>;
}
// Whether the kernels can read the input where it lies.
template <class T>
bool is_ready(const TensorRef& input, int64_t groups) {
  return input.size[1] / groups % kVector<T> == 0 && groups_along(input, 1, kVector<T>, sizeof(T));
}
// Whether a convolution reads it by numbers (implicit_gemm.cuh), rather than have it packed.
template <class T>
bool reads_numbers(const TensorRef& input, const ConvShape& s, bool transposed) {
  return !is_ready<T>(input, s.groups) && GemmTiles::is_memory_bound(s) &&
         GemmTiles(s, transposed, sizeof(T), false).serves();
}
// Bytes of an input that is packed.
template <class T>
int64_t packed_bytes_of(const TensorRef& input, int64_t groups) {
  return input.size[0] * input.size[2] * input.size[3] * groups * padded_channels<T>(input.size[1] / groups) *
         static_cast<int64_t>(sizeof(T));
}
// Bytes of workspace that ready_input() takes.
template <class T>
int64_t packed_input_bytes(const TensorRef& input, int64_t groups) {
  return is_ready<T>(input, groups) ? 0 : packed_bytes_of<T>(input, groups);
}

// An item is 16 bytes of channels of a column: a thread reads all kernel cells of their weights, which are
// neighbours in memory, and writes those of all sheets and taps.
template <class T>
struct PackWeights : OneStep {
  WeightView<T> weight;
  T* packed;
  GemmTiles tiles;
  bool swizzled;  // as Hopper's instruction reads them, in rows of 128 bytes
  Items items;    // (group, block of channels, column, piece)

  PackWeights(const TensorRef& w, const ConvShape& s, bool transposed, void* to, const GemmTiles& t)
      : weight(w, s, transposed),
        packed(static_cast<T*>(to)),
        tiles(t),
        swizzled(t.row_bytes == WarpgroupMatrix::kRowBytes),
        items(t.groups, t.channel_blocks, t.packed_columns(), t.row_bytes / GemmTiles::kPiece, false, 1) {}

  DECONVKIT_HD void step(int64_t, const Place& place, Empty&, Empty&) const {
    const auto sheets = static_cast<int32_t>(tiles.h.sheets() * tiles.w.sheets());
    const auto sources = static_cast<int32_t>(tiles.h.sources() * tiles.w.sources());
    for_items(items, place, [&](const Items::Item& i) {
      const GemmTiles::Column column = tiles.column(i.h);
      const int64_t channel = i.c * tiles.depth + i.w * kVector<T>;
      const auto piece = static_cast<int32_t>(i.w);
      const int32_t in_row = swizzled ? WarpgroupMatrix::swizzled(i.h, piece) : piece;
      const T* const from =
          weight.data + i.n * weight.group + channel * weight.in + column.channel * weight.out;
      DECONVKIT_ROLL
      for (int32_t j = 0; j < sheets * sources * tiles.taps(); ++j) {
        const int32_t tap = j % tiles.taps(), phase = j / tiles.taps();
        const int32_t sheet = phase / sources, source = phase % sources;
        const auto sheets_w = static_cast<int32_t>(tiles.w.sheets());
        const auto sources_w = static_cast<int32_t>(tiles.w.sources());
        const int64_t kh =
            tiles.h.kernel_cell(sheet / sheets_w, source / sources_w, column.fold_h, tap / tiles.w.most_taps);
        const int64_t kw =
            tiles.w.kernel_cell(sheet % sheets_w, source % sources_w, column.fold_w, tap % tiles.w.most_taps);
        const bool inside = column.valid && kh >= 0 && kw >= 0;
        Group<T, kVector<T>> group;
        DECONVKIT_UNROLL
        for (int k = 0; k < kVector<T>; ++k) {
          group.at[k] = inside && channel + k < tiles.in_channels
                            ? from[k * weight.in + kh * weight.h + kw * weight.w]
                            : T{};
        }
        const int64_t term = (source * tiles.channel_blocks + i.c) * tiles.taps() + tap;
        const int64_t row = ((i.n * sheets + sheet) * tiles.terms + term) * tiles.packed_columns() + i.h;
        store(packed + row * tiles.depth + in_row * kVector<T>, group);
      }
    });
  }
};

// An item is 16 bytes of channels of one pixel; neighbouring threads have neighbouring pixels.
template <class T>
struct PackInput : OneStep {
  View<const T> input;
  View<T> packed;
  int64_t channels;  // of a group
  Items items;       // (image, group and 16 bytes of channels, h, w)
  Divisor by_pieces;

  PackInput(const TensorRef& in, void* to, int64_t groups)
      : PackInput(in, to, in.size[1] / groups, groups * padded_channels<T>(in.size[1] / groups)) {}

  DECONVKIT_HD void step(int64_t, const Place& place, Empty&, Empty&) const {
    for_items(items, place, [&](const Items::Item& i) {
      const int64_t group = by_pieces.quotient(i.c), piece = i.c - group * by_pieces.d;
      const int64_t channel = piece * kVector<T>;
      const T* const from = input.at(i.n, group * channels + channel, i.h, i.w);
      Group<T, kVector<T>> all;
      DECONVKIT_UNROLL
      for (int k = 0; k < kVector<T>; ++k) all.at[k] = channel + k < channels ? from[k * input.c] : T{};
      store(packed.at(i.n, i.c * kVector<T>, i.h, i.w), all);
    });
  }

 private:
  PackInput(const TensorRef& in, void* to, int64_t group, int64_t all)
      : input(in),
        packed(static_cast<T*>(to), in.size[2] * in.size[3] * all, 1, in.size[3] * all, all),
        channels(group),
        items(in.size[0], all / kVector<T>, in.size[2], in.size[3], false, 1),
        by_pieces(padded_channels<T>(group) / kVector<T>) {}
};

// The input where the kernels can read it: where it lies, or packed into the workspace.
template <class T, class Launch>
View<const T> ready_input(const Launch& launch, const TensorRef& input, int64_t groups, void* workspace) {
  if (is_ready<T>(input, groups)) return View<const T>(input);
  const PackInput<T> pack(input, workspace, groups);
  launch(pack, pack.items.tiles);
  return View<const T>(pack.packed);
}

}  // namespace deconvkit::cuda
