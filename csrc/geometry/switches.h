// Switches: the argmax of a pooling window, stored as kh·KW + kw inside the unclipped window.
// The largest value of the switch type says that the window has no valid cell.
#pragma once
#include <cstdint>

#include "geometry/pool_shape.h"

namespace deconvkit {

// Windows of up to this many cells fit a uint8 switch, whose largest value is the sentinel; larger ones take
// int32.
constexpr int64_t kMaxCellsUInt8 = 255;

template <class Switch>
constexpr Switch kNoSwitch =
    static_cast<Switch>((uint64_t{1} << (8 * sizeof(Switch) - (Switch(-1) < Switch(0) ? 1 : 0))) - 1);
static_assert(kNoSwitch<uint8_t> == 255 && kNoSwitch<const int32_t> == 0x7fffffff, "the largest value");

// Where a switch of window (oh, ow) points. A switch is data from outside: it may be any number.
struct SwitchCell {
  int64_t h, w;  // the input cell, where valid
  bool valid;    // it lies in the window and in the input

  DECONVKIT_HD constexpr SwitchCell(const PoolShape& s, int64_t oh, int64_t ow, int64_t at)
      : h(0), w(0), valid(false) {
    if (at < 0 || at >= s.cells()) return;
    const int64_t kh = at / s.w.kernel, kw = at % s.w.kernel;
    h = s.h.cell(oh, kh);
    w = s.w.cell(ow, kw);
    valid = h >= 0 && h < s.h.input && w >= 0 && w < s.w.input;
  }
};

}  // namespace deconvkit
