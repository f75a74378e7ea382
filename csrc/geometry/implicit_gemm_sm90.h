// The implicit GEMM of geometry/implicit_gemm.h in Hopper's tiles, for host and device: boxes of 256 cells,
// terms of 128 bytes of channels, copied as boxes by tensor maps (geometry/tensor_map.h) into rings of shared
// memory, and read there as matrices of 64 rows (geometry/warpgroup_matrix.h).
//
// Taps above each other share a box that is higher by their span: a tap's rows begin a number of lines
// further down, which are whole atoms where lines have 8 cells or more. Taps beside each other have boxes of
// their own, as has every tap where images are too small for that.
//
// The walk through the terms goes on from tile to tile of a block; its n-th term is in stage n % stages of
// the ring of weights, and its box in that of the boxes. Both have their barriers by stage: boxes are so many
// that whoever may fill a stage may fill the box that its term begins (boxes_for()).
#pragma once
#include <cstdint>

#include "geometry/implicit_gemm.h"
#include "geometry/tensor_map.h"
#include "geometry/warpgroup_matrix.h"

namespace deconvkit {

struct Sm90Tiles : GemmTiles {
  using Matrix = WarpgroupMatrix;
  static constexpr int32_t kRows = 256;  // of a tile
  static constexpr int32_t kRowsLog2 = 8;
  static constexpr int32_t kElementBytes = 2;
  static constexpr int32_t kMostStages = 8;      // terms in flight
  static constexpr int32_t kLeastStages = 3;     // for a box that is shared
  static constexpr int32_t kRoom = 182 << 10;    // bytes of shared memory for what is in flight
  static constexpr int32_t kMostSources = 4;     // source phases: a tensor map each
  static constexpr int64_t kLeastChannels = 32;  // half of a term; fewer are for smaller terms

  bool shares = false;  // whether taps above each other share a box
  int32_t box_h = 0;    // lines of a box
  int32_t stages = 0, boxes = 0;

  Sm90Tiles(const ConvShape& s, bool transposed, bool output_channels_first)
      : GemmTiles(s, transposed, kElementBytes, output_channels_first, Matrix::kRowBytes) {
    tile_n = 0;
    if (!h.serves() || !w.serves() || sources() > kMostSources || in_channels < kLeastChannels ||
        batch >= GemmAxis::kLargest) {
      return;
    }
    tile_w_log2 = log2_up(w.cells, 4);
    tile_h_log2 = log2_up(h.cells, kRowsLog2 - tile_w_log2);
    tile_w_log2 = log2_up(w.cells, kRowsLog2 - tile_h_log2);
    tile_n = kRows >> (tile_w_log2 + tile_h_log2);
    tiles_n = (batch + tile_n - 1) / tile_n;
    tiles_h = (h.cells + tile_h() - 1) / tile_h();
    tiles_w = (w.cells + tile_w() - 1) / tile_w();
    // A matrix's rows are of one image, and its lines whole atoms.
    shares = h.most_taps > 1 && tile_w() % Matrix::kAtomRows == 0 && tile_h() * tile_w() >= Matrix::kRows &&
             tile_h() + h.span <= TensorBox::kMostBox && choose_rings(tile_h() + h.span, h.most_taps) &&
             stages >= kLeastStages;
    if (!shares) choose_rings(tile_h(), 1);
  }

  // Whether tiles are so few that the kernel of implicit_gemm.h splits its own into parts. This one does not,
  // and its tiles, of twice as many rows, would be fewer still: most of a GPU would be idle.
  static bool has_few_tiles(const ConvShape& s, bool transposed) {
    return GemmTiles(s, transposed, kElementBytes, false).parts > 1;
  }

  DECONVKIT_HD int64_t sources() const { return h.sources() * w.sources(); }
  DECONVKIT_HD int32_t box_bytes() const { return tile_n * box_h * tile_w() * Matrix::kRowBytes; }
  DECONVKIT_HD int32_t column_bytes() const { return columns_of_tile * Matrix::kRowBytes; }
  // Where the rings lie.
  DECONVKIT_HD int32_t box_at(int32_t box) const { return box * box_bytes(); }
  DECONVKIT_HD int32_t columns_at(int32_t stage) const {
    return boxes * box_bytes() + stage * column_bytes();
  }

  // When a stage may be filled, the term `stages` before its own has been read, and all before that. The box
  // that its term begins takes the place of the one `boxes` before, whose last term must be among these:
  // (boxes - 1) · taps_of_box + 1 terms before it.
  static constexpr int32_t boxes_for(int32_t stages, int32_t taps_of_box) {
    return (stages - 1 + taps_of_box - 1) / taps_of_box + 1;
  }
  // Where the walk stands. A stage is used again and again: parity counts how often, modulo 2.
  struct Walk {
    Term term{};
    int32_t stage = 0, box = 0;
    uint32_t parity = 0;
  };
  // The next term, of the next tile after a tile's last. The vertical tap is innermost.
  DECONVKIT_HD void advance(Walk& walk) const {
    if (++walk.stage == stages) {
      walk.stage = 0;
      walk.parity ^= 1;
    }
    advance(walk.term);
    if (begins_box(walk.term) && ++walk.box == boxes) walk.box = 0;
  }
  DECONVKIT_HD bool begins_box(const Term& t) const { return !shares || t.tap_h == 0; }
  DECONVKIT_HD static bool is_empty(const Term& t, const GemmTaps& th, const GemmTaps& tw) {
    return t.tap_h >= th.count || t.tap_w >= tw.count;
  }
  // Its place among a sheet's packed weights, which have the walk of geometry/implicit_gemm.h.
  DECONVKIT_HD int64_t packed_term(const Term& t) const {
    return (source(t) * channel_blocks + t.block) * taps() + t.tap_h * w.most_taps + t.tap_w;
  }
  DECONVKIT_HD int64_t source(const Term& t) const { return t.source_h * w.sources() + t.source_w; }

  // Where the box that a term begins begins in its map: channel, group, w, h, image.
  struct Corner {
    int32_t at[TensorBox::kRank];
  };
  DECONVKIT_HD Corner corner(const Tile& tile, const Term& t, const GemmTaps& th, const GemmTaps& tw) const {
    return {{t.block * depth, static_cast<int32_t>(tile.group),
             static_cast<int32_t>(tile.w) + tw.offset + t.tap_w * tw.step,
             static_cast<int32_t>(tile.h) + th.offset + t.tap_h * th.step, static_cast<int32_t>(tile.n)}};
  }
  // The row in its box that a term reads for row `row`, a multiple of a matrix's: the 63 after it follow.
  DECONVKIT_HD int32_t row_in_box(int32_t row, const Term& t, const GemmTaps& th) const {
    if (!shares) return row;
    const Cell c = cell_of_row(row);
    return (c.n * box_h + c.h + t.tap_h * th.step) << tile_w_log2;
  }

  // What the map of a source phase says of an input with `channels` in a group, side by side, and these
  // strides of images, lines and pixels, in elements.
  TensorBox box_of(int64_t phase, uint64_t address, int64_t channels, int64_t n_stride, int64_t h_stride,
                   int64_t w_stride) const {
    const int64_t source_h = phase / w.sources(), source_w = phase % w.sources();
    TensorBox b;
    b.address = address + static_cast<uint64_t>((source_h * h_stride + source_w * w_stride) * kElementBytes);
    const int64_t sizes[] = {channels, groups, (w.in - source_w + w.in_step - 1) / w.in_step,
                             (h.in - source_h + h.in_step - 1) / h.in_step, batch};
    const int64_t strides[] = {1, channels, w_stride * w.in_step, h_stride * h.in_step, n_stride};
    const int32_t box[] = {depth, 1, tile_w(), box_h, tile_n};
    for (int i = 0; i < TensorBox::kRank; ++i) {
      b.size[i] = sizes[i];
      b.stride[i] = strides[i] * kElementBytes;
      if (i && sizes[i] == 1) {  // any stride would do, but cuda.h asks for the extent of what lies within
        const int64_t extent = b.size[i - 1] * b.stride[i - 1];
        b.stride[i] = (extent + Matrix::kPiece - 1) / Matrix::kPiece * Matrix::kPiece;
      }
      b.box[i] = box[i];
    }
    return b;
  }

 private:
  DECONVKIT_HD void advance(Term& t) const {
    if (++t.tap_h < h.most_taps) return;
    t.tap_h = 0;
    if (++t.tap_w < w.most_taps) return;
    t.tap_w = 0;
    if (++t.block < channel_blocks) return;
    t.block = 0;
    if (++t.source_w < w.sources()) return;
    t.source_w = 0;
    if (++t.source_h < h.sources()) return;
    t.source_h = 0;
  }

  // As many stages as there is room for; whether there is for two.
  bool choose_rings(int32_t lines, int32_t taps_of_box) {
    box_h = lines;
    for (stages = kMostStages; stages > 1; --stages) {
      boxes = boxes_for(stages, taps_of_box);
      if (boxes * int64_t{box_bytes()} + stages * column_bytes() <= kRoom) return true;
    }
    return false;
  }
};

}  // namespace deconvkit
