// From the windows to the cells that their switches name: several values for a cell are summed up (backward
// of pooling), or the last in row-major order wins (unpooling). See cpu/by_switches.h.
#pragma once
#include "cpu/by_switches_2x2.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// ---- window by window ----

constexpr int64_t kRegionCells = 8192;  // of a task, channels counted

// The part [begin, end) of an axis as one of its own.
inline PoolAxis part(const PoolAxis& a, int64_t begin, int64_t end) {
  return {end - begin, a.output, a.kernel, a.stride, a.padding + begin, a.dilation};
}

// A call of spread; its regions have `rows` x `columns` cells of `inner` channels.
template <class T, class Switch>
struct Spread {
  const TensorRef &pooled, &switches, &big;
  const PoolShape& s;
  bool stream;
  int64_t inner, rows, columns;
};

// `count` windows, or channels of a window, cell (0, 0) of the first being sum[base]. False where a switch
// named none of the cells in these ranges; its value then goes to sum[-1].
// Unit: steps of 1 but for the cells.
template <bool Sum, bool Unit, bool Whole, class T, class Switch>
inline bool add_run(const Places<Switch>& places, const Range codes, const Range columns, const T* values,
                    const Switch* at, const int64_t count, const Steps step, int64_t base, Compute<T>* sum) {
  bool all = true;
  for (int64_t i = 0; i < count; ++i, base += step.cells) {
    const int64_t code = at[Unit ? i : i * step.switches];
    bool inside = codes.has(code);
    if (!Whole) inside &= columns.has(places.column(code));
    Compute<T>* const cell = sum + (inside ? base + places.offset(code) : -1);
    const Compute<T> x = load(values + (Unit ? i : i * step.pooled));
    *cell = Sum ? *cell + x : x;
    all &= inside;
  }
  return all;
}

// Moves rows of sums to their place; sum is overwritten.
template <class T>
inline void store_region(Compute<T>* sum, const PoolAxis& h, const PoolAxis& w, int64_t pitch, int64_t inner,
                         const Plane<T>& out, bool stream) {
  using C = Compute<T>;
  constexpr int kN = kLanes<C>;
  T* const stored = reinterpret_cast<T*>(sum);
  if constexpr (sizeof(T) < sizeof(C)) {
    for (int64_t i = 0; i < h.input * pitch; i += kN) store_vec<kN>(stored + i, load_vec<kN>(sum + i));
  }
  const bool pixels = w.input == 1 || out.w == inner;  // neighbours lie side by side
  const bool rows = pixels && (h.input == 1 || out.h == pitch) && w.input * inner == pitch;
  const int64_t count = rows ? h.input * pitch : pixels ? w.input * inner : inner;
  for (int64_t y = 0; y < (rows ? 1 : h.input); ++y) {
    for (int64_t x = 0; x < (pixels ? 1 : w.input); ++x) {
      const T* const from = stored + y * pitch + x * inner;
      const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
      stream ? stream_copy(out.at(y, x), from, bytes) : void(std::memcpy(out.at(y, x), from, bytes));
    }
  }
}

// Cells from (h0, w0) on; false for a switch that points outside.
template <bool Sum, bool Unit, class T, class Switch>
[[gnu::noinline]] bool spread_region(const Spread<T, Switch>& job, const Places<Switch>& places, int64_t n,
                                     int64_t c, int64_t h0, int64_t w0) {
  using C = Compute<T>;
  const PoolAxis &h = job.s.h, &w = job.s.w;
  const PoolShape s{part(h, h0, h0 + job.rows < h.input ? h0 + job.rows : h.input),
                    part(w, w0, w0 + job.columns < w.input ? w0 + job.columns : w.input)};
  const auto from = plane_of<const T>(job.pooled, n, c);
  const auto at = plane_of<const Switch>(job.switches, n, c);
  const auto out = plane_of<T>(job.big, n, c);
  const int64_t inner = job.inner, pitch = job.columns * inner, cells = s.h.input * pitch;
  C* const sum = workspace<C>(Slot::kGather, cells + 128) + 64;
  std::memset(sum, 0, cells * sizeof(C));
  const Steps step = inner > 1 ? Steps{1, 1, 1} : Steps{from.w, at.w, w.stride};
  const int64_t begin = s.w.reach_begin(0), end = s.w.reach_end(s.w.input - 1);
  const int64_t oh_end = s.h.reach_end(s.h.input - 1);
  const Range whole_windows = range(s.w.inner_begin(), s.w.inner_end());
  bool good = true;
  for (int64_t oh = s.h.reach_begin(0); oh < oh_end; ++oh) {
    const Range codes = range(s.h.first(oh) * w.kernel, s.h.last(oh) * w.kernel);
    bool all = true;
    for_windows(s.w, begin, end, whole_windows, inner == 1,
                [&](auto whole, int64_t ow, int64_t windows, const Range& columns) {
                  constexpr bool kWhole = decltype(whole)::value != 0;
                  all &= add_run<Sum, Unit, kWhole>(places, codes, columns, from.at(oh, ow), at.at(oh, ow),
                                                    inner > 1 ? inner : windows, step,
                                                    s.h.start(oh) * pitch + s.w.start(ow) * inner, sum);
                });
    if (!all) good &= check_row<Switch>(at, job.s, oh, begin, end, inner);
  }
  store_region(sum, s.h, s.w, pitch, inner, Plane<T>{out.at(h0, w0), out.h, out.w}, job.stream);
  return good;
}

template <bool Sum, class T, class Switch>
bool spread_regions(Spread<T, Switch> job, Walk walk, int threads) {
  const PoolShape& s = job.s;
  const auto at_most = [](int64_t count, int64_t most) {
    return count < most ? (count > 1 ? count : 1) : most;
  };
  job.inner = walk == Walk::kChannels ? job.pooled.size[1] : 1;
  job.columns = at_most(kRegionCells / job.inner, s.w.input);
  job.rows = at_most(kRegionCells / (job.inner * job.columns), s.h.input);
  const Places<Switch> places(s, job.columns * job.inner, job.inner);
  const auto run = walk == Walk::kPlanes || job.inner > 1 ? spread_region<Sum, true, T, Switch>
                                                          : spread_region<Sum, false, T, Switch>;
  Good good;
  for_rows(job.pooled.size[0], job.pooled.size[1] / job.inner, (s.h.input + job.rows - 1) / job.rows,
           (s.w.input + job.columns - 1) / job.columns, 1,
           job.rows * s.w.input * job.inner * static_cast<int64_t>(sizeof(T)), threads, [&](const Piece& p) {
             if (!run(job, places, p.n, p.c, p.row * job.rows, p.begin * job.columns)) good.fail();
           });
  return static_cast<bool>(good);
}

// ---- vectors of channels ----

inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// Whether all switches of pixels can be used.
template <class Switch>
bool check_switches(const TensorRef& switches, const PoolShape& s, int threads) {
  Good good;
  const int64_t channels = switches.size[1];
  for_rows(switches.size[0], 1, s.h.output, s.w.output, int64_t{1} << 40,
           s.w.output * channels * static_cast<int64_t>(sizeof(Switch)), threads, [&](const Piece& p) {
             const auto at = plane_of<const Switch>(switches, p.n, 0);
             if (!check_row<Switch>(at, s, p.row, p.begin, p.end, channels)) good.fail();
           });
  return static_cast<bool>(good);
}

// A window that may hold the cell at hand, and the switch by which it does.
template <class T, class Switch>
struct Sender {
  const T* values;
  const Switch* switches;
  int32_t code;
};
constexpr int kMaxSenders = 16;

template <bool Sum, int N, int U, class T, class Switch>
inline void spread_channels(const Sender<T, Switch>* senders, int count, int64_t c, T* to) {
  using C = Compute<T>;
  using V = Vec<C, N>;
  using I = Vec<Lane<C>, N>;
  V sum[U] = {};
  for (int i = 0; i < count; ++i) {
    const auto code = static_cast<Lane<C>>(senders[i].code);
    for (int u = 0; u < U; ++u) {
      const V x = load_vec<N>(senders[i].values + c + u * N);
      const I match = widen<Lane<C>, N>(senders[i].switches + c + u * N) == code;
      sum[u] = Sum ? sum[u] + bit_cast<V>(match & bit_cast<I>(x)) : match ? x : sum[u];
    }
  }
  for (int u = 0; u < U; ++u) store_vec<N>(to + c + u * N, sum[u]);
}

// All channels of one cell.
template <bool Sum, class T, class Switch>
inline void spread_cell(const Sender<T, Switch>* senders, int count, int64_t channels, T* to) {
  constexpr int kUnroll = sizeof(Switch) == 1 ? 4 : 1, kN = kLanes<Compute<T>>;
  int64_t c = 0;
  for (; c + kUnroll * kN <= channels; c += kUnroll * kN)
    spread_channels<Sum, kN, kUnroll>(senders, count, c, to);
  const bool done = cover<Compute<T>, kN>(
      channels - c, [&](auto n, int64_t i) { spread_channels<Sum, n.value, 1>(senders, count, c + i, to); });
  if (done) return;
  for (; c < channels; ++c) {
    Compute<T> sum = 0;
    for (int i = 0; i < count; ++i) {
      if (senders[i].switches[c] != senders[i].code) continue;
      const Compute<T> x = load(senders[i].values + c);
      sum = Sum ? sum + x : x;
    }
    store(to + c, sum);
  }
}

constexpr int64_t kPixelElements = 4096;  // of a piece of a row of pixels

template <bool Sum, class T, class Switch>
[[gnu::noinline]] void spread_row_of_pixels(const Spread<T, Switch>& job, const Piece& p) {
  const PoolShape& s = job.s;
  const PoolAxis& w = s.w;
  const int64_t channels = job.pooled.size[1];
  const auto from = plane_of<const T>(job.pooled, p.n, 0);
  const auto at = plane_of<const Switch>(job.switches, p.n, 0);
  const auto out = plane_of<T>(job.big, p.n, 0);
  const bool stream = job.stream && channels <= kPixelElements && out.w == channels;
  RowBuffer<T, kPixelElements> buffer;
  T* to = buffer.open(out.at(p.row, p.begin), stream);
  const int64_t oh_begin = s.h.reach_begin(p.row), oh_end = s.h.reach_end(p.row);
  // The windows that reach column iw are [ow_begin, ow_end] before clipping; both move on by one every
  // `stride` columns, so no division is needed.
  const int64_t from_x = p.begin + w.padding - (w.kernel - 1) * w.dilation + w.stride - 1;
  int64_t ow_begin = floor_div(from_x, w.stride), begin_left = from_x - ow_begin * w.stride;
  int64_t ow_end = (p.begin + w.padding) / w.stride, end_left = p.begin + w.padding - ow_end * w.stride;
  for (int64_t iw = p.begin; iw < p.end; ++iw, to += out.w) {
    Sender<T, Switch> senders[kMaxSenders];
    int count = 0;
    const int64_t last = ow_end + 1 < w.output ? ow_end + 1 : w.output;
    for (int64_t oh = oh_begin; oh < oh_end; ++oh) {
      const int64_t kh = s.h.cell_of(p.row, oh);
      if (kh < 0) continue;
      for (int64_t ow = ow_begin > 0 ? ow_begin : 0; ow < last; ++ow) {
        const int64_t kw = w.cell_of(iw, ow);
        if (kw < 0) continue;
        senders[count++] = {from.at(oh, ow), at.at(oh, ow), static_cast<int32_t>(kh * w.kernel + kw)};
      }
    }
    spread_cell<Sum>(senders, count, channels, to);
    if (++begin_left == w.stride) begin_left = 0, ++ow_begin;
    if (++end_left == w.stride) end_left = 0, ++ow_end;
  }
  buffer.close((p.end - p.begin) * channels);
}

// How many windows may hold a cell, at most.
inline int64_t most_senders(const PoolAxis& a) {
  const int64_t most = (a.kernel - 1) * a.dilation / a.stride + 1;
  return most < a.output ? most : a.output;
}

// Whether vectors of channels are worth it: a vector full of them, and few windows to ask.
inline bool in_vectors(const PoolShape& s, int64_t channels) {
  return channels >= 4 && most_senders(s.h) * most_senders(s.w) <= kMaxSenders;
}

template <bool Sum, class T, class Switch>
bool spread_pixels(const Spread<T, Switch>& job, int threads) {
  const PoolShape& s = job.s;
  const int64_t channels = job.pooled.size[1];
  if (!check_switches<Switch>(job.switches, s, threads)) return false;
  const int64_t pixels = channels < kPixelElements ? kPixelElements / channels : 1;
  for_rows(job.pooled.size[0], 1, s.h.input, s.w.input, pixels,
           s.w.input * channels * static_cast<int64_t>(sizeof(T)), threads,
           [&](const Piece& p) { spread_row_of_pixels<Sum>(job, p); });
  return true;
}

// ---- all ----

// pooled (N, C, OH, OW) and its switches -> big (N, C, H, W).
template <bool Sum>
bool spread(const TensorRef& pooled, const TensorRef& switches, const TensorRef& big, const PoolShape& s,
            int threads) {
  bool good = true;
  if (big.numel() == 0) return good;
  const Walk walk = walk_of(pooled, switches, big);
  for_float_dtype(pooled.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const int64_t bytes = span_bytes<T>(big);
    advise_huge(big.data, bytes);
    const bool stream = bytes > kStreamBytes;
    if (switches.dtype == DType::kUInt8 && walk == Walk::kPlanes && side_by_side_2x2(s.h) &&
        side_by_side_2x2(s.w)) {
      good = move_2x2<true, Bits<T>>(pooled, switches, big, s, stream, threads);
      return;
    }
    for_switch_dtype(switches.dtype, [&](auto w) {
      using Job = Spread<T, typename decltype(w)::type>;
      const Job job{pooled, switches, big, s, stream, 0, 0, 0};
      good = walk == Walk::kChannels && in_vectors(s, pooled.size[1])
                 ? spread_pixels<Sum>(job, threads)
                 : spread_regions<Sum>(job, walk, threads);
    });
  });
  return good;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
