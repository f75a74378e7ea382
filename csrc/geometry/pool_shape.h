// Geometry of 2-d pooling windows, for host and device. One axis at a time; both axes are alike.
#pragma once
#include <cstdint>

#include "host_device.h"

namespace deconvkit {

// One axis: output cell o reads the input cells start(o) + k·dilation, 0 <= k < kernel, that lie inside [0,
// input).
struct PoolAxis {
  int64_t input, output, kernel, stride, padding, dilation;

  // First cell of window o before clipping; negative inside the padding.
  DECONVKIT_HD constexpr int64_t start(int64_t o) const { return o * stride - padding; }
  // First k whose cell is not before the border.
  DECONVKIT_HD constexpr int64_t first(int64_t o) const {
    const int64_t s = start(o);
    return s >= 0 ? 0 : (-s + dilation - 1) / dilation;
  }
  // One past the last k whose cell is inside; first(o) >= last(o) means that no cell is valid.
  DECONVKIT_HD constexpr int64_t last(int64_t o) const {
    const int64_t room = input - start(o);
    const int64_t k = room <= 0 ? 0 : (room + dilation - 1) / dilation;
    return k < kernel ? k : kernel;
  }
  DECONVKIT_HD constexpr bool overlaps() const { return (kernel - 1) * dilation + 1 > stride; }
};

struct PoolShape {
  PoolAxis h, w;

  DECONVKIT_HD constexpr int64_t cells() const { return h.kernel * w.kernel; }
};

}  // namespace deconvkit
