#include "conv_case.h"

namespace deconvkit::testing {

ConvAxis any_axis(Random& random, int64_t largest) {
  ConvAxis axis{};
  do {
    axis.small = random.between(1, largest);
    axis.kernel = random.between(1, random.one_in(4) ? 10 : 5);
    axis.stride = random.between(1, 3);
    axis.padding = random.between(0, axis.kernel);
    axis.dilation = random.one_in(3) ? random.between(2, 3) : 1;
    // Symmetric padding and an output_padding; what lies behind the last cell is up to the two sizes.
    axis.large = (axis.small - 1) * axis.stride - 2 * axis.padding + axis.dilation * (axis.kernel - 1) + 1 +
                 random.between(0, axis.stride > axis.dilation ? axis.stride - 1 : axis.dilation - 1);
  } while (axis.large < 1);
  return axis;
}

// No cell of the large side has more than one tap.
ConvAxis any_pointwise_axis(Random& random, int64_t largest) {
  const int64_t small = random.between(1, largest), kernel = random.one_in(2) ? 1 : random.between(2, 5);
  return {small, small * kernel, kernel, kernel, 0, 1};
}

ConvCase any_conv(Random& random, int64_t most_small, int64_t most_large, bool many_pixels) {
  ConvShape s;
  const bool large = many_pixels || (most_small == 0 && random.one_in(20));
  s.batch = large ? 3 : random.between(0, 3);
  s.groups = random.one_in(3) ? random.between(2, 3) : 1;
  if (most_small == 1 && most_large == 1) {
    s.groups = random.one_in(2) ? 8 * random.between(1, 3) : random.between(1, 24);
  }
  const int64_t most = most_small ? most_small + most_large : !large && random.one_in(4) ? 20 : 4;
  s.small_channels = s.groups * random.between(1, most_small ? most_small : most);
  s.large_channels = s.groups * random.between(1, most_large ? most_large : most);
  s.h = any_axis(random, large ? 30 : 7);
  s.w = any_axis(random, large ? 60 : most > 4 || random.one_in(3) ? 7 : 24);
  if (random.one_in(4)) s.w = s.h;
  if (!most_small && random.one_in(5)) {
    s.h = any_pointwise_axis(random, large ? 30 : 7), s.w = any_pointwise_axis(random, large ? 60 : 24);
    if (random.one_in(2))
      s.h.kernel = s.w.kernel = s.h.stride = s.w.stride = 1, s.h.large = s.h.small, s.w.large = s.w.small;
  }
  return conv_case(random, s, any_float(random));
}

ConvCase conv_case(Random& random, const ConvShape& s, DType dtype) {
  ConvCase c;
  c.shape = s;
  c.dtype = dtype;
  c.threads = static_cast<int>(random.between(1, 3));
  c.small = Tensor(c.dtype, {s.batch, s.small_channels, s.h.small, s.w.small}, Tensor::kOutput,
                   any_layout(random, false), random.between(0, 2));
  c.large = Tensor(c.dtype, {s.batch, s.large_channels, s.h.large, s.w.large}, Tensor::kOutput,
                   any_layout(random, false), random.between(0, 2));
  c.weight = Tensor(c.dtype, {s.small_channels, s.large_channels / s.groups, s.h.kernel, s.w.kernel},
                    Tensor::kOutput, any_layout(random, false));
  describe(
      "%s batch %d channels %d <-> %d groups %d; (%d, %d) <-> (%d, %d), kernel %d,%d stride %d,%d padding "
      "%d,%d dilation %d,%d threads %d",
      name_of(c.dtype), int(s.batch), int(s.small_channels), int(s.large_channels), int(s.groups),
      int(s.h.small), int(s.w.small), int(s.h.large), int(s.w.large), int(s.h.kernel), int(s.w.kernel),
      int(s.h.stride), int(s.w.stride), int(s.h.padding), int(s.w.padding), int(s.h.dilation),
      int(s.w.dilation), c.threads);
  return c;
}

void fill_conv(Random& random, Tensor& tensor) {
  Tensor input(tensor.dtype(), Sizes(tensor.ref().size, tensor.ref().size + tensor.ref().rank),
               Tensor::kInput, any_layout(random, tensor.ref().rank == 4), random.between(0, 2));
  input.fill(plain_values(random));
  tensor = std::move(input);
}

Tensor any_bias(Random& random, DType dtype, int64_t channels) {
  if (random.one_in(2)) return Tensor();
  Tensor bias(dtype, {channels}, Tensor::kInput, any_layout(random, true));
  bias.fill(plain_values(random));
  if (random.one_in(8)) bias.set({random.between(0, channels - 1)}, NAN);  // every activation keeps it
  return bias;
}

ConvOptions any_options(Random& random) {
  ConvOptions options;
  options.activation = random.any_of({Activation::kNone, Activation::kNone, Activation::kReLU,
                                      Activation::kLeakyReLU, Activation::kTanh, Activation::kSigmoid});
  options.slope = 0.2;
  options.algorithm = random.any_of({ConvAlgorithm::kDirect, ConvAlgorithm::kWinograd});
  return options;
}

Tensor any_transformed(Random& random, const Kernels& kernels, bool transposed, const ConvCase& c,
                       ConvOptions& options) {
  const int64_t size = kernels.conv_transformed_size(transposed, c.dtype, c.shape);
  if (options.algorithm != ConvAlgorithm::kWinograd || size == 0 || random.one_in(2)) return {};
  const DType compute = c.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  Tensor transformed(compute, {size}, Tensor::kOutput);
  kernels.conv_transform_weights(transposed, c.weight, transformed, c.shape, c.threads);
  options.transformed = transformed.ref().data;
  return transformed;
}

double activated(double x, const ConvOptions& options) {
  switch (options.activation) {
    case Activation::kReLU:
      return x < 0 ? 0 : x;
    case Activation::kLeakyReLU:
      return x < 0 ? x * options.slope : x;
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-x));
    default:
      return x;
  }
}

void check_sums(const Tensor& got, const std::vector<Sum>& sums, const Tensor& bias,
                const ConvOptions& options, int64_t channel_stride, int64_t channels) {
  EXPECT(got.intact(), "wrote outside the output");
  const double rounding = got.dtype() == DType::kFloat64 ? 0x1p-53 : 0x1p-24;  // of the accumulator
  // Of products that round their float32 operands: to 11 bits, or to twice as many.
  const bool rounds = got.dtype() == DType::kFloat32 && is_implicit_gemm(options.algorithm);
  const double product = !rounds                                                 ? 0
                         : options.algorithm == ConvAlgorithm::kImplicitGemmTF32 ? 0x1.01p-10
                                                                                 : 0x1p-20;
  const double smallest = got.dtype() == DType::kFloat16 ? 0x1p-24 : 0;
  Sum most;  // Winograd's rounding errors are those of a whole tile
  for (const Sum& sum : sums) {
    most.magnitude = sum.magnitude > most.magnitude ? sum.magnitude : most.magnitude;
    most.terms = sum.terms > most.terms ? sum.terms : most.terms;
  }
  for (int64_t i = 0; i < got.numel(); ++i) {
    Sum sum = sums[i];
    if (options.algorithm == ConvAlgorithm::kWinograd) {
      sum.magnitude = 8 * most.magnitude;
      sum.terms = most.terms;
    }
    if (bias.ref()) sum.add(bias.flat(i / channel_stride % channels));
    const double expected = activated(sum.value, options);
    const double tolerance = rounding * (static_cast<double>(sum.terms + 2) * sum.magnitude + 8) +
                             product * sum.magnitude + epsilon_of(got.dtype()) * std::fabs(expected) +
                             smallest;
    EXPECT(same(got.flat(i), expected) || std::fabs(got.flat(i) - expected) <= tolerance,
           "element %d: expected %.9g +- %.1g, got %.9g", int(i), expected, tolerance, got.flat(i));
  }
}

std::vector<Sum> weight_grad_sums(const ConvCase& c) {
  const ConvShape& s = c.shape;
  const int64_t group = s.large_channels / s.groups;
  std::vector<Sum> sums(c.weight.numel());
  for_each_product(s, [&](int64_t n, int64_t sc, int64_t lc, int64_t ih, int64_t iw, int64_t lh, int64_t lw,
                          int64_t kh, int64_t kw) {
    sums[((sc * group + lc % group) * s.h.kernel + kh) * s.w.kernel + kw].add(c.small.get({n, sc, ih, iw}) *
                                                                              c.large.get({n, lc, lh, lw}));
  });
  return sums;
}

void check_convolution(Random& random, const Kernels& kernels, bool transposed, ConvCase& c,
                       const ConvOptions& options) {
  Tensor &input = transposed ? c.small : c.large, &output = transposed ? c.large : c.small;
  fill_conv(random, input);
  fill_conv(random, c.weight);
  const ConvShape& s = c.shape;
  const int64_t channels = transposed ? s.large_channels : s.small_channels;
  const Tensor bias = any_bias(random, c.dtype, channels);
  const auto run = transposed ? kernels.conv_transpose2d : kernels.conv2d;
  run(input, c.weight, bias, output, s, options, c.threads);
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

}  // namespace deconvkit::testing
