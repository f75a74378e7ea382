#include "harness.h"

namespace deconvkit::testing {
namespace {

// A random axis of pooling with at least one output.
PoolAxis any_axis(Random& random, int64_t largest_input, int64_t largest_kernel) {
  PoolAxis axis{};
  do {
    axis.input = random.between(1, largest_input);
    axis.kernel = random.between(1, largest_kernel);
    axis.stride = random.between(1, 4);
    axis.padding = random.between(0, axis.kernel / 2);
    axis.dilation = random.between(1, 3);
    const int64_t room = axis.input + 2 * axis.padding - axis.dilation * (axis.kernel - 1) - 1;
    const bool ceil = random.one_in(3);
    axis.output = room < 0 ? 0 : (room + (ceil ? axis.stride - 1 : 0)) / axis.stride + 1;
    if (ceil && (axis.output - 1) * axis.stride >= axis.input + axis.padding) --axis.output;
  } while (axis.output < 1);
  return axis;
}

PoolShape any_shape(Random& random) {
  if (random.one_in(20)) return {any_axis(random, 40, 18), any_axis(random, 40, 18)};  // int32 switches
  if (random.one_in(3)) return {any_axis(random, 9, 3), any_axis(random, 70, 3)};      // full vectors
  PoolShape shape{any_axis(random, 9, 4), any_axis(random, 9, 4)};
  if (random.one_in(3)) {  // the usual 2x2
    for (PoolAxis* axis : {&shape.h, &shape.w}) {
      axis->input = random.between(2, 40);
      axis->kernel = axis->stride = 2;
      axis->padding = 0;
      axis->dilation = 1;
      axis->output = axis->input / 2;
    }
  }
  return shape;
}

void describe_case(const Tensor& input, const PoolShape& s, int threads) {
  describe(
      "max_pool2d %s (%d, %d, %d, %d) strides (%d, %d, %d, %d) kernel %dx%d stride %d,%d padding %d,%d "
      "dilation %d,%d "
      "output %dx%d threads %d",
      name_of(input.dtype()), int(input.size(0)), int(input.size(1)), int(s.h.input), int(s.w.input),
      int(input.ref().stride[0]), int(input.ref().stride[1]), int(input.ref().stride[2]),
      int(input.ref().stride[3]), int(s.h.kernel), int(s.w.kernel), int(s.h.stride), int(s.w.stride),
      int(s.h.padding), int(s.w.padding), int(s.h.dilation), int(s.w.dilation), int(s.h.output),
      int(s.w.output), threads);
}

DType switch_dtype(const PoolShape& shape) { return shape.cells() <= 255 ? DType::kUInt8 : DType::kInt32; }
double no_switch(DType dtype) { return dtype == DType::kUInt8 ? 255 : 0x7fffffff; }

}  // namespace

NATIVE_TEST(max_pool2d_with_switches) {
  const PoolShape s = any_shape(random);
  const int64_t n = random.between(0, 3),
                c = random.one_in(5) ? random.between(15, 40) : random.between(1, 5);
  const DType dtype = any_float(random), switch_type = switch_dtype(s);
  Tensor input(dtype, {n, c, s.h.input, s.w.input}, Tensor::kInput, any_layout(random, true),
               random.between(0, 3));
  input.fill(tied_values(random));
  const Sizes pooled{n, c, s.h.output, s.w.output};
  const Layout layout = any_layout(random, false);
  Tensor output(dtype, pooled, Tensor::kOutput, layout, random.between(0, 3));
  Tensor switches(switch_type, pooled, Tensor::kOutput, layout);
  const int threads = static_cast<int>(random.between(1, 3));
  describe_case(input, s, threads);
  kernels.max_pool2d_with_switches(input, output, switches, s, threads);
  EXPECT(output.intact() && switches.intact(), "wrote outside an output");
  for (int64_t in = 0; in < n; ++in)
    for (int64_t ic = 0; ic < c; ++ic)
      for (int64_t oh = 0; oh < s.h.output; ++oh)
        for (int64_t ow = 0; ow < s.w.output; ++ow) {
          double best = -HUGE_VAL, where = no_switch(switch_type);
          for (int64_t kh = 0; kh < s.h.kernel; ++kh)
            for (int64_t kw = 0; kw < s.w.kernel; ++kw) {
              const int64_t h = oh * s.h.stride - s.h.padding + kh * s.h.dilation;
              const int64_t w = ow * s.w.stride - s.w.padding + kw * s.w.dilation;
              if (h < 0 || h >= s.h.input || w < 0 || w >= s.w.input) continue;
              const double x = input.get({in, ic, h, w});
              if (where == no_switch(switch_type) || x > best || x != x) {
                best = x;
                where = static_cast<double>(kh * s.w.kernel + kw);
              }
            }
          const double got = output.get({in, ic, oh, ow}), at = switches.get({in, ic, oh, ow});
          EXPECT(same(got, best) && at == where, "(%d, %d, %d, %d): expected %g at %g, got %g at %g", int(in),
                 int(ic), int(oh), int(ow), best, where, got, at);
        }
}

}  // namespace deconvkit::testing
