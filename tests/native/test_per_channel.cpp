#include "conv_case.h"

namespace deconvkit::testing {
namespace {

void check(Random& random, const Kernels& kernels, bool transposed) {
  ConvCase c = any_conv(random, 1, 1);
  Tensor &input = transposed ? c.small : c.large, &output = transposed ? c.large : c.small;
  fill_conv(random, input);
  fill_conv(random, c.weight);
  const ConvShape& s = c.shape;
  const Tensor bias = any_bias(random, c.dtype, s.groups);
  ConvOptions options = any_options(random);
  options.algorithm = ConvAlgorithm::kDirect;
  const auto run = transposed ? kernels.conv_transpose2d : kernels.conv2d;
  run(input, c.weight, bias, output, s, options, c.threads);
  std::vector<Sum> sums(output.numel());
  for_each_product(s, [&](int64_t n, int64_t sc, int64_t lc, int64_t ih, int64_t iw, int64_t lh, int64_t lw,
                          int64_t kh, int64_t kw) {
    const int64_t small = ((n * s.groups + sc) * s.h.small + ih) * s.w.small + iw;
    const int64_t large = ((n * s.groups + lc) * s.h.large + lh) * s.w.large + lw;
    sums[transposed ? large : small].add(input.flat(transposed ? small : large) *
                                         c.weight.get({sc, 0, kh, kw}));
  });
  check_sums(output, sums, bias, options, transposed ? s.h.large * s.w.large : s.h.small * s.w.small,
             s.groups);
}

}  // namespace

NATIVE_TEST(per_channel_conv2d) { check(random, kernels, false); }
NATIVE_TEST(per_channel_conv_transpose2d) { check(random, kernels, true); }

}  // namespace deconvkit::testing
