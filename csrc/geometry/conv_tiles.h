// How the convolution family is cut into tiles of a matrix product, for host and device.
//
// Both kinds of tile are kTile x kTile sums, each over a depth that is taken kDepth terms at a time. Padding
// of a tile beyond its matrix reads as zero and is not stored.
#pragma once
#include <cstdint>

#include "geometry/conv_shape.h"
#include "geometry/divisor.h"
#include "geometry/host_device.h"
#include "geometry/parts.h"
#include "geometry/phases.h"
#include "tensor_ref.h"

namespace deconvkit {

struct ProductTile {
  static constexpr int32_t kTile = 64, kDepth = 16;

  DECONVKIT_HD static constexpr int64_t tiles(int64_t n) { return (n + kTile - 1) / kTile; }
  DECONVKIT_HD static constexpr int64_t chunks(int64_t n) { return (n + kDepth - 1) / kDepth; }
};

// The steps of a block that computes tile after tile: one to begin a tile, then for each chunk of its depth
// one that fetches the operands and one that multiplies them, the last of which stores.
struct TileSteps {
  int64_t tiles, chunks;
  Divisor by_tile;

  TileSteps(int64_t tiles_, int64_t chunks_) : tiles(tiles_), chunks(chunks_), by_tile(1 + 2 * chunks_) {}

  DECONVKIT_HD int64_t steps(int64_t block, int64_t blocks) const {
    return (tiles - block + blocks - 1) / blocks * by_tile.d;
  }

  enum class Kind { kBegin, kFetch, kMultiply };
  struct Step {
    Kind kind;
    int64_t tile, chunk;
    bool last;
  };
  DECONVKIT_HD Step step(int64_t i, int64_t block, int64_t blocks) const {
    const int64_t turn = by_tile.quotient(i), at = i - turn * by_tile.d, chunk = (at - 1) / 2;
    const int64_t tile = block + turn * blocks;
    if (at == 0) return {Kind::kBegin, tile, 0, false};
    return {at % 2 ? Kind::kFetch : Kind::kMultiply, tile, chunk, chunk + 1 == chunks};
  }
};

// A convolution or transposed convolution as a gather: rows are the pixels of one phase of the output over
// the whole batch, columns the output channels of one group, terms (tap, input channel of the group).
// Neighbouring tiles are of the same pixels: all channels of all phases of a group, then the next group.
struct GatherTiles : ProductTile {
  int64_t batch, groups, in_channels, out_channels;  // channels of a group
  GatherAxis h, w;
  int64_t taps_h, taps_w;  // of the phase that has most; those that a phase lacks are empty terms
  int64_t channel_tiles, pixel_tiles;
  Divisor by_channels, by_taps;

  GatherTiles(const ConvShape& s, bool transposed)
      : batch(s.batch),
        groups(s.groups),
        in_channels(transposed ? s.group_small() : s.group_large()),
        out_channels(transposed ? s.group_large() : s.group_small()),
        h(transposed ? GatherAxis::transposed_convolution(s.h) : GatherAxis::convolution(s.h)),
        w(transposed ? GatherAxis::transposed_convolution(s.w) : GatherAxis::convolution(s.w)),
        taps_h(h.most_taps()),
        taps_w(w.most_taps()),
        channel_tiles(ProductTile::tiles(out_channels)),
        pixel_tiles(ProductTile::tiles(batch * h.cells() * w.cells())),
        by_channels(in_channels),
        by_taps(taps_w) {}

  DECONVKIT_HD int64_t tiles() const {
    return pixel_tiles * groups * h.phases() * w.phases() * channel_tiles;
  }
  DECONVKIT_HD int64_t depth() const { return taps_h * taps_w * in_channels; }
  DECONVKIT_HD int64_t chunks() const { return ProductTile::chunks(depth()); }

  struct Tile {
    int64_t pixel, group, phase_h, phase_w, channel;  // pixel, channel: the first
  };
  DECONVKIT_HD Tile tile(int64_t i) const {
    Tile t{};
    t.channel = i % channel_tiles * kTile;
    i /= channel_tiles;
    t.phase_w = i % w.phases();
    i /= w.phases();
    t.phase_h = i % h.phases();
    i /= h.phases();
    t.group = i % groups;
    t.pixel = i / groups * kTile;
    return t;
  }

  // A row of a tile: output (n, cell_h * h.out_step + phase_h, likewise w).
  struct Pixel {
    int64_t n, cell_h, cell_w;
    bool valid;
  };
  DECONVKIT_HD Pixel pixel(const Tile& t, int32_t row) const {
    const int64_t ch = h.cells(t.phase_h), cw = w.cells(t.phase_w), i = t.pixel + row;
    return {i / cw / ch, i / cw % ch, i % cw, i < batch * ch * cw};
  }

  // A term: which tap of the phase, in the order of its offsets, and which channel.
  struct Term {
    int64_t tap_h, tap_w, channel;
  };
  DECONVKIT_HD Term term(int64_t k) const {
    const int64_t tap = by_channels.quotient(k), tap_h = by_taps.quotient(tap);
    return {tap_h, tap - tap_h * taps_w, k - tap * in_channels};
  }
  // Whether the phase has the taps of no term of a chunk.
  DECONVKIT_HD bool is_empty(int64_t chunk, const PhaseTaps& h_taps, const PhaseTaps& w_taps) const {
    const int64_t first = chunk * kDepth;
    const Term t = term(first);
    const bool one_tap = t.channel + kDepth <= in_channels || first + (in_channels - t.channel) >= depth();
    return t.tap_h >= h_taps.count || (one_tap && t.tap_w >= w_taps.count);
  }
};

// The weight gradient: rows are the small side's channels of one group, columns (kernel cell, channel of the
// large side), terms the pixels of the small side over the whole batch. The terms are split into parts whose
// sums are added in order. Parts depend on the shape alone.
struct WeightGradTiles : ProductTile {
  static constexpr int64_t kTilesWanted = 512;  // parts make about as many where the matrix has fewer
  static constexpr int64_t kPartChunks = 32;    // at least in a part

  int64_t groups, small_channels, large_channels;  // channels of a group
  ConvAxis h, w;
  int64_t row_tiles, column_tiles, pixels;
  int64_t part_chunks, parts;
  Divisor by_channels, by_kernel, by_height, by_width;

  explicit WeightGradTiles(const ConvShape& s)
      : groups(s.groups),
        small_channels(s.group_small()),
        large_channels(s.group_large()),
        h(s.h),
        w(s.w),
        row_tiles(ProductTile::tiles(small_channels)),
        column_tiles(ProductTile::tiles(columns())),
        pixels(s.batch * s.h.small * s.w.small),
        by_channels(large_channels),
        by_kernel(w.kernel),
        by_height(h.small),
        by_width(w.small) {
    const int64_t chunks = ProductTile::chunks(pixels);
    const int64_t most = parts_of(kTilesWanted, groups * row_tiles * column_tiles, chunks / kPartChunks);
    part_chunks = chunks < 1 ? 1 : (chunks + most - 1) / most;
    parts = chunks < 1 ? 1 : (chunks + part_chunks - 1) / part_chunks;
  }

  DECONVKIT_HD int64_t columns() const { return h.kernel * w.kernel * large_channels; }
  DECONVKIT_HD int64_t tiles() const { return groups * row_tiles * column_tiles * parts; }
  DECONVKIT_HD int64_t numel() const { return groups * small_channels * columns(); }
  // Numbers of the compute type: a gradient for each part, row-major.
  DECONVKIT_HD int64_t workspace() const { return parts > 1 ? parts * numel() : 0; }

  struct Tile {
    int64_t part, group, row, column;  // row, column: the first
  };
  DECONVKIT_HD Tile tile(int64_t i) const {
    Tile t{};
    t.row = i % row_tiles * kTile;
    i /= row_tiles;
    t.column = i % column_tiles * kTile;
    i /= column_tiles;
    t.group = i % groups;
    t.part = i / groups;
    return t;
  }

  struct Column {
    int64_t kh, kw, channel;
    bool valid;
  };
  DECONVKIT_HD Column column(int64_t j) const {
    const int64_t cell = by_channels.quotient(j), kh = by_kernel.quotient(cell);
    return {kh, cell - kh * w.kernel, j - cell * large_channels, j < columns()};
  }

  // A term of a chunk of a part.
  struct Pixel {
    int64_t n, h, w;
    bool valid;
  };
  DECONVKIT_HD Pixel pixel(int64_t part, int64_t chunk, int32_t k) const {
    const int64_t i = (part * part_chunks + chunk) * kDepth + k;
    const int64_t line = by_width.quotient(i), n = by_height.quotient(line);
    return {n, line - n * h.small, i - line * w.small, i < pixels};
  }

  // Where a sum lies in the gradient, row-major; channels are of the group.
  DECONVKIT_HD int64_t index(int64_t group, int64_t row, const Column& c) const {
    return (((group * small_channels + row) * large_channels + c.channel) * h.kernel + c.kh) * w.kernel +
           c.kw;
  }
};

// Doubles of workspace that the weight gradient's parts take.
inline int64_t plain_weight_grad_workspace_size(const ConvShape& s, DType dtype) {
  const int64_t numbers = WeightGradTiles(s).workspace();
  return dtype == DType::kFloat64 ? numbers : (numbers + 1) / 2;
}

}  // namespace deconvkit
