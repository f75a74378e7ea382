// A convolution of each channel by itself, for host and device. One axis at a time; both axes are alike.
//
// An output is the sum of its phase's taps (geometry/phases.h), which are tabulated: what is left to do for
// an output is to divide by the stride, a multiplication.
#pragma once
#include <cstdint>

#include "geometry/conv_shape.h"
#include "geometry/divisor.h"
#include "geometry/host_device.h"
#include "geometry/implicit_gemm.h"

namespace deconvkit {

struct PerChannelAxis {
  int64_t in = 0, out = 0, in_step = 1;
  Divisor by_out_step;
  GemmTaps taps[GemmAxis::kMostPhases];

  PerChannelAxis(const ConvAxis& a, bool transposed) {
    const GemmAxis axis(a, transposed);
    in = axis.in;
    out = axis.out;
    if (transposed) {
      by_out_step = Divisor(axis.out_step);
      for (int32_t phase = 0; axis.serves() && phase < axis.phases; ++phase) taps[phase] = axis.taps[phase];
      return;
    }
    in_step = a.stride;
    taps[0] = {static_cast<int32_t>(a.kernel), static_cast<int32_t>(-a.padding),
               static_cast<int32_t>(a.dilation), 0, 1};
  }

  // At most 32 phases, and sides and offsets of taps below 2^30.
  static bool serves(const ConvAxis& a, bool transposed) {
    return GemmAxis(a, transposed).serves() ||
           (!transposed && a.large < GemmAxis::kLargest && GemmAxis::is_near(a));
  }

  // The taps of an output, and the input index that they are offset from.
  struct Place {
    const GemmTaps& taps;
    int64_t from;
  };
  DECONVKIT_HD Place place(int64_t output) const {
    const int64_t cell = by_out_step.quotient(output);
    return {taps[output - cell * by_out_step.d], cell * in_step};
  }
  // Of the j-th tap: its input index, which may lie outside, and its kernel cell.
  DECONVKIT_HD static int64_t input(const Place& p, int32_t j) {
    return p.from + p.taps.offset + int64_t{j} * p.taps.step;
  }
  DECONVKIT_HD static int64_t cell(const Place& p, int32_t j) {
    return p.taps.kernel + j * p.taps.kernel_step;
  }
};

}  // namespace deconvkit
