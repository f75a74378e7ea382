// How the CUDA kernels' work is cut into blocks, and what a block may ask for on each architecture.
#pragma once
#include <cstdint>

#include "geometry/divisor.h"
#include "geometry/host_device.h"

namespace deconvkit {

// A launch: `blocks` blocks of `threads` threads with `shared` bytes of shared memory each.
struct LaunchPlan {
  int64_t blocks;
  int32_t threads;
  int64_t shared;
};

// What blocks may have at most.
struct Architecture {
  int32_t sm;      // compute capability, 90 for 9.0
  int64_t shared;  // bytes of shared memory of one, where the kernel opted in to more than kPlainShared
  int64_t shared_per_sm;  // of all that are resident at once; what `shared` lacks of it, each takes besides
  int32_t blocks_per_sm, threads_per_sm;
};
constexpr Architecture kArchitectures[] = {
    {75, 64 << 10, 64 << 10, 16, 1024},   {80, 163 << 10, 164 << 10, 32, 2048},
    {86, 99 << 10, 100 << 10, 16, 1536},  {89, 99 << 10, 100 << 10, 24, 1536},
    {90, 227 << 10, 228 << 10, 32, 2048}, {100, 227 << 10, 228 << 10, 32, 2048},
    {120, 99 << 10, 100 << 10, 24, 1536}};
constexpr int64_t kPlainShared = 48 << 10;
constexpr int32_t kMaxThreads = 1024, kWarp = 32;
constexpr int64_t kMaxBlocks = (int64_t{1} << 31) - 1;

DECONVKIT_HD constexpr bool fits(const LaunchPlan& p, const Architecture& a) {
  return p.blocks >= 1 && p.blocks <= kMaxBlocks && p.threads >= 1 && p.threads <= kMaxThreads &&
         p.threads % kWarp == 0 && p.shared >= 0 && p.shared <= a.shared;
}

// How many blocks a multiprocessor runs at once, as far as its threads and its shared memory go: registers
// are bounded for it when a kernel is compiled.
DECONVKIT_HD constexpr int64_t resident(const LaunchPlan& p, const Architecture& a) {
  const int64_t by_threads = a.threads_per_sm / p.threads;
  const int64_t each = p.shared + a.shared_per_sm - a.shared;
  const int64_t by_shared = each ? a.shared_per_sm / each : a.blocks_per_sm;
  const int64_t least = by_threads < by_shared ? by_threads : by_shared;
  return least < a.blocks_per_sm ? least : a.blocks_per_sm;
}
// Whether a multiprocessor has so little shared memory that kernels which want two blocks there get but one.
DECONVKIT_HD constexpr bool is_small(const Architecture& a) { return a.shared_per_sm <= 100 << 10; }

// A persistent grid: as many blocks as are resident at once, or as there is work for.
constexpr int64_t persistent_blocks(int64_t tiles, int64_t resident) {
  const int64_t blocks = tiles < resident ? tiles : resident;
  return blocks < 1 ? 1 : blocks < kMaxBlocks ? blocks : kMaxBlocks;
}

// `rows` x `columns` items, an item a thread: a tile is `across` neighbouring columns of kThreads / across
// rows. Narrow rows share a tile, long ones are cut into several.
struct RowTiles {
  static constexpr int32_t kThreads = 256;

  int64_t rows, columns, tiles_across;
  int32_t across_log2;
  Divisor by_tiles_across;

  constexpr RowTiles(int64_t rows_, int64_t columns_)
      : rows(rows_), columns(columns_), tiles_across(1), across_log2(0) {
    while ((1 << across_log2) < kThreads && across() < columns) ++across_log2;
    tiles_across = (columns + across() - 1) / across();
    by_tiles_across = Divisor(tiles_across);
  }

  DECONVKIT_HD constexpr int32_t across() const { return 1 << across_log2; }
  DECONVKIT_HD constexpr int32_t down() const { return kThreads >> across_log2; }
  DECONVKIT_HD constexpr int64_t tiles() const { return (rows + down() - 1) / down() * tiles_across; }

  struct Item {
    int64_t row, column;
    bool valid;
  };
  DECONVKIT_HD constexpr Item item(int64_t tile, int32_t thread) const {
    const int64_t tile_row = by_tiles_across.quotient(tile), tile_column = tile - tile_row * tiles_across;
    const int64_t row = tile_row * down() + (thread >> across_log2);
    const int64_t column = tile_column * across() + (thread & (across() - 1));
    return {row, column, row < rows && column < columns};
  }
};

}  // namespace deconvkit
