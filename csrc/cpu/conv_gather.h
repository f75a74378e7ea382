// The engine of conv2d and conv_transpose2d. Included by per-ISA kernel files only.
#pragma once
#include <cstdint>

#include "conv_options.h"
#include "cpu/pack.h"
#include "geometry/phases.h"
#include "tensor_ref.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// One pass of the family, seen from its output.
struct GatherProblem {
  GatherAxis h, w;
  int64_t batch, groups;
  int64_t in_channels, out_channels;  // of one group
  WeightView weight;
  TensorRef input, bias, output;
  ConvOptions options;
};

void conv_gather(const GatherProblem& problem, int threads);

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
