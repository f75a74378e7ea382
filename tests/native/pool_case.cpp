#include "pool_case.h"

namespace deconvkit::testing {
namespace {

// A random axis of pooling with at least one output.
PoolAxis any_axis(Random& random, int64_t largest_input, int64_t largest_kernel) {
  PoolAxis axis{};
  do {
    axis.input = random.between(1, largest_input);
    axis.kernel = random.between(1, largest_kernel);
    axis.stride = random.one_in(2) ? 1 : random.between(1, 4);
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
  // Side by side, mostly the usual 2x2; the last may be cut off, or end before the input does.
  if (random.one_in(2)) {
    PoolShape shape{};
    for (PoolAxis* axis : {&shape.h, &shape.w}) {
      const int64_t kernel = random.one_in(5) ? random.between(1, 3) : 2;
      axis->input =
          random.one_in(2) ? 8 * random.between(1, 5) - random.between(0, 1) : random.between(3, 40);
      axis->kernel = axis->stride = kernel;
      axis->dilation = 1;
      axis->output = (axis->input + (random.one_in(2) ? kernel - 1 : 0)) / kernel;
    }
    return shape;
  }
  if (random.one_in(20)) return {any_axis(random, 40, 18), any_axis(random, 40, 18)};  // int32 switches
  if (random.one_in(3)) return {any_axis(random, 9, 3), any_axis(random, 70, 3)};      // full vectors
  if (random.one_in(30)) return {any_axis(random, 4, 2), any_axis(random, 2500, 2)};   // pieces of rows
  return {any_axis(random, 9, 4), any_axis(random, 9, 4)};
}

}  // namespace

PoolCase any_pool(Random& random) {
  PoolCase p{};
  p.shape = any_shape(random);
  p.batch = random.between(0, 3);
  p.channels = random.one_in(5) ? random.between(15, 40) : random.one_in(5) ? 16 : random.between(1, 5);
  p.dtype = any_float(random);
  const bool small = p.shape.cells() <= 255;
  p.switch_type = small ? DType::kUInt8 : DType::kInt32;
  p.no_switch = small ? 255 : 2147483647;
  p.threads = static_cast<int>(random.between(1, 3));
  p.layout = any_layout(random, false);
  p.mixed = random.one_in(3);
  p.aligned = random.one_in(2);
  if (random.one_in(2)) {  // for kernels that take 16 bytes at once
    p.channels = 8 * random.between(1, 2) - (random.one_in(4) ? 1 : 0);
    p.layout =
        random.any_of({Layout::kChannelsLast, Layout::kContiguous, Layout::kPart, Layout::kPaddedRows});
    p.mixed = false;
    p.aligned = true;
  }
  const PoolShape& s = p.shape;
  describe(
      "%s (%d, %d, %d, %d) kernel %dx%d stride %d,%d padding %d,%d dilation %d,%d output %dx%d threads %d",
      name_of(p.dtype), int(p.batch), int(p.channels), int(s.h.input), int(s.w.input), int(s.h.kernel),
      int(s.w.kernel), int(s.h.stride), int(s.w.stride), int(s.h.padding), int(s.w.padding),
      int(s.h.dilation), int(s.w.dilation), int(s.h.output), int(s.w.output), p.threads);
  return p;
}

Tensor PoolCase::tensor(Random& random, DType type, int64_t h, int64_t w, Tensor::Role role) const {
  return Tensor(type, {batch, channels, h, w}, role,
                mixed ? any_layout(random, role == Tensor::kInput) : layout,
                aligned && (type == dtype || !random.one_in(4)) ? 0 : random.between(0, 3));
}

Tensor PoolCase::big(Random& random, Tensor::Role role) const {
  return tensor(random, dtype, shape.h.input, shape.w.input, role);
}

Tensor PoolCase::pooled(Random& random, Tensor::Role role) const {
  return tensor(random, dtype, shape.h.output, shape.w.output, role);
}

Tensor PoolCase::switches_to_fill(Random& random) const {
  return tensor(random, switch_type, shape.h.output, shape.w.output, Tensor::kOutput);
}

Tensor PoolCase::switches(Random& random, bool bad) const {
  Tensor switches = tensor(random, switch_type, shape.h.output, shape.w.output, Tensor::kInput);
  for_each_window(*this, [&](int64_t n, int64_t c, int64_t oh, int64_t ow) {
    const PoolAxis &h = shape.h, &w = shape.w;
    double at = no_switch;
    if (bad && random.one_in(9)) {
      const bool small = switch_type == DType::kUInt8;
      const int64_t anything = small ? random.between(0, 255) : random.between(-2147483647 - 1, 2147483647);
      const int64_t near = random.between(small ? 0 : -3, shape.cells() - (small ? 1 : -3));
      at = static_cast<double>(random.any_of({anything, near}));
    } else if (h.first(oh) < h.last(oh) && w.first(ow) < w.last(ow) && !random.one_in(20)) {
      at = static_cast<double>(random.between(h.first(oh), h.last(oh) - 1) * w.kernel +
                               random.between(w.first(ow), w.last(ow) - 1));
    }
    switches.set({n, c, oh, ow}, at);
  });
  return switches;
}

bool cell_of_switch(const PoolShape& s, int64_t oh, int64_t ow, double at, int64_t* h, int64_t* w) {
  for (int64_t kh = 0; kh < s.h.kernel; ++kh)
    for (int64_t kw = 0; kw < s.w.kernel; ++kw) {
      if (at != static_cast<double>(kh * s.w.kernel + kw)) continue;
      *h = oh * s.h.stride - s.h.padding + kh * s.h.dilation;
      *w = ow * s.w.stride - s.w.padding + kw * s.w.dilation;
      return *h >= 0 && *h < s.h.input && *w >= 0 && *w < s.w.input;
    }
  return false;
}

}  // namespace deconvkit::testing
