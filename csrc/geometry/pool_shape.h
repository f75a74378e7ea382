// Geometry of 2-d pooling windows, for host and device. One axis at a time; both axes are alike.
#pragma once
#include <cstdint>

#include "host_device.h"

namespace deconvkit {

// One axis: output cell o reads the input cells start(o) + k·dilation, 0 <= k < kernel, that lie inside [0,
// input).
struct PoolAxis {
  int64_t input, output, kernel, stride, padding, dilation;

  // How many cells of a window begin within so many cells of the input. (Dividing takes longer than the
  // rest.)
  DECONVKIT_HD constexpr int64_t cells_in(int64_t distance) const {
    return dilation == 1 ? distance : (distance + dilation - 1) / dilation;
  }
  // First cell of window o before clipping; negative inside the padding.
  DECONVKIT_HD constexpr int64_t start(int64_t o) const { return o * stride - padding; }
  // Input cell k of window o; inside the input for first(o) <= k < last(o).
  DECONVKIT_HD constexpr int64_t cell(int64_t o, int64_t k) const { return start(o) + k * dilation; }
  // First k whose cell is not before the border.
  DECONVKIT_HD constexpr int64_t first(int64_t o) const {
    const int64_t s = start(o);
    return s >= 0 ? 0 : cells_in(-s);
  }
  // One past the last k whose cell is inside; first(o) >= last(o) means that no cell is valid.
  DECONVKIT_HD constexpr int64_t last(int64_t o) const {
    const int64_t room = input - start(o);
    const int64_t k = room <= 0 ? 0 : cells_in(room);
    return k < kernel ? k : kernel;
  }

  // The windows [inner_begin, inner_end) keep all their cells inside the input.
  DECONVKIT_HD constexpr int64_t inner_begin() const {
    const int64_t o = (padding + stride - 1) / stride;
    return o < output ? o : output;
  }
  DECONVKIT_HD constexpr int64_t inner_end() const {
    const int64_t room = input + padding - (kernel - 1) * dilation - 1;  // the largest o·stride that fits
    const int64_t o = room < 0 ? 0 : room / stride + 1;
    const int64_t end = o < output ? o : output;
    return end > inner_begin() ? end : inner_begin();
  }

  // The windows that may hold input cell i are [reach_begin(i), reach_end(i)); with dilation not all of them
  // do.
  DECONVKIT_HD constexpr int64_t reach_begin(int64_t i) const {
    const int64_t from = i + padding - (kernel - 1) * dilation;
    return from <= 0 ? 0 : (from + stride - 1) / stride;
  }
  DECONVKIT_HD constexpr int64_t reach_end(int64_t i) const {
    const int64_t o = (i + padding) / stride + 1;
    return o < output ? o : output;
  }
  // Which cell of window o input cell i is, for o in that range; -1 where dilation steps over it.
  DECONVKIT_HD constexpr int64_t cell_of(int64_t i, int64_t o) const {
    const int64_t offset = i - start(o);
    if (dilation == 1) return offset;
    return offset % dilation == 0 ? offset / dilation : -1;
  }

  // Whether two windows may share an input cell.
  DECONVKIT_HD constexpr bool overlaps() const { return (kernel - 1) * dilation + 1 > stride && output > 1; }
};

struct PoolShape {
  PoolAxis h, w;

  DECONVKIT_HD constexpr int64_t cells() const { return h.kernel * w.kernel; }
  DECONVKIT_HD constexpr bool overlaps() const { return h.overlaps() || w.overlaps(); }
};

}  // namespace deconvkit
