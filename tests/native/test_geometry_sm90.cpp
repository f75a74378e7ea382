// Hopper's tiles (csrc/geometry/implicit_gemm_sm90.h) over many small shapes: each row and column of a tile
// is an output, once, and meets exactly the products of the definition, read where the copies put them; maps
// and memory are within what the hardware allows. The instruction's operands and sums against their
// definition in the PTX ISA. And the protocol of the barriers: all that roles and copies can do, in every
// order.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <set>
#include <vector>

#include "expect.h"
#include "gemm_products.h"
#include "geometry/implicit_gemm_sm90.h"

using namespace deconvkit;

namespace {

#define SHAPE "transposed %d batch %lld; %lld <-> %lld kernel %lld stride %lld padding %lld dilation %lld"
#define SHAPE_ARGS(s)                                                                                        \
  transposed, (long long)(s).batch, (long long)(s).w.small, (long long)(s).w.large, (long long)(s).w.kernel, \
      (long long)(s).w.stride, (long long)(s).w.padding, (long long)(s).w.dilation

// ---- the instruction ----

// PTX ISA, 9.7.15.5.1: an operand of 64 rows of 128 bytes in the 128-byte swizzle, whose depth is innermost,
// is atoms of 8 rows; of the whole, address bits 4 to 6 are mixed with bits 7 to 9. The descriptor: bits
// 0-13, 16-29 and 32-45 are addresses without their last 4 bits.
void instruction() {
  using M = WarpgroupMatrix;
  for (uint32_t first = 0; first < (1u << 18); first += M::kAtomBytes) {
    for (int32_t step = 0; step < 4; ++step) {
      const uint64_t d = M::descriptor(first, step);
      EXPECT((d & 0x3fff) << 4 == first + 32 * step, "the start of an operand");
      EXPECT((d >> 32 & 0x3fff) << 4 == 1024 && d >> 62 == 1 && (d >> 49 & 7) == 0, "an operand's atoms");
    }
  }
  std::set<int32_t> places;
  for (int32_t row = 0; row < 64; ++row) {
    for (int32_t piece = 0; piece < 8; ++piece) {
      const int32_t plain = row * 128 + piece * 16;
      const int32_t place = row * 128 + M::swizzled(row, piece) * 16;
      EXPECT(place == (plain ^ (plain >> 7 & 7) << 4), "a piece of a row");
      places.insert(place);
    }
  }
  EXPECT(places.size() == 64 * 8, "two pieces at one place");
  // Figure of D's fragments: of 16 rows a warp, lane l has rows l / 4 and 8 further down, two columns each.
  std::set<std::pair<int32_t, int32_t>> sums;
  for (int32_t thread = 0; thread < 128; ++thread) {
    for (int32_t i = 0; i < 4; ++i) {
      const int32_t warp = thread / 32, lane = thread % 32;
      const int32_t row = 16 * warp + lane / 4 + (i >= 2 ? 8 : 0), column = (lane % 4) * 2 + (i & 1);
      EXPECT(M::row_of_sum(thread, i) == row && M::column_of_sum(thread, i) == column, "a sum's place");
      sums.insert({row, column});
    }
  }
  EXPECT(sums.size() == 64 * 8, "two sums at one place");
}

// ---- the tiles ----

int64_t asked = 0, served = 0, sharing = 0, maps = 0;

// What cuda.h asks of a map, said again.
bool is_map(const TensorBox& b) {
  bool legal = b.address % 16 == 0 && b.stride[0] == 2;
  int64_t bytes = 2;
  for (int i = 0; i < 5; ++i) {
    legal = legal && b.size[i] > 0 && b.size[i] <= 1ll << 32 && b.box[i] >= 1 && b.box[i] <= 256;
    if (i) legal = legal && b.stride[i] > 0 && b.stride[i] % 16 == 0 && b.stride[i] < 1ll << 40;
    // What lies within a dimension does not reach beyond its stride, where that is ours to choose.
    if (i && b.size[i] == 1) legal = legal && b.stride[i] >= b.size[i - 1] * b.stride[i - 1];
    if (i == 0) bytes *= b.box[i];
  }
  return legal && bytes == 128;
}

void check(const ConvShape& s, bool transposed, bool channels_first) {
  const Sm90Tiles t(s, transposed, channels_first);
  ++asked;
  if (!t.serves()) return;
  ++served;
  sharing += t.shares;
  constexpr int32_t kRows = Sm90Tiles::kRows, kMatrix = WarpgroupMatrix::kRows;
  EXPECT(t.tile_n * t.tile_h() * t.tile_w() == kRows && t.stages >= 2 && t.stages <= Sm90Tiles::kMostStages,
         SHAPE, SHAPE_ARGS(s));
  EXPECT(t.box_bytes() % 1024 == 0 && t.columns_at(0) % 1024 == 0 &&
             t.columns_at(t.stages) <= Sm90Tiles::kRoom && t.box_at(t.boxes) == t.columns_at(0),
         "memory: " SHAPE, SHAPE_ARGS(s));
  // An input of as many channels, side by side, with nothing between lines: the elements by number.
  const int64_t pixel = t.groups * t.in_channels, line = t.w.in * pixel, image = t.h.in * line;
  std::vector<TensorBox> boxes;
  for (int64_t i = 0; i < t.sources(); ++i) {
    boxes.push_back(t.box_of(i, 0, t.in_channels, image, line, pixel));
    EXPECT(boxes[i].is_legal() == is_map(boxes[i]) && (t.in_channels % 8 || boxes[i].is_legal()),
           "a map: " SHAPE, SHAPE_ARGS(s));
    ++maps;
  }
  const std::vector<int64_t> wanted = products(s, transposed);
  const int64_t channels = t.groups * t.out_channels, outputs = t.h.out * t.w.out;
  std::vector<std::vector<int64_t>> got(s.batch * channels);
  std::vector<int> stored(s.batch * channels * outputs);
  Sm90Tiles::Walk walk;
  int64_t walked = 0;
  for (int64_t i = 0; i < t.tiles(); ++i) {
    const GemmTiles::Tile tile = t.tile(i);
    std::set<int64_t> packed;
    // The box that is in each place of the ring: where it begins, and in which map.
    Sm90Tiles::Corner corner{};
    int64_t map = -1;
    for (int64_t k = 0; k < t.terms; ++k, t.advance(walk), ++walked) {
      const GemmTiles::Term& term = walk.term;
      EXPECT(walk.stage == walked % t.stages && walk.parity == (walked / t.stages & 1), SHAPE, SHAPE_ARGS(s));
      packed.insert(t.packed_term(term));
      const GemmTaps& th = t.h.taps_of(tile.sheet_h, term.source_h);
      const GemmTaps& tw = t.w.taps_of(tile.sheet_w, term.source_w);
      if (t.is_empty(term, th, tw)) continue;
      if (t.begins_box(term)) {
        corner = t.corner(tile, term, th, tw);
        map = t.source(term);
      }
      EXPECT(map >= 0 && map < t.sources() && corner.at[0] == term.block * 64, SHAPE, SHAPE_ARGS(s));
      if (term.block || map < 0) continue;
      const TensorBox& box = boxes[map];
      for (int32_t row = 0; row < kRows; ++row) {
        const GemmTiles::Cell c = t.cell_of_row(row);
        const int64_t n = tile.n + c.n, qh = tile.h + c.h, qw = tile.w + c.w;
        if (n >= s.batch || qh >= t.h.cells || qw >= t.w.cells) continue;
        // The row of shared memory, taken apart as the copy puts it together.
        const int32_t first = t.row_in_box(row / kMatrix * kMatrix, term, th);
        EXPECT(first % 8 == 0, "a matrix that begins inside an atom: " SHAPE, SHAPE_ARGS(s));
        const int32_t place = first + row % kMatrix;
        EXPECT(place * 128 < t.box_bytes(), SHAPE, SHAPE_ARGS(s));
        const int64_t x = corner.at[2] + place % box.box[2];
        const int64_t y = corner.at[3] + place / box.box[2] % box.box[3];
        const int64_t image_of = corner.at[4] + place / box.box[2] / box.box[3];
        EXPECT(image_of == n && corner.at[1] == tile.group, SHAPE, SHAPE_ARGS(s));
        if (x < 0 || x >= box.size[2] || y < 0 || y >= box.size[3]) continue;
        const auto element = static_cast<int64_t>(box.address) / 2 + x * box.stride[2] / 2;
        const int64_t iy = box.size[3] == 1 ? element / line : (element + y * box.stride[3] / 2) / line;
        const int64_t ix = t.w.in_step * x + term.source_w;
        EXPECT(ix < t.w.in && iy == t.h.in_step * y + term.source_h, SHAPE, SHAPE_ARGS(s));
        for (int32_t j = 0; j < t.columns_of_tile; ++j) {
          const GemmTiles::Column column = t.column(tile.column + j);
          if (!column.valid) continue;
          const int64_t oy = qh * t.h.out_step + tile.sheet_h + column.fold_h;
          const int64_t ox = qw * t.w.out_step + tile.sheet_w + column.fold_w;
          if (oy >= t.h.out || ox >= t.w.out) continue;
          const int64_t kh = t.h.kernel_cell(tile.sheet_h, term.source_h, column.fold_h, term.tap_h);
          const int64_t kw = t.w.kernel_cell(tile.sheet_w, term.source_w, column.fold_w, term.tap_w);
          if (kh < 0 || kw < 0) continue;
          got[n * channels + tile.group * t.out_channels + column.channel].push_back(
              key(s, oy, ox, iy, ix, kh, kw));
        }
      }
    }
    EXPECT(static_cast<int64_t>(packed.size()) == t.terms && *packed.begin() == 0 &&
               *packed.rbegin() == t.terms - 1 && walk.term.source_h == 0 && t.begins_box(walk.term),
           "the walk: " SHAPE, SHAPE_ARGS(s));
    for (int32_t row = 0; row < kRows; ++row) {
      const GemmTiles::Cell c = t.cell_of_row(row);
      const int64_t n = tile.n + c.n, qh = tile.h + c.h, qw = tile.w + c.w;
      if (n >= s.batch || qh >= t.h.cells || qw >= t.w.cells) continue;
      for (int32_t j = 0; j < t.columns_of_tile; ++j) {
        const GemmTiles::Column column = t.column(tile.column + j);
        const int64_t oy = qh * t.h.out_step + tile.sheet_h + column.fold_h;
        const int64_t ox = qw * t.w.out_step + tile.sheet_w + column.fold_w;
        if (!column.valid || oy >= t.h.out || ox >= t.w.out) continue;
        ++stored[(n * channels + tile.group * t.out_channels + column.channel) * outputs + oy * t.w.out + ox];
      }
    }
  }
  for (const int times : stored)
    EXPECT(times == 1, "an output stored %d times: " SHAPE, times, SHAPE_ARGS(s));
  for (std::vector<int64_t>& image_products : got) {
    std::sort(image_products.begin(), image_products.end());
    EXPECT(image_products == wanted, "%lld products, %lld wanted: " SHAPE, (long long)image_products.size(),
           (long long)wanted.size(), SHAPE_ARGS(s));
  }
}

// Axes of a small range beside one of 9 or 17 cells, so that boxes are shared and several; few columns, and
// channels of one block or two.
void small_shapes() {
  int64_t turn = 0;
  for (const int64_t small : {1, 2, 5, 9, 18})
    for (int64_t kernel = 1; kernel <= 5; ++kernel)
      for (int64_t stride = 1; stride <= 3; ++stride)
        for (int64_t padding = 0; padding <= kernel; padding += 1 + kernel / 2)
          for (const int64_t dilation : {1, 2, 14})
            for (int64_t more = 0; more < stride; ++more) {
              const int64_t large = (small - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + more;
              if (large < 1 || large > 70) continue;
              ++turn;
              const int64_t groups = 1 + turn % 2, deep = turn % 3 == 0 ? 72 : 40;
              const ConvAxis other = turn % 3 == 0   ? ConvAxis{9, 9, 3, 1, 1, 1}
                                     : turn % 3 == 1 ? ConvAxis{17, 17, 1, 1, 0, 1}
                                                     : ConvAxis{2, 4, 2, 2, 0, 1};
              const ConvAxis axis = {small, large, kernel, stride, padding, dilation};
              for (const bool transposed : {false, true}) {
                const int64_t few = groups * (1 + turn % 2);
                ConvShape s = {1 + turn % 3, groups * deep, groups * deep, groups, axis, other};
                (transposed ? s.large_channels : s.small_channels) = few;
                if (turn % 4 == 0) std::swap(s.h, s.w);
                check(s, transposed, turn % 5 < 2);
              }
            }
}

// ---- the layers that the tiles are made for, and the limits ----

ConvShape square(int64_t batch, int64_t small_channels, int64_t large_channels, const ConvAxis& a) {
  return {batch, small_channels, large_channels, 1, a, a};
}

void known_layers() {
  // 4x4 s2 of 16x16: two taps share a box of 17 lines; three boxes and five terms fill the room.
  const Sm90Tiles dcgan(square(128, 256, 128, {16, 32, 4, 2, 1, 1}), true, false);
  EXPECT(dcgan.serves() && dcgan.shares && dcgan.box_h == 17 && dcgan.tile_n == 1 && dcgan.stages == 5 &&
             dcgan.boxes == 3 && dcgan.terms == 4 * 4 && dcgan.tiles() == 128 * 4,
         "4x4 s2: %d stages, %d boxes", dcgan.stages, dcgan.boxes);
  const Sm90Tiles eight(square(128, 512, 256, {8, 16, 4, 2, 1, 1}), true, false);
  EXPECT(eight.shares && eight.tile_n == 4 && eight.box_h == 9 && eight.tiles() == 32 * 4 * 2, "8x8");
  // Images of 4x4: four of them in a matrix, so no box is shared.
  const Sm90Tiles four(square(128, 1024, 512, {4, 8, 4, 2, 1, 1}), true, false);
  EXPECT(!four.shares && four.tile_n == 16 && four.stages == 3 && four.boxes == 3, "4x4");
  const Sm90Tiles vgg(square(32, 64, 64, {224, 224, 3, 1, 1, 1}), false, false);
  EXPECT(vgg.shares && vgg.box_h == 18 && vgg.columns_of_tile == 64 && vgg.stages == 7 && vgg.boxes == 3,
         "3x3 s1: %d stages, %d boxes", vgg.stages, vgg.boxes);
  const Sm90Tiles wide(square(32, 128, 128, {56, 56, 3, 1, 1, 1}), false, false);
  EXPECT(wide.shares && wide.stages == 4 && wide.boxes == 2, "3x3 s1, 128 columns");
  const Sm90Tiles narrow(square(32, 3, 64, {56, 56, 3, 1, 1, 1}), false, false);
  EXPECT(narrow.columns_of_tile == 16 && narrow.stages == 8 && narrow.boxes == 4, "3x3 s1, 16 columns");
  const Sm90Tiles unet(square(8, 128, 64, {256, 512, 2, 2, 0, 1}), true, false);
  EXPECT(!unet.shares && unet.terms == 2 && unet.columns_of_tile == 128 && unet.stages == 3, "2x2 s2");
  // Backward-data of the first: a map for each of four source phases.
  const Sm90Tiles data(square(128, 256, 128, {16, 32, 4, 2, 1, 1}), false, false);
  EXPECT(data.serves() && data.sources() == 4 && data.terms == 4 * 2 * 4, "strided convolution");
  // One line of pixels: the box is as wide as it can be.
  const Sm90Tiles line({4, 64, 64, 1, {1, 1, 1, 1, 0, 1}, {1000, 1000, 3, 1, 1, 1}}, false, false);
  EXPECT(line.serves() && line.tile_w() == 256 && line.tile_h() == 1 && line.tile_n == 1, "one line");
  EXPECT(!Sm90Tiles(square(1, 64, 64, {9, 27, 3, 3, 0, 1}), false, false).serves(), "nine source phases");
  EXPECT(!Sm90Tiles(square(1, 64, 31, {9, 9, 3, 1, 1, 1}), false, false).serves(), "31 channels");
  EXPECT(Sm90Tiles(square(1, 64, 32, {9, 9, 3, 1, 1, 1}), false, false).serves(), "32 channels");
  EXPECT(!Sm90Tiles(square(int64_t{1} << 31, 64, 64, {9, 9, 3, 1, 1, 1}), false, false).serves(),
         "2^31 images");
  EXPECT(!Sm90Tiles(square(1, 64, 64, {9, 9 * 33, 33, 33, 0, 1}), true, false).serves(), "stride 33");
  // Where the kernel of implicit_gemm.h splits its tiles into parts: DCGAN's first layer of 16 images and of
  // 128, a layer of few terms, and one that it does not serve.
  const ConvAxis doubling = {4, 8, 5, 2, 2, 1};
  EXPECT(Sm90Tiles::has_few_tiles(square(16, 1024, 512, doubling), true), "32 tiles of 288 terms");
  EXPECT(!Sm90Tiles::has_few_tiles(square(128, 1024, 512, doubling), true), "256 tiles");
  EXPECT(!Sm90Tiles::has_few_tiles(square(1, 64, 96, {16, 16, 3, 1, 1, 1}), false), "27 terms");
  EXPECT(Sm90Tiles::has_few_tiles(square(1, 64, 128, {16, 16, 3, 1, 1, 1}), false), "36 terms");
  EXPECT(!Sm90Tiles::has_few_tiles(square(1, 512, 512, {40, 40, 3, 1, 12, 12}), false), "dilation 12");
  // Far taps: boxes of their own.
  const Sm90Tiles far(square(1, 64, 64, {64, 64, 3, 1, 12, 12}), false, false);
  EXPECT(far.serves() && !far.shares, "dilation 12");
}

// Each rule of a map by itself.
void legal_boxes() {
  const Sm90Tiles t(square(4, 64, 64, {9, 9, 3, 1, 1, 1}), false, false);
  const TensorBox legal = t.box_of(0, 1 << 20, 64, 9 * 9 * 64, 9 * 64, 64);
  EXPECT(legal.is_legal() && is_map(legal), "a dense input");
  const auto refused = [&](auto&& change, const char* what) {
    TensorBox b = legal;
    change(b);
    EXPECT(!b.is_legal() && !is_map(b), "%s", what);
  };
  refused([](TensorBox& b) { b.address += 8; }, "an address of 8 bytes' alignment");
  refused([](TensorBox& b) { b.stride[0] = 4; }, "channels apart");
  refused([](TensorBox& b) { b.box[0] = 32; }, "a term of 64 bytes");
  for (int i = 1; i < TensorBox::kRank; ++i) {
    refused([&](TensorBox& b) { b.stride[i] += 8; }, "a stride of 8 bytes' alignment");
    refused([&](TensorBox& b) { b.stride[i] = 0; }, "an expanded dimension");
    refused([&](TensorBox& b) { b.stride[i] = -16; }, "a flipped dimension");
    refused([&](TensorBox& b) { b.stride[i] = 1ll << 40; }, "a stride of 2^40");
    refused([&](TensorBox& b) { b.size[i] = 0; }, "nothing");
    refused([&](TensorBox& b) { b.size[i] = (1ll << 32) + 1; }, "more than 2^32");
    refused([&](TensorBox& b) { b.box[i] = 257; }, "a box of 257");
    refused([&](TensorBox& b) { b.box[i] = 0; }, "an empty box");
  }
  // A dimension of one has no stride of its own: the only group's is that of a pixel, and so on.
  const Sm90Tiles one(square(1, 64, 64, {9, 9, 3, 1, 1, 1}), false, false);
  const TensorBox only = one.box_of(0, 0, 64, 3, 9 * 64, 64);
  EXPECT(only.is_legal() && is_map(only) && only.stride[1] == 64 * 2 && only.stride[4] == 9 * 9 * 64 * 2,
         "the strides of the only group and image");
  const Sm90Tiles pixel(square(2, 64, 64, {1, 1, 1, 1, 0, 1}), false, false);
  const TensorBox of_pixels = pixel.box_of(0, 0, 64, 72, 1, 1);
  EXPECT(of_pixels.is_legal() && is_map(of_pixels) && of_pixels.stride[2] == 64 * 2 &&
             of_pixels.stride[3] == 64 * 2 && of_pixels.stride[4] == 72 * 2,
         "the strides of a pixel's sides");
}

// More than 2^31 pixels and bytes.
void large_shapes() {
  const int64_t side = int64_t{1} << 28;
  const Sm90Tiles t({5, 1 << 17, 1 << 16, 1, {1, 2, 2, 2, 0, 1}, {side, 2 * side, 4, 2, 1, 1}}, true, false);
  EXPECT(t.serves() && t.packed_bytes() > 1ll << 31, "2^28 cells");
  const GemmTiles::Tile last = t.tile(t.tiles() - 1);
  Sm90Tiles::Term end{};
  end.block = static_cast<int32_t>(t.channel_blocks - 1);
  end.tap_w = 1;
  const Sm90Tiles::Corner c = t.corner(last, end, t.h.taps_of(last.sheet_h, 0), t.w.taps_of(last.sheet_w, 0));
  EXPECT(c.at[0] == (1 << 17) - 64 && c.at[2] + t.tile_w() >= side && c.at[4] == last.n, "the last corner");
  EXPECT(!t.box_of(0, 0, 1 << 17, side << 17, side << 17, 1 << 17).is_legal(), "an image of 2^46 bytes");
}

// ---- the protocol ----

// A barrier as the PTX ISA has it: who waits for a parity passes while the phase of the other one is on.
struct Barrier {
  int arrivals = 0, pending = 0, copies = 0;
  uint32_t parity = 0;
  void arrive() {
    --pending;
    end();
  }
  void land() {
    --copies;
    end();
  }
  void end() {
    if (pending || copies) return;
    parity ^= 1;
    pending = arrivals;
  }
  bool passes(uint32_t wanted) const { return parity != wanted; }
  int32_t code() const { return (pending * 4 + copies) * 2 + static_cast<int32_t>(parity); }
};

// The producer, two consumers and the copies, each anywhere: from every state that can be reached, all that
// can happen next. A copy begins where nobody may still read, a read finds what its own term wrote, and until
// all are done something can happen.
struct Protocol {
  const Sm90Tiles& t;
  const int32_t terms, taps;

  struct State {
    int32_t at[3] = {0, 0, 0};  // terms done: the producer's, the consumers'
    Barrier full[Sm90Tiles::kMostStages], empty[Sm90Tiles::kMostStages];
    uint64_t under_way = 0;  // copies by term: bits 2 n for its weights, 2 n + 1 for its box
  };
  std::vector<Sm90Tiles::Walk> walks;
  std::set<std::vector<int32_t>> seen;

  Protocol(const Sm90Tiles& tiles, int32_t terms_)
      : t(tiles), terms(terms_), taps(tiles.shares ? tiles.h.most_taps : 1) {
    Sm90Tiles::Walk walk;
    for (int32_t i = 0; i < terms; ++i, t.advance(walk)) walks.push_back(walk);
  }

  // The term that last wrote a term's stage, and the one whose box is where its box is, before `made`.
  int32_t last_in_stage(int32_t stage, int32_t made) const {
    int32_t i = made - 1;
    while (i >= 0 && walks[i].stage != stage) --i;
    return i;
  }
  int32_t last_box(int32_t box, int32_t made) const {
    int32_t i = made - 1;
    while (i >= 0 && !(i % taps == 0 && walks[i].box == box)) --i;
    return i;
  }

  void explore() {
    State first;
    for (int32_t i = 0; i < t.stages; ++i) {
      first.full[i].arrivals = first.full[i].pending = 1;
      first.empty[i].arrivals = first.empty[i].pending = 2;
    }
    std::vector<State> todo = {first};
    while (!todo.empty()) {
      const State s = todo.back();
      todo.pop_back();
      std::vector<int32_t> code(s.at, s.at + 3);
      for (int32_t i = 0; i < t.stages; ++i) {
        code.push_back(s.full[i].code());
        code.push_back(s.empty[i].code());
      }
      code.push_back(static_cast<int32_t>(s.under_way));
      code.push_back(static_cast<int32_t>(s.under_way >> 32));
      if (!seen.insert(code).second) continue;
      bool moved = false;
      if (s.at[0] < terms) moved = produce(s, todo) || moved;
      for (const int who : {1, 2}) {
        if (s.at[who] < terms) moved = consume(s, who, todo) || moved;
      }
      for (int32_t bit = 0; bit < 2 * terms; ++bit) {
        if (!(s.under_way >> bit & 1)) continue;
        State next = s;
        next.under_way &= ~(uint64_t{1} << bit);
        next.full[walks[bit / 2].stage].land();
        todo.push_back(next);
        moved = true;
      }
      const bool done = s.at[0] == terms && s.at[1] == terms && s.at[2] == terms;
      EXPECT(moved || done, "a deadlock at terms %d, %d, %d of %d stages", s.at[0], s.at[1], s.at[2],
             t.stages);
    }
  }

  bool produce(const State& s, std::vector<State>& todo) const {
    const int32_t k = s.at[0];
    const Sm90Tiles::Walk& walk = walks[k];
    if (!s.empty[walk.stage].passes(walk.parity ^ 1)) return false;
    const bool box = t.begins_box(walk.term);
    const int32_t slowest = std::min(s.at[1], s.at[2]);
    EXPECT(last_in_stage(walk.stage, k) < slowest, "weights of term %d over those of a term not done", k);
    if (box) {
      const int32_t old = last_box(walk.box, k);
      EXPECT(old < 0 || old + taps <= slowest, "the box of term %d over that of a term not done", k);
    }
    State next = s;
    ++next.at[0];
    next.full[walk.stage].copies += 1 + box;
    next.under_way |= uint64_t{1} << 2 * k | uint64_t{box} << (2 * k + 1);
    next.full[walk.stage].arrive();
    todo.push_back(next);
    return true;
  }
  bool consume(const State& s, int who, std::vector<State>& todo) const {
    const int32_t k = s.at[who];
    const Sm90Tiles::Walk& walk = walks[k];
    if (!s.full[walk.stage].passes(walk.parity)) return false;
    const int32_t box = last_box(walk.box, s.at[0]);
    EXPECT(last_in_stage(walk.stage, s.at[0]) == k && !(s.under_way >> 2 * k & 1),
           "term %d reads other weights than its own", k);
    EXPECT(box == k / taps * taps && !(s.under_way >> (2 * box + 1) & 1), "term %d reads another box", k);
    State next = s;
    ++next.at[who];
    next.empty[walk.stage].arrive();
    todo.push_back(next);
    return true;
  }
};

int64_t states = 0;
void protocols() {
  // 16x16 images with kernels of 1 to 5 cells: boxes of 1 to 5 taps.
  for (int64_t kernel = 1; kernel <= 5; ++kernel) {
    const ConvAxis a = {16, kernel % 2 ? 16 : 15, kernel, 1, kernel / 2, 1};
    Sm90Tiles t(square(1, 16, 64, a), false, false);
    const int32_t taps = t.shares ? t.h.most_taps : 1;
    EXPECT(t.serves() && taps == kernel, "kernel %lld", (long long)kernel);
    EXPECT(t.boxes == Sm90Tiles::boxes_for(t.stages, taps), "boxes of a ring of %d", t.stages);
    for (t.stages = 2; t.stages <= 5; ++t.stages) {
      t.boxes = Sm90Tiles::boxes_for(t.stages, taps);
      Protocol p(t, 2 * t.stages + 2 * taps + 1);
      p.explore();
      states += static_cast<int64_t>(p.seen.size());
    }
  }
}

}  // namespace

int main() {
  instruction();
  small_shapes();
  known_layers();
  legal_boxes();
  large_shapes();
  protocols();
  EXPECT(served > asked / 2 && sharing > served / 8 && sharing < served, "%lld of %lld served, %lld sharing",
         (long long)served, (long long)asked, (long long)sharing);
  std::printf("%lld shapes, %lld served, %lld share boxes, %lld maps; %lld states of the protocol\n",
              (long long)asked, (long long)served, (long long)sharing, (long long)maps, (long long)states);
  std::printf(failed ? "%d checks failed\n" : "geometry of Hopper's implicit GEMMs: ok\n", failed);
  return failed ? 1 : 0;
}
