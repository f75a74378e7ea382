// Max-pooling that records switches. One pass: reads the input, writes output and switches (21 bytes a pooled
// element for 2x2 float32). Planes (n, c) are shared out among the threads; rows and windows run in order.
//
// torch's rules: a window starts from its first valid cell; a cell is taken when it is greater or NaN, so
// ties keep the first in row-major order and the last NaN wins.
#include "cpu/dispatch.h"
#include "cpu/parallel.h"
#include "geometry/switches.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

template <class T, class Switch>
void pool_plane(const T* in, int64_t in_h, int64_t in_w, T* out, int64_t out_h, int64_t out_w,
                Switch* switches, int64_t sw_h, int64_t sw_w, const PoolShape& s) {
  for (int64_t oh = 0; oh < s.h.output; ++oh) {
    for (int64_t ow = 0; ow < s.w.output; ++ow) {
      Compute<T> best = -__builtin_inf();
      Switch where = kNoSwitch<Switch>;
      for (int64_t kh = s.h.first(oh); kh < s.h.last(oh); ++kh) {
        for (int64_t kw = s.w.first(ow); kw < s.w.last(ow); ++kw) {
          const Compute<T> x = load(in + s.h.cell(oh, kh) * in_h + s.w.cell(ow, kw) * in_w);
          if (where == kNoSwitch<Switch> || x > best || x != x) {
            best = x;
            where = static_cast<Switch>(kh * s.w.kernel + kw);
          }
        }
      }
      store(out + oh * out_h + ow * out_w, best);
      switches[oh * sw_h + ow * sw_w] = where;
    }
  }
}

}  // namespace

bool max_pool2d_with_switches(const TensorRef& input, const TensorRef& output, const TensorRef& switches,
                              const PoolShape& shape, int threads) {
  for_float_dtype(input.dtype, [&](auto t) {
    for_switch_dtype(switches.dtype, [&](auto w) {
      using T = typename decltype(t)::type;
      using Switch = typename decltype(w)::type;
      const int64_t channels = input.size[1];
      parallel_for(
          input.size[0] * channels, useful_threads(threads, input.numel() * sizeof(T)), [&](int64_t plane) {
            const int64_t n = plane / channels, c = plane % channels;
            pool_plane<T, Switch>(
                input.as<T>() + n * input.stride[0] + c * input.stride[1], input.stride[2], input.stride[3],
                output.as<T>() + n * output.stride[0] + c * output.stride[1], output.stride[2],
                output.stride[3], switches.as<Switch>() + n * switches.stride[0] + c * switches.stride[1],
                switches.stride[2], switches.stride[3], shape);
          });
    });
  });
  return true;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
