// Gradient of the convolution family by its weight: a matrix product whose depth is all pixels of the batch.
//
// A block computes 64 channels of the small side by 64 of (kernel cell, channel of the large side), 16 pixels
// at a time, over one part of the pixels (geometry/conv_tiles.h). The sums of several parts go to the
// workspace, and a second kernel adds them in their order: no atomics, and the result depends on the shape
// and the numbers alone. Floor: 2 operations for each product, on the plain units.
#pragma once
#include "cuda/product.cuh"
#include "cuda/steps.cuh"
#include "cuda/sum_parts.cuh"

namespace deconvkit::cuda {

template <class T>
struct ConvWeightGrad {
  using C = Compute<T>;
  using P = Product<C>;
  static constexpr int kThreads = P::kThreads, kResident = 2;

  struct Column {
    int64_t from;  // offset of its channel in the large side
    int64_t h, w;  // of its kernel cell in the large side, where the pixel is (0, 0)
    int64_t to;    // offset in the first row of the gradient or of its part; < 0: there is none
  };
  struct Shared {
    typename P::Operands operands;
    WeightGradTiles::Tile tile;
    Column columns[P::kTile];
  };
  using Own = typename P::Sums;

  View<const T> small, large;
  View<T> grad;
  C* workspace;
  WeightGradTiles tiles;
  TileSteps loop;
  bool small_channels_first, large_channels_first;  // which neighbours are side by side

  ConvWeightGrad(const TensorRef& s, const TensorRef& l, const TensorRef& g, const ConvShape& shape,
                 void* scratch)
      : small(s),
        large(l),
        grad(g),
        workspace(static_cast<C*>(scratch)),
        tiles(shape),
        loop(tiles.tiles(), tiles.part_chunks),
        small_channels_first(channels_innermost(s)),
        large_channels_first(channels_innermost(l)) {}

  DECONVKIT_HD int64_t steps(int64_t block, int64_t blocks) const { return loop.steps(block, blocks); }

  DECONVKIT_HD void step(int64_t i, const Place& place, Shared& shared, Own& sums) const {
    const TileSteps::Step s = loop.step(i, place.block, place.blocks);
    if (s.kind == TileSteps::Kind::kBegin) {
      P::clear(sums);
      return begin(s.tile, place.thread, shared);
    }
    if (s.kind == TileSteps::Kind::kFetch) return fetch(s.chunk, place.thread, shared);
    const int32_t row = P::first_row(false, place.thread), column = P::first_column(false, place.thread);
    P::multiply(shared.operands, row, column, sums);
    if (!s.last) return;
    const WeightGradTiles::Tile& tile = shared.tile;
    P::for_sums(row, column, sums, [&](int32_t r, int32_t c, C sum) {
      const int64_t to = shared.columns[c].to, channel = tile.row + r;
      if (to < 0 || channel >= tiles.small_channels) return;
      if (tiles.parts > 1) return store(workspace + to + channel * tiles.columns(), sum);
      store(grad.data + to + channel * grad.n, narrow<T>(sum));
    });
  }

 private:
  DECONVKIT_HD void begin(int64_t index, int32_t thread, Shared& shared) const {
    const WeightGradTiles::Tile tile = tiles.tile(index);
    if (thread == 0) shared.tile = tile;
    if (thread >= P::kTile) return;
    const WeightGradTiles::Column c = tiles.column(tile.column + thread);
    int64_t to = -1;
    if (c.valid && tiles.parts > 1) {
      to = tile.part * tiles.numel() + tiles.index(tile.group, 0, c);
    } else if (c.valid) {
      to = grad.at(tile.group * tiles.small_channels, c.channel, c.kh, c.kw) - grad.data;
    }
    shared.columns[thread] = {(tile.group * tiles.large_channels + c.channel) * large.c,
                              tiles.h.large_index(0, c.kh), tiles.w.large_index(0, c.kw), to};
  }

  DECONVKIT_HD void fetch(int64_t chunk, int32_t thread, Shared& shared) const {
    const WeightGradTiles::Tile& tile = shared.tile;
    P::share(!small_channels_first, thread, [&](int32_t k, int32_t row) {
      const WeightGradTiles::Pixel p = tiles.pixel(tile.part, chunk, k);
      const int64_t channel = tile.row + row;
      const bool inside = p.valid && channel < tiles.small_channels;
      shared.operands.rows[k][row] =
          inside ? widen(*small.at(p.n, tile.group * tiles.small_channels + channel, p.h, p.w)) : C{0};
    });
    P::share(!large_channels_first, thread, [&](int32_t k, int32_t column) {
      const WeightGradTiles::Pixel p = tiles.pixel(tile.part, chunk, k);
      const Column& c = shared.columns[column];
      const int64_t y = p.h * tiles.h.stride + c.h, x = p.w * tiles.w.stride + c.w;
      const bool inside = p.valid && c.to >= 0 && y >= 0 && y < tiles.h.large && x >= 0 && x < tiles.w.large;
      shared.operands.columns[k][column] =
          inside ? widen(large.data[p.n * large.n + c.from + y * large.h + x * large.w]) : C{0};
    });
  }
};

// `workspace` has room for plain_weight_grad_workspace_size() doubles.
template <class Launch>
void conv_weight_grad(const Launch& launch, const TensorRef& small, const TensorRef& large,
                      const TensorRef& grad, const ConvShape& s, void* workspace) {
  if (grad.numel() == 0) return;
  for_float_dtype(grad.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const ConvWeightGrad<T> kernel(small, large, grad, s, workspace);
    launch(kernel, kernel.tiles.tiles());
    if (kernel.tiles.parts == 1) return;
    const int64_t cells = s.h.kernel * s.w.kernel;
    sum_parts<T>(launch, {kernel.workspace, s.group_large() * cells, cells, s.w.kernel, 1},
                 kernel.tiles.parts, kernel.tiles.numel(), grad);
  });
}

}  // namespace deconvkit::cuda
