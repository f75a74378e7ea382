#include "conv_case.h"

namespace deconvkit::testing {

NATIVE_TEST(conv2d) {
  ConvCase c = any_conv(random);
  fill_conv(random, c.large);
  fill_conv(random, c.weight);
  const Tensor bias = any_bias(random, c.dtype, c.shape.small_channels);
  ConvOptions options = any_options(random);
  const Tensor transformed = any_transformed(random, kernels, false, c, options);
  kernels.conv2d(c.large, c.weight, bias, c.small, c.shape, options, c.threads);
  const ConvShape& s = c.shape;
  std::vector<Sum> sums(c.small.numel());
  for_each_product(s, [&](int64_t n, int64_t sc, int64_t lc, int64_t ih, int64_t iw, int64_t lh, int64_t lw,
                          int64_t kh, int64_t kw) {
    sums[((n * s.small_channels + sc) * s.h.small + ih) * s.w.small + iw].add(
        c.large.get({n, lc, lh, lw}) * c.weight.get({sc, lc % (s.large_channels / s.groups), kh, kw}));
  });
  check_sums(c.small, sums, bias, options, s.h.small * s.w.small, s.small_channels);
}

}  // namespace deconvkit::testing
