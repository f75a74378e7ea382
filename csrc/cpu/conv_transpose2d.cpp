// Transposed convolution: small -> large. The work is done by conv_gather.cpp, over stride x stride
// phases, or by conv_scatter.cpp.
#include "cpu/conv_gather.h"
#include "cpu/conv_scatter.h"
#include "cpu/conv_winograd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

void conv_transpose2d(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                      const TensorRef& output, const ConvShape& s, const ConvOptions& options, int threads) {
  if (options.algorithm == ConvAlgorithm::kWinograd &&
      conv_winograd(true, input, weight, bias, output, s, options, threads)) {
    return;
  }
  const WeightView view = {weight.data,      weight.stride[1], weight.stride[0],
                           weight.stride[2], weight.stride[3], s.group_small() * weight.stride[0]};
  const auto axis = [](const ConvAxis& a) {
    return ScatterAxis{a.small, a.large, a.kernel, a.stride, a.padding, a.dilation};
  };
  if (conv_scatter({axis(s.h), axis(s.w), s.batch, s.groups, s.group_small(), s.group_large(), view, input,
                    bias, output, options},
                   threads)) {
    return;
  }
  conv_gather({GatherAxis::transposed_convolution(s.h), GatherAxis::transposed_convolution(s.w), s.batch,
               s.groups, s.group_small(), s.group_large(), view, input, bias, output, options},
              threads);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
