// Transposed convolution, gathering: every output cell sums the taps that reach it.
#include "cpu/conv_naive.h"
#include "cpu/conv_winograd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

void conv_transpose2d(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                      const TensorRef& output, const ConvShape& s, const ConvOptions& options, int threads) {
  if (options.algorithm == ConvAlgorithm::kWinograd &&
      conv_winograd(true, input, weight, bias, output, s, options, threads)) {
    return;
  }
  for_float_dtype(input.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using C = Compute<T>;
    parallel_for(s.batch * s.large_channels, threads, [&](int64_t plane) {
      const int64_t n = plane / s.large_channels, c = plane % s.large_channels;
      const int64_t group = c / s.group_large(), cl = c % s.group_large();
      for (int64_t y = 0; y < s.h.large; ++y) {
        for (int64_t x = 0; x < s.w.large; ++x) {
          C sum = 0;
          for (int64_t kh = 0; kh < s.h.kernel; ++kh) {
            const int64_t ys = y + s.h.padding - kh * s.h.dilation;
            if (ys < 0 || ys % s.h.stride || ys / s.h.stride >= s.h.small) continue;
            for (int64_t kw = 0; kw < s.w.kernel; ++kw) {
              const int64_t xs = x + s.w.padding - kw * s.w.dilation;
              if (xs < 0 || xs % s.w.stride || xs / s.w.stride >= s.w.small) continue;
              for (int64_t cs = group * s.group_small(); cs < (group + 1) * s.group_small(); ++cs) {
                sum += at<T>(input, n, cs, ys / s.h.stride, xs / s.w.stride) * at<T>(weight, cs, cl, kh, kw);
              }
            }
          }
          if (bias) sum += load(bias.as<T>() + c * bias.stride[0]);
          store(address<T>(output, n, c, y, x), activate(sum, options));
        }
      }
    });
  });
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
