// Convolution, gathering: every output cell sums its window.
#include "cpu/conv_naive.h"
#include "cpu/conv_winograd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

void conv2d(const TensorRef& input, const TensorRef& weight, const TensorRef& bias, const TensorRef& output,
            const ConvShape& s, const ConvOptions& options, int threads) {
  if (options.algorithm == ConvAlgorithm::kWinograd &&
      conv_winograd(false, input, weight, bias, output, s, options, threads)) {
    return;
  }
  for_float_dtype(input.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using C = Compute<T>;
    parallel_for(s.batch * s.small_channels, threads, [&](int64_t plane) {
      const int64_t n = plane / s.small_channels, cs = plane % s.small_channels;
      const int64_t first = cs / s.group_small() * s.group_large();
      for (int64_t y = 0; y < s.h.small; ++y) {
        for (int64_t x = 0; x < s.w.small; ++x) {
          C sum = 0;
          for (int64_t kh = 0; kh < s.h.kernel; ++kh) {
            const int64_t yl = s.h.large_index(y, kh);
            if (yl < 0 || yl >= s.h.large) continue;
            for (int64_t kw = 0; kw < s.w.kernel; ++kw) {
              const int64_t xl = s.w.large_index(x, kw);
              if (xl < 0 || xl >= s.w.large) continue;
              for (int64_t cl = 0; cl < s.group_large(); ++cl) {
                sum += at<T>(input, n, first + cl, yl, xl) * at<T>(weight, cs, cl, kh, kw);
              }
            }
          }
          if (bias) sum += load(bias.as<T>() + cs * bias.stride[0]);
          store(address<T>(output, n, cs, y, x), activate(sum, options));
        }
      }
    });
  });
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
