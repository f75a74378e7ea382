// Max-pooling that records switches. Its backward and the adjoint of that: cuda/by_switches.cuh.
//
// torch's rules, as in csrc/cpu/max_pool2d.cpp: a window starts from its first valid cell; a cell is taken
// when it is greater or NaN. The output is the cell's bits. Floor: reads the input, writes output and
// switches, 21 bytes a pooled element for 2x2 float32.
#pragma once
#include "cuda/windows.cuh"

namespace deconvkit::cuda {

// The best of N windows' cells so far.
template <class T, class Switch, int N>
struct Best {
  Group<T, N> value;
  Group<Switch, N> where;

  DECONVKIT_HD void take(int i, T x, int64_t at, bool first) {
    const auto wide = widen(x);
    if (first || wide > widen(value.at[i]) || wide != wide) {
      value.at[i] = x;
      where.at[i] = static_cast<Switch>(at);
    }
  }
};

template <class T>
DECONVKIT_INLINE T lowest() {
  return narrow<T>(-static_cast<Compute<T>>(INFINITY));
}

// N channels of a window, or one element of any.
template <class T, class Switch, int N>
struct PoolWindows : OneStep {
  View<const T> input;
  View<T> output;
  View<Switch> switches;
  FastPoolShape s;
  Items items;

  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for_items(items, place, [&](const Items::Item& i) {
      const int64_t kh0 = s.h.first(i.h), kh1 = s.h.last(i.h), kw0 = s.w.first(i.w), kw1 = s.w.last(i.w);
      Best<T, Switch, N> best;
      DECONVKIT_UNROLL
      for (int k = 0; k < N; ++k) {
        best.value.at[k] = lowest<T>();
        best.where.at[k] = kNoSwitch<Switch>;
      }
      const T* row = input.at(i.n, i.c, s.h.cell(i.h, kh0), s.w.cell(i.w, kw0));
      for (int64_t kh = kh0; kh < kh1; ++kh, row += s.h.dilation * input.h) {
        const T* from = row;
        for (int64_t kw = kw0; kw < kw1; ++kw, from += s.w.dilation * input.w) {
          const Group<T, N> x = load<N>(from);
          const bool first = kh == kh0 && kw == kw0;
          DECONVKIT_UNROLL
          for (int k = 0; k < N; ++k) best.take(k, x.at[k], kh * s.w.kernel + kw, first);
        }
      }
      store(output.at(i.n, i.c, i.h, i.w), best.value);
      store(switches.at(i.n, i.c, i.h, i.w), best.where);
    });
  }
};

// Flat windows, 16 bytes of the output; fewer at the end of a run.
template <class T, int V>
struct PoolFlat : OneStep {
  static constexpr int kN = kVector<T>;
  View<const T> input;
  View<T> output;
  View<uint8_t> switches;
  FlatWindows s;
  Items items;

  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for_items(items, place, [&](const Items::Item& i) {
      const T* const run = input.at(i.n, 0, 0, 0);
      T* const to = output.at(i.n, 0, 0, 0) + i.w;
      uint8_t* const at = switches.at(i.n, 0, 0, 0) + i.w;
      if (i.w + kN <= s.windows) {
        FlatCells<T, V> cells;
        cells.load(run, s, i.w);
        Best<T, uint8_t, kN> best;
        DECONVKIT_UNROLL
        for (int k = 0; k < kN; ++k) {
          DECONVKIT_UNROLL
          for (int cell = 0; cell < 4; ++cell) best.take(k, cells.at(k, cell), cell, cell == 0);
        }
        store(to, best.value);
        store(at, best.where);
        return;
      }
      for (int k = 0; k < s.windows - i.w; ++k) {
        const T* const from = run + s.place(i.w + k).cell;
        Best<T, uint8_t, 1> one;
        for (int cell = 0; cell < 4; ++cell) {
          one.take(0, from[cell / 2 * s.line() + cell % 2], cell, cell == 0);
        }
        store(to + k, one.value);
        store(at + k, one.where);
      }
    });
  }
};

template <class T, class Switch, class Launch>
void pool_windows(const Launch& launch, const TensorRef& input, const TensorRef& output,
                  const TensorRef& switches, const PoolShape& s) {
  constexpr int kN = kVector<T>;
  const int64_t n = output.size[0], c = output.size[1], h = s.h.output, w = s.w.output;
  const View<const T> in(input);
  const View<T> out(output);
  const View<Switch> at(switches);
  if (by_channels<T>(input, output, switches, sizeof(Switch))) {
    const Items items(n, c, h, w, true, kN);
    return launch(PoolWindows<T, Switch, kN>{{}, in, out, at, FastPoolShape(s), items}, items.tiles);
  }
  if constexpr (sizeof(Switch) == 1) {
    const auto run = [&](auto cells, const FlatWindows& windows, const Items& items) {
      launch(PoolFlat<T, cells()>{{}, in, out, at, windows, items}, items.tiles);
    };
    if (if_flat<T>(input, output, switches, s, run)) return;
  }
  const Items items(n, c, h, w, channels_innermost(output), 1);
  launch(PoolWindows<T, Switch, 1>{{}, in, out, at, FastPoolShape(s), items}, items.tiles);
}

template <class Launch>
void max_pool2d_with_switches(const Launch& launch, const TensorRef& input, const TensorRef& output,
                              const TensorRef& switches, const PoolShape& s) {
  if (output.numel() == 0) return;
  for_float_dtype(input.dtype, [&](auto t) {
    for_switch_dtype(switches.dtype, [&](auto w) {
      pool_windows<typename decltype(t)::type, typename decltype(w)::type>(launch, input, output, switches,
                                                                           s);
    });
  });
}

}  // namespace deconvkit::cuda
