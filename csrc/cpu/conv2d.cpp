// Convolution: large -> small. The work is done by conv_gather.cpp, in a single phase, or, where it
// is a transposed convolution as well, by conv_pointwise.cpp or conv_scatter.cpp.
#include "cpu/conv_gather.h"
#include "cpu/conv_pointwise.h"
#include "cpu/conv_scatter.h"
#include "cpu/conv_winograd.h"
#include "dispatch.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

void conv2d(const TensorRef& input, const TensorRef& weight, const TensorRef& bias, const TensorRef& output,
            const ConvShape& s, const ConvOptions& options, int threads) {
  if (options.algorithm == ConvAlgorithm::kWinograd &&
      conv_winograd(false, input, weight, bias, output, s, options, threads)) {
    return;
  }
  const WeightView view = {weight.data,      weight.stride[0], weight.stride[1],
                           weight.stride[2], weight.stride[3], s.group_small() * weight.stride[0]};
  if (s.h.stride == 1 && s.w.stride == 1) {
    if (is_pointwise(s.h) && is_pointwise(s.w) &&
        conv_pointwise(
            {1, 1, s.batch, s.groups, s.group_large(), s.group_small(), view, input, bias, output, options},
            threads)) {
      return;
    }
    // The transposed convolution of the flipped kernel.
    const auto axis = [](const ConvAxis& a) {
      return ScatterAxis{a.large, a.small, a.kernel, 1, (a.kernel - 1) * a.dilation - a.padding, a.dilation};
    };
    const auto flipped = [&](auto t) -> WeightView {
      using T = typename decltype(t)::type;
      const T* last =
          weight.as<T>() + (s.h.kernel - 1) * weight.stride[2] + (s.w.kernel - 1) * weight.stride[3];
      return {last, view.m, view.c, -view.kh, -view.kw, view.group};
    };
    WeightView flip = view;
    for_float_dtype(weight.dtype, [&](auto t) { flip = flipped(t); });
    if (conv_scatter({axis(s.h), axis(s.w), s.batch, s.groups, s.group_large(), s.group_small(), flip, input,
                      bias, output, options},
                     threads)) {
      return;
    }
  }
  conv_gather({GatherAxis::convolution(s.h), GatherAxis::convolution(s.w), s.batch, s.groups, s.group_large(),
               s.group_small(), view, input, bias, output, options},
              threads);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
