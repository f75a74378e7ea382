// The tiles of csrc/geometry/weight_grad_gemm.h over many small shapes: every number of every part's sums has
// one row and column of one tile, the parts' terms are all pixels, each once, and so are those of a bias.
// Large shapes by samples.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <tuple>
#include <vector>

#include "expect.h"
#include "geometry/weight_grad_gemm.h"

using namespace deconvkit;

namespace {

using Tiles = WeightGradGemmTiles;

#define SHAPE "batch %lld channels %lld, %lld groups %lld; %lldx%lld <-> %lldx%lld kernel %lldx%lld side %d"
#define SHAPE_ARGS                                                                                   \
  (long long)s.batch, (long long)s.small_channels, (long long)s.large_channels, (long long)s.groups, \
      (long long)s.h.small, (long long)s.w.small, (long long)s.h.large, (long long)s.w.large,        \
      (long long)s.h.kernel, (long long)s.w.kernel, int(side)

int64_t split = 0, several = 0;

void check(const ConvShape& s, int32_t bytes, BiasSide side) {
  const Tiles t(s, bytes, side);
  EXPECT(t.serves(), SHAPE, SHAPE_ARGS);
  split += t.parts > 1;
  several += t.row_tiles > 1 || t.column_tiles > 1;
  EXPECT(t.columns() % t.vector == 0 && t.vector * bytes == Tiles::kPiece, SHAPE, SHAPE_ARGS);

  // Tiles: each (part, group, rows, columns) once, of the product first.
  std::vector<std::tuple<int64_t, int64_t, int64_t, int64_t, bool>> seen;
  for (int64_t i = 0; i < t.tiles(); ++i) {
    const Tiles::Tile tile = t.tile(i);
    seen.emplace_back(tile.part, tile.group, tile.row, tile.column, tile.is_bias);
    EXPECT(tile.is_bias == (i >= t.product_tiles()) && tile.row % t.rows_of_tile == 0 &&
               tile.column % t.columns_of_tile == 0 && tile.part >= 0 && tile.group >= 0 &&
               tile.group < s.groups && tile.part < (tile.is_bias ? t.bias_parts : t.parts) &&
               tile.row < (tile.is_bias ? 1 : s.group_small()) &&
               tile.column < (tile.is_bias ? t.bias_channels : t.columns()),
           SHAPE, SHAPE_ARGS);
  }
  std::sort(seen.begin(), seen.end());
  EXPECT(std::unique(seen.begin(), seen.end()) == seen.end(), SHAPE, SHAPE_ARGS);

  // Columns: each (kernel cell, channel) once, where columns() says that a sum of it lies.
  const int64_t cells = s.h.kernel * s.w.kernel;
  std::vector<int> column(cells * s.group_large());
  for (int64_t j = 0; j < t.column_tiles * t.columns_of_tile; j += t.vector) {
    const Tiles::Piece p = t.piece({}, j);
    EXPECT(p.count >= 0 && p.count <= t.vector && (j < t.columns() || p.count == 0), SHAPE, SHAPE_ARGS);
    for (int32_t k = 0; k < p.count; ++k) {
      EXPECT(p.kh < s.h.kernel && p.kw < s.w.kernel && p.channel + k < s.group_large() &&
                 (p.kh * s.w.kernel + p.kw) * t.cell_channels + p.channel == j,
             SHAPE, SHAPE_ARGS);
      ++column[(p.kh * s.w.kernel + p.kw) * s.group_large() + p.channel + k];
    }
  }
  EXPECT(std::count(column.begin(), column.end(), 1) == int64_t(column.size()), SHAPE, SHAPE_ARGS);

  // Terms: each pixel of the small side once, and of the bias's side.
  for (const bool is_bias : {false, true}) {
    const bool large = is_bias && side == BiasSide::kLarge;
    const int64_t height = large ? s.h.large : s.h.small, width = large ? s.w.large : s.w.small;
    std::vector<int> pixel(s.batch * height * width);
    Tiles::Tile tile{};
    tile.is_bias = is_bias;
    for (; tile.part < (is_bias ? t.bias_parts : t.parts); ++tile.part)
      for (int64_t chunk = 0; chunk < t.part_chunks; ++chunk)
        for (int32_t k = 0; k < Tiles::kDepth; ++k) {
          const PixelGrid::Pixel p = t.pixel(tile, chunk, k);
          if (!p.valid) continue;
          EXPECT(p.n >= 0 && p.n < s.batch && p.h >= 0 && p.h < height && p.w >= 0 && p.w < width, SHAPE,
                 SHAPE_ARGS);
          ++pixel[(p.n * height + p.h) * width + p.w];
        }
    const bool wanted = !is_bias || side != BiasSide::kNone;
    EXPECT(std::count(pixel.begin(), pixel.end(), wanted) == int64_t(pixel.size()), SHAPE, SHAPE_ARGS);
  }

  // Channels of the bias.
  std::vector<int> channel(t.bias_channels);
  Tiles::Tile tile{};
  tile.is_bias = true;
  for (int64_t j = 0; j < t.bias_tiles_across * t.columns_of_tile; j += t.vector) {
    const Tiles::Piece p = t.piece(tile, j);
    EXPECT(p.kh == 0 && p.kw == 0 && p.channel == j && p.count <= t.vector, SHAPE, SHAPE_ARGS);
    for (int32_t k = 0; k < p.count; ++k) ++channel[p.channel + k];
  }
  EXPECT(std::count(channel.begin(), channel.end(), 1) == int64_t(channel.size()), SHAPE, SHAPE_ARGS);
}

void small_shapes() {
  for (const int64_t batch : {0, 1, 3, 20})
    for (const int64_t small : {1, 2, 7, 19})
      for (const int64_t kernel : {1, 2, 5})
        for (const int64_t stride : {1, 3})
          for (const int64_t groups : {1, 3})
            for (const int64_t small_channels : {1, 64, 65, 130})
              for (const int64_t large_channels : {1, 3, 8, 20, 131})
                for (const int32_t bytes : {2, 4}) {
                  const int64_t large = (small - 1) * stride + kernel;
                  const ConvShape s = {batch,
                                       groups * small_channels,
                                       groups * large_channels,
                                       groups,
                                       {small, large, kernel, stride, 0, 1},
                                       {3, 2 + kernel, kernel, 1, 0, 1}};
                  const auto side = static_cast<BiasSide>((batch + small + kernel + large_channels) % 3);
                  check(s, bytes, side);
                }
}

ConvShape square(int64_t batch, int64_t small_channels, int64_t large_channels, const ConvAxis& a) {
  return {batch, small_channels, large_channels, 1, a, a};
}

// The layers that the tiles are made for, and the parts of each.
void known_layers() {
  const Tiles first(square(128, 1024, 512, {4, 8, 4, 2, 1, 1}), 2, BiasSide::kLarge);
  EXPECT(first.rows_of_tile == 128 && first.columns_of_tile == 128 && first.product_tiles() == 8 * 64 &&
             first.parts == 1 && first.part_chunks == 64 && first.bias_parts == 4 &&
             first.bias_tiles_across == 4,
         "dcgan's first layer");
  const Tiles vgg(square(32, 64, 64, {224, 224, 3, 1, 1, 1}), 2, BiasSide::kSmall);
  EXPECT(vgg.rows_of_tile == 64 && vgg.column_tiles == 5 && vgg.parts == 51 && vgg.bias_parts == 51,
         "3x3 s1");
  // Three channels are filled up to eight.
  const Tiles last(square(128, 128, 3, {32, 64, 5, 2, 2, 1}), 2, BiasSide::kLarge);
  EXPECT(last.cell_channels == 8 && last.columns() == 200 && last.column_tiles == 2 && last.parts == 128,
         "dcgan's last layer");
  EXPECT(Tiles(square(8, 8, 8, {4, 4, 1, 1, 0, 1}), 4, BiasSide::kNone).parts == 1, "four chunks");

  // At most 256 blocks, of at least 8 chunks of 32 pixels.
  for (int64_t batch = 1; batch <= 5000; batch += 1 + batch / 9)
    for (int64_t channels = 1; channels <= 20'000; channels += 1 + channels / 2) {
      const Tiles t(square(batch, channels, 8, {4, 4, 1, 1, 0, 1}), 2, BiasSide::kNone);
      EXPECT(t.parts == 1 || (t.parts * t.row_tiles <= 256 && t.parts * 8 <= (batch * 16 + 31) / 32),
             "%lld parts of %lld tiles, %lld images", (long long)t.parts, (long long)t.row_tiles,
             (long long)batch);
    }
  const auto parts = [](int64_t images, int64_t row_tiles) {
    return Tiles(square(images, 128 * row_tiles, 8, {4, 4, 1, 1, 0, 1}), 2, BiasSide::kNone).parts;
  };
  EXPECT(parts(32, 128) == 2 && parts(32, 129) == 1 && parts(30, 1) == 1, "where parts begin");

  const int64_t far = int64_t{1} << 29;
  EXPECT(!Tiles(square(1, 8, 8, {1, far, 1, 1, 0, 1}), 2, BiasSide::kNone).serves(), "a side of 2^29");
  EXPECT(!Tiles(square(1, 8, 8, {2, 8, 1, far, 0, 1}), 2, BiasSide::kNone).serves(), "a stride of 2^29");
  EXPECT(!Tiles(square(1, 8, 8, {2, 8, 1, 1, far, 1}), 2, BiasSide::kNone).serves(), "a padding of 2^29");
  EXPECT(!Tiles(square(1, 8, 8, {2, 8, 2, 1, 0, far}), 2, BiasSide::kNone).serves(), "a dilation of 2^29");
  EXPECT(Tiles(square(1, 8, 8, {1, far - 1, 1, far, 0, far}), 2, BiasSide::kNone).serves(), "none of them");
}

// More than 2^31 pixels and sums.
void large_shapes() {
  const int64_t side = int64_t{1} << 28;
  const Tiles t({40, 1 << 12, 1 << 12, 1, {1, 1, 8, 1, 0, 1}, {side, side, 16, 1, 0, 1}}, 2,
                BiasSide::kLarge);
  EXPECT(t.serves() && t.sums() == int64_t{1} << 31, "sums");
  Tiles::Tile tile = t.tile(t.product_tiles() - 1);
  EXPECT(tile.part == t.parts - 1 && tile.row + 128 == 1 << 12 && tile.column + 128 == t.columns(),
         "the last tile");
  tile = t.tile(t.tiles() - 1);
  const int64_t chunks = 40 * side / Tiles::kDepth;
  const PixelGrid::Pixel p = t.pixel(tile, chunks - 1 - tile.part * t.part_chunks, Tiles::kDepth - 1);
  EXPECT(tile.is_bias && tile.part == t.bias_parts - 1 && p.valid && p.n == 39 && p.w == side - 1,
         "the last pixel");
}

}  // namespace

int main() {
  small_shapes();
  known_layers();
  large_shapes();
  EXPECT(split > 100 && several > 100, "%lld in parts, %lld of several tiles", (long long)split,
         (long long)several);
  std::printf("%lld shapes in parts, %lld of several tiles\n", (long long)split, (long long)several);
  std::printf(failed ? "%d checks failed\n" : "geometry of weight gradients: ok\n", failed);
  return failed ? 1 : 0;
}
