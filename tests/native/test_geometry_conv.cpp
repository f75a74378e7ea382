// The tiles of csrc/geometry/conv_tiles.h over many small shapes: every output is in one tile, once, and its
// terms are exactly the products of the definition (geometry/conv_shape.h), each once. Large shapes by
// samples.
#include <cstdint>
#include <cstdio>
#include <map>
#include <tuple>
#include <vector>

#include "expect.h"
#include "geometry/conv_tiles.h"

using namespace deconvkit;

namespace {

#define AXIS "%lld <-> %lld kernel %lld stride %lld padding %lld dilation %lld"
#define AXIS_ARGS(a)                                                                        \
  (long long)(a).small, (long long)(a).large, (long long)(a).kernel, (long long)(a).stride, \
      (long long)(a).padding, (long long)(a).dilation

// Kernel cells by (output, input) index.
using Joined = std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>>;

Joined joined(const ConvAxis& a, bool transposed) {
  Joined all;
  for (int64_t i = 0; i < a.small; ++i)
    for (int64_t k = 0; k < a.kernel; ++k) {
      const int64_t l = i * a.stride - a.padding + k * a.dilation;
      if (l < 0 || l >= a.large) continue;
      all[transposed ? std::pair{l, i} : std::pair{i, l}].push_back(k);
    }
  return all;
}

void check_gather(const ConvShape& s, bool transposed) {
  const GatherTiles t(s, transposed);
  const ConvAxis& axis = s.w;
  const Joined wanted_h = joined(s.h, transposed), wanted_w = joined(axis, transposed);
  std::map<std::tuple<int64_t, int64_t, int64_t, int64_t>, int> stored;  // n, channel, h, w
  for (int64_t i = 0; i < t.tiles(); ++i) {
    const GatherTiles::Tile tile = t.tile(i);
    const PhaseTaps h = t.h.taps(tile.phase_h), w = t.w.taps(tile.phase_w);
    EXPECT(h.count <= t.taps_h && w.count <= t.taps_w, AXIS, AXIS_ARGS(axis));
    for (int32_t row = 0; row < GatherTiles::kTile; ++row) {
      const GatherTiles::Pixel p = t.pixel(tile, row);
      if (!p.valid) continue;
      const int64_t y = p.cell_h * t.h.out_step + tile.phase_h, x = p.cell_w * t.w.out_step + tile.phase_w;
      for (int64_t c = tile.channel; c < tile.channel + GatherTiles::kTile && c < t.out_channels; ++c) {
        ++stored[{p.n, tile.group * t.out_channels + c, y, x}];
      }
      if (tile.channel || tile.group) continue;
      Joined got_h, got_w;  // of this output
      std::map<std::tuple<int64_t, int64_t, int64_t>, int> terms;
      for (int64_t k = 0; k < t.depth(); ++k) {
        const GatherTiles::Term term = t.term(k);
        ++terms[{term.tap_h, term.tap_w, term.channel}];
        const bool exists = term.tap_h < h.count && term.tap_w < w.count;
        EXPECT(!exists || !t.is_empty(k / GatherTiles::kDepth, h, w), "term %lld: " AXIS, (long long)k,
               AXIS_ARGS(axis));
        if (!exists || term.channel) continue;
        const int64_t iy = t.h.input(p.cell_h, h.offset + term.tap_h * h.offset_step);
        const int64_t ix = t.w.input(p.cell_w, w.offset + term.tap_w * w.offset_step);
        if (iy >= 0 && iy < t.h.in && term.tap_w == 0) {
          got_h[{y, iy}].push_back(h.kernel + term.tap_h * h.kernel_step);
        }
        if (ix >= 0 && ix < t.w.in && term.tap_h == 0) {
          got_w[{x, ix}].push_back(w.kernel + term.tap_w * w.kernel_step);
        }
      }
      EXPECT(static_cast<int64_t>(terms.size()) == t.taps_h * t.taps_w * t.in_channels, AXIS,
             AXIS_ARGS(axis));
      // An axis without taps leaves the other without terms, and the output without products.
      const auto is_same = [](const Joined& wanted, const Joined& got, int64_t out) {
        Joined of_out;
        for (const auto& [pair, cells] : wanted) {
          if (pair.first == out) of_out[pair] = cells;
        }
        return of_out == got;
      };
      EXPECT(h.count == 0 || w.count == 0 || (is_same(wanted_h, got_h, y) && is_same(wanted_w, got_w, x)),
             "transposed %d output %lld, %lld: " AXIS, transposed, (long long)y, (long long)x,
             AXIS_ARGS(axis));
    }
  }
  const int64_t outputs = s.batch * t.groups * t.out_channels * t.h.out * t.w.out;
  EXPECT(static_cast<int64_t>(stored.size()) == outputs, "%lld of %lld outputs: " AXIS,
         (long long)stored.size(), (long long)outputs, AXIS_ARGS(axis));
  for (const auto& [output, times] : stored)
    EXPECT(times == 1, "stored %d times: " AXIS, times, AXIS_ARGS(axis));
}

void check_weight_grad(const ConvShape& s) {
  const WeightGradTiles t(s);
  std::vector<int> stored(t.parts * t.numel());
  std::map<std::tuple<int64_t, int64_t, int64_t>, int> pixels;
  for (int64_t i = 0; i < t.tiles(); ++i) {
    const WeightGradTiles::Tile tile = t.tile(i);
    for (int64_t row = tile.row; row < tile.row + WeightGradTiles::kTile && row < t.small_channels; ++row) {
      for (int64_t j = tile.column; j < tile.column + WeightGradTiles::kTile; ++j) {
        const WeightGradTiles::Column c = t.column(j);
        EXPECT(c.valid == (j < t.columns()), "column %lld", (long long)j);
        if (c.valid) ++stored[tile.part * t.numel() + t.index(tile.group, row, c)];
      }
    }
    if (tile.row || tile.column || tile.group) continue;
    for (int64_t chunk = 0; chunk < t.part_chunks; ++chunk) {
      for (int32_t k = 0; k < WeightGradTiles::kDepth; ++k) {
        const WeightGradTiles::Pixel p = t.pixel(tile.part, chunk, k);
        if (p.valid) ++pixels[{p.n, p.h, p.w}];
        EXPECT(!p.valid || (p.n < s.batch && p.h < s.h.small && p.w < s.w.small), "a pixel outside");
      }
    }
  }
  for (const int times : stored) EXPECT(times == 1, "stored %d times, %lld parts", times, (long long)t.parts);
  EXPECT(static_cast<int64_t>(pixels.size()) == t.pixels, "%lld pixels", (long long)pixels.size());
  for (const auto& [pixel, times] : pixels) EXPECT(times == 1, "a pixel %d times", times);
}

// Every axis of a small range, beside a plain one; channels and batch in turns.
void small_shapes() {
  int64_t turn = 0;
  for (int64_t small = 1; small <= 5; ++small)
    for (int64_t kernel = 1; kernel <= 5; ++kernel)
      for (int64_t stride = 1; stride <= 4; ++stride)
        for (int64_t padding = 0; padding <= kernel; padding += 1 + kernel / 3)
          for (int64_t dilation = 1; dilation <= 4; ++dilation)
            for (int64_t more = 0; more < (stride > dilation ? stride : dilation); ++more) {
              const int64_t large = (small - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + more;
              if (large < 1) continue;
              ++turn;
              const int64_t groups = 1 + turn % 2;
              const ConvShape s = {turn % 4,
                                   groups * (turn % 7 ? 1 + turn % 3 : 17),
                                   groups * (turn % 5 ? 1 : 66),
                                   groups,
                                   {2, 3, 2, 1, 0, 1},
                                   {small, large, kernel, stride, padding, dilation}};
              check_gather(s, false);
              check_gather(s, true);
              check_weight_grad(s);
            }
}

// Parts: chunks that do and do not divide evenly.
void parts() {
  for (const int64_t side : {1, 15, 33, 80, 91, 200}) {
    for (const int64_t channels : {1, 3, 65}) {
      const ConvShape s = {1, channels, 2, 1, {side, side, 3, 1, 1, 1}, {side, side, 3, 1, 1, 1}};
      check_weight_grad(s);
      const WeightGradTiles t(s);
      EXPECT(t.parts == 1 || t.parts * t.row_tiles * t.column_tiles * t.groups <= t.kTilesWanted,
             "%lld parts", (long long)t.parts);
    }
  }
}

// More than 2^31 pixels, channels and elements: the last of everything, and one from the middle.
void large_shapes() {
  for (const int64_t side : {int64_t{70000}, int64_t{1} << 31, (int64_t{1} << 33) + 3}) {
    const ConvShape s = {3, 1 << 20, 130, 2, {1, 2, 2, 2, 0, 1}, {side, 2 * side, 4, 2, 1, 1}};
    for (const bool transposed : {false, true}) {
      const GatherTiles t(s, transposed);
      const int64_t cells = t.w.cells(), rows = 3 * t.h.cells() * cells;
      const GatherTiles::Tile last = t.tile(t.tiles() - 1);
      EXPECT(last.pixel == (rows - 1) / 64 * 64 && last.group == 1 && last.phase_w == t.w.phases() - 1 &&
                 last.channel == (t.out_channels - 1) / 64 * 64,
             "the last tile");
      const GatherTiles::Pixel p = t.pixel(last, static_cast<int32_t>((rows - 1) % 64));
      EXPECT(p.valid && p.n == 2 && p.cell_h == t.h.cells() - 1 && p.cell_w == cells - 1, "the last pixel");
      EXPECT((rows % 64 == 0) || !t.pixel(last, static_cast<int32_t>(rows % 64)).valid,
             "behind the last pixel");
      const GatherTiles::Term term = t.term(t.depth() - 1);
      EXPECT(term.tap_h == t.taps_h - 1 && term.tap_w == t.taps_w - 1 && term.channel == t.in_channels - 1,
             "the last term");
    }
    const WeightGradTiles t(s);
    EXPECT(t.parts * t.part_chunks * 16 >= t.pixels && (t.parts - 1) * t.part_chunks * 16 < t.pixels,
           "parts");
    const int64_t at = (t.pixels - 1) - (t.parts - 1) * t.part_chunks * 16;
    const WeightGradTiles::Pixel p = t.pixel(t.parts - 1, at / 16, static_cast<int32_t>(at % 16));
    EXPECT(p.valid && p.n == 2 && p.h == s.h.small - 1 && p.w == side - 1, "the last pixel");
    EXPECT(!t.pixel(t.parts - 1, (at + 1) / 16, static_cast<int32_t>((at + 1) % 16)).valid, "behind it");
    const WeightGradTiles::Column c = t.column(t.columns() - 1);
    EXPECT(t.index(1, t.small_channels - 1, c) == t.numel() - 1, "the last number of the gradient");
  }
}

void check_step(const TileSteps& t, int64_t i, int64_t block, int64_t blocks, const TileSteps::Step& wanted) {
  const TileSteps::Step s = t.step(i, block, blocks);
  EXPECT(s.kind == wanted.kind && s.tile == wanted.tile && s.chunk == wanted.chunk && s.last == wanted.last,
         "step %lld of block %lld of %lld: %lld tiles of %lld chunks", (long long)i, (long long)block,
         (long long)blocks, (long long)t.tiles, (long long)t.chunks);
}

// Blocks take tiles in turn, and go through the chunks of each.
void tile_steps() {
  using Kind = TileSteps::Kind;
  for (int64_t tiles = 1; tiles < 8; ++tiles)
    for (int64_t chunks = 1; chunks < 6; ++chunks)
      for (int64_t blocks = 1; blocks <= tiles; ++blocks) {
        const TileSteps t(tiles, chunks);
        for (int64_t block = 0; block < blocks; ++block) {
          int64_t i = 0;
          for (int64_t tile = block; tile < tiles; tile += blocks) {
            check_step(t, i++, block, blocks, {Kind::kBegin, tile, 0, false});
            for (int64_t chunk = 0; chunk < chunks; ++chunk) {
              check_step(t, i++, block, blocks, {Kind::kFetch, tile, chunk, chunk + 1 == chunks});
              check_step(t, i++, block, blocks, {Kind::kMultiply, tile, chunk, chunk + 1 == chunks});
            }
          }
          EXPECT(t.steps(block, blocks) == i, "%lld tiles of %lld chunks", (long long)tiles,
                 (long long)chunks);
        }
      }
  constexpr int64_t kMany = (int64_t{1} << 33) + 5, kChunks = (int64_t{1} << 20) + 3;
  const TileSteps t(kMany, kChunks);
  const int64_t steps = t.steps(4, 132), last = kMany - 1 - (kMany - 1 - 4) % 132;
  check_step(t, steps - 1, 4, 132, {Kind::kMultiply, last, kChunks - 1, true});
  check_step(t, steps - 1 - 2 * kChunks, 4, 132, {Kind::kBegin, last, 0, false});
}

}  // namespace

int main() {
  small_shapes();
  tile_steps();
  parts();
  large_shapes();
  std::printf(failed ? "%d checks failed\n" : "geometry of convolutions: ok\n", failed);
  return failed ? 1 : 0;
}
