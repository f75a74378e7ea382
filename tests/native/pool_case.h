// A random problem of pooling, shared by the tests of its kernels.
#pragma once
#include "geometry/switches.h"
#include "harness.h"

namespace deconvkit::testing {

struct PoolCase {
  PoolShape shape;
  int64_t batch, channels;
  DType dtype, switch_type;
  double no_switch;
  int threads;
  Layout layout;  // of all tensors
  bool mixed;     // but each of its own
  bool aligned;   // each begins at a multiple of 16 bytes; the switches mostly

  // A tensor of the size that is pooled, or of the pooled size.
  Tensor big(Random& random, Tensor::Role role) const;
  Tensor pooled(Random& random, Tensor::Role role) const;
  // Switches that point inside; now and then none, and where `bad` a few that point anywhere.
  Tensor switches(Random& random, bool bad) const;
  // Empty switches, to be written.
  Tensor switches_to_fill(Random& random) const;

 private:
  Tensor tensor(Random& random, DType type, int64_t h, int64_t w, Tensor::Role role) const;
};

PoolCase any_pool(Random& random);

// Calls f(n, c, oh, ow) for every window in row-major order.
template <class F>
void for_each_window(const PoolCase& p, F&& f) {
  for (int64_t n = 0; n < p.batch; ++n)
    for (int64_t c = 0; c < p.channels; ++c)
      for (int64_t oh = 0; oh < p.shape.h.output; ++oh)
        for (int64_t ow = 0; ow < p.shape.w.output; ++ow) f(n, c, oh, ow);
}

// The naive twin of SwitchCell: where a switch points; false if that is no cell of the window inside the
// input.
bool cell_of_switch(const PoolShape& s, int64_t oh, int64_t ow, double at, int64_t* h, int64_t* w);

}  // namespace deconvkit::testing
