#include "conv_case.h"

namespace deconvkit::testing {
namespace {

void check(Random& random, const Kernels& kernels, bool transposed) {
  for (int i = 0; i < 8; ++i) {  // few are aligned, with channels innermost on both sides, and go by 16 bytes
    ConvCase c = any_conv(random, 1, 1);
    ConvOptions options = any_options(random);
    options.algorithm = ConvAlgorithm::kDirect;
    check_convolution(random, kernels, transposed, c, options);
  }
}

}  // namespace

NATIVE_TEST(per_channel_conv2d) { check(random, kernels, false); }
NATIVE_TEST(per_channel_conv_transpose2d) { check(random, kernels, true); }

}  // namespace deconvkit::testing
