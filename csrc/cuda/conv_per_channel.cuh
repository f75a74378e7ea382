// conv2d and conv_transpose2d of each channel by itself (as many groups as channels on both sides), such as
// FCN's bilinear upsampling: a gather by phases (geometry/per_channel.h).
//
// A thread makes 16 bytes of channels of a pixel where they lie side by side, else one output; its neighbours
// make their neighbours in memory. Floor: a read of the input and a write of the output; taps are few, and
// meet in the cache.
#pragma once
#include "cuda/epilogue.cuh"
#include "cuda/view.cuh"
#include "cuda/windows.cuh"
#include "geometry/per_channel.h"

namespace deconvkit::cuda {

template <class T, int N>
struct ConvPerChannel : OneStep {
  using C = Compute<T>;

  View<const T> input;
  WeightView<T> weight;
  View<T> output;
  Epilogue<T> epilogue;
  PerChannelAxis h, w;
  Items items;

  ConvPerChannel(const TensorRef& in, const TensorRef& wt, const TensorRef& bias, const TensorRef& out,
                 const ConvShape& s, const ConvOptions& options, bool transposed)
      : input(in),
        weight(wt, s, transposed),
        output(out),
        epilogue(bias, options),
        h(s.h, transposed),
        w(s.w, transposed),
        items(s.batch, s.groups, h.out, w.out, channels_innermost(out), N) {}

  DECONVKIT_HD void step(int64_t, const Place& place, Empty&, Empty&) const {
    for_items(items, place, [&](const Items::Item& i) {
      const PerChannelAxis::Place ph = h.place(i.h), pw = w.place(i.w);
      C sums[N] = {};
      DECONVKIT_ROLL
      for (int32_t a = 0; a < ph.taps.count; ++a) {
        const int64_t y = PerChannelAxis::input(ph, a);
        if (y < 0 || y >= h.in) continue;
        DECONVKIT_ROLL
        for (int32_t b = 0; b < pw.taps.count; ++b) {
          const int64_t x = PerChannelAxis::input(pw, b);
          if (x < 0 || x >= w.in) continue;
          const Group<T, N> from = load<N>(input.at(i.n, i.c, y, x));
          const T* const by = weight.data + i.c * weight.group + PerChannelAxis::cell(ph, a) * weight.h +
                              PerChannelAxis::cell(pw, b) * weight.w;
          DECONVKIT_UNROLL
          for (int k = 0; k < N; ++k) sums[k] += widen(from.at[k]) * widen(by[k * weight.group]);
        }
      }
      Group<T, N> to;
      DECONVKIT_UNROLL
      for (int k = 0; k < N; ++k) to.at[k] = epilogue(sums[k], i.c + k);
      store(output.at(i.n, i.c, i.h, i.w), to);
    });
  }
};

// Whether a convolution is one of each channel by itself, and this kernel's.
inline bool is_per_channel(const ConvShape& s, bool transposed) {
  return s.group_small() == 1 && s.group_large() == 1 && PerChannelAxis::serves(s.h, transposed) &&
         PerChannelAxis::serves(s.w, transposed);
}

template <class Launch>
void conv_per_channel(const Launch& launch, const TensorRef& input, const TensorRef& weight,
                      const TensorRef& bias, const TensorRef& output, const ConvShape& s,
                      const ConvOptions& options, bool transposed) {
  if (output.numel() == 0) return;
  for_float_dtype(input.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    constexpr int n = kVector<T>, bytes = sizeof(T);
    const auto run = [&](const auto& kernel) { launch(kernel, kernel.items.tiles); };
    // Of one pixel, channels may lie side by side and not be what the items count first.
    if (s.groups % n == 0 && channels_innermost(output) && groups_along(input, 1, n, bytes) &&
        groups_along(output, 1, n, bytes)) {
      return run(ConvPerChannel<T, n>(input, weight, bias, output, s, options, transposed));
    }
    run(ConvPerChannel<T, 1>(input, weight, bias, output, s, options, transposed));
  });
}

}  // namespace deconvkit::cuda
