// What the pooling kernels share: views of their tensors, and which of three ways a call goes.
//   channels: a thread owns 16 bytes of channels of one window (channels_last).
//   pairs:    2x2 windows side by side in planes: 16 bytes of neighbouring windows, both their rows.
//   single:   one element a thread, any window, any strides.
// Neighbouring threads own neighbouring elements in all of them.
#pragma once
#include "cuda/number.cuh"
#include "cuda/steps.cuh"
#include "cuda/view.cuh"
#include "geometry/divisor.h"
#include "geometry/launch_plan.h"
#include "geometry/switches.h"

namespace deconvkit::cuda {

enum class Way { kSingle, kChannels, kPairs };

// One axis of windows that lie side by side: no cell is in two of them, and none is between them.
constexpr bool side_by_side(const PoolAxis& a) {
  return a.kernel == a.stride && a.padding == 0 && a.dilation == 1;
}
constexpr bool side_by_side(const PoolShape& s) { return side_by_side(s.h) && side_by_side(s.w); }

// The way of a call, for groups of kVector<T> elements; switches are `switch_bytes` each.
template <class T>
Way way_of(const TensorRef& big, const TensorRef& pooled, const TensorRef& switches, const PoolShape& s,
           int switch_bytes) {
  constexpr int n = kVector<T>, bytes = sizeof(T);
  const bool channels = pooled.size[1] % n == 0;
  if (channels && groups_along(big, 1, n, bytes) && groups_along(pooled, 1, n, bytes) &&
      groups_along(switches, 1, n, switch_bytes)) {
    return Way::kChannels;
  }
  const bool pairs = side_by_side(s) && s.h.kernel == 2 && s.w.kernel == 2 && switch_bytes == 1;
  if (pairs && groups_along(big, 3, n, bytes) && groups_along(pooled, 3, n, bytes) &&
      groups_along(switches, 3, n, 1)) {
    return Way::kPairs;
  }
  return Way::kSingle;
}

// The items of a kernel: rows (n, h) of `w` places of `c` channels, or rows (n, c, h) of `w` places,
// whichever order has neighbours side by side in memory; an item is `group` channels, or places.
struct Items {
  bool channels;  // innermost
  int32_t group;
  Divisor by_c, by_h;
  RowTiles rows;
  int64_t tiles;

  Items(int64_t n, int64_t c, int64_t h, int64_t w, bool channels_, int32_t group_)
      : channels(channels_),
        group(group_),
        by_c(channels_ ? c / group_ : c),
        by_h(h),
        rows(channels_ ? n * h : n * c * h, channels_ ? w * (c / group_) : (w + group_ - 1) / group_),
        tiles(rows.tiles()) {}

  struct Item {
    int64_t n, c, h, w;  // of the item's first element
    bool valid;
  };
  DECONVKIT_HD Item item(int64_t tile, int32_t thread) const {
    const RowTiles::Item i = rows.item(tile, thread);
    const int64_t plane = by_h.quotient(i.row), h = i.row - plane * by_h.d;
    if (channels) {
      const int64_t w = by_c.quotient(i.column);
      return {plane, (i.column - w * by_c.d) * group, h, w, i.valid};
    }
    const int64_t n = by_c.quotient(plane);
    return {n, plane - n * by_c.d, h, i.column * group, i.valid};
  }
};

// Calls body(item) for the items of this thread: tile by tile, as many blocks as there are.
template <class Body>
DECONVKIT_INLINE void for_items(const Items& items, const Place& place, Body&& body) {
  for (int64_t tile = place.block; tile < items.tiles; tile += place.blocks) {
    const Items::Item item = items.item(tile, place.thread);
    if (item.valid) body(item);
  }
}

// What the pooling kernels are: one step, nothing shared.
struct OneStep {
  static constexpr int kThreads = RowTiles::kThreads;
  using Shared = Empty;
  using Own = Empty;
  DECONVKIT_HD int64_t steps(int64_t, int64_t) const { return 1; }
};

}  // namespace deconvkit::cuda
