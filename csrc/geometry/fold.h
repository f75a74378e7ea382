// Strided convolutions of few channels as convolutions of stride 1, for host and device. One axis at a time.
//
// The large side's s interleaved sub-grids become channels: large index s·j + b is cell j of sub-grid b. With
// padding = s·p − shift, kernel cell k joins the small index i to large index s·(i − p) + k + shift, which is
// cell i − p + (k + shift) / s of sub-grid (k + shift) % s. So stride 1, padding p, and a folded kernel whose
// cells outside the real one are zero.
#pragma once
#include "geometry/conv_shape.h"

namespace deconvkit {

struct FoldAxis {
  int64_t stride = 1, shift = 0, kernel = 0;  // the real kernel's size

  DECONVKIT_HD static constexpr FoldAxis of(const ConvAxis& a) {
    return {a.stride, (a.padding + a.stride - 1) / a.stride * a.stride - a.padding, a.kernel};
  }
  // The kernel cell that is a folded one of a sub-grid, or -1.
  DECONVKIT_HD constexpr int64_t cell(int64_t folded, int64_t grid) const {
    const int64_t k = folded * stride + grid - shift;
    return k >= 0 && k < kernel ? k : -1;
  }
};

// The axis of stride 1; dilation is 1.
DECONVKIT_HD constexpr ConvAxis folded(const ConvAxis& a) {
  const FoldAxis f = FoldAxis::of(a);
  return {a.small, (a.large + a.stride - 1) / a.stride, (a.kernel + f.shift + a.stride - 1) / a.stride,
          1,       (a.padding + f.shift) / a.stride,    1};
}

// The same sum with the sides changed: kernel cell k of one is cell kernel - 1 - k of the other. Stride 1.
DECONVKIT_HD constexpr ConvAxis sides_changed(const ConvAxis& a) {
  return {a.large, a.small, a.kernel, 1, a.kernel - 1 - a.padding, 1};
}

}  // namespace deconvkit
