// Transposed convolution: small -> large. The work is done by conv_gather.cpp, over stride x stride
// phases, or by conv_pointwise.cpp or conv_scatter.cpp.
#include "cpu/conv_gather.h"
#include "cpu/conv_pointwise.h"
#include "cpu/conv_scatter.h"
#include "cpu/conv_winograd.h"
#include "cpu/integers.h"
#include "dispatch.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

// The divisors of the two axes by which neighbouring phases become columns of one product.
struct Fine {
  int64_t h, w;
};

// Where few channels leave lanes of the panels empty and several phases' channels fill them.
template <class C>
Fine merged_phases(const ConvShape& s) {
  constexpr int64_t L = kLanes<C>, kMostColumns = 512;
  const int64_t channels = s.group_large(), most = max64(1, kMostColumns / channels);
  const int64_t w = GatherAxis::common_divisor(s.w, most);
  const int64_t h = GatherAxis::common_divisor(s.h, max64(1, most / w));
  const double merged = static_cast<double>(round_up(h * w * channels, L));
  const double apart = static_cast<double>(h * w * round_up(channels, L));
  return merged <= 0.85 * apart ? Fine{h, w} : Fine{1, 1};
}

}  // namespace

void conv_transpose2d(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                      const TensorRef& output, const ConvShape& s, const ConvOptions& options, int threads) {
  if (options.algorithm == ConvAlgorithm::kWinograd &&
      conv_winograd(true, input, weight, bias, output, s, options, threads)) {
    return;
  }
  const WeightView view = {weight.data,      weight.stride[1], weight.stride[0],
                           weight.stride[2], weight.stride[3], s.group_small() * weight.stride[0]};
  if (is_pointwise(s.h) && is_pointwise(s.w) &&
      conv_pointwise({s.h.kernel, s.w.kernel, s.batch, s.groups, s.group_small(), s.group_large(), view,
                      input, bias, output, options},
                     threads)) {
    return;
  }
  const auto axis = [](const ConvAxis& a) {
    return ScatterAxis{a.small, a.large, a.kernel, a.stride, a.padding, a.dilation};
  };
  if (conv_scatter({axis(s.h), axis(s.w), s.batch, s.groups, s.group_small(), s.group_large(), view, input,
                    bias, output, options},
                   threads)) {
    return;
  }
  Fine fine{1, 1};
  for_float_dtype(input.dtype, [&](auto t) { fine = merged_phases<Compute<typename decltype(t)::type>>(s); });
  conv_gather(
      {GatherAxis::transposed_convolution(s.h, fine.h), GatherAxis::transposed_convolution(s.w, fine.w),
       s.batch, s.groups, s.group_small(), s.group_large(), view, input, bias, output, options},
      threads);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
