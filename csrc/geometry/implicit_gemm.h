// How the convolution family becomes matrix products on tensor cores, for host and device.
//
// Rows of the product are cells: pixels of the small side of a convolution, or of one phase
// (geometry/phases.h) of a transposed one. A tile of rows is a box of cells of several images; its taps all
// read the same box widened by their span, the halo, so that a channel is fetched once for all taps of a
// phase. Where a convolution has a stride, its input falls into phases as a transposed one's output does, and
// the product is summed over them: inside a phase every member of the family has stride 1.
//
// Columns are output channels of one phase (a sheet), or, where the phases are folded, of all phases: then
// the taps are those of all phases together, with zeros for weights that a phase lacks.
//
// The terms of a row and column, each of kDepthBytes of channels: for each source phase and block of channels
// (a round: what one halo serves) each tap. Taps that a phase lacks are empty terms. Where tiles are few, the
// rounds are split into parts, whose sums are added in order.
#pragma once
#include <cstdint>

#include "geometry/conv_shape.h"
#include "geometry/divisor.h"
#include "geometry/host_device.h"
#include "geometry/parts.h"
#include "geometry/phases.h"

namespace deconvkit {

// Taps in ascending order: the j-th is kernel cell kernel + j·kernel_step, and reads offset + j·step.
struct GemmTaps {
  int32_t count = 0, offset = 0, step = 1;
  int64_t kernel = 0, kernel_step = 0;

  DECONVKIT_HD constexpr int32_t span() const { return count > 1 ? (count - 1) * step : 0; }
  // The kernel cell that reads this offset, or -1.
  DECONVKIT_HD constexpr int64_t cell_at(int32_t wanted) const {
    const int32_t from_first = wanted - offset;
    if (from_first < 0 || count == 0 || from_first % step || from_first / step >= count) return -1;
    return kernel + from_first / step * kernel_step;
  }
};

// One axis: row cell q reads input (q + offset)·in_step + source and writes output q·out_step + phase.
struct GemmAxis {
  static constexpr int32_t kMostPhases = 32;
  static constexpr int64_t kLargest = int64_t{1} << 30;  // of a side, so that coordinates are 32 bits

  int64_t in, out, cells, in_step = 1, out_step = 1, phases;
  bool transposed;
  bool folded = false;
  int32_t most_taps = 0, span = 0;  // of any phase; of all together where they are folded
  GemmTaps taps[kMostPhases], all;

  GemmAxis(const ConvAxis& a, bool transposed_)
      : in(transposed_ ? a.small : a.large),
        out(transposed_ ? a.large : a.small),
        cells(out),
        phases(0),
        transposed(transposed_) {
    const GatherAxis large = GatherAxis::transposed_convolution(a);
    phases = is_near(a) ? large.phases() : kMostPhases + 1;
    (transposed ? out_step : in_step) = large.out_step;
    if (transposed) cells = large.cells();
    if (!serves()) return;
    for (int32_t phase = 0; phase < phases; ++phase) {
      const PhaseTaps t = large.taps(phase);
      GemmTaps& mine = taps[phase];
      mine.count = static_cast<int32_t>(t.count);
      if (t.count == 0) continue;
      // The offset is from large to small; a convolution reads the other way.
      mine.offset = static_cast<int32_t>(transposed ? t.offset : -t.last_offset());
      mine.step = t.count > 1 ? static_cast<int32_t>(t.offset_step) : 1;
      mine.kernel = transposed ? t.kernel : t.kernel + (t.count - 1) * t.kernel_step;
      mine.kernel_step = transposed ? t.kernel_step : -t.kernel_step;
      if (mine.count > most_taps) most_taps = mine.count;
      if (mine.span() > span) span = mine.span();
    }
    if (most_taps == 0) most_taps = 1;
  }

  // Whether offsets of taps are 32 bits as well; else the axis counts as one of too many phases.
  static bool is_near(const ConvAxis& a) {
    return a.padding < kLargest && a.kernel < kLargest && (a.kernel - 1) * a.dilation < kLargest;
  }
  bool serves() const { return phases <= kMostPhases && in < kLargest && out < kLargest; }
  // Whether all phases read the same offsets.
  bool is_alike() const {
    for (int32_t phase = 1; phase < phases; ++phase) {
      if (taps[phase].count != taps[0].count || taps[phase].offset != taps[0].offset) return false;
    }
    return true;
  }
  // Of a transposed convolution without dilation, whose offsets have no gaps.
  void fold() {
    folded = true;
    all = {};
    int32_t end = 0;
    for (int32_t phase = 0; phase < phases; ++phase) {
      const GemmTaps& t = taps[phase];
      if (t.count == 0) continue;
      if (all.count == 0 || t.offset < all.offset) all.offset = t.offset;
      if (all.count == 0 || t.offset + t.count > end) end = t.offset + t.count;
      all.count = end - all.offset;
    }
    most_taps = all.count > 0 ? all.count : 1;
    span = all.span();
  }

  DECONVKIT_HD int64_t sheets() const { return transposed && !folded ? phases : 1; }
  DECONVKIT_HD int64_t sources() const { return transposed ? 1 : phases; }
  DECONVKIT_HD int64_t folds() const { return folded ? phases : 1; }
  DECONVKIT_HD const GemmTaps& taps_of(int64_t sheet, int64_t source) const {
    return folded ? all : taps[transposed ? sheet : source];
  }
  // The kernel cell of a term's tap for a column of this fold, or -1.
  DECONVKIT_HD int64_t kernel_cell(int64_t sheet, int64_t source, int64_t fold, int32_t tap) const {
    const GemmTaps& t = taps_of(sheet, source);
    if (tap >= t.count) return -1;
    return folded ? taps[fold].cell_at(t.offset + tap) : t.kernel + tap * t.kernel_step;
  }
};

struct GemmTiles {
  static constexpr int32_t kRows = 128;       // of a tile
  static constexpr int32_t kDepthBytes = 64;  // channels of a term
  static constexpr int32_t kPiece = 16;       // bytes that are copied at once
  static constexpr int32_t kStages = 3;       // terms in flight
  static constexpr int32_t kHaloRows = 576;   // of shared memory, kDepthBytes each, for halos in flight
  static constexpr int64_t kFewChannels = 8;  // phases are folded up to so many
  static constexpr int32_t kNarrow = 16, kMiddle = 64, kWide = 128;  // columns of a tile
  static constexpr int64_t kPartTerms = 16;                          // of a part, at least
  static constexpr int64_t kRidge = 192;    // products that tensor cores make while memory moves one element
  static constexpr int32_t kThreads = 256;  // of a block that reads its halos by numbers

  int64_t batch, groups, in_channels, out_channels;  // channels of a group
  GemmAxis h, w;
  bool channels_first;  // the output's: columns of one channel are neighbours, else those of one cell
  int32_t row_bytes;    // channels of a term, in bytes
  int32_t depth;        // and their number
  int32_t columns_of_tile = kNarrow;
  int32_t tile_n = 0, tile_h_log2 = 0, tile_w_log2 = 0;  // the box; tile_n 0: its halo finds no room
  int32_t halo_h = 0, halo_w = 0, halos = 2;             // cells of an image's halo; halos in flight
  int64_t channel_blocks, terms, column_tiles = 0;
  int64_t tiles_n = 0, tiles_h = 0, tiles_w = 0;
  int64_t parts = 1, part_rounds = 0;  // rounds of a part; the last may have fewer

  GemmTiles(const ConvShape& s, bool transposed, int32_t element_bytes, bool output_channels_first,
            int32_t row_bytes_ = kDepthBytes)
      : batch(s.batch),
        groups(s.groups),
        in_channels(transposed ? s.group_small() : s.group_large()),
        out_channels(transposed ? s.group_large() : s.group_small()),
        h(s.h, transposed),
        w(s.w, transposed),
        channels_first(output_channels_first),
        row_bytes(row_bytes_),
        depth(row_bytes_ / element_bytes),
        channel_blocks((in_channels + depth - 1) / depth),
        terms(0) {
    if (!h.serves() || !w.serves()) return;
    const bool dense = s.h.dilation == 1 && s.w.dilation == 1;
    if (transposed && dense && (out_channels <= kFewChannels || (h.is_alike() && w.is_alike()))) {
      h.fold();
      w.fold();
    }
    terms = rounds() * taps();
    columns_of_tile = best_columns(element_bytes);
    column_tiles = (columns() + columns_of_tile - 1) / columns_of_tile;
    choose_box();
    if (tile_n == 0) return;
    tiles_n = (batch + tile_n - 1) / tile_n;
    tiles_h = (h.cells + tile_h() - 1) / tile_h();
    tiles_w = (w.cells + tile_w() - 1) / tile_w();
    const int64_t by_terms = terms / kPartTerms;
    const int64_t wanted = parts_of(kBlocksWanted, tiles(), by_terms < rounds() ? by_terms : rounds());
    part_rounds = (rounds() + wanted - 1) / wanted;
    parts = (rounds() + part_rounds - 1) / part_rounds;
  }

  // Whether an input that cannot be read 16 bytes at once is read by numbers rather than packed. Packing
  // reads and writes it once more, which counts where memory is what a layer waits for; by numbers, loads do
  // not run beside the products, which counts where it waits for these. An H200 makes 788 Tflop/s of 16-bit
  // types and moves 4.3 TB/s, so 183 products an element; of TF32 as many, half as fast over elements twice
  // as large. By three products of TF32, 61: between the two float32 waits for its products, and saves the
  // pass over the input all the same. Not measured.
  static bool is_memory_bound(const ConvShape& s) { return s.products() <= kRidge * s.elements(); }

  // Whether the shape is one for this algorithm: at most 32 phases an axis, and taps so near to each other
  // that the halo of a box of cells finds room.
  bool serves() const { return tile_n > 0; }

  DECONVKIT_HD int32_t tile_h() const { return 1 << tile_h_log2; }
  DECONVKIT_HD int32_t tile_w() const { return 1 << tile_w_log2; }
  DECONVKIT_HD int32_t taps() const { return h.most_taps * w.most_taps; }
  DECONVKIT_HD int32_t halo() const { return tile_n * halo_h * halo_w; }
  DECONVKIT_HD int64_t columns() const { return h.folds() * w.folds() * out_channels; }
  DECONVKIT_HD int64_t sheets() const { return groups * h.sheets() * w.sheets(); }
  DECONVKIT_HD int64_t pixel_tiles() const { return tiles_n * tiles_h * tiles_w; }
  DECONVKIT_HD int64_t tiles() const { return pixel_tiles() * sheets() * column_tiles; }
  DECONVKIT_HD int64_t rounds() const { return h.sources() * w.sources() * channel_blocks; }
  DECONVKIT_HD int64_t part_terms() const { return part_rounds * taps(); }
  // Floats of the parts' sums: (part, tile, row, column).
  DECONVKIT_HD int64_t partial_sums() const {
    return parts > 1 ? parts * tiles() * kRows * columns_of_tile : 0;
  }
  // Columns of a sheet, with those that fill the last tile.
  DECONVKIT_HD int64_t packed_columns() const { return column_tiles * columns_of_tile; }
  // Bytes of the packed weights: (group and sheet, term, column, channel).
  DECONVKIT_HD int64_t packed_bytes() const { return sheets() * terms * packed_columns() * row_bytes; }

  // Neighbouring tiles are of the same pixels: all columns of all sheets. Tiles of the next part follow those
  // of one: there are tiles() · parts.
  struct Tile {
    int64_t n, h, w, column;                 // the first
    int64_t sheet, group, sheet_h, sheet_w;  // sheet: among those of all groups
    int64_t part;
  };
  DECONVKIT_HD Tile tile(int64_t i) const {
    Tile t{};
    t.column = i % column_tiles * columns_of_tile;
    i /= column_tiles;
    t.sheet = i % sheets();
    i /= sheets();
    t.sheet_w = t.sheet % w.sheets();
    t.sheet_h = t.sheet / w.sheets() % h.sheets();
    t.group = t.sheet / w.sheets() / h.sheets();
    t.w = i % tiles_w * tile_w();
    i /= tiles_w;
    t.h = i % tiles_h * tile_h();
    i /= tiles_h;
    t.n = i % tiles_n * tile_n;
    t.part = i / tiles_n;
    return t;
  }

  // A row of a tile, or a cell of its halo, from the tile's first cell (the halo's: from the first tap's).
  struct Cell {
    int32_t n, h, w;
  };
  DECONVKIT_HD Cell cell_of_row(int32_t row) const {
    return {row >> (tile_h_log2 + tile_w_log2), row >> tile_w_log2 & (tile_h() - 1), row & (tile_w() - 1)};
  }
  DECONVKIT_HD Cell cell_of_halo(int32_t place) const {
    const int32_t line = place / halo_w, n = line / halo_h;
    return {n, line - n * halo_h, place - line * halo_w};
  }
  // What a thread reads of a halo by numbers: the j-th piece of its share, which may lie behind the halo.
  // Neighbouring threads have the same channels of neighbouring cells, as pixels lie in NCHW.
  struct HaloPiece {
    int32_t cell, piece;
  };
  static constexpr int32_t kPieces = kDepthBytes / kPiece, kHaloStep = kThreads / kPieces;
  DECONVKIT_HD static HaloPiece piece_of_halo(int32_t thread, int32_t j) {
    return {thread % kHaloStep + j * kHaloStep, thread / kHaloStep};
  }
  // Where a row's cell lies in the halo; a tap adds its place_of_tap(). Rows behind the box read its first.
  DECONVKIT_HD int32_t place_of_row(int32_t row) const {
    const Cell c = cell_of_row(row);
    return c.n < tile_n ? (c.n * halo_h + c.h) * halo_w + c.w : 0;
  }
  DECONVKIT_HD int32_t place_of_tap(const GemmTaps& th, const GemmTaps& tw, int32_t h_tap,
                                    int32_t w_tap) const {
    return h_tap * th.step * halo_w + w_tap * tw.step;
  }

  struct Column {
    int64_t fold_h, fold_w, channel;
    bool valid;
  };
  DECONVKIT_HD Column column(int64_t j) const {
    const int64_t inner = channels_first ? w.folds() : out_channels;
    const int64_t outer = channels_first ? out_channels : w.folds();
    const int64_t a = j % inner, b = j / inner % outer, fold_h = j / inner / outer;
    return {fold_h, channels_first ? a : b, channels_first ? b : a, j < columns()};
  }
  // Neighbouring columns that are neighbours in the output.
  DECONVKIT_HD int32_t run() const {
    const int64_t all = channels_first ? w.folds() : w.folds() * out_channels;
    return static_cast<int32_t>(all < columns_of_tile ? all : columns_of_tile);
  }

  // A term, or where the walk through all of them stands.
  struct Term {
    int32_t source_h, source_w, block, tap_h, tap_w;
  };
  DECONVKIT_HD Term first_term(int64_t part) const {
    const int64_t round = part * part_rounds, source = round / channel_blocks;
    return {static_cast<int32_t>(source / w.sources()), static_cast<int32_t>(source % w.sources()),
            static_cast<int32_t>(round - source * channel_blocks), 0, 0};
  }
  // How many terms a part has.
  DECONVKIT_HD int64_t terms_of(int64_t part) const {
    const int64_t left = terms - part * part_terms();
    return left < part_terms() ? left : part_terms();
  }
  DECONVKIT_HD void advance(Term& t) const {
    if (++t.tap_w < w.most_taps) return;
    t.tap_w = 0;
    if (++t.tap_h < h.most_taps) return;
    t.tap_h = 0;
    if (++t.block < channel_blocks) return;
    t.block = 0;
    if (++t.source_w < w.sources()) return;
    t.source_w = 0;
    ++t.source_h;
  }

 protected:
  static int32_t log2_up(int64_t n, int32_t most) {
    int32_t log2 = 0;
    while (log2 < most && (int64_t{1} << log2) < n) ++log2;
    return log2;
  }

 private:
  // The width whose last tile has least to fill up; of equals the larger. float32 has half the columns, as
  // many bytes.
  int32_t best_columns(int32_t element_bytes) const {
    if (columns() <= kNarrow) return kNarrow;
    const int64_t middle = (columns() + kMiddle - 1) / kMiddle * kMiddle;
    const int64_t wide = (columns() + kWide - 1) / kWide * kWide;
    return element_bytes == 2 && wide <= middle ? kWide : kMiddle;
  }

  // 16 cells wide and 8 high, less where the image is smaller or the halo is too large; then as many images
  // as there is room for.
  void choose_box() {
    halos = taps() >= kStages - 1 ? 2 : kStages;
    const int64_t room = kHaloRows / halos;
    tile_w_log2 = log2_up(w.cells, 4);
    tile_h_log2 = log2_up(h.cells, 7 - tile_w_log2);
    const auto halo_of_image = [&] { return (int64_t{tile_h()} + h.span) * (int64_t{tile_w()} + w.span); };
    while (halo_of_image() > room && tile_h_log2 + tile_w_log2 > 0) {
      --(tile_w_log2 > tile_h_log2 ? tile_w_log2 : tile_h_log2);
    }
    if (halo_of_image() > room) return;
    halo_h = tile_h() + h.span;
    halo_w = tile_w() + w.span;
    const int64_t by_rows = kRows / (tile_h() * tile_w()), by_room = room / (halo_h * halo_w);
    tile_n = static_cast<int32_t>(by_rows < by_room ? by_rows : by_room);
  }
};

}  // namespace deconvkit
