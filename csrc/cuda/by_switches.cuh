// Moving values by switches. spread: from the windows to the cells that their switches name, where several
// meet their sum (backward of pooling) or the last in row-major order (unpooling). collect: from the cells to
// the windows, of all (adjoint of the former) or of the winners alone (adjoint of the latter).
//
// Gathered, never scattered: a thread owns what it writes, zeros included, and asks the windows that may name
// it. A switch is only ever compared, or checked before it is used: one that points outside moves nothing.
// Sums run in row-major order of the windows, in the compute type. Floor: reads values and switches, writes
// the result, 21 bytes a window for 2x2 float32.
#pragma once
#include "cuda/windows.cuh"

namespace deconvkit::cuda {

// ---- spread ----

// N channels of a cell, or one cell of any window.
template <bool Sum, class T, class Switch, int N>
struct SpreadCells : OneStep {
  static constexpr int kResident = 2;
  View<const T> pooled;
  View<const Switch> switches;
  View<T> big;
  FastPoolShape s;
  Items items;

  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for_items(items, place, [&](const Items::Item& i) {
      Compute<T> sum[N] = {};
      const int64_t oh_end = s.h.reach_end(i.h), ow_begin = s.w.reach_begin(i.w), ow_end = s.w.reach_end(i.w);
      DECONVKIT_ROLL
      for (int64_t oh = s.h.reach_begin(i.h); oh < oh_end; ++oh) {
        const int64_t kh = s.h.cell_of(i.h, oh);
        if (kh < 0) continue;
        DECONVKIT_ROLL
        for (int64_t ow = ow_begin; ow < ow_end; ++ow) {
          const int64_t kw = s.w.cell_of(i.w, ow);
          if (kw < 0) continue;
          const auto code = static_cast<Switch>(kh * s.w.kernel + kw);
          const Group<Switch, N> at = load<N>(switches.at(i.n, i.c, oh, ow));
          const Group<T, N> x = load<N>(pooled.at(i.n, i.c, oh, ow));
          DECONVKIT_UNROLL
          for (int k = 0; k < N; ++k) {
            if (at.at[k] == code) sum[k] = Sum ? sum[k] + widen(x.at[k]) : widen(x.at[k]);
          }
        }
      }
      Group<T, N> result;
      DECONVKIT_UNROLL
      for (int k = 0; k < N; ++k) result.at[k] = narrow<T>(sum[k]);
      store(big.at(i.n, i.c, i.h, i.w), result);
    });
  }
};

// N channels of all the cells of a window, of windows side by side. Beyond the last window cells are zero.
template <class T, class Switch, int N>
struct SpreadWindows : OneStep {
  View<const T> pooled;
  View<const Switch> switches;
  View<T> big;
  FastPoolShape s;
  Items items;

  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for_items(items, place, [&](const Items::Item& i) {
      Group<Switch, N> at;
      Group<T, N> x;
      DECONVKIT_UNROLL
      for (int k = 0; k < N; ++k) at.at[k] = kNoSwitch<Switch>, x.at[k] = T{};
      if (i.h < s.h.output && i.w < s.w.output) {
        at = load<N>(switches.at(i.n, i.c, i.h, i.w));
        x = load<N>(pooled.at(i.n, i.c, i.h, i.w));
      }
      const int64_t h0 = i.h * s.h.kernel, w0 = i.w * s.w.kernel;
      for (int64_t kh = 0; kh < s.h.kernel && h0 + kh < s.h.input; ++kh) {
        for (int64_t kw = 0; kw < s.w.kernel && w0 + kw < s.w.input; ++kw) {
          const auto code = static_cast<Switch>(kh * s.w.kernel + kw);
          Group<T, N> cell;
          DECONVKIT_UNROLL
          for (int k = 0; k < N; ++k) cell.at[k] = at.at[k] == code ? x.at[k] : T{};
          store(big.at(i.n, i.c, h0 + kh, w0 + kw), cell);
        }
      }
    });
  }
};

// All cells of flat windows, 16 bytes of their values; fewer at the end of a run.
template <class T, int V>
struct SpreadFlat : OneStep {
  static constexpr int kN = kVector<T>, kResident = 4;
  View<const T> pooled;
  View<const uint8_t> switches;
  View<T> big;
  FlatWindows s;
  Items items;

  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for_items(items, place, [&](const Items::Item& i) {
      const T* const from = pooled.at(i.n, 0, 0, 0) + i.w;
      const uint8_t* const where = switches.at(i.n, 0, 0, 0) + i.w;
      T* const run = big.at(i.n, 0, 0, 0);
      if (i.w + kN <= s.windows) {
        const Group<T, kN> x = load<kN>(from);
        const Group<uint8_t, kN> at = load<kN>(where);
        FlatCells<T, V> cells;
        DECONVKIT_UNROLL
        for (int k = 0; k < kN; ++k) {
          DECONVKIT_UNROLL
          for (int cell = 0; cell < 4; ++cell) cells.at(k, cell) = at.at[k] == cell ? x.at[k] : T{};
        }
        cells.store(run, s, i.w);
        return;
      }
      for (int k = 0; k < s.windows - i.w; ++k) {
        T* const to = run + s.place(i.w + k).cell;
        for (int cell = 0; cell < 4; ++cell) {
          store(to + cell / 2 * s.line() + cell % 2, where[k] == cell ? from[k] : T{});
        }
      }
    });
  }
};

template <bool Sum, class T, class Switch, class Launch>
void spread_by(const Launch& launch, const TensorRef& pooled, const TensorRef& switches, const TensorRef& big,
               const PoolShape& s) {
  constexpr int kN = kVector<T>;
  const int64_t n = big.size[0], c = big.size[1], h = s.h.input, w = s.w.input;
  const View<const T> from(pooled);
  const View<const Switch> at(switches);
  const View<T> to(big);
  const int64_t across = (w + s.w.kernel - 1) / s.w.kernel, down = (h + s.h.kernel - 1) / s.h.kernel;
  const bool channels = by_channels<T>(big, pooled, switches, sizeof(Switch));
  if (channels && side_by_side(s)) {
    const Items items(n, c, down, across, true, kN);
    return launch(SpreadWindows<T, Switch, kN>{{}, from, at, to, FastPoolShape(s), items}, items.tiles);
  }
  if (channels) {
    const Items items(n, c, h, w, true, kN);
    return launch(SpreadCells<Sum, T, Switch, kN>{{}, from, at, to, FastPoolShape(s), items}, items.tiles);
  }
  if constexpr (sizeof(Switch) == 1) {
    const auto run = [&](auto cells, const FlatWindows& windows, const Items& items) {
      launch(SpreadFlat<T, cells()>{{}, from, at, to, windows, items}, items.tiles);
    };
    if (if_flat<T>(big, pooled, switches, s, run)) return;
  }
  const Items items(n, c, h, w, channels_innermost(big), 1);
  launch(SpreadCells<Sum, T, Switch, 1>{{}, from, at, to, FastPoolShape(s), items}, items.tiles);
}

// pooled (N, C, OH, OW) and its switches -> big (N, C, H, W).
template <bool Sum, class Launch>
void spread(const Launch& launch, const TensorRef& pooled, const TensorRef& switches, const TensorRef& big,
            const PoolShape& s) {
  if (big.numel() == 0) return;
  for_float_dtype(big.dtype, [&](auto t) {
    for_switch_dtype(switches.dtype, [&](auto w) {
      spread_by<Sum, typename decltype(t)::type, typename decltype(w)::type>(launch, pooled, switches, big,
                                                                             s);
    });
  });
}

// ---- collect ----

// One window of any kind. Winner: only where no later window names the cell.
template <bool Winner, class T, class Switch>
struct CollectAny : OneStep {
  View<const T> big;
  View<const Switch> switches;
  View<T> pooled;
  FastPoolShape s;
  Items items;

  // Whether a window after item i names cell (h, w) too.
  DECONVKIT_HD bool is_lost(const Items::Item& i, int64_t h, int64_t w) const {
    const int64_t oh_end = s.h.reach_end(h), ow_end = s.w.reach_end(w);
    for (int64_t oh = i.h; oh < oh_end; ++oh) {
      const int64_t kh = s.h.cell_of(h, oh);
      if (kh < 0) continue;
      for (int64_t ow = oh == i.h ? i.w + 1 : s.w.reach_begin(w); ow < ow_end; ++ow) {
        const int64_t kw = s.w.cell_of(w, ow);
        if (kw >= 0 && *switches.at(i.n, i.c, oh, ow) == kh * s.w.kernel + kw) return true;
      }
    }
    return false;
  }

  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for_items(items, place, [&](const Items::Item& i) {
      const int64_t at = *switches.at(i.n, i.c, i.h, i.w);
      bool takes = at >= 0 && at < s.h.kernel * s.w.kernel;
      const int64_t kh = takes ? s.w.by_kernel.quotient(at) : 0;
      const int64_t h = s.h.cell(i.h, kh), w = s.w.cell(i.w, at - kh * s.w.kernel);
      takes = takes && h >= 0 && h < s.h.input && w >= 0 && w < s.w.input;
      if constexpr (Winner) takes = takes && !is_lost(i, h, w);
      store(pooled.at(i.n, i.c, i.h, i.w), takes ? *big.at(i.n, i.c, h, w) : T{});
    });
  }
};

// N channels of a window, whose cells are all read.
template <class T, class Switch, int N>
struct CollectChannels : OneStep {
  View<const T> big;
  View<const Switch> switches;
  View<T> pooled;
  FastPoolShape s;
  Items items;

  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for_items(items, place, [&](const Items::Item& i) {
      const Group<Switch, N> at = load<N>(switches.at(i.n, i.c, i.h, i.w));
      Group<T, N> result;
      DECONVKIT_UNROLL
      for (int k = 0; k < N; ++k) result.at[k] = T{};
      const int64_t kh1 = s.h.last(i.h), kw0 = s.w.first(i.w), kw1 = s.w.last(i.w);
      DECONVKIT_ROLL
      for (int64_t kh = s.h.first(i.h); kh < kh1; ++kh) {
        DECONVKIT_ROLL
        for (int64_t kw = kw0; kw < kw1; ++kw) {
          const Group<T, N> x = load<N>(big.at(i.n, i.c, s.h.cell(i.h, kh), s.w.cell(i.w, kw)));
          const auto code = static_cast<Switch>(kh * s.w.kernel + kw);
          DECONVKIT_UNROLL
          for (int k = 0; k < N; ++k) result.at[k] = at.at[k] == code ? x.at[k] : result.at[k];
        }
      }
      store(pooled.at(i.n, i.c, i.h, i.w), result);
    });
  }
};

// Flat windows, 16 bytes of their values; fewer at the end of a run.
template <class T, int V>
struct CollectFlat : OneStep {
  static constexpr int kN = kVector<T>;
  View<const T> big;
  View<const uint8_t> switches;
  View<T> pooled;
  FlatWindows s;
  Items items;

  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for_items(items, place, [&](const Items::Item& i) {
      const T* const run = big.at(i.n, 0, 0, 0);
      const uint8_t* const where = switches.at(i.n, 0, 0, 0) + i.w;
      T* const to = pooled.at(i.n, 0, 0, 0) + i.w;
      if (i.w + kN <= s.windows) {
        const Group<uint8_t, kN> at = load<kN>(where);
        FlatCells<T, V> cells;
        cells.load(run, s, i.w);
        Group<T, kN> result;
        DECONVKIT_UNROLL
        for (int k = 0; k < kN; ++k) {
          T value{};
          DECONVKIT_UNROLL
          for (int cell = 0; cell < 4; ++cell) {
            const T candidate = cells.at(k, cell);  // a choice between references would take their addresses
            value = at.at[k] == cell ? candidate : value;
          }
          result.at[k] = value;
        }
        store(to, result);
        return;
      }
      for (int k = 0; k < s.windows - i.w; ++k) {
        const int cell = where[k];
        const T* const from = run + s.place(i.w + k).cell;
        store(to + k, cell < 4 ? from[cell / 2 * s.line() + cell % 2] : T{});
      }
    });
  }
};

template <bool Winner, class T, class Switch, class Launch>
void collect_by(const Launch& launch, const TensorRef& big, const TensorRef& switches,
                const TensorRef& pooled, const PoolShape& s) {
  constexpr int kN = kVector<T>;
  constexpr int64_t kMostCells = 16;  // of a window, for all of them to be read
  const int64_t n = pooled.size[0], c = pooled.size[1], h = s.h.output, w = s.w.output;
  const View<const T> from(big);
  const View<const Switch> at(switches);
  const View<T> to(pooled);
  if (by_channels<T>(big, pooled, switches, sizeof(Switch)) && s.cells() <= kMostCells &&
      !(Winner && s.overlaps())) {
    const Items items(n, c, h, w, true, kN);
    return launch(CollectChannels<T, Switch, kN>{{}, from, at, to, FastPoolShape(s), items}, items.tiles);
  }
  if constexpr (sizeof(Switch) == 1) {
    const auto run = [&](auto cells, const FlatWindows& windows, const Items& items) {
      launch(CollectFlat<T, cells()>{{}, from, at, to, windows, items}, items.tiles);
    };
    if (if_flat<T>(big, pooled, switches, s, run)) return;
  }
  const Items items(n, c, h, w, channels_innermost(pooled), 1);
  if (Winner && s.overlaps()) {
    return launch(CollectAny<true, T, Switch>{{}, from, at, to, FastPoolShape(s), items}, items.tiles);
  }
  launch(CollectAny<false, T, Switch>{{}, from, at, to, FastPoolShape(s), items}, items.tiles);
}

// big (N, C, H, W) -> pooled (N, C, OH, OW).
template <bool Winner, class Launch>
void collect(const Launch& launch, const TensorRef& big, const TensorRef& switches, const TensorRef& pooled,
             const PoolShape& s) {
  if (pooled.numel() == 0) return;
  for_float_dtype(pooled.dtype, [&](auto t) {
    for_switch_dtype(switches.dtype, [&](auto w) {
      collect_by<Winner, typename decltype(t)::type, typename decltype(w)::type>(launch, big, switches,
                                                                                 pooled, s);
    });
  });
}

}  // namespace deconvkit::cuda
