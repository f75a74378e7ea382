// Convolution: large -> small. The work is done by conv_gather.cpp, in a single phase.
#include "cpu/conv_gather.h"
#include "cpu/conv_winograd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

void conv2d(const TensorRef& input, const TensorRef& weight, const TensorRef& bias, const TensorRef& output,
            const ConvShape& s, const ConvOptions& options, int threads) {
  if (options.algorithm == ConvAlgorithm::kWinograd &&
      conv_winograd(false, input, weight, bias, output, s, options, threads)) {
    return;
  }
  const WeightView view = {weight.data,      weight.stride[0], weight.stride[1],
                           weight.stride[2], weight.stride[3], s.group_small() * weight.stride[0]};
  conv_gather({GatherAxis::convolution(s.h), GatherAxis::convolution(s.w), s.batch, s.groups, s.group_large(),
               s.group_small(), view, input, bias, output, options},
              threads);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
