// Values by switches: towards the big tensor (pool backward, unpool) and back (their adjoints).
#include "cpu/dispatch.h"
#include "cpu/memory.h"
#include "cpu/parallel.h"
#include "geometry/switches.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

template <class Switch>
constexpr Switch no_switch(const Switch*) {
  return kNoSwitch<Switch>;
}

template <class F>
bool for_planes(const TensorRef& pooled, const TensorRef& switches, const TensorRef& big, int threads,
                F&& f) {
  bool ok = true;
  for_float_dtype(pooled.dtype, [&](auto t) {
    for_switch_dtype(switches.dtype, [&](auto w) {
      using T = typename decltype(t)::type;
      using Switch = typename decltype(w)::type;
      const int64_t channels = pooled.size[1];
      parallel_for(pooled.size[0] * channels, useful_threads(threads, big.numel() * sizeof(T)),
                   [&](int64_t plane) {
                     const int64_t n = plane / channels, c = plane % channels;
                     if (!f(pooled.as<T>() + n * pooled.stride[0] + c * pooled.stride[1],
                            switches.as<Switch>() + n * switches.stride[0] + c * switches.stride[1],
                            big.as<T>() + n * big.stride[0] + c * big.stride[1])) {
#pragma omp atomic write
                       ok = false;
                     }
                   });
    });
  });
  return ok;
}

template <bool Sum>
bool spread(const TensorRef& pooled, const TensorRef& switches, const TensorRef& big, const PoolShape& s,
            int threads) {
  return for_planes(pooled, switches, big, threads, [&](auto* p, auto* sw, auto* b) {
    for (int64_t oh = 0; oh < s.h.output; ++oh) {
      for (int64_t ow = 0; ow < s.w.output; ++ow) {
        const auto at = sw[oh * switches.stride[2] + ow * switches.stride[3]];
        if (at != no_switch(sw) && !SwitchCell(s, oh, ow, at).valid) return false;
      }
    }
    for (int64_t ih = 0; ih < s.h.input; ++ih) {
      for (int64_t iw = 0; iw < s.w.input; ++iw) {
        decltype(load(p)) sum = 0;
        for (int64_t oh = s.h.reach_begin(ih); oh < s.h.reach_end(ih); ++oh) {
          for (int64_t ow = s.w.reach_begin(iw); ow < s.w.reach_end(iw); ++ow) {
            const int64_t kh = s.h.cell_of(ih, oh), kw = s.w.cell_of(iw, ow);
            if (kh < 0 || kw < 0) continue;
            if (sw[oh * switches.stride[2] + ow * switches.stride[3]] != kh * s.w.kernel + kw) continue;
            const auto x = load(p + oh * pooled.stride[2] + ow * pooled.stride[3]);
            sum = Sum ? sum + x : x;
          }
        }
        store(b + ih * big.stride[2] + iw * big.stride[3], sum);
      }
    }
    return true;
  });
}

template <bool WinnerOnly>
bool collect(const TensorRef& big, const TensorRef& switches, const TensorRef& pooled, const PoolShape& s,
             int threads) {
  return for_planes(pooled, switches, big, threads, [&](auto* p, auto* sw, auto* b) {
    for (int64_t oh = 0; oh < s.h.output; ++oh) {
      for (int64_t ow = 0; ow < s.w.output; ++ow) {
        const auto at = sw[oh * switches.stride[2] + ow * switches.stride[3]];
        const SwitchCell cell(s, oh, ow, at);
        decltype(load(p)) x = 0;
        if (cell.valid) {
          x = load(b + cell.h * big.stride[2] + cell.w * big.stride[3]);
          if (WinnerOnly) {
            for (int64_t ph = oh; ph < s.h.reach_end(cell.h); ++ph) {
              for (int64_t pw = s.w.reach_begin(cell.w); pw < s.w.reach_end(cell.w); ++pw) {
                const int64_t kh = s.h.cell_of(cell.h, ph), kw = s.w.cell_of(cell.w, pw);
                if (kh < 0 || kw < 0 || (ph == oh && pw <= ow)) continue;
                if (sw[ph * switches.stride[2] + pw * switches.stride[3]] == kh * s.w.kernel + kw) x = 0;
              }
            }
          }
        } else if (at != no_switch(sw)) {
          return false;
        }
        store(p + oh * pooled.stride[2] + ow * pooled.stride[3], x);
      }
    }
    return true;
  });
}

}  // namespace

bool max_pool2d_backward(const TensorRef& grad_output, const TensorRef& switches, const TensorRef& grad_input,
                         const PoolShape& s, int threads) {
  return spread<true>(grad_output, switches, grad_input, s, threads);
}
bool max_unpool2d(const TensorRef& input, const TensorRef& switches, const TensorRef& output,
                  const PoolShape& s, int threads) {
  return spread<false>(input, switches, output, s, threads);
}
bool max_pool2d_gather(const TensorRef& input, const TensorRef& switches, const TensorRef& output,
                       const PoolShape& s, int threads) {
  return collect<false>(input, switches, output, s, threads);
}
bool max_unpool2d_backward(const TensorRef& grad_output, const TensorRef& switches,
                           const TensorRef& grad_input, const PoolShape& s, int threads) {
  return collect<true>(grad_output, switches, grad_input, s, threads);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
