#include <algorithm>

#include "conv_case.h"
#include "geometry/implicit_gemm_sm90.h"

namespace deconvkit::testing {
namespace {

// Many channels on one side now and then: several parts of them, several tiles of columns.
ConvCase any_gemm(Random& random, bool transposed) {
  if (random.one_in(2)) return any_conv(random);
  const bool many_in = !random.one_in(3);  // a phase of a transposed one has few taps: more channels, then
  if (transposed) return many_in ? any_conv(random, 500, 4) : any_conv(random, 9, 140);
  return many_in ? any_conv(random, 5, 200) : any_conv(random, 140, 9);
}

// Whether a layer makes more products than 192 for each element of both sides.
bool is_deep(const ConvShape& s) {
  const int64_t small = s.h.small * s.w.small, large = s.h.large * s.w.large;
  const int64_t products = s.small_channels * s.large_channels / s.groups * small * s.h.kernel * s.w.kernel;
  return products > 192 * (s.small_channels * small + s.large_channels * large);
}

// Such a layer, where what the kernels cannot read is packed.
ConvCase any_deep(Random& random) {
  for (;;) {
    const int64_t groups = random.between(1, 2), stride = random.between(1, 2), kernel = random.between(3, 5);
    const int64_t small = random.between(2, 5), large = (small - 1) * stride + kernel - 2 * (kernel / 2);
    const ConvAxis axis = {small, large, kernel, stride, kernel / 2, 1};
    const ConvShape s = {random.between(1, 2),
                         groups * random.between(40, 80),
                         groups * random.between(40, 80),
                         groups,
                         axis,
                         axis};
    if (large > 0 && is_deep(s) && s.products() < 3'000'000) return conv_case(random, s, any_float(random));
  }
}

// How tensor cores get an input: 16 bytes of channels at once where these lie so; else number by number,
// unless the layer is so deep that it is packed.
Reading reading_of(const Tensor& input, const ConvShape& s) {
  const TensorRef& t = input.ref();
  const int64_t bytes = bytes_of(t.dtype), at_once = 16 / bytes;
  bool whole = t.size[1] / s.groups % at_once == 0 && t.stride[1] == 1 &&
               reinterpret_cast<uintptr_t>(t.data) % 16 == 0;
  for (const int i : {0, 2, 3}) whole = whole && (t.size[i] == 1 || t.stride[i] % at_once == 0);
  return whole ? Reading::kInPlace : is_deep(s) ? Reading::kPacked : Reading::kByNumbers;
}

void check(Random& random, const Kernels& kernels, bool transposed) {
  ConvCase c = random.one_in(6) ? any_deep(random) : any_gemm(random, transposed);
  ConvOptions options = any_options(random);
  options.algorithm = random.any_of(
      {ConvAlgorithm::kImplicitGemm, ConvAlgorithm::kImplicitGemmTF32, ConvAlgorithm::kImplicitGemmMma});
  choose_device(random);
  check_convolution(random, kernels, transposed, c, options);
  expect_implicit_gemm(c.dtype);  // everything so small is served
  if (c.shape.batch) expect_reading(reading_of(transposed ? c.small : c.large, c.shape));
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
  const bool by_name = !random.one_in(10), makes_maps = !random.one_in(10), of_few_tiles = random.one_in(2);
  options.algorithm = by_name ? ConvAlgorithm::kImplicitGemm : ConvAlgorithm::kImplicitGemmMma;
  choose_hopper(makes_maps, of_few_tiles);
  check_convolution(random, kernels, transposed, c, options);
  // A convolution has a map for each phase of its input, of which there are at most as many as pixels.
  const auto phases = [](const ConvAxis& a) { return a.small == 1 ? a.large : std::min(a.stride, a.large); };
  const bool few_maps = transposed || phases(s.h) * phases(s.w) <= 4;
  const int64_t channels = (transposed ? s.small_channels : s.large_channels) / s.groups;
  const bool takes = of_few_tiles || !Sm90Tiles::has_few_tiles(s, transposed);
  expect_hoppers_own(by_name && makes_maps && takes && few_maps && channels >= 32 && s.batch > 0);
  if (c.shape.batch) expect_reading(reading_of(transposed ? c.small : c.large, c.shape));
  choose_hopper(true, false);
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
