#include "conv_case.h"

namespace deconvkit::testing {

NATIVE_TEST(conv_weight_grad) {
  ConvCase c = any_conv(random);
  fill_conv(random, c.small);
  fill_conv(random, c.large);
  ConvOptions options;
  options.algorithm = any_options(random).algorithm;
  kernels.conv_weight_grad(c.small, c.large, c.weight, c.shape, options.algorithm, c.threads);
  check_sums(c.weight, weight_grad_sums(c), Tensor(), options, 1, 1);
}

}  // namespace deconvkit::testing
