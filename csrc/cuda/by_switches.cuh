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

// The cells of N neighbouring 2x2 windows of a plane. Beyond the last window cells are zero.
template <class T, int N>
struct SpreadPairs : OneStep {
  View<const T> pooled;
  View<const uint8_t> switches;
  View<T> big;
  FastPoolShape s;
  Items items;

  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for_items(items, place, [&](const Items::Item& i) {
      const T* const from = pooled.at(i.n, i.c, i.h, i.w);
      const uint8_t* const where = switches.at(i.n, i.c, i.h, i.w);
      const int64_t windows = i.h < s.h.output ? s.w.output - i.w : 0, cells = s.w.input - 2 * i.w;
      const bool whole = windows >= N && cells >= 2 * N;
      Group<T, N> x;
      Group<uint8_t, N> at;
      if (whole) x = load<N>(from), at = load<N>(where);
      for (int kh = 0; kh < 2 && 2 * i.h + kh < s.h.input; ++kh) {
        T* const to = big.at(i.n, i.c, 2 * i.h + kh, 2 * i.w);
        if (whole) {
          Group<T, N> row[2];
          DECONVKIT_UNROLL
          for (int k = 0; k < 2 * N; ++k) {
            row[k / N].at[k % N] = at.at[k / 2] == 2 * kh + k % 2 ? x.at[k / 2] : T{};
          }
          store(to, row[0]);
          store(to + N, row[1]);
          continue;
        }
        for (int k = 0; k < 2 * N && k < cells; ++k) {
          const bool named = k / 2 < windows && where[k / 2] == 2 * kh + k % 2;
          store(to + k, named ? from[k / 2] : T{});
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
  const Way way = way_of<T>(big, pooled, switches, s, sizeof(Switch));
  if (way == Way::kChannels && side_by_side(s)) {
    const Items items(n, c, down, across, true, kN);
    return launch(SpreadWindows<T, Switch, kN>{{}, from, at, to, FastPoolShape(s), items}, items.tiles);
  }
  if (way == Way::kChannels) {
    const Items items(n, c, h, w, true, kN);
    return launch(SpreadCells<Sum, T, Switch, kN>{{}, from, at, to, FastPoolShape(s), items}, items.tiles);
  }
  if constexpr (sizeof(Switch) == 1) {
    if (way == Way::kPairs) {
      const Items items(n, c, down, across, false, kN);
      return launch(SpreadPairs<T, kN>{{}, from, at, to, FastPoolShape(s), items}, items.tiles);
    }
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

// N neighbouring 2x2 windows of a plane.
template <class T, int N>
struct CollectPairs : OneStep {
  View<const T> big;
  View<const uint8_t> switches;
  View<T> pooled;
  FastPoolShape s;
  Items items;

  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for_items(items, place, [&](const Items::Item& i) {
      const T* const row = big.at(i.n, i.c, 2 * i.h, 2 * i.w);
      const uint8_t* const where = switches.at(i.n, i.c, i.h, i.w);
      T* const to = pooled.at(i.n, i.c, i.h, i.w);
      const int64_t windows = s.w.output - i.w, cells = s.w.input - 2 * i.w;
      const int rows = 2 * i.h + 1 < s.h.input ? 2 : 2 * i.h < s.h.input ? 1 : 0;
      if (rows == 2 && windows >= N && cells >= 2 * N) {
        const Group<uint8_t, N> at = load<N>(where);
        const Group<T, N> x[2][2] = {{load<N>(row), load<N>(row + N)},
                                     {load<N>(row + big.h), load<N>(row + big.h + N)}};
        Group<T, N> result;
        DECONVKIT_UNROLL
        for (int k = 0; k < N; ++k) {
          T value{};
          DECONVKIT_UNROLL
          for (int cell = 0; cell < 4; ++cell) {
            const int column = 2 * k + cell % 2;
            const T candidate = x[cell / 2][column / N].at[column % N];
            value = at.at[k] == cell ? candidate : value;
          }
          result.at[k] = value;
        }
        store(to, result);
        return;
      }
      for (int k = 0; k < N && k < windows; ++k) {
        const int cell = where[k];
        const bool inside = cell < 2 * rows && 2 * k + cell % 2 < cells;
        store(to + k, inside ? row[cell / 2 * big.h + 2 * k + cell % 2] : T{});
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
  const Way way = way_of<T>(big, pooled, switches, s, sizeof(Switch));
  if (way == Way::kChannels && s.cells() <= kMostCells && !(Winner && s.overlaps())) {
    const Items items(n, c, h, w, true, kN);
    return launch(CollectChannels<T, Switch, kN>{{}, from, at, to, FastPoolShape(s), items}, items.tiles);
  }
  if constexpr (sizeof(Switch) == 1) {
    if (way == Way::kPairs) {
      const Items items(n, c, h, w, false, kN);
      return launch(CollectPairs<T, kN>{{}, from, at, to, FastPoolShape(s), items}, items.tiles);
    }
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
