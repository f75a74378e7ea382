// Switches: the argmax of a pooling window, stored as kh·KW + kw inside the unclipped window.
// The largest value of the switch type says that the window has no valid cell.
#pragma once
#include <cstdint>

#include "geometry/pool_shape.h"

namespace deconvkit {

// Windows of up to this many cells fit a uint8 switch, whose largest value is the sentinel.
constexpr int64_t kMaxCellsUInt8 = 255;

template <class Switch>
constexpr Switch kNoSwitch = static_cast<Switch>(~Switch{0});

}  // namespace deconvkit
