// The kernels that move values by switches. Values are integers, so that every sum is exact before its
// rounding.
#include "pool_case.h"

namespace deconvkit::testing {
namespace {

// What becomes of the value of a window that points at (h, w).
using Spread = std::function<double(double there, double value)>;

// pooled -> big by `spread`, in row-major order; zero where nothing points.
void check_spread(Random& random, Kernels::Pool kernel, const Spread& spread) {
  const PoolCase p = any_pool(random);
  Tensor values = p.pooled(random, Tensor::kInput), big = p.big(random, Tensor::kOutput);
  const Tensor switches = p.switches(random, random.one_in(3));
  values.fill([&] { return static_cast<double>(random.between(-256, 256)); });  // bfloat16 rounds their sums
  const bool accepted = kernel(values, switches, big, p.shape, p.threads);
  EXPECT(big.intact(), "wrote outside the output");
  Tensor expected(DType::kFloat64, {p.batch, p.channels, p.shape.h.input, p.shape.w.input}, Tensor::kOutput);
  expected.fill([] { return 0.0; });
  bool good = true;
  for_each_window(p, [&](int64_t n, int64_t c, int64_t oh, int64_t ow) {
    const double at = switches.get({n, c, oh, ow});
    int64_t h, w;
    if (cell_of_switch(p.shape, oh, ow, at, &h, &w)) {
      expected.set({n, c, h, w}, spread(expected.get({n, c, h, w}), values.get({n, c, oh, ow})));
    } else {
      good = good && at == p.no_switch;
    }
  });
  good = good || skips_bad_switches;
  EXPECT(accepted == good, "switches that are %s were %s", good ? "good" : "bad",
         accepted ? "accepted" : "refused");
  for (int64_t i = 0; good && i < expected.numel(); ++i) {
    const double want = rounded(expected.flat(i), p.dtype);
    EXPECT(big.flat(i) == want, "element %d: expected %g, got %g", int(i), want, big.flat(i));
  }
}

// big -> pooled: every window takes what it points at, or, if it must win it, only where no later one points.
void check_collect(Random& random, Kernels::Pool kernel, bool winner_only) {
  const PoolCase p = any_pool(random);
  Tensor big = p.big(random, Tensor::kInput), pooled = p.pooled(random, Tensor::kOutput);
  const Tensor switches = p.switches(random, random.one_in(3));
  big.fill(tied_values(random));
  const bool accepted = kernel(big, switches, pooled, p.shape, p.threads);
  EXPECT(pooled.intact(), "wrote outside the output");
  const Sizes sizes{p.batch, p.channels, p.shape.h.input, p.shape.w.input};
  Tensor winner(DType::kFloat64, sizes, Tensor::kOutput);  // oh * OW + ow of the last window that points here
  bool good = true;
  for (const bool looking : {true, false}) {
    for_each_window(p, [&](int64_t n, int64_t c, int64_t oh, int64_t ow) {
      const double at = switches.get({n, c, oh, ow}), self = static_cast<double>(oh * p.shape.w.output + ow);
      int64_t h, w;
      const bool valid = cell_of_switch(p.shape, oh, ow, at, &h, &w);
      if (looking) {
        good = good && (valid || at == p.no_switch);
        if (valid) winner.set({n, c, h, w}, self);
        return;
      }
      if (!good && !skips_bad_switches) return;
      const bool takes = valid && (!winner_only || winner.get({n, c, h, w}) == self);
      const double want = takes ? big.get({n, c, h, w}) : 0, got = pooled.get({n, c, oh, ow});
      EXPECT(same(got, want), "(%d, %d, %d, %d): expected %g, got %g", int(n), int(c), int(oh), int(ow), want,
             got);
    });
  }
  good = good || skips_bad_switches;
  EXPECT(accepted == good, "switches that are %s were %s", good ? "good" : "bad",
         accepted ? "accepted" : "refused");
}

double add(double there, double value) { return there + value; }
double replace(double, double value) { return value; }

}  // namespace

NATIVE_TEST(max_pool2d_backward) { check_spread(random, kernels.max_pool2d_backward, add); }
NATIVE_TEST(max_unpool2d) { check_spread(random, kernels.max_unpool2d, replace); }
NATIVE_TEST(max_pool2d_gather) { check_collect(random, kernels.max_pool2d_gather, false); }
NATIVE_TEST(max_unpool2d_backward) { check_collect(random, kernels.max_unpool2d_backward, true); }

}  // namespace deconvkit::testing
