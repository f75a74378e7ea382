// Geometry of the convolution family, for host and device. One axis at a time; both axes are alike.
//
// The family is one bilinear form over two sides of an axis: `small`, the low-resolution one (the input of a
// transposed convolution, the output of a convolution), and `large`, the other. Kernel cell k joins the small
// index i to the large index i·stride − padding + k·dilation. A large index outside [0, large) reads as zero
// and is never written, so the leading padding and the two sizes say everything: padding behind the last
// cell, and output_padding, are implied.
#pragma once
#include <cstdint>

#include "host_device.h"

namespace deconvkit {

struct ConvAxis {
  int64_t small, large, kernel, stride, padding, dilation;

  DECONVKIT_HD constexpr int64_t large_index(int64_t i, int64_t k) const {
    return i * stride - padding + k * dilation;
  }
};

struct ConvShape {
  int64_t batch, small_channels, large_channels, groups;
  ConvAxis h, w;

  DECONVKIT_HD constexpr int64_t group_small() const { return small_channels / groups; }
  DECONVKIT_HD constexpr int64_t group_large() const { return large_channels / groups; }
  // Multiplications of the direct algorithm, border cells included.
  DECONVKIT_HD constexpr int64_t products() const {
    return batch * small_channels * group_large() * h.small * w.small * h.kernel * w.kernel;
  }
  // Elements of both sides.
  DECONVKIT_HD constexpr int64_t elements() const {
    return batch * (small_channels * h.small * w.small + large_channels * h.large * w.large);
  }
};

}  // namespace deconvkit
