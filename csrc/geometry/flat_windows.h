// 2x2 windows side by side in planes that they fill: no cell is in none of them, and nothing lies between the
// planes in memory. So the windows of all rows are one run, of any width, and so are their cells' lines; one
// division tells where a window's cells lie.
#pragma once
#include <cstdint>

#include "geometry/divisor.h"
#include "geometry/host_device.h"

namespace deconvkit {

struct FlatWindows {
  int64_t windows;  // of the run
  int64_t columns;  // windows side by side
  Divisor by_columns;

  constexpr FlatWindows(int64_t windows_, int64_t columns_)
      : windows(windows_), columns(columns_), by_columns(columns_) {}

  // Where one is on the way along the windows.
  struct Place {
    int64_t cell;  // the window's first; the second is its neighbour, the other two lie line() further
    int64_t left;  // windows of its row, from it on
  };
  DECONVKIT_HD constexpr Place place(int64_t window) const {
    const int64_t row = by_columns.quotient(window);
    return {2 * (window + row * columns), (row + 1) * columns - window};
  }
  // The place of the window that comes `step` later, which is at most so many as are left.
  DECONVKIT_HD constexpr Place next(const Place& p, int64_t step) const {
    const bool last = p.left == step;
    return {p.cell + 2 * step + (last ? line() : 0), last ? columns : p.left - step};
  }
  DECONVKIT_HD constexpr int64_t line() const { return 2 * columns; }
};

}  // namespace deconvkit
