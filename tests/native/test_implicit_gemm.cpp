#include "conv_case.h"

namespace deconvkit::testing {
namespace {

// Many channels on one side now and then: several parts of them, several tiles of columns.
ConvCase any_gemm(Random& random, bool transposed) {
  if (random.one_in(2)) return any_conv(random);
  const bool many_in = !random.one_in(3);  // a phase of a transposed one has few taps: more channels, then
  if (transposed) return many_in ? any_conv(random, 500, 4) : any_conv(random, 9, 140);
  return many_in ? any_conv(random, 5, 200) : any_conv(random, 140, 9);
}

void check(Random& random, const Kernels& kernels, bool transposed) {
  ConvCase c = any_gemm(random, transposed);
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
