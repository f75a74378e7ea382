// The convolution family as a gather, for host and device. One axis at a time; both axes are alike.
//
// The output cells of an axis fall into `out_step` interleaved phases: cell q·out_step + phase. The taps of
// one phase are kernel cells whose inputs lie at q·in_step + offset, with offsets in arithmetic progression:
// inside a phase every member of the family is a plain stride-in_step sum. A convolution has one phase and
// in_step = stride; a transposed convolution has out_step = stride phases and in_step = 1.
//
// Where kernel, stride and padding of a transposed convolution share a divisor, phases that are neighbours
// read the same inputs: the layer is one of kernel, stride and padding so many times smaller, each of whose
// output cells is `fine` cells of the real output, made by as many kernels: kernel cell k·fine + r makes cell
// r.
#pragma once
#include <cstdint>

#include "geometry/conv_shape.h"

namespace deconvkit {

// The taps of one phase in ascending order of their offsets: the j-th is kernel cell kernel + j·kernel_step
// at offset offset + j·offset_step.
struct PhaseTaps {
  int64_t count = 0, kernel = 0, kernel_step = 0, offset = 0, offset_step = 1;

  DECONVKIT_HD constexpr int64_t last_offset() const { return offset + (count - 1) * offset_step; }
};

struct GatherAxis {
  int64_t in, out, in_step, out_step, kernel, padding, dilation;
  bool transposed;
  int64_t fine = 1;

  DECONVKIT_HD static constexpr GatherAxis convolution(const ConvAxis& a) {
    return {a.large, a.small, a.stride, 1, a.kernel, a.padding, a.dilation, false};
  }
  // A single small cell meets every stride alike; a large one gives each output cell a phase of its own, with
  // no tap that misses. `fine` divides kernel, stride and padding, and dilation is 1, unless it is 1.
  DECONVKIT_HD static constexpr GatherAxis transposed_convolution(const ConvAxis& a, int64_t fine = 1) {
    const int64_t large = (a.large + fine - 1) / fine, kernel = a.kernel / fine;
    const int64_t reach = (kernel - 1) * a.dilation + 1 > large ? (kernel - 1) * a.dilation + 1 : large;
    return {a.small,    large, 1,   a.small > 1 ? a.stride / fine : reach, kernel, a.padding / fine,
            a.dilation, true,  fine};
  }
  // The largest divisor that serves, at most so large.
  DECONVKIT_HD static constexpr int64_t common_divisor(const ConvAxis& a, int64_t most) {
    if (a.dilation != 1 || a.small == 1) return 1;
    int64_t d = a.stride < most ? a.stride : most;
    while (d > 1 && (a.stride % d || a.kernel % d || a.padding % d)) --d;
    return d;
  }

  // Phases that hold any output cell.
  DECONVKIT_HD constexpr int64_t phases() const { return out_step < out ? out_step : out; }
  // Cells of the longest phase, phase 0.
  DECONVKIT_HD constexpr int64_t cells() const { return (out + out_step - 1) / out_step; }
  // Cells of a phase.
  DECONVKIT_HD constexpr int64_t cells(int64_t phase) const {
    return (out - phase + out_step - 1) / out_step;
  }
  // The taps of a transposed convolution's phase are this many kernel cells apart.
  DECONVKIT_HD constexpr int64_t period() const {
    int64_t common = out_step, b = dilation;
    while (b) {
      const int64_t r = common % b;
      common = b;
      b = r;
    }
    return out_step / common;
  }
  // No phase has more taps.
  DECONVKIT_HD constexpr int64_t most_taps() const {
    return transposed ? (kernel - 1) / period() + 1 : kernel;
  }
  // Input index that cell q reads through a tap.
  DECONVKIT_HD constexpr int64_t input(int64_t q, int64_t offset) const { return q * in_step + offset; }

  // The taps of a phase, without those that meet no input for any of its cells.
  DECONVKIT_HD constexpr PhaseTaps taps(int64_t phase) const {
    PhaseTaps t;
    if (transposed) {
      // Kernel cells k with k·dilation ≡ phase + padding modulo out_step.
      const int64_t s = out_step, period = this->period();
      int64_t first = 0;
      while (first < period && first < kernel && (phase + padding - first * dilation) % s != 0) ++first;
      if (first >= period || first >= kernel) return t;
      t.count = (kernel - 1 - first) / period + 1;
      t.kernel = first + (t.count - 1) * period;
      t.kernel_step = -period;
      t.offset = (phase + padding - t.kernel * dilation) / s;
      t.offset_step = dilation / (s / period);
    } else {
      t.count = kernel;
      t.kernel_step = 1;
      t.offset = -padding;
      t.offset_step = dilation;
    }
    const int64_t farthest = (cells(phase) - 1) * in_step;
    while (t.count > 0 && t.offset + farthest < 0) {
      --t.count;
      t.kernel += t.kernel_step;
      t.offset += t.offset_step;
    }
    while (t.count > 0 && t.last_offset() >= in) --t.count;
    return t;
  }
};

}  // namespace deconvkit
