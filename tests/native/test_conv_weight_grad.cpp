#include "conv_case.h"

namespace deconvkit::testing {

NATIVE_TEST(conv_weight_grad) {
  ConvCase c = any_conv(random);
  fill_conv(random, c.small);
  fill_conv(random, c.large);
  ConvOptions options;
  options.algorithm = any_options(random).algorithm;
  kernels.conv_weight_grad(c.small, c.large, c.weight, c.shape, options.algorithm, c.threads);
  const ConvShape& s = c.shape;
  const int64_t group = s.large_channels / s.groups;
  std::vector<Sum> sums(c.weight.numel());
  for_each_product(s, [&](int64_t n, int64_t sc, int64_t lc, int64_t ih, int64_t iw, int64_t lh, int64_t lw,
                          int64_t kh, int64_t kw) {
    sums[((sc * group + lc % group) * s.h.kernel + kh) * s.w.kernel + kw].add(c.small.get({n, sc, ih, iw}) *
                                                                              c.large.get({n, lc, lh, lw}));
  });
  check_sums(c.weight, sums, Tensor(), options, 1, 1);
}

}  // namespace deconvkit::testing
