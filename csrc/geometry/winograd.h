// The one decomposition behind every Winograd convolution here, for host and device; one axis at a time.
//
// A transposed convolution of stride s is s interleaved stride-1 convolutions ("out phases"): output s·q + a
// sums the inputs q + lo + j, j = 0..2, through the kernel cells tap(a, j) = a + padding − s·(lo + j). A
// convolution of stride s is the sum of s stride-1 convolutions of the interleaved inputs s·(q + lo + j) + b
// ("in phases"), through tap(b, j) = s·(lo + j) + b + padding. Where every phase fits one window of three
// taps (kernels up to 2s + 1 at stride s) all phases share one F(4, 3) transform. At stride 1 a longer
// kernel, up to 9 cells, is the sum of pieces of two or three cells (in phases as well), whose windows begin
// `shift` inputs apart. A tap outside the kernel or the piece is zero: a missing first tap silences the point
// 0, a missing last one the point at infinity.
#pragma once
#include <cstdint>

#include "geometry/conv_shape.h"

namespace deconvkit {

struct WinogradAxis {
  static constexpr int kMaxPhases = 8;
  static constexpr int kTaps = 3;
  static constexpr int kMaxPieces = 3;

  int in_phases = 1, out_phases = 1;
  int points = 6, tile = 4;  // 1 and 1: an axis of kernel 1 and stride 1, which is left as it is
  // Input j of the window of in phase b for output q: step·(q + lo + j) + shift·b.
  int step = 1, shift = 1;
  int64_t lo = 0;
  int64_t in = 0, out = 0, tiles = 0;
  int taps[kMaxPhases][kTaps] = {};  // -1: outside the kernel

  // Whether the products at a point can differ from zero for a phase.
  DECONVKIT_HD constexpr bool active(int phase, int point) const {
    if (points == 1) return true;
    return !(point == 0 && taps[phase][0] < 0) && !(point == points - 1 && taps[phase][kTaps - 1] < 0);
  }
  DECONVKIT_HD constexpr int phases() const { return in_phases > out_phases ? in_phases : out_phases; }
  // Inputs that the windows of `count` adjacent outputs read, of all in phases.
  DECONVKIT_HD constexpr int64_t reach(int64_t count) const {
    return points == 1 ? count : step * (count + kTaps - 2) + shift * (in_phases - 1) + 1;
  }
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
  if (s == 1 && c.kernel > WinogradAxis::kTaps) {  // in pieces, as equal as can be
    const int64_t pieces = (c.kernel + WinogradAxis::kTaps - 1) / WinogradAxis::kTaps;
    if (pieces > WinogradAxis::kMaxPieces) return false;
    axis.in_phases = static_cast<int>(pieces);
    axis.shift = static_cast<int>(c.kernel / pieces);
    if (c.kernel - axis.shift * (pieces - 1) > WinogradAxis::kTaps) ++axis.shift;
    axis.lo = transposed ? c.padding - (c.kernel - 1) : -c.padding;
    for (int64_t b = 0; b < pieces; ++b) {
      for (int64_t j = 0; j < WinogradAxis::kTaps; ++j) {
        const int64_t k = axis.shift * b + j;
        const bool outside = (j >= axis.shift && b < pieces - 1) || k >= c.kernel;
        axis.taps[b][j] = outside ? -1 : static_cast<int>(transposed ? c.kernel - 1 - k : k);
      }
    }
    axis.tiles = (axis.out + axis.tile - 1) / axis.tile;
    return true;
  }
  (transposed ? axis.out_phases : axis.in_phases) = static_cast<int>(s);
  axis.step = axis.in_phases;
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

// The same for both axes. A kernel of one column is left to the direct algorithm, and one that is in pieces
// along one axis and has out phases along the other.
DECONVKIT_HD static constexpr bool make_winograd_axes(const ConvAxis& h, const ConvAxis& w, bool transposed,
                                                      WinogradAxis& axis_h, WinogradAxis& axis_w) {
  return make_winograd_axis(h, transposed, axis_h) && make_winograd_axis(w, transposed, axis_w) &&
         axis_w.points == 6 &&
         (axis_h.in_phases * axis_w.in_phases == 1 || axis_h.out_phases * axis_w.out_phases == 1);
}

}  // namespace deconvkit
