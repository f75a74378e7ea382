// The engine of transposed convolutions to few channels. Included by per-ISA kernel files only.
#pragma once
#include <cstdint>

#include "cpu/conv_gather.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// One axis seen from the input: cell i adds to the output cells i·stride − padding + k·dilation.
struct ScatterAxis {
  int64_t in, out, kernel, stride, padding, dilation;
};

struct ScatterProblem {
  ScatterAxis h, w;
  int64_t batch, groups;
  int64_t in_channels, out_channels;  // of one group
  WeightView weight;
  TensorRef input, bias, output;
  ConvOptions options;
};

// Does nothing and returns false where the gathering engine is the better one; the shape alone decides.
bool conv_scatter(const ScatterProblem& problem, int threads);

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
