// conv2d and conv_transpose2d, both as a gather by phases (geometry/phases.h), as in
// csrc/cpu/conv_gather.cpp.
//
// A block computes 64 pixels of one phase by 64 channels of one group, 16 terms (tap, input channel) at a
// time: operands widened into shared memory, 4x4 sums a thread, then bias, activation and one store for each
// output. Floor: 2 operations for each product, on the plain units; the input is read from L2 once for each
// tap and tile of channels.
#pragma once
#include "cuda/epilogue.cuh"
#include "cuda/product.cuh"
#include "cuda/steps.cuh"
#include "cuda/view.cuh"

namespace deconvkit::cuda {

template <class T>
struct ConvGather {
  using C = Compute<T>;
  using P = Product<C>;
  static constexpr int kThreads = P::kThreads, kResident = 2;

  struct Pixel {
    int64_t from, to;  // offsets of its image in the input, of itself in the output; to < 0: there is none
    int64_t h, w;      // input coordinates that a tap's offset is added to
  };
  struct Shared {
    typename P::Operands operands;
    GatherTiles::Tile tile;
    PhaseTaps h, w;
    Pixel pixels[P::kTile];
  };
  using Own = typename P::Sums;

  View<const T> input;
  WeightView<T> weight;
  View<T> output;
  Epilogue<T> epilogue;
  GatherTiles tiles;
  TileSteps loop;
  bool input_channels_first, weight_in_first, output_channels_first;  // which neighbours are side by side

  ConvGather(const TensorRef& in, const TensorRef& w, const TensorRef& bias, const TensorRef& out,
             const ConvShape& s, const ConvOptions& options, bool transposed)
      : input(in),
        weight(w, s, transposed),
        output(out),
        epilogue(bias, options),
        tiles(s, transposed),
        loop(tiles.tiles(), tiles.chunks()),
        input_channels_first(channels_innermost(in)),
        weight_in_first(weight.in < weight.out),
        output_channels_first(channels_innermost(out)) {}

  DECONVKIT_HD int64_t steps(int64_t block, int64_t blocks) const { return loop.steps(block, blocks); }

  DECONVKIT_HD void step(int64_t i, const Place& place, Shared& shared, Own& sums) const {
    const TileSteps::Step s = loop.step(i, place.block, place.blocks);
    if (s.kind == TileSteps::Kind::kBegin) {
      P::clear(sums);
      return begin(s.tile, place.thread, shared);
    }
    const bool empty = tiles.is_empty(s.chunk, shared.h, shared.w);
    if (s.kind == TileSteps::Kind::kFetch) {
      if (!empty) fetch(s.chunk * P::kDepth, place.thread, shared);
      return;
    }
    const int32_t row = P::first_row(!output_channels_first, place.thread);
    const int32_t column = P::first_column(!output_channels_first, place.thread);
    if (!empty) P::multiply(shared.operands, row, column, sums);
    if (!s.last) return;
    const GatherTiles::Tile& tile = shared.tile;
    P::for_sums(row, column, sums, [&](int32_t pixel, int32_t at, C sum) {
      const int64_t to = shared.pixels[pixel].to, channel = tile.channel + at;
      if (to < 0 || channel >= tiles.out_channels) return;
      const int64_t c = tile.group * tiles.out_channels + channel;
      store(output.data + to + c * output.c, epilogue(sum, c));
    });
  }

 private:
  DECONVKIT_HD void begin(int64_t index, int32_t thread, Shared& shared) const {
    const GatherTiles::Tile tile = tiles.tile(index);
    if (thread == 0) {
      shared.tile = tile;
      shared.h = tiles.h.taps(tile.phase_h);
      shared.w = tiles.w.taps(tile.phase_w);
    }
    if (thread >= P::kTile) return;
    const GatherTiles::Pixel p = tiles.pixel(tile, thread);
    const int64_t h = p.cell_h * tiles.h.out_step + tile.phase_h;
    const int64_t w = p.cell_w * tiles.w.out_step + tile.phase_w;
    shared.pixels[thread] = {p.n * input.n + tile.group * tiles.in_channels * input.c,
                             p.valid ? p.n * output.n + h * output.h + w * output.w : -1,
                             p.cell_h * tiles.h.in_step, p.cell_w * tiles.w.in_step};
  }

  DECONVKIT_HD void fetch(int64_t first, int32_t thread, Shared& shared) const {
    const PhaseTaps &h = shared.h, &w = shared.w;
    const auto is_term = [&](int64_t k, const GatherTiles::Term& t) {
      return k < tiles.depth() && t.tap_h < h.count && t.tap_w < w.count;
    };
    P::share(input_channels_first, thread, [&](int32_t k, int32_t row) {
      const GatherTiles::Term t = tiles.term(first + k);
      const Pixel& p = shared.pixels[row];
      const int64_t y = p.h + h.offset + t.tap_h * h.offset_step;
      const int64_t x = p.w + w.offset + t.tap_w * w.offset_step;
      const bool inside =
          p.to >= 0 && is_term(first + k, t) && y >= 0 && y < tiles.h.in && x >= 0 && x < tiles.w.in;
      shared.operands.rows[k][row] =
          inside ? widen(input.data[p.from + t.channel * input.c + y * input.h + x * input.w]) : C{0};
    });
    P::share(weight_in_first, thread, [&](int32_t k, int32_t column) {
      const GatherTiles::Term t = tiles.term(first + k);
      const int64_t out = shared.tile.channel + column;
      const bool inside = is_term(first + k, t) && out < tiles.out_channels;
      const int64_t at = shared.tile.group * weight.group + t.channel * weight.in + out * weight.out +
                         (h.kernel + t.tap_h * h.kernel_step) * weight.h +
                         (w.kernel + t.tap_w * w.kernel_step) * weight.w;
      shared.operands.columns[k][column] = inside ? widen(weight.data[at]) : C{0};
    });
  }
};

template <class Launch>
void conv_gather(const Launch& launch, const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                 const TensorRef& output, const ConvShape& s, const ConvOptions& options, bool transposed) {
  if (output.numel() == 0) return;
  for_float_dtype(input.dtype, [&](auto t) {
    const ConvGather<typename decltype(t)::type> kernel(input, weight, bias, output, s, options, transposed);
    launch(kernel, kernel.tiles.tiles());
  });
}

}  // namespace deconvkit::cuda
