// The engine of pointwise convolutions of planes. Included by per-ISA kernel files only.
#pragma once
#include <cstdint>

#include "cpu/conv_gather.h"
#include "geometry/conv_shape.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// One pass of the family, seen from its output: pixel (y, x) of the input makes the output cells
// (y·cells_h + kh, x·cells_w + kw), and nothing else does.
struct PointwiseProblem {
  int64_t cells_h, cells_w;
  int64_t batch, groups;
  int64_t in_channels, out_channels;  // of one group
  WeightView weight;
  TensorRef input, bias, output;
  ConvOptions options;
};

// Whether the cells of an axis' large side fall to the small side's one by one: 1x1, and kernel = stride.
constexpr bool is_pointwise(const ConvAxis& a) {
  return a.kernel == a.stride && a.padding == 0 && a.large == a.small * a.stride &&
         (a.dilation == 1 || a.kernel == 1);
}

// Does nothing and returns false where the gathering engine is the better one; shapes and strides decide.
bool conv_pointwise(const PointwiseProblem& problem, int threads);

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
