// The tiles of csrc/geometry/implicit_gemm.h over many small shapes: every output is a row and column of one
// tile, once in each part; the parts' terms are exactly the products of the definition
// (geometry/conv_shape.h), each once; and what a tap reads lies in the halo where the tile's walk looks for
// it. Large shapes by samples.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "expect.h"
#include "gemm_products.h"
#include "geometry/implicit_gemm.h"
#include "geometry/per_channel.h"

using namespace deconvkit;

namespace {

#define SHAPE                                                                                                \
  "transposed %d batch %lld channels %lld, %lld groups %lld; %lld <-> %lld kernel %lld stride %lld padding " \
  "%lld dilation %lld"
#define SHAPE_ARGS(s)                                                                                 \
  transposed, (long long)(s).batch, (long long)(s).small_channels, (long long)(s).large_channels,     \
      (long long)(s).groups, (long long)(s).w.small, (long long)(s).w.large, (long long)(s).w.kernel, \
      (long long)(s).w.stride, (long long)(s).w.padding, (long long)(s).w.dilation

int64_t served = 0, folded = 0, split = 0, asked = 0;

void check(const ConvShape& s, bool transposed, int32_t bytes, bool channels_first) {
  const GemmTiles t(s, transposed, bytes, channels_first);
  ++asked;
  if (!t.serves()) return;
  ++served;
  folded += t.h.folded;
  split += t.parts > 1;
  EXPECT(t.parts == 1 || (t.parts <= t.rounds() && t.parts * t.tiles() <= 256 && t.parts * 16 <= t.terms),
         "%lld parts: " SHAPE, (long long)t.parts, SHAPE_ARGS(s));
  EXPECT(t.halo() * t.halos <= GemmTiles::kHaloRows && t.tile_n * t.tile_h() * t.tile_w() <= GemmTiles::kRows,
         SHAPE, SHAPE_ARGS(s));
  const std::vector<int64_t> wanted = products(s, transposed);
  const int64_t channels = t.groups * t.out_channels, outputs = t.h.out * t.w.out;
  std::vector<std::vector<int64_t>> got(s.batch * channels);
  std::vector<int> stored(s.batch * channels * outputs);
  for (int64_t i = 0; i < t.tiles() * t.parts; ++i) {
    const GemmTiles::Tile tile = t.tile(i);
    EXPECT(tile.sheet < t.sheets() && tile.column < t.packed_columns() && tile.part == i / t.tiles() &&
               t.terms_of(tile.part) > 0,
           SHAPE, SHAPE_ARGS(s));
    for (int32_t row = 0; row < GemmTiles::kRows; ++row) {
      const GemmTiles::Cell c = t.cell_of_row(row);
      const int64_t n = tile.n + c.n, qh = tile.h + c.h, qw = tile.w + c.w;
      EXPECT(t.place_of_row(row) < t.halo(), SHAPE, SHAPE_ARGS(s));
      if (c.n >= t.tile_n || n >= s.batch || qh >= t.h.cells || qw >= t.w.cells) continue;
      for (int32_t j = 0; j < t.columns_of_tile; ++j) {
        const GemmTiles::Column column = t.column(tile.column + j);
        if (!column.valid) continue;
        const int64_t oy = qh * t.h.out_step + tile.sheet_h + column.fold_h;
        const int64_t ox = qw * t.w.out_step + tile.sheet_w + column.fold_w;
        if (oy >= t.h.out || ox >= t.w.out) continue;
        const int64_t image = n * channels + tile.group * t.out_channels + column.channel;
        ++stored[image * outputs + oy * t.w.out + ox];
        GemmTiles::Term term = t.first_term(tile.part);
        for (int64_t k = 0; k < t.terms_of(tile.part); ++k, t.advance(term)) {
          EXPECT(
              term.source_h < t.h.sources() && term.source_w < t.w.sources() && term.block < t.channel_blocks,
              SHAPE, SHAPE_ARGS(s));
          if (term.block) continue;
          const GemmTaps& th = t.h.taps_of(tile.sheet_h, term.source_h);
          const GemmTaps& tw = t.w.taps_of(tile.sheet_w, term.source_w);
          if (term.tap_h >= th.count || term.tap_w >= tw.count) continue;
          // Where the walk looks for it: a cell of the halo, counted from the first tap's.
          const int32_t place = t.place_of_row(row) + t.place_of_tap(th, tw, term.tap_h, term.tap_w);
          EXPECT(place < t.halo(), SHAPE, SHAPE_ARGS(s));
          const GemmTiles::Cell from = t.cell_of_halo(place);
          EXPECT(from.n == c.n, SHAPE, SHAPE_ARGS(s));
          const int64_t y = (tile.h + from.h + th.offset) * t.h.in_step + term.source_h;
          const int64_t x = (tile.w + from.w + tw.offset) * t.w.in_step + term.source_w;
          if (y < 0 || y >= t.h.in || x < 0 || x >= t.w.in) continue;
          const int64_t kh = t.h.kernel_cell(tile.sheet_h, term.source_h, column.fold_h, term.tap_h);
          const int64_t kw = t.w.kernel_cell(tile.sheet_w, term.source_w, column.fold_w, term.tap_w);
          if (kh < 0 || kw < 0) continue;  // its weight is zero
          EXPECT(kh < s.h.kernel && kw < s.w.kernel, SHAPE, SHAPE_ARGS(s));
          got[image].push_back(key(s, oy, ox, y, x, kh, kw));
        }
        const GemmTiles::Term next = t.first_term(tile.part + 1);
        const bool last = tile.part + 1 == t.parts;
        EXPECT(term.tap_w == 0 && term.tap_h == 0 &&
                   (last ? term.source_h == t.h.sources()
                         : term.source_h == next.source_h && term.source_w == next.source_w &&
                               term.block == next.block),
               SHAPE, SHAPE_ARGS(s));
      }
    }
  }
  for (const int times : stored)
    EXPECT(times == t.parts, "an output stored %d times: " SHAPE, times, SHAPE_ARGS(s));
  for (std::vector<int64_t>& image : got) {
    std::sort(image.begin(), image.end());
    EXPECT(image == wanted, "%lld products, %lld wanted: " SHAPE, (long long)image.size(),
           (long long)wanted.size(), SHAPE_ARGS(s));
  }
  // Runs of neighbours cover the columns of a tile.
  EXPECT(t.run() >= 1 && t.run() <= t.columns_of_tile, SHAPE, SHAPE_ARGS(s));
}

// The threads' shares are each piece of the largest halo once, 64 bytes of channels a cell; and neighbouring
// threads of a warp have neighbouring cells.
void halo_shares() {
  std::vector<int> times(GemmTiles::kHaloRows / 2 * GemmTiles::kPieces);
  for (int32_t thread = 0; thread < GemmTiles::kThreads; ++thread)
    for (int32_t j = 0; j * GemmTiles::kHaloStep < GemmTiles::kHaloRows / 2; ++j) {
      const GemmTiles::HaloPiece p = GemmTiles::piece_of_halo(thread, j);
      EXPECT(p.piece >= 0 && p.piece < 64 / 16, "piece %d of thread %d", p.piece, thread);
      if (thread % 32) {
        const GemmTiles::HaloPiece before = GemmTiles::piece_of_halo(thread - 1, j);
        EXPECT(p.cell == before.cell + 1 && p.piece == before.piece, "neighbours of thread %d", thread);
      }
      if (p.cell < GemmTiles::kHaloRows / 2) ++times[p.cell * GemmTiles::kPieces + p.piece];
    }
  for (const int t : times) EXPECT(t == 1, "a piece of a halo read %d times", t);
}

// Of one axis: the products of each output, by their inputs and kernel cells.
void check_per_channel(const ConvShape& s, bool transposed) {
  if (!PerChannelAxis::serves(s.w, transposed)) return;
  const PerChannelAxis axis(s.w, transposed);
  std::vector<int64_t> wanted, got;
  for (int64_t i = 0; i < s.w.small; ++i)
    for (int64_t k = 0; k < s.w.kernel; ++k) {
      const int64_t l = s.w.large_index(i, k);
      if (l < 0 || l >= s.w.large) continue;
      wanted.push_back(transposed ? key(s, 0, l, 0, i, 0, k) : key(s, 0, i, 0, l, 0, k));
    }
  for (int64_t o = 0; o < axis.out; ++o) {
    const PerChannelAxis::Place p = axis.place(o);
    for (int32_t j = 0; j < p.taps.count; ++j) {
      const int64_t x = PerChannelAxis::input(p, j);
      if (x >= 0 && x < axis.in) got.push_back(key(s, 0, o, 0, x, 0, PerChannelAxis::cell(p, j)));
    }
  }
  std::sort(wanted.begin(), wanted.end());
  std::sort(got.begin(), got.end());
  EXPECT(got == wanted, "per channel: " SHAPE, SHAPE_ARGS(s));
}

// Every axis of a small range, beside a plain one; channels, groups, batch, dtype and layout in turns.
void small_shapes() {
  int64_t turn = 0;
  for (int64_t small = 1; small <= 6; ++small)
    for (int64_t kernel = 1; kernel <= 5; ++kernel)
      for (int64_t stride = 1; stride <= 4; ++stride)
        for (int64_t padding = 0; padding <= kernel; padding += 1 + kernel / 3)
          for (int64_t dilation = 1; dilation <= 3; ++dilation)
            for (int64_t more = 0; more < std::max(stride, dilation); ++more) {
              const int64_t large = (small - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + more;
              if (large < 1) continue;
              ++turn;
              const int64_t groups = 1 + turn % 2, many = turn % 9 == 0 ? 19 : 1;
              const ConvAxis other = turn % 3 ? ConvAxis{2, 4, 2, 2, 0, 1} : ConvAxis{3, 3, 3, 1, 1, 1};
              const ConvShape s = {turn % 4,
                                   groups * (1 + turn % 3 * many),
                                   groups * (1 + turn % 2 * many),
                                   groups,
                                   other,
                                   {small, large, kernel, stride, padding, dilation}};
              check(s, false, 2 + turn % 2 * 2, turn % 5 < 2);
              check(s, true, 2 + turn % 2 * 2, turn % 5 < 2);
              check_per_channel(s, false);
              check_per_channel(s, true);
            }
}

// Images that need several boxes, and boxes of several images.
void boxes() {
  for (const int64_t side : {1, 4, 7, 16, 17, 33}) {
    for (const int64_t batch : {1, 3, 40}) {
      if (batch * side > 120) continue;
      for (const int64_t kernel : {1, 3, 7}) {
        const ConvAxis a = {side, side, kernel, 1, kernel / 2, 1};
        check({batch, 2, 2, 1, a, a}, false, 2, false);
        const ConvAxis b = {side, 2 * side, 4, 2, 1, 1};
        check({batch, 1, 2, 1, b, a}, true, 2, kernel == 3);
        check({batch, 1, 9, 1, b, b}, true, 4, kernel == 3);
      }
    }
  }
}

ConvShape square(int64_t batch, int64_t small_channels, int64_t large_channels, const ConvAxis& a) {
  return {batch, small_channels, large_channels, 1, a, a};
}

// The layers that the tiles are made for.
void known_layers() {
  // 5x5 s2, the phases apart: 9, 6, 6 and 4 taps over a halo of at most 10x18 cells.
  const GemmTiles dcgan(square(128, 256, 128, {16, 32, 5, 2, 2, 1}), true, 2, false);
  EXPECT(!dcgan.h.folded && dcgan.sheets() == 4 && dcgan.taps() == 9 && dcgan.columns_of_tile == 128 &&
             dcgan.tile_n == 1 && dcgan.halo() == 180 && dcgan.terms == 8 * 9,
         "dcgan");
  const GemmTiles first(square(128, 1024, 512, {4, 8, 5, 2, 2, 1}), true, 2, false);
  EXPECT(first.tile_n == 8 && first.halo() == 288 && first.tiles() == 16 * 4 * 4, "4x4 images");
  // The last layer: all phases in one tile of 16 columns.
  const GemmTiles last(square(128, 128, 3, {32, 64, 5, 2, 2, 1}), true, 2, false);
  EXPECT(last.h.folded && last.columns() == 12 && last.columns_of_tile == 16 && last.taps() == 9 &&
             last.run() == 6,
         "dcgan's last layer");
  // 2x2 s2: one product, no halo, columns of all phases.
  const GemmTiles unet(square(8, 128, 64, {256, 512, 2, 2, 0, 1}), true, 2, false);
  EXPECT(unet.h.folded && unet.taps() == 1 && unet.columns() == 256 && unet.columns_of_tile == 128 &&
             unet.halo() == 128 && unet.halos == 3 && unet.run() == 128,
         "2x2 s2");
  const GemmTiles vgg(square(32, 64, 64, {224, 224, 3, 1, 1, 1}), false, 2, false);
  EXPECT(vgg.taps() == 9 && vgg.columns_of_tile == 64 && vgg.halo() == 180, "3x3 s1");
  // Backward-data of the 5x5 s2 layer: one sum over four phases of its input.
  const GemmTiles data(square(128, 256, 128, {16, 32, 5, 2, 2, 1}), false, 2, false);
  EXPECT(data.sheets() == 1 && data.terms == 4 * 4 * 9 && data.halo() == 180, "strided convolution");
  // What memory bounds, and what the tensor cores do.
  EXPECT(GemmTiles::is_memory_bound(square(128, 128, 3, {32, 64, 5, 2, 2, 1})), "dcgan's last layer: 69");
  EXPECT(GemmTiles::is_memory_bound(square(8, 128, 64, {256, 512, 2, 2, 0, 1})), "2x2 s2: 85");
  EXPECT(GemmTiles::is_memory_bound(square(32, 64, 3, {224, 224, 3, 1, 1, 1})),
         "3x3 s1 of three colours: 26");
  EXPECT(!GemmTiles::is_memory_bound(square(32, 64, 64, {224, 224, 3, 1, 1, 1})), "3x3 s1: 288");
  EXPECT(!GemmTiles::is_memory_bound(square(128, 256, 128, {16, 32, 4, 2, 1, 1})), "k4 s2: 683");
  // Named limits: taps far apart, phases without number.
  EXPECT(!GemmTiles(square(1, 8, 8, {64, 64, 3, 1, 12, 12}), false, 2, false).serves(), "dilation 12");
  EXPECT(GemmTiles(square(1, 8, 8, {64, 64, 3, 1, 4, 4}), false, 2, false).serves(), "dilation 4");
  EXPECT(!GemmTiles(square(1, 8, 8, {9, 9 * 33, 33, 33, 0, 1}), true, 2, false).serves(), "stride 33");
  EXPECT(!GemmTiles({1, 8, 8, 1, {1, 1, 1, 1, 0, 1}, {int64_t{1} << 31, int64_t{1} << 31, 1, 1, 0, 1}}, false,
                    2, false)
              .serves(),
         "a side of 2^31");
  for (const int64_t far : {int64_t{1} << 29, int64_t{1} << 31}) {
    // 3 taps so far apart that the outer ones read zeros alone.
    const ConvAxis axis{8, 8, 3, 1, far, far};
    EXPECT(!GemmAxis(axis, false).serves() && !GemmAxis(axis, true).serves(), "taps beyond 32 bits");
    EXPECT(!PerChannelAxis::serves(axis, false) && !PerChannelAxis::serves(axis, true), "for each channel");
  }
  EXPECT(PerChannelAxis::serves({8, 8, 3, 1, 1 << 28, 1 << 28}, false), "taps within 32 bits");
}

// Parts where tiles are few, by the shape alone.
void parts() {
  for (int64_t tiles = 0; tiles <= 300; ++tiles)
    for (int64_t most = 0; most <= 70; ++most) {
      const int64_t parts = parts_of(256, tiles, most);
      EXPECT(parts == 1 || (parts <= most && parts * tiles <= 256), "%lld parts of %lld tiles, most %lld",
             (long long)parts, (long long)tiles, (long long)most);
      EXPECT(parts >= 1 && (tiles == 0 || parts >= most || (parts + 1) * tiles > 256),
             "only %lld parts of %lld tiles, most %lld", (long long)parts, (long long)tiles, (long long)most);
    }
  EXPECT(parts_of(256, 128, 9) == 2 && parts_of(256, 129, 9) == 1 && parts_of(512, 129, 9) == 3, "129 tiles");
  const GemmTiles fits(square(8, 64, 512, {16, 16, 4, 1, 1, 1}), false, 2, false);
  EXPECT(fits.tiles() == 16 && fits.rounds() == 16 && fits.parts == 16, "parts of one round of 16 taps");
  // DCGAN's first layers, batch 16 and 1: nearly a block for each of 256, and as many as there are rounds.
  const GemmTiles few(square(16, 1024, 512, {4, 8, 5, 2, 2, 1}), true, 2, false);
  EXPECT(few.tiles() == 32 && few.rounds() == 32 && few.parts == 8 && few.part_terms() == 36, "batch 16");
  const GemmTiles one(square(1, 1024, 512, {4, 8, 5, 2, 2, 1}), true, 2, false);
  EXPECT(one.tiles() == 16 && one.parts == 16 && one.partial_sums() == 16 * 16 * 128 * 128, "batch 1");
  const GemmTiles vgg(square(1, 512, 512, {14, 14, 3, 1, 1, 1}), false, 2, false);
  EXPECT(vgg.tiles() == 8 && vgg.parts == 8 && vgg.part_rounds == 2, "14x14");
  const GemmTiles uneven(square(1, 16, 7 * 32, {4, 4, 3, 1, 1, 1}), false, 2, false);
  EXPECT(uneven.rounds() == 7 && uneven.parts == 3 && uneven.terms_of(1) == 27 && uneven.terms_of(2) == 9,
         "3, 3 and 1 rounds");
  const GemmTiles many(square(128, 1024, 512, {4, 8, 5, 2, 2, 1}), true, 2, false);
  EXPECT(many.tiles() == 256 && many.parts == 1 && many.partial_sums() == 0, "batch 128");
}

// More than 2^31 pixels, outputs and bytes of packed weights.
void large_shapes() {
  const int64_t side = int64_t{1} << 28;
  const GemmTiles t({5, 1 << 17, 1 << 16, 1, {1, 2, 2, 2, 0, 1}, {side, 2 * side, 4, 2, 1, 1}}, true, 2,
                    false);
  EXPECT(t.serves(), "2^28 cells");
  const GemmTiles::Tile last = t.tile(t.tiles() - 1);
  EXPECT(last.n + t.tile_n >= 5 && last.n < 5 && last.w + t.tile_w() == t.w.cells &&
             last.column + 128 == t.packed_columns() && last.sheet == t.sheets() - 1,
         "the last tile");
  EXPECT(t.packed_bytes() == t.sheets() * t.terms * t.packed_columns() * 64 && t.packed_bytes() > 1ll << 31,
         "bytes of weights");
}

}  // namespace

int main() {
  small_shapes();
  boxes();
  halo_shares();
  known_layers();
  parts();
  large_shapes();
  EXPECT(served > asked / 2 && folded > 100 && split > 50, "%lld of %lld served, %lld folded, %lld split",
         (long long)served, (long long)asked, (long long)folded, (long long)split);
  std::printf("%lld shapes, %lld served, %lld with folded phases, %lld in parts\n", (long long)asked,
              (long long)served, (long long)folded, (long long)split);
  std::printf(failed ? "%d checks failed\n" : "geometry of implicit GEMMs: ok\n", failed);
  return failed ? 1 : 0;
}
