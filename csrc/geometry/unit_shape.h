// How a tensor of activations splits into units, samples and blocks of samples.
//
// A tensor is (batch, outer, units, inner): `batch` independent problems; a unit's samples are its outer *
// inner elements; the last two dimensions are contiguous. Matrices and channels_last have inner = 1, NCHW has
// inner = H W. A unit's samples are summed block by block and the blocks in order. Blocks depend on the shape
// alone, so sums do not depend on who computes which block.
#pragma once
#include <cstdint>

#include "geometry/host_device.h"

namespace deconvkit {

struct UnitShape {
  static constexpr int64_t kMaxBlocks = 64;  // of samples, for each unit: bounds the workspace
  static constexpr int64_t kRun = 64;        // rows summed in the compute type before the sum is widened
  static constexpr int64_t kPlane = 16;  // from this `inner` on a unit's elements fill vectors by themselves
  static constexpr int64_t kChunk = 4096;        // elements of a plane taken at once
  static constexpr int64_t kTileColumns = 4096;  // columns of a task, about: whole rows, read as they lie
  static constexpr int64_t kMaxTileColumns = kTileColumns + 64;
  static constexpr int64_t kTileElements = 16384;  // about the elements of a task over planes
  static constexpr int64_t kTasks = 8;             // that small problems are split into where they can be

  static constexpr int64_t kNarrow = 64;  // rows below this are taken several at once

  int64_t batch, outer, units, inner;
  int64_t repeat = 1;  // see joined()

  // Sums run along planes: one row is a chunk of a unit's contiguous elements. Otherwise they run down
  // columns: one row is units * inner elements, and `inner` neighbouring columns belong to one unit.
  DECONVKIT_HD constexpr bool planes() const { return inner >= kPlane; }
  DECONVKIT_HD constexpr int64_t samples() const { return outer * inner; }
  DECONVKIT_HD constexpr int64_t numel() const { return batch * outer * units * inner; }

  // The same for a contiguous tensor: narrow rows are joined, `repeat` to a row, until vectors of 16 fill it.
  // The last row may be shorter.
  DECONVKIT_HD constexpr UnitShape joined() const {
    const int64_t row = units * inner, even = row & -row;  // the largest power of 2 that divides it
    return {batch, outer, units, inner, planes() || row >= kNarrow || even >= 16 || !row ? 1 : 16 / even};
  }

  DECONVKIT_HD constexpr int64_t columns() const { return planes() ? units : repeat * units * inner; }
  DECONVKIT_HD constexpr int64_t columns_per_unit() const { return planes() ? 1 : inner; }
  DECONVKIT_HD constexpr int64_t chunks() const { return planes() ? ceil_div(inner, kChunk) : 1; }
  DECONVKIT_HD constexpr int64_t rows() const { return ceil_div(outer, repeat) * chunks(); }
  // Columns of the last row.
  DECONVKIT_HD constexpr int64_t last_columns() const {
    return planes() ? columns() : columns() - (ceil_div(outer, repeat) * repeat - outer) * units * inner;
  }
  // Where in its plane a chunk starts, for chunk = 0 ... chunks(): whole cache lines, nearly equal lengths.
  DECONVKIT_HD constexpr int64_t chunk_start(int64_t chunk) const { return split(inner, chunk, chunks()); }

  // Rows of one block, a multiple of kRun where there are several blocks.
  DECONVKIT_HD constexpr int64_t block_rows() const {
    return planes() ? ceil_div(rows(), kMaxBlocks) : kRun * ceil_div(rows(), kRun * kMaxBlocks);
  }
  DECONVKIT_HD constexpr int64_t blocks() const { return ceil_div(rows(), block_rows()); }

  // Columns of one task: the tasks are batch * blocks() * tiles().
  DECONVKIT_HD constexpr int64_t tiles() const {
    if (planes()) return ceil_div(columns(), planes_of_task());
    const int64_t narrow = columns() / 64, wide = ceil_div(columns(), kTileColumns);
    const int64_t wanted = ceil_div(kTasks, batch * blocks());
    return wanted < wide ? wide : wanted < narrow ? wanted : narrow < wide ? wide : narrow;
  }
  // Where a task's columns start, for tile = 0 ... tiles().
  DECONVKIT_HD constexpr int64_t tile_start(int64_t tile) const {
    if (!planes()) return split(columns(), tile, tiles());
    return tile == tiles() ? columns() : tile * planes_of_task();
  }

 private:
  DECONVKIT_HD static constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
  // Where part i of n elements starts: parts of nearly equal length that begin with a cache line.
  DECONVKIT_HD static constexpr int64_t split(int64_t n, int64_t i, int64_t parts) {
    return i == parts ? n : n * i / parts & ~int64_t{63};
  }
  DECONVKIT_HD constexpr int64_t planes_of_task() const {
    const int64_t row = inner < kChunk ? inner : kChunk;
    const int64_t planes = kTileElements / (row * block_rows());
    return planes < 1 ? 1 : planes < columns() ? planes : columns();
  }
};

}  // namespace deconvkit
