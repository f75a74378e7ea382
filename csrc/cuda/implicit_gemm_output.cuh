// What becomes of an implicit GEMM's sums: bias and activation, one rounding, and the stores in the order of
// the output; and the second stage of tiles whose terms were split into parts.
#pragma once
#include "cuda/epilogue.cuh"
#include "cuda/steps.cuh"
#include "cuda/view.cuh"
#include "geometry/implicit_gemm.h"

namespace deconvkit::cuda {

// Tiles of either kind; a tile's rows are stored by groups of so many threads.
template <class T, class Tiles = GemmTiles, int kGroup = 256>
struct GemmOutput {
  static constexpr int kThreads = kGroup, kRows = Tiles::kRows;

  struct Row {
    int64_t to;    // offset of its phase 0 in the output; < 0: there is none
    int32_t h, w;  // where that is
  };
  struct Column {
    int64_t to;       // offset of its channel and phase
    int32_t channel;  // < 0: there is none
    int16_t h, w;     // its phase
  };

  View<T> output;
  Epilogue<T> epilogue;
  Tiles tiles;
  bool by_vectors;  // 16 bytes of the output's channels lie side by side

  GemmOutput(const TensorRef& bias, const TensorRef& out, const ConvOptions& options, const Tiles& t)
      : output(out),
        epilogue(bias, options),
        tiles(t),
        by_vectors(!t.channels_first && t.out_channels % kVector<T> == 0 &&
                   groups_along(out, 1, kVector<T>, sizeof(T))) {}

  // Sums in shared memory: the gap puts the rows of a quarter warp into different banks.
  DECONVKIT_HD static constexpr int32_t pitch(int32_t columns) { return columns + 8; }

  DECONVKIT_INLINE Row row(const GemmTiles::Tile& tile, int32_t i) const {
    const GemmTiles::Cell c = tiles.cell_of_row(i);
    const int64_t n = tile.n + c.n, h = tile.h + c.h, w = tile.w + c.w;
    const bool valid = c.n < tiles.tile_n && n < tiles.batch && h < tiles.h.cells && w < tiles.w.cells;
    const int64_t y = h * tiles.h.out_step, x = w * tiles.w.out_step;
    return {valid ? n * output.n + y * output.h + x * output.w : -1, static_cast<int32_t>(y),
            static_cast<int32_t>(x)};
  }
  DECONVKIT_INLINE Column column(const GemmTiles::Tile& tile, int32_t i) const {
    const GemmTiles::Column c = tiles.column(tile.column + i);
    const int64_t channel = tile.group * tiles.out_channels + c.channel;
    const int64_t h = tile.sheet_h + c.fold_h, w = tile.sheet_w + c.fold_w;
    return {channel * output.c + h * output.h + w * output.w, c.valid ? static_cast<int32_t>(channel) : -1,
            static_cast<int16_t>(h), static_cast<int16_t>(w)};
  }

  // Stores a thread's share of kCount rows of `across` columns, whose sums lie in shared memory.
  template <int kCount>
  DECONVKIT_INLINE void store_rows(int32_t across, int32_t thread, const float* sums,
                                   const Row (&rows)[kCount], const Column* columns) const {
    if (by_vectors) return store_vectors(across, thread, sums, rows, columns);
    store_numbers(across, thread, sums, rows, columns);
  }

 private:
  DECONVKIT_INLINE bool is_output(const Row& row, const Column& column) const {
    return row.to >= 0 && column.channel >= 0 && row.h + column.h < tiles.h.out &&
           row.w + column.w < tiles.w.out;
  }
  template <int kCount>
  DECONVKIT_INLINE void store_vectors(int32_t across, int32_t thread, const float* sums,
                                      const Row (&rows)[kCount], const Column* columns) const {
    constexpr int32_t n = kVector<T>;
    DECONVKIT_ROLL
    for (int32_t i = thread; i < kCount * across / n; i += kThreads) {
      const int32_t r = i / (across / n), c = i % (across / n) * n;
      const Row& row = rows[r];
      const Column& column = columns[c];
      if (!is_output(row, column)) continue;
      Group<T, n> group;
      DECONVKIT_UNROLL
      for (int k = 0; k < n; ++k) {
        group.at[k] = epilogue(sums[r * pitch(across) + c + k], column.channel + k);
      }
      store(output.data + row.to + column.to, group);
    }
  }
  // Runs of columns that are neighbours in the output, row after row.
  template <int kCount>
  DECONVKIT_INLINE void store_numbers(int32_t across, int32_t thread, const float* sums,
                                      const Row (&rows)[kCount], const Column* columns) const {
    const int32_t run = tiles.run(), runs = (across + run - 1) / run;
    DECONVKIT_ROLL
    for (int32_t i = thread; i < kCount * runs * run; i += kThreads) {
      const int32_t line = i / run, r = line % kCount, c = line / kCount * run + (i - line * run);
      if (c >= across) continue;
      const Row& row = rows[r];
      const Column& column = columns[c];
      if (!is_output(row, column)) continue;
      store(output.data + row.to + column.to, epilogue(sums[r * pitch(across) + c], column.channel));
    }
  }
};

// The parts' sums of each tile, added in their order; a block takes 16 rows of a tile at a time.
// Floor: the partial sums read once, the output written once.
template <class T>
struct SumGemmParts : GemmOutput<T> {
  using Output = GemmOutput<T>;
  using Output::kThreads, Output::kRows, Output::tiles;
  static constexpr int kSlice = 16, kSlices = kRows / kSlice, kMostColumns = GemmTiles::kWide;

  struct alignas(16) Shared {
    float sums[kSlice * Output::pitch(kMostColumns)];
    typename Output::Row rows[kSlice];
    typename Output::Column columns[kMostColumns];
  };
  using Own = Empty;

  const float* partial;  // (part, tile, row, column)

  SumGemmParts(const Output& o, const float* sums) : Output(o), partial(sums) {}

  int64_t slices() const { return tiles.tiles() * kSlices; }
  // Of each slice: the sums, the stores.
  DECONVKIT_HD int64_t steps(int64_t block, int64_t blocks) const {
    return (tiles.tiles() * kSlices - block + blocks - 1) / blocks * 2;
  }

  DECONVKIT_HD void step(int64_t i, const Place& place, Shared& shared, Own&) const {
    const int32_t across = tiles.columns_of_tile;
    if (i % 2) return this->store_rows(across, place.thread, shared.sums, shared.rows, shared.columns);
    const int64_t slice = place.block + i / 2 * place.blocks, tile = slice / kSlices;
    const auto first = static_cast<int32_t>(slice % kSlices) * kSlice;
    const GemmTiles::Tile t = tiles.tile(tile);
    if (place.thread < kSlice) shared.rows[place.thread] = this->row(t, first + place.thread);
    if (place.thread < across) shared.columns[place.thread] = this->column(t, place.thread);
    const int64_t apart = tiles.tiles() * kRows * across;
    DECONVKIT_ROLL
    for (int32_t j = place.thread * 4; j < kSlice * across; j += kThreads * 4) {
      const float* const from = partial + (tile * kRows + first) * across + j;
      Group<float, 4> sum = load<4>(from);
      DECONVKIT_UNROLL_4
      for (int64_t part = 1; part < tiles.parts; ++part) {
        const Group<float, 4> more = load<4>(from + part * apart);
        DECONVKIT_UNROLL
        for (int k = 0; k < 4; ++k) sum.at[k] += more.at[k];
      }
      const int32_t r = j / across, c = j - r * across;
      *reinterpret_cast<Group<float, 4>*>(shared.sums + r * Output::pitch(across) + c) = sum;
    }
  }
};

}  // namespace deconvkit::cuda
