// How the weight gradient becomes a matrix product on tensor cores, for host and device.
//
// Rows are the small side's channels of one group. Columns are (kernel cell, channel of the large side), the
// channels of each cell filled up to 16 bytes: pieces, which are read at once. Terms are the pixels of the
// small side over the whole batch, kDepth at a time: a chunk. Chunks are split into parts, whose sums are
// added in order.
//
// A bias's gradient is the sum over the pixels of one side. It has tiles of its own behind the product's: a
// tile's width of channels, over as many chunks of that side's pixels as a part of the product has.
#pragma once
#include <cstdint>

#include "geometry/conv_shape.h"
#include "geometry/divisor.h"
#include "geometry/host_device.h"
#include "geometry/parts.h"

namespace deconvkit {

// Whose pixels are summed for a bias: those of the side that the layer makes.
enum class BiasSide : int32_t { kNone, kSmall, kLarge };

// The pixels of one side over the whole batch, in the order (image, h, w).
struct PixelGrid {
  int64_t count;
  Divisor by_h, by_w;

  PixelGrid(int64_t batch, int64_t h, int64_t w) : count(batch * h * w), by_h(h), by_w(w) {}

  struct Pixel {
    int64_t n, h, w;
    bool valid;
  };
  DECONVKIT_HD Pixel pixel(int64_t i) const {
    const int64_t line = by_w.quotient(i), n = by_h.quotient(line);
    return {n, line - n * by_h.d, i - line * by_w.d, i < count};
  }
};

struct WeightGradGemmTiles {
  static constexpr int32_t kDepth = 32;                  // pixels of a chunk
  static constexpr int32_t kPiece = 16;                  // bytes that are copied at once
  static constexpr int32_t kStages = 3;                  // chunks in flight
  static constexpr int32_t kFewRows = 64, kRows = 128;   // of a tile
  static constexpr int32_t kColumnBytes = 256;           // of a tile
  static constexpr int64_t kPartChunks = 8;              // of a part, at least
  static constexpr int64_t kLargest = int64_t{1} << 29;  // of what adds up to a coordinate, which has 32 bits

  int64_t groups, small_channels, large_channels;  // channels of a group
  ConvAxis h, w;
  int32_t vector;                         // channels of a piece
  int32_t rows_of_tile, columns_of_tile;  // kFewRows or kRows; kColumnBytes
  int64_t cell_channels;                  // columns of a kernel cell
  int64_t row_tiles, column_tiles;
  PixelGrid pixels, bias_pixels;  // of the small side, and of the bias's
  int64_t part_chunks, parts;
  int64_t bias_channels = 0, bias_tiles_across = 0, bias_parts = 0;  // channels of a group; 0: no bias
  Divisor by_cell, by_kernel;

  WeightGradGemmTiles(const ConvShape& s, int32_t element_bytes, BiasSide side)
      : groups(s.groups),
        small_channels(s.group_small()),
        large_channels(s.group_large()),
        h(s.h),
        w(s.w),
        vector(kPiece / element_bytes),
        rows_of_tile(small_channels <= kFewRows ? kFewRows : kRows),
        columns_of_tile(kColumnBytes / element_bytes),
        cell_channels(blocks_of(large_channels, vector) * vector),
        row_tiles(blocks_of(small_channels, rows_of_tile)),
        column_tiles(blocks_of(columns(), columns_of_tile)),
        pixels(s.batch, h.small, w.small),
        bias_pixels(side == BiasSide::kLarge ? PixelGrid(s.batch, h.large, w.large) : pixels),
        part_chunks(1),
        parts(1),
        by_cell(cell_channels),
        by_kernel(w.kernel) {
    const int64_t all = chunks(pixels);
    part_chunks =
        blocks_of(all, parts_of(kBlocksWanted, groups * row_tiles * column_tiles, all / kPartChunks));
    parts = blocks_of(all, part_chunks);
    if (side == BiasSide::kNone) return;
    bias_channels = side == BiasSide::kLarge ? large_channels : small_channels;
    bias_tiles_across = blocks_of(bias_channels, columns_of_tile);
    bias_parts = blocks_of(chunks(bias_pixels), part_chunks);
  }

  // Whether the shape is one for this algorithm: any but of sides and strides beyond 2^29.
  bool serves() const { return serves(h) && serves(w); }

  DECONVKIT_HD int64_t columns() const { return h.kernel * w.kernel * cell_channels; }
  DECONVKIT_HD int64_t product_tiles() const { return groups * row_tiles * column_tiles * parts; }
  DECONVKIT_HD int64_t tiles() const { return product_tiles() + groups * bias_tiles_across * bias_parts; }
  // Floats of the sums of one part: (channel of the small side, column), and (channel).
  DECONVKIT_HD int64_t sums() const { return groups * small_channels * columns(); }
  DECONVKIT_HD int64_t bias_sums() const { return groups * bias_channels; }

  struct Tile {
    int64_t part, group, row, column;  // row, column: the first; of a bias's tile, column is its channel
    bool is_bias;
  };
  DECONVKIT_HD Tile tile(int64_t i) const {
    Tile t{};
    t.is_bias = i >= product_tiles();
    if (t.is_bias) i -= product_tiles();
    const int64_t down = t.is_bias ? 1 : row_tiles, across = t.is_bias ? bias_tiles_across : column_tiles;
    t.row = i % down * rows_of_tile;
    i /= down;
    t.column = i % across * columns_of_tile;
    i /= across;
    t.group = i % groups;
    t.part = i / groups;
    return t;
  }
  // Pixel k of a chunk of a tile's part.
  DECONVKIT_HD PixelGrid::Pixel pixel(const Tile& t, int64_t chunk, int32_t k) const {
    return (t.is_bias ? bias_pixels : pixels).pixel((t.part * part_chunks + chunk) * kDepth + k);
  }

  // Neighbouring columns, from any multiple of `vector` on: the first channel, and how many there are.
  struct Piece {
    int64_t kh, kw, channel;
    int32_t count;
  };
  DECONVKIT_HD Piece piece(const Tile& t, int64_t column) const {
    const int64_t cell = t.is_bias ? 0 : by_cell.quotient(column), kh = by_kernel.quotient(cell);
    const int64_t channel = column - cell * cell_channels;
    const int64_t left = t.is_bias             ? bias_channels - channel
                         : column >= columns() ? 0
                                               : large_channels - channel;
    return {kh, cell - kh * w.kernel, channel,
            static_cast<int32_t>(left < 0        ? 0
                                 : left < vector ? left
                                                 : vector)};
  }

 private:
  // How many blocks of b hold a; one even where a is 0.
  static int64_t blocks_of(int64_t a, int64_t b) { return a < 1 ? 1 : (a + b - 1) / b; }
  static int64_t chunks(const PixelGrid& p) { return blocks_of(p.count, kDepth); }
  static bool serves(const ConvAxis& a) {
    return a.small < kLargest && a.large < kLargest && a.padding < kLargest &&
           (a.small - 1) * a.stride < kLargest && (a.kernel - 1) * a.dilation < kLargest;
  }
};

}  // namespace deconvkit
