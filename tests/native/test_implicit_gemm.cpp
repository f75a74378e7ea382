#include "conv_case.h"

namespace deconvkit::testing {
namespace {

// Many channels on one side now and then: several blocks of them, several tiles of columns.
ConvCase any_gemm(Random& random) {
  if (!random.one_in(3)) return any_conv(random);
  return random.one_in(2) ? any_conv(random, 140, 9) : any_conv(random, 9, 140);
}

void check(Random& random, const Kernels& kernels, bool transposed) {
  ConvCase c = any_gemm(random);
  ConvOptions options = any_options(random);
  options.algorithm = random.any_of({ConvAlgorithm::kImplicitGemm, ConvAlgorithm::kImplicitGemmTF32});
  choose_device(random);
  check_convolution(random, kernels, transposed, c, options);
  expect_implicit_gemm(c.dtype);  // everything so small is served
}

}  // namespace

NATIVE_TEST(implicit_gemm_conv2d) { check(random, kernels, false); }
NATIVE_TEST(implicit_gemm_conv_transpose2d) { check(random, kernels, true); }

}  // namespace deconvkit::testing
