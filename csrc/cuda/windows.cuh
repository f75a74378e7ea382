// What the pooling kernels share: views of their tensors, and which of three ways a call goes.
//   channels: a thread owns 16 bytes of channels of one window (channels_last).
//   flat:     2x2 windows that fill planes without gaps (geometry/flat_windows.h), whatever their width: a
//             thread owns 16 bytes of pooled elements that follow each other, across ends of rows and planes.
//   single:   one element a thread, any window, any strides.
// Neighbouring threads own neighbouring elements in all of them.
//
// Flat cells are moved in pieces of a row, of 16 bytes or of as many as every row begins at a multiple of. A
// thread of a 16-bit type has 8 windows; a warp's 256 are 2.8 KB, which an H200's memory brings to a
// multiprocessor in about 150 cycles. Predictions for the forward pass; no GPU has run it:
//
//   pooled width                  28, 56      14       7   one by one
//   bytes of a piece                  16       8       4            2
//   accesses of a thread           4 + 2   8 + 2  16 + 2        8 · 6
//   cycles of L1, one a line          38      70     134           48
//   cycles to issue, from PTX         95     100     115          800
//
// Pieces of a warp lie 32 bytes apart, so that an access touches 8 lines, however small. Bound by memory at
// all widths, then; but where cells are written, at 7, by L2: parts of 512 sectors, about 250 cycles.
#pragma once
#include <type_traits>

#include "cuda/number.cuh"
#include "cuda/steps.cuh"
#include "cuda/view.cuh"
#include "geometry/divisor.h"
#include "geometry/flat_windows.h"
#include "geometry/launch_plan.h"
#include "geometry/switches.h"

namespace deconvkit::cuda {

// One axis of windows that lie side by side: no cell is in two of them, and none is between them.
constexpr bool side_by_side(const PoolAxis& a) {
  return a.kernel == a.stride && a.padding == 0 && a.dilation == 1;
}
constexpr bool side_by_side(const PoolShape& s) { return side_by_side(s.h) && side_by_side(s.w); }

// Whether a call goes by channels; switches are `switch_bytes` each.
template <class T>
bool by_channels(const TensorRef& big, const TensorRef& pooled, const TensorRef& switches, int switch_bytes) {
  constexpr int n = kVector<T>, bytes = sizeof(T);
  return pooled.size[1] % n == 0 && groups_along(big, 1, n, bytes) && groups_along(pooled, 1, n, bytes) &&
         groups_along(switches, 1, n, switch_bytes);
}

// How many runs of windows a flat call has: one where all images are one, or one for each image; else 0.
template <class T>
int64_t flat_runs(const TensorRef& big, const TensorRef& pooled, const TensorRef& switches,
                  const PoolShape& s) {
  constexpr int n = kVector<T>, bytes = sizeof(T);
  const auto fills = [](const PoolAxis& a) { return a.kernel == 2 && a.input == 2 * a.output; };
  if (!side_by_side(s) || !fills(s.h) || !fills(s.w)) return 0;
  for (const int dim : {0, 1}) {
    if (runs_from(big, dim, n, bytes) && runs_from(pooled, dim, n, bytes) && runs_from(switches, dim, n, 1)) {
      return dim == 0 ? 1 : pooled.size[0];
    }
  }
  return 0;
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

// The cells of as many flat windows as 16 bytes of T are, `V` cells of a row at once.
template <class T, int V>
struct FlatCells {
  static constexpr int kWindows = kVector<T>, kPieces = 2 * kWindows / V;
  Group<T, V> pieces[2][kPieces];

  // Cell 0 ... 3 of a window.
  DECONVKIT_HD T& at(int window, int cell) {
    const int x = 2 * window + cell % 2;
    return pieces[cell / 2][x / V].at[x % V];
  }
  DECONVKIT_HD void load(const T* run, const FlatWindows& s, int64_t window) {
    for_pieces(s, window, [&](int64_t from, Group<T, V>& piece) { piece = cuda::load<V>(run + from); });
  }
  DECONVKIT_HD void store(T* run, const FlatWindows& s, int64_t window) {
    for_pieces(s, window, [&](int64_t to, Group<T, V>& piece) { cuda::store(run + to, piece); });
  }

 private:
  template <class F>
  DECONVKIT_INLINE void for_pieces(const FlatWindows& s, int64_t window, F&& f) {
    FlatWindows::Place place = s.place(window);
    DECONVKIT_UNROLL
    for (int k = 0; k < kPieces; ++k) {
      f(place.cell, pieces[0][k]);
      f(place.cell + s.line(), pieces[1][k]);
      place = s.next(place, V / 2);
    }
  }
};

// Calls f with the largest power of 2, up to V, that divides a line's cells.
template <int V, class F>
void with_cells_at_once(const FlatWindows& s, F&& f) {
  if constexpr (V > 2) {
    if (s.line() % V) return with_cells_at_once<V / 2>(s, f);
  }
  f(std::integral_constant<int, V>{});
}

// Calls f(cells at once, windows, items) where a call is flat; whether it is.
template <class T, class F>
bool if_flat(const TensorRef& big, const TensorRef& pooled, const TensorRef& switches, const PoolShape& s,
             F&& f) {
  const int64_t runs = flat_runs<T>(big, pooled, switches, s);
  if (!runs) return false;
  const FlatWindows windows(pooled.numel() / runs, s.w.output);
  const Items items(runs, 1, 1, windows.windows, false, kVector<T>);
  with_cells_at_once<kVector<T>>(windows, [&](auto cells) { f(cells, windows, items); });
  return true;
}

// What the pooling kernels are: one step, nothing shared.
struct OneStep {
  static constexpr int kThreads = RowTiles::kThreads;
  using Shared = Empty;
  using Own = Empty;
  DECONVKIT_HD int64_t steps(int64_t, int64_t) const { return 1; }
};

}  // namespace deconvkit::cuda
