// Gradient of the convolution family by its weight: for every cell of the weight a sum over batch and pixels.
#include "cpu/conv_naive.h"
#include "cpu/conv_winograd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

void conv_weight_grad(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                      const ConvShape& s, ConvAlgorithm algorithm, int threads) {
  if (algorithm == ConvAlgorithm::kWinograd &&
      conv_weight_grad_winograd(small, large, grad_weight, s, threads)) {
    return;
  }
  for_float_dtype(small.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using C = Compute<T>;
    parallel_for(s.small_channels * s.group_large(), threads, [&](int64_t plane) {
      const int64_t cs = plane / s.group_large(), cl = plane % s.group_large();
      const int64_t c = cs / s.group_small() * s.group_large() + cl;
      for (int64_t kh = 0; kh < s.h.kernel; ++kh) {
        for (int64_t kw = 0; kw < s.w.kernel; ++kw) {
          C sum = 0;
          for (int64_t n = 0; n < s.batch; ++n) {
            for (int64_t y = 0; y < s.h.small; ++y) {
              const int64_t yl = s.h.large_index(y, kh);
              if (yl < 0 || yl >= s.h.large) continue;
              for (int64_t x = 0; x < s.w.small; ++x) {
                const int64_t xl = s.w.large_index(x, kw);
                if (xl < 0 || xl >= s.w.large) continue;
                sum += at<T>(small, n, cs, y, x) * at<T>(large, n, c, yl, xl);
              }
            }
          }
          store(address<T>(grad_weight, cs, cl, kh, kw), sum);
        }
      }
    });
  });
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
