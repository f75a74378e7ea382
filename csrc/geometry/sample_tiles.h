// How CUDA cuts activations (batch, outer, units, inner), as of geometry/unit_shape.h, into tasks of a block.
//
// Where `inner` is long (planes), a task is a chunk of one unit's samples, and the block's threads run along
// it. Else a unit has `inner` neighbouring columns of a matrix with `outer` rows, and a task is a chunk of
// rows by a tile of columns, a thread owning the same columns in every row it sees. How many chunks there are
// follows from the shape alone, so that sums are the same on every GPU.
#pragma once
#include <cstdint>

#include "geometry/divisor.h"
#include "geometry/host_device.h"

namespace deconvkit {

struct SampleTiles {
  static constexpr int32_t kThreads = 256;
  static constexpr int64_t kPlane = 32;         // from this `inner` on
  static constexpr int64_t kTasks = 2048;       // that chunks are made for
  static constexpr int64_t kChunkRows = 64;     // of a chunk, at least
  static constexpr int64_t kChunkPlane = 4096;  // samples of a plane's chunk, at least

  int64_t batch, outer, units, inner;
  int32_t group;        // neighbours that a thread takes at once; in planes a divisor of `inner`
  bool planes;          // tasks run along planes
  int64_t columns;      // units, or columns of the matrix
  int64_t rows;         // samples of a unit, or rows of the matrix
  int32_t across_log2;  // threads side by side; 0 for planes
  int64_t tiles_across, chunks, chunk;
  Divisor by_tiles_across, by_chunks, by_inner;

  constexpr SampleTiles(int64_t batch_, int64_t outer_, int64_t units_, int64_t inner_, int32_t group_)
      : batch(batch_),
        outer(outer_),
        units(units_),
        inner(inner_),
        group(group_),
        planes(inner >= kPlane),
        columns(planes ? units : units * inner),
        rows(planes ? outer * inner : outer),
        across_log2(0),
        tiles_across(units),
        chunks(1),
        chunk(rows) {
    while (!planes && across_log2 < 5 && across() * group < columns) ++across_log2;
    if (!planes) tiles_across = ceil_div(columns, int64_t{across()} * group);
    const int64_t tiles = planes ? units : ceil_div(columns, 128);
    const int64_t wanted = kTasks / (batch * tiles > 0 ? batch * tiles : 1);
    const int64_t most = ceil_div(rows, planes ? kChunkPlane : kChunkRows);
    chunks = wanted < 1 ? 1 : wanted < most ? wanted : most < 1 ? 1 : most;
    chunk = ceil_div(ceil_div(rows, chunks), 16) * 16;
    chunks = rows > 0 ? ceil_div(rows, chunk) : 1;
    by_tiles_across = Divisor(tiles_across);
    by_chunks = Divisor(chunks);
    by_inner = Divisor(inner);
  }

  DECONVKIT_HD constexpr int32_t across() const { return 1 << across_log2; }
  DECONVKIT_HD constexpr int32_t down() const { return kThreads >> across_log2; }
  DECONVKIT_HD constexpr int64_t tasks() const { return batch * chunks * tiles_across; }

  // What one thread does in a task: rows first, first + step, ... below last, of columns [column, column +
  // count), or, in a plane, groups of samples of unit `column`.
  struct Share {
    int64_t problem, chunk, first, last, step, column;
    int32_t count;  // 0: nothing to do
  };
  DECONVKIT_HD constexpr Share share(int64_t task, int32_t thread) const {
    const int64_t block = by_tiles_across.quotient(task), tile = task - block * tiles_across;
    const int64_t problem = by_chunks.quotient(block), part = block - problem * chunks;
    const int64_t begin = part * chunk, end = begin + chunk < rows ? begin + chunk : rows;
    if (planes) {
      return {problem, part, begin + int64_t{thread} * group, end, int64_t{kThreads} * group, tile, 1};
    }
    const int64_t column = ((tile << across_log2) + (thread & (across() - 1))) * group;
    const int64_t left = columns - column;
    const auto count = static_cast<int32_t>(left <= 0 ? 0 : left < group ? left : group);
    return {problem, part, begin + (thread >> across_log2), end, down(), column, count};
  }
  // Where row or sample m of a share begins, in a problem whose outer rows lie `row_stride` apart.
  DECONVKIT_HD constexpr int64_t offset(const Share& s, int64_t m, int64_t row_stride) const {
    if (!planes) return m * row_stride + s.column;
    const int64_t o = by_inner.quotient(m);
    return o * row_stride + s.column * inner + (m - o * inner);
  }
  DECONVKIT_HD constexpr int64_t unit_of(int64_t column) const {
    return planes ? column : by_inner.quotient(column);
  }
  DECONVKIT_HD constexpr int64_t columns_per_unit() const { return planes ? 1 : inner; }
  // Doubles of the first stage's sums: (batch, chunks, 2, columns).
  DECONVKIT_HD constexpr int64_t partials() const { return batch * chunks * 2 * columns; }

 private:
  static constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
};

}  // namespace deconvkit
