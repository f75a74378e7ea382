#include <algorithm>

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

// A layer that is bound by its products, not by memory, so that what the kernels cannot read is packed.
ConvCase any_deep(Random& random) {
  const int64_t side = random.between(2, 5);
  const ConvShape s = {random.between(1, 2),     random.between(48, 80),  random.between(48, 80), 1,
                       {side, side, 3, 1, 1, 1}, {side, side, 3, 1, 1, 1}};
  return conv_case(random, s, any_float(random));
}

void check(Random& random, const Kernels& kernels, bool transposed) {
  ConvCase c = random.one_in(6) ? any_deep(random) : any_gemm(random, transposed);
  ConvOptions options = any_options(random);
  options.algorithm = random.any_of(
      {ConvAlgorithm::kImplicitGemm, ConvAlgorithm::kImplicitGemmTF32, ConvAlgorithm::kImplicitGemmMma});
  choose_device(random);
  check_convolution(random, kernels, transposed, c, options);
  expect_implicit_gemm(c.dtype);  // everything so small is served
}

// What Hopper's own kernel is made for: channels to fill its terms, images of one box and of several.
ConvShape any_hopper(Random& random, bool transposed) {
  for (;;) {
    ConvShape s{};
    s.batch = random.between(0, 5);
    s.groups = random.one_in(4) ? 2 : 1;
    const int64_t in = random.one_in(2) ? 8 * random.between(4, 17) : random.between(28, 140);
    const int64_t out = random.one_in(2) ? random.between(1, 20) : random.between(20, 140);
    s.small_channels = s.groups * (transposed ? in : out);
    s.large_channels = s.groups * (transposed ? out : in);
    s.h = any_axis(random, random.one_in(3) ? 20 : 6);
    s.w = random.one_in(3) ? s.h : any_axis(random, random.one_in(2) ? 30 : 6);
    const int64_t cells = s.h.small * s.h.kernel * s.w.small * s.w.kernel;
    if (s.batch * in * out * s.groups * cells < 3'000'000) return s;
  }
}

void check_hopper(Random& random, const Kernels& kernels, bool transposed) {
  const ConvShape s = any_hopper(random, transposed);
  ConvCase c = conv_case(random, s, random.any_of({DType::kBFloat16, DType::kFloat16}));
  ConvOptions options = any_options(random);
  const bool by_name = !random.one_in(10), makes_maps = !random.one_in(10);
  options.algorithm = by_name ? ConvAlgorithm::kImplicitGemm : ConvAlgorithm::kImplicitGemmMma;
  choose_hopper(makes_maps);
  check_convolution(random, kernels, transposed, c, options);
  // A convolution has a map for each phase of its input, of which there are at most as many as pixels.
  const auto phases = [](const ConvAxis& a) { return a.small == 1 ? a.large : std::min(a.stride, a.large); };
  const bool few_maps = transposed || phases(s.h) * phases(s.w) <= 4;
  const int64_t channels = (transposed ? s.small_channels : s.large_channels) / s.groups;
  expect_hoppers_own(by_name && makes_maps && few_maps && channels >= 32 && s.batch > 0);
  choose_hopper(true);
}

// With the bias of either side or of none.
void check_weight_grad(Random& random, ConvCase& c) {
  fill_conv(random, c.small);
  fill_conv(random, c.large);
  ConvOptions options;
  options.algorithm = random.any_of(
      {ConvAlgorithm::kImplicitGemm, ConvAlgorithm::kImplicitGemmTF32, ConvAlgorithm::kImplicitGemmMma});
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

NATIVE_TEST(hopper_conv2d) { check_hopper(random, kernels, false); }
NATIVE_TEST(hopper_conv_transpose2d) { check_hopper(random, kernels, true); }
NATIVE_TEST(implicit_gemm_conv2d) { check(random, kernels, false); }
NATIVE_TEST(implicit_gemm_conv_transpose2d) { check(random, kernels, true); }

}  // namespace deconvkit::testing
