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

// With the bias of either side or of none.
void check_weight_grad(Random& random, ConvCase& c) {
  fill_conv(random, c.small);
  fill_conv(random, c.large);
  ConvOptions options;
  options.algorithm = random.any_of({ConvAlgorithm::kImplicitGemm, ConvAlgorithm::kImplicitGemmTF32});
  const auto side = random.any_of({BiasSide::kNone, BiasSide::kSmall, BiasSide::kLarge});
  const Tensor& summed = side == BiasSide::kLarge ? c.large : c.small;
  Tensor bias;
  if (side != BiasSide::kNone) bias = Tensor(c.dtype, {summed.size(1)}, Tensor::kOutput);
  choose_device(random);
  const bool has_bias = weight_bias_grad(c.small, c.large, c.weight, bias, side, c.shape, options.algorithm);
  expect_implicit_gemm(c.dtype);
  check_sums(c.weight, weight_grad_sums(c), Tensor(), options, 1, 1);
  if (!has_bias) return;
  std::vector<Sum> sums(bias.numel());
  for (int64_t i = 0; i < summed.numel(); ++i) {
    sums[i / (summed.size(2) * summed.size(3)) % summed.size(1)].add(summed.flat(i));
  }
  check_sums(bias, sums, Tensor(), {}, 1, 1);
}

}  // namespace

// Several tiles of rows or of columns, several parts.
NATIVE_TEST(implicit_gemm_weight_grad) {
  ConvCase c = random.one_in(3)   ? any_conv(random, 140, 9)
               : random.one_in(2) ? any_conv(random, 9, 140)
                                  : any_conv(random, 0, 0, random.one_in(2));
  check_weight_grad(random, c);
}

// Kernels of one cell: pairs of channels may lie side by side in the gradient, and end with half a pair.
NATIVE_TEST(implicit_gemm_weight_grad_of_one_cell) {
  ConvCase c;
  c.dtype = any_float(random);
  c.threads = 1;
  c.shape = {2, random.between(1, 2), random.between(1, 12), 1, {3, 3, 1, 1, 0, 1}, {4, 4, 1, 1, 0, 1}};
  const ConvShape& s = c.shape;
  c.small = Tensor(c.dtype, {s.batch, s.small_channels, 3, 4}, Tensor::kOutput);
  c.large = Tensor(c.dtype, {s.batch, s.large_channels, 3, 4}, Tensor::kOutput);
  c.weight = Tensor(c.dtype, {s.small_channels, s.large_channels, 1, 1}, Tensor::kOutput);
  describe("%s channels %d <-> %d", name_of(c.dtype), int(s.small_channels), int(s.large_channels));
  check_weight_grad(random, c);
}

NATIVE_TEST(implicit_gemm_conv2d) { check(random, kernels, false); }
NATIVE_TEST(implicit_gemm_conv_transpose2d) { check(random, kernels, true); }

}  // namespace deconvkit::testing
