// The one decomposition behind every Winograd convolution here, for host and device; one axis at a time.
//
// A transposed convolution of stride s is s interleaved stride-1 convolutions ("out phases"): output s·q + a
// sums the inputs q + lo + j, j = 0..2, through the kernel cells tap(a, j) = a + padding − s·(lo + j). A
// convolution of stride s is the sum of s stride-1 convolutions of the interleaved inputs s·(q + lo + j) + b
// ("in phases"), through tap(b, j) = s·(lo + j) + b + padding. Where every phase fits one window of three
// taps (kernels up to 2s + 1 at stride s) all phases share one F(4, 3)
// transform. A tap outside the kernel is zero: a missing first tap silences the point 0, a missing last one
// the point at infinity.
#pragma once
#include <cstdint>

#include "geometry/conv_shape.h"

namespace deconvkit {

struct WinogradAxis {
  static constexpr int kMaxPhases = 8;
  static constexpr int kTaps = 3;

  int in_phases = 1, out_phases = 1;
  int points = 6, tile = 4;  // 1 and 1: an axis of kernel 1 and stride 1, which is left as it is
  int64_t lo = 0;
  int64_t in = 0, out = 0, tiles = 0;
  int taps[kMaxPhases][kTaps] = {};  // -1: outside the kernel

  // Whether the products at a point can differ from zero for a phase.
  DECONVKIT_HD constexpr bool active(int phase, int point) const {
    if (points == 1) return true;
    return !(point == 0 && taps[phase][0] < 0) && !(point == points - 1 && taps[phase][kTaps - 1] < 0);
  }
  DECONVKIT_HD constexpr int phases() const { return in_phases > out_phases ? in_phases : out_phases; }
};

// Fills `axis` for a transposed convolution (small -> large) or a convolution (large -> small); false where
// the window of three taps does not serve.
DECONVKIT_HD static constexpr bool make_winograd_axis(const ConvAxis& c, bool transposed,
                                                      WinogradAxis& axis) {
  const int64_t s = c.stride;
  axis.in = transposed ? c.small : c.large;
  axis.out = transposed ? c.large : c.small;
  if (c.kernel == 1 && s == 1) {
    axis.points = axis.tile = 1;
    axis.lo = transposed ? c.padding : -c.padding;
    axis.tiles = axis.out;
    return true;
  }
  if ((c.dilation != 1 && c.kernel > 1) || s > WinogradAxis::kMaxPhases || c.kernel < 2) return false;
  (transposed ? axis.out_phases : axis.in_phases) = static_cast<int>(s);
  // Kernel cell k of phase a lies at q + offset: the smallest and the largest offset.
  int64_t lowest = 0, highest = 0;
  bool any = false;
  for (int64_t a = 0; a < s; ++a) {
    for (int64_t k = 0; k < c.kernel; ++k) {
      const int64_t numerator = transposed ? a + c.padding - k : k - a - c.padding;
      if (numerator % s != 0) continue;
      const int64_t offset = numerator / s;
      lowest = !any || offset < lowest ? offset : lowest;
      highest = !any || offset > highest ? offset : highest;
      any = true;
    }
  }
  if (highest - lowest >= WinogradAxis::kTaps) return false;
  axis.lo = lowest;
  for (int64_t a = 0; a < s; ++a) {
    for (int64_t j = 0; j < WinogradAxis::kTaps; ++j) {
      const int64_t k = transposed ? a + c.padding - s * (lowest + j) : s * (lowest + j) + a + c.padding;
      axis.taps[a][j] = k >= 0 && k < c.kernel ? static_cast<int>(k) : -1;
    }
  }
  axis.tiles = ((axis.out + axis.out_phases - 1) / axis.out_phases + axis.tile - 1) / axis.tile;
  return true;
}

// The same for both axes. A kernel of one column is left to the direct algorithm.
DECONVKIT_HD static constexpr bool make_winograd_axes(const ConvAxis& h, const ConvAxis& w, bool transposed,
                                                      WinogradAxis& axis_h, WinogradAxis& axis_w) {
  return make_winograd_axis(h, transposed, axis_h) && make_winograd_axis(w, transposed, axis_w) &&
         axis_w.points == 6;
}

}  // namespace deconvkit
