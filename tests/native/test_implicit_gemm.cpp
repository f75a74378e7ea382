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
  Tensor &input = transposed ? c.small : c.large, &output = transposed ? c.large : c.small;
  fill_conv(random, input);
  fill_conv(random, c.weight);
  const ConvShape& s = c.shape;
  const int64_t channels = transposed ? s.large_channels : s.small_channels;
  const Tensor bias = any_bias(random, c.dtype, channels);
  ConvOptions options = any_options(random);
  options.algorithm = random.any_of({ConvAlgorithm::kImplicitGemm, ConvAlgorithm::kImplicitGemmTF32});
  const auto run = transposed ? kernels.conv_transpose2d : kernels.conv2d;
  choose_device(random);
  run(input, c.weight, bias, output, s, options, c.threads);
  expect_implicit_gemm(c.dtype);  // everything so small is served
  std::vector<Sum> sums(output.numel());
  for_each_product(s, [&](int64_t n, int64_t sc, int64_t lc, int64_t ih, int64_t iw, int64_t lh, int64_t lw,
                          int64_t kh, int64_t kw) {
    const int64_t small = ((n * s.small_channels + sc) * s.h.small + ih) * s.w.small + iw;
    const int64_t large = ((n * s.large_channels + lc) * s.h.large + lh) * s.w.large + lw;
    sums[transposed ? large : small].add(input.flat(transposed ? small : large) *
                                         c.weight.get({sc, lc % (s.large_channels / s.groups), kh, kw}));
  });
  const int64_t pixels = transposed ? s.h.large * s.w.large : s.h.small * s.w.small;
  check_sums(output, sums, bias, options, pixels, channels);
}

}  // namespace

NATIVE_TEST(implicit_gemm_conv2d) { check(random, kernels, false); }
NATIVE_TEST(implicit_gemm_conv_transpose2d) { check(random, kernels, true); }

}  // namespace deconvkit::testing
