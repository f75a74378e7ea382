// From the cells to the windows: every window takes the cell that its switch names (adjoint of pooling's
// backward), or only the last of those that name it does (adjoint of unpooling). See cpu/by_switches.h.
#pragma once
#include "cpu/by_switches_2x2.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

template <class E, class Switch>
struct Collect {
  const TensorRef &big, &switches, &pooled;
  const PoolShape& s;
  int64_t inner, band;  // channels; rows of windows of a task
};

// ---- of windows that name the same cell all but the last are struck out ----

// How many windows further on one may still share a cell.
inline int64_t later_neighbours(const PoolAxis& a) {
  const int64_t most = (a.kernel - 1) * a.dilation / a.stride;
  return most < a.output ? most : a.output - 1;
}

// Rows [oh, oh_end) of windows, `inner` switches each, without the losers; later ones are looked at. The
// result, in this thread's workspace, has `pitch` switches a row.
//
// Rows lie behind one another with margins of kNoSwitch between them and rows of it behind the last, so that
// all windows have all neighbours and every neighbour is one run over all rows.
template <class Switch>
class Struck {
 public:
  Struck(const Plane<const Switch>& at, const PoolShape& s, int64_t oh, int64_t oh_end, int64_t inner) {
    constexpr Switch kNone = kNoSwitch<Switch>;
    const PoolAxis &h = s.h, &w = s.w;
    const int64_t later_h = later_neighbours(h), later_w = later_neighbours(w);
    const int64_t row = w.output * inner, margin = later_w * inner;
    pitch_ = row + margin;
    const int64_t count = ((oh_end - oh) * pitch_ + kN - 1) / kN * kN;
    const int64_t size = margin + count + later_h * pitch_ + margin + kN;
    Switch* const block = workspace<Switch>(Slot::kGather, size + 3 * count);
    Switch *const from = block + margin, *const kh = block + size, *const kw = kh + count;
    to_ = kw + count;
    for (int64_t i = 0; i < size; ++i) block[i] = kNone;
    const int64_t stop = oh_end + later_h < h.output ? oh_end + later_h : h.output;
    for (int64_t y = oh; y < stop; ++y) {
      Switch* const copy = from + (y - oh) * pitch_;
      if (inner == 1 ? at.w == 1 : at.w == inner) {
        std::memcpy(copy, at.at(y, 0), row * sizeof(Switch));
      } else {
        for (int64_t x = 0; x < w.output; ++x) {
          for (int64_t c = 0; c < inner; ++c) copy[x * inner + c] = at.at(y, x)[c];
        }
      }
    }
    for (int64_t i = 0; i < count; i += kN) {
      const V code = load_switches(from + i);
      V row_of_cell{};
      if constexpr (sizeof(Switch) == 1) {  // no instruction divides bytes
        for (int64_t r = 1; r < h.kernel; ++r) row_of_cell -= V(code >= all(r * w.kernel));
      } else {
        row_of_cell = code / all(w.kernel);
      }
      store_switches(kh + i, row_of_cell);
      store_switches(kw + i, V(code - row_of_cell * all(w.kernel)));
      store_switches(to_ + i, code);
    }
    for (int64_t y = 0; y <= later_h; ++y) {
      if (y * h.stride % h.dilation) continue;
      const int64_t a = y * h.stride / h.dilation;  // the cell's row in that window is kh - a
      for (int64_t x = y ? -later_w : 1; x <= later_w; ++x) {
        if (x * w.stride % w.dilation) continue;
        const int64_t b = x * w.stride / w.dilation;
        const V above = all(a), low = all(b > 0 ? b : 0), high = all(w.kernel + (b > 0 ? 0 : b));
        const V apart = all(a * w.kernel + b);
        const Switch* const others = from + y * pitch_ + x * inner;
        for (int64_t i = 0; i < count; i += kN) {
          const V column = load_switches(kw + i), left = load_switches(to_ + i);
          const auto loses = (load_switches(others + i) == V(load_switches(from + i) - apart)) &
                             (load_switches(kh + i) >= above) & (column >= low) & (column < high);
          store_switches(to_ + i, V(loses ? all(kNone) : left));
        }
      }
    }
  }
  const Switch* row_of(int64_t row) const { return to_ + row * pitch_; }

 private:
  static constexpr int kN = sizeof(Switch) == 1 && kVectorBytes > 32 ? kVectorBytes / 2 : kLanes<Switch>;
  using V = Vec<Switch, kN>;

  static V all(int64_t x) { return V{} + static_cast<Switch>(x); }
  static V load_switches(const Switch* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static void store_switches(Switch* p, V v) { std::memcpy(p, &v, sizeof v); }

  int64_t pitch_;
  Switch* to_;
};

// ---- window by window ----

// `count` windows, or channels of a window, cell (0, 0) of the first being from[base]. False where a switch
// named none of the cells in these ranges; then *to = 0. Unit: steps of 1 but for the cells.
template <bool Unit, bool Whole, class E, class Switch>
inline bool collect_run(const Places<Switch>& places, const Range codes, const Range columns, const E* from,
                        const Switch* at, const int64_t count, const Steps step, int64_t base, E* to) {
  bool all = true;
  for (int64_t i = 0; i < count; ++i, base += step.cells) {
    const int64_t code = at[Unit ? i : i * step.switches];
    bool inside = codes.has(code);
    if (!Whole) inside &= columns.has(places.column(code));
    all &= inside;
    const E value = from[inside ? base + places.offset(code) : 0];
    to[Unit ? i : i * step.pooled] = inside ? value : E{0};
  }
  return all;
}

// Rows of windows from oh on, columns [begin, end) of them.
template <bool Winner, bool Unit, class E, class Switch>
[[gnu::noinline]] bool collect_band(const Collect<E, Switch>& job, const Places<Switch>& places, int64_t n,
                                    int64_t c, int64_t oh, int64_t begin, int64_t end) {
  const PoolShape& s = job.s;
  const auto from = plane_of<const E>(job.big, n, c);
  const auto at = plane_of<const Switch>(job.switches, n, c);
  const auto to = plane_of<E>(job.pooled, n, c);
  const int64_t inner = job.inner;
  const int64_t oh_end = oh + job.band < s.h.output ? oh + job.band : s.h.output;
  const Range whole_windows = range(s.w.inner_begin(), s.w.inner_end());
  bool good = true;
  const auto collect_row = [&](int64_t row, const Switch* switches, int64_t apart) {
    const Range codes = range(s.h.first(row) * s.w.kernel, s.h.last(row) * s.w.kernel);
    const Steps step = inner > 1 ? Steps{1, 1, 1} : Steps{to.w, apart, s.w.stride * from.w};
    bool all = true;
    for_windows(s.w, begin, end, whole_windows, inner == 1,
                [&](auto whole, int64_t ow, int64_t windows, const Range& columns) {
                  constexpr bool kWhole = decltype(whole)::value != 0;
                  all &= collect_run<Unit, kWhole>(
                      places, codes, columns, from.data, switches + ow * apart, inner > 1 ? inner : windows,
                      step, s.h.start(row) * from.h + s.w.start(ow) * from.w, to.at(row, ow));
                });
    if (!all) good &= check_row<Switch>(at, s, row, begin, end, inner);
  };
  if constexpr (Winner) {
    const Struck<Switch> struck(at, s, oh, oh_end, inner);
    for (int64_t row = oh; row < oh_end; ++row) collect_row(row, struck.row_of(row - oh), inner);
  } else {
    for (int64_t row = oh; row < oh_end; ++row) collect_row(row, at.at(row, 0), at.w);
  }
  return good;
}

template <bool Winner, class E, class Switch>
bool collect_bands(Collect<E, Switch> job, Walk walk, int threads) {
  const PoolShape& s = job.s;
  constexpr int64_t kWindows = 4096;  // of a task
  job.inner = walk == Walk::kChannels ? job.pooled.size[1] : 1;
  const int64_t width = s.w.output * job.inner, later = Winner ? later_neighbours(s.h) : 0;
  job.band = kWindows / width < 2 * later ? 2 * later : kWindows / width;
  job.band = job.band < 1 ? 1 : job.band < s.h.output ? job.band : s.h.output;
  const auto from = plane_of<const E>(job.big, 0, 0);
  const Places<Switch> places(s, from.h, from.w);
  const int64_t bytes = job.band * s.h.stride * s.w.stride * width * static_cast<int64_t>(sizeof(E));
  const auto run = walk == Walk::kPlanes || job.inner > 1 ? collect_band<Winner, true, E, Switch>
                                                          : collect_band<Winner, false, E, Switch>;
  Good good;
  for_rows(job.pooled.size[0], job.pooled.size[1] / job.inner, (s.h.output + job.band - 1) / job.band,
           s.w.output, Winner ? s.w.output : kWindows, bytes, threads, [&](const Piece& p) {
             if (!run(job, places, p.n, p.c, p.row * job.band, p.begin, p.end)) good.fail();
           });
  return static_cast<bool>(good);
}

// ---- all ----

// big (N, C, H, W) and switches -> pooled (N, C, OH, OW).
template <bool WinnerOnly>
bool collect(const TensorRef& big, const TensorRef& switches, const TensorRef& pooled, const PoolShape& s,
             int threads) {
  bool good = true;
  if (pooled.numel() == 0) return good;
  const Walk walk = walk_of(pooled, switches, big);
  for_float_dtype(pooled.dtype, [&](auto t) {
    using E = Bits<typename decltype(t)::type>;
    advise_huge(pooled.data, span_bytes<E>(pooled));
    if (switches.dtype == DType::kUInt8 && walk == Walk::kPlanes && side_by_side_2x2(s.h) &&
        side_by_side_2x2(s.w)) {
      good = move_2x2<false, E>(pooled, switches, big, s, false, threads);
      return;
    }
    for_switch_dtype(switches.dtype, [&](auto w) {
      const Collect<E, typename decltype(w)::type> job{big, switches, pooled, s, 0, 0};
      good = WinnerOnly && s.overlaps() ? collect_bands<true>(job, walk, threads)
                                        : collect_bands<false>(job, walk, threads);
    });
  });
  return good;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
