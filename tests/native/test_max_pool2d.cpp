#include "pool_case.h"

namespace deconvkit::testing {

NATIVE_TEST(max_pool2d_with_switches) {
  const PoolCase p = any_pool(random);
  const PoolShape& s = p.shape;
  Tensor input = p.big(random, Tensor::kInput), output = p.pooled(random, Tensor::kOutput);
  Tensor switches = p.switches_to_fill(random);
  input.fill(tied_values(random));
  EXPECT(kernels.max_pool2d_with_switches(input, output, switches, s, p.threads), "refused");
  EXPECT(output.intact() && switches.intact(), "wrote outside an output");
  for_each_window(p, [&](int64_t n, int64_t c, int64_t oh, int64_t ow) {
    double best = -HUGE_VAL, where = p.no_switch;
    for (int64_t kh = 0; kh < s.h.kernel; ++kh)
      for (int64_t kw = 0; kw < s.w.kernel; ++kw) {
        const int64_t h = oh * s.h.stride - s.h.padding + kh * s.h.dilation;
        const int64_t w = ow * s.w.stride - s.w.padding + kw * s.w.dilation;
        if (h < 0 || h >= s.h.input || w < 0 || w >= s.w.input) continue;
        const double x = input.get({n, c, h, w});
        if (where == p.no_switch || x > best || x != x) {
          best = x;
          where = static_cast<double>(kh * s.w.kernel + kw);
        }
      }
    const double got = output.get({n, c, oh, ow}), at = switches.get({n, c, oh, ow});
    EXPECT(same(got, best) && at == where, "(%d, %d, %d, %d): expected %g at %g, got %g at %g", int(n),
           int(c), int(oh), int(ow), best, where, got, at);
  });
}

}  // namespace deconvkit::testing
