#include "conv_case.h"

namespace deconvkit::testing {

NATIVE_TEST(conv_transpose2d) {
  ConvCase c = any_conv(random);
  fill_conv(random, c.small);
  fill_conv(random, c.weight);
  const Tensor bias = any_bias(random, c.dtype, c.shape.large_channels);
  ConvOptions options = any_options(random);
  const Tensor transformed = any_transformed(random, kernels, true, c, options);
  kernels.conv_transpose2d(c.small, c.weight, bias, c.large, c.shape, options, c.threads);
  const ConvShape& s = c.shape;
  std::vector<Sum> sums(c.large.numel());
  for_each_product(s, [&](int64_t n, int64_t sc, int64_t lc, int64_t ih, int64_t iw, int64_t lh, int64_t lw,
                          int64_t kh, int64_t kw) {
    sums[((n * s.large_channels + lc) * s.h.large + lh) * s.w.large + lw].add(
        c.small.get({n, sc, ih, iw}) * c.weight.get({sc, lc % (s.large_channels / s.groups), kh, kw}));
  });
  check_sums(c.large, sums, bias, options, s.h.large * s.w.large, s.large_channels);
}

}  // namespace deconvkit::testing
