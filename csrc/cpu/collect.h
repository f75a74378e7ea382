// From the cells to the windows: every window takes the cell that its switch names (adjoint of pooling's
// backward), or only the last of those that name it does (adjoint of unpooling). See cpu/by_switches.h.
#pragma once
#include "cpu/by_switches_2x2.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

template <class E, class Switch>
struct Collect {
  const TensorRef &big, &switches, &pooled;
  const PoolShape& s;
  int64_t inner, band, later;  // channels; rows of windows of a task, and below it that may name its cells
};

// `count` windows, or channels of a window, cell (0, 0) of the first being from[base] and marks[mark]. False
// where a switch named none of the cells in these ranges; then *to = 0.
template <bool Winner, bool Whole, class E, class Switch>
inline bool collect_run(const Places<Switch>& places, const Places<Switch>& places_of_marks,
                        const Range& codes, const Range& columns, const E* from, const Switch* at,
                        int64_t count, const Steps& step, int64_t base, int64_t mark, uint8_t* marks, E* to) {
  bool all = true;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = Winner ? count - 1 - k : k;
    const int64_t code = at[i * step.switches];
    bool inside = codes.has(code);
    if (!Whole) inside &= columns.has(places.column(code));
    all &= inside;
    const E value = from[inside ? base + i * step.cells + places.offset(code) : 0];
    bool takes = inside;
    if (Winner) {
      uint8_t* const taken = marks + (inside ? mark + i * step.marks + places_of_marks.offset(code) : -1);
      takes &= !*taken;
      *taken = 1;
    }
    to[i * step.pooled] = takes ? value : E{0};
  }
  return all;
}

// Rows of windows from oh on, columns [begin, end) of them.
template <bool Winner, class E, class Switch>
[[gnu::noinline]] bool collect_band(const Collect<E, Switch>& job, const Places<Switch>& places,
                                    const Places<Switch>& places_of_marks, int64_t n, int64_t c, int64_t oh,
                                    int64_t begin, int64_t end) {
  const PoolShape& s = job.s;
  const auto from = plane_of<const E>(job.big, n, c);
  const auto at = plane_of<const Switch>(job.switches, n, c);
  const auto to = plane_of<E>(job.pooled, n, c);
  const int64_t inner = job.inner, pitch = s.w.input * inner;
  const int64_t oh_end = oh + job.band < s.h.output ? oh + job.band : s.h.output;
  const int64_t stop = Winner && job.later < s.h.output - oh_end ? oh_end + job.later
                       : Winner                                  ? s.h.output
                                                                 : oh_end;
  const int64_t h0 = s.h.start(oh) > 0 ? s.h.start(oh) : 0;
  uint8_t* marks = nullptr;
  if (Winner) {
    const int64_t h1 = s.h.start(stop - 1) + (s.h.kernel - 1) * s.h.dilation + 1;
    const int64_t cells = ((h1 < s.h.input ? h1 : s.h.input) - h0) * pitch;
    marks = workspace<uint8_t>(Slot::kGather, (cells > 0 ? cells : 0) + 64) + 64;
    if (cells > 0) std::memset(marks, 0, cells);
  }
  Steps step = inner > 1 ? Steps{1, 1, 1, 1} : Steps{to.w, at.w, s.w.stride * from.w, s.w.stride};
  const Range whole_windows = range(s.w.inner_begin(), s.w.inner_end());
  E nowhere[1];
  bool good = true;
  for (int64_t k = oh; k < stop; ++k) {
    const int64_t row = Winner ? oh + stop - 1 - k : k;
    const bool wanted = row < oh_end;
    if (Winner) step.pooled = !wanted ? 0 : inner > 1 ? 1 : to.w;
    const Range codes = range(s.h.first(row) * s.w.kernel, s.h.last(row) * s.w.kernel);
    bool all = true;
    for_windows<Winner>(s.w, begin, end, whole_windows, inner == 1,
                        [&](auto whole, int64_t ow, int64_t windows, const Range& columns) {
                          all &= collect_run < Winner,
                              whole.value != 0 > (places, places_of_marks, codes, columns, from.data,
                                                  at.at(row, ow), inner > 1 ? inner : windows, step,
                                                  s.h.start(row) * from.h + s.w.start(ow) * from.w,
                                                  (s.h.start(row) - h0) * pitch + s.w.start(ow) * inner,
                                                  marks, wanted ? to.at(row, ow) : nowhere);
                        });
    if (wanted && !all) good &= check_row<Switch>(at, s, row, begin, end, inner);
  }
  return good;
}

template <bool Winner, class E, class Switch>
bool collect_bands(Collect<E, Switch> job, Walk walk, int threads) {
  const PoolShape& s = job.s;
  constexpr int64_t kWindows = 4096, kMarks = int64_t{1} << 17;  // of a task
  job.inner = walk == Walk::kChannels ? job.pooled.size[1] : 1;
  job.later = (s.h.kernel - 1) * s.h.dilation / s.h.stride;
  job.band = Winner ? kMarks / (s.h.stride * s.w.input * job.inner) : kWindows / (s.w.output * job.inner);
  job.band = job.band < 1 ? 1 : job.band < s.h.output ? job.band : s.h.output;
  const int64_t row_elements = s.h.stride * s.w.stride * s.w.output * job.inner;
  const auto from = plane_of<const E>(job.big, 0, 0);
  const Places<Switch> places(s, from.h, from.w), places_of_marks(s, s.w.input * job.inner, job.inner);
  Good good;
  for_rows(
      job.pooled.size[0], job.pooled.size[1] / job.inner, (s.h.output + job.band - 1) / job.band, s.w.output,
      Winner ? s.w.output : kWindows, job.band * row_elements * static_cast<int64_t>(sizeof(E)), threads,
      [&](const Piece& p) {
        if (!collect_band<Winner>(job, places, places_of_marks, p.n, p.c, p.row * job.band, p.begin, p.end)) {
          good.fail();
        }
      });
  return static_cast<bool>(good);
}

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
      const Collect<E, typename decltype(w)::type> job{big, switches, pooled, s, 0, 0, 0};
      good = WinnerOnly && s.overlaps() ? collect_bands<true>(job, walk, threads)
                                        : collect_bands<false>(job, walk, threads);
    });
  });
  return good;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
