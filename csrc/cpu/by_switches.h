// Moving values by switches. spread: from the windows to the cells that their switches name, where several
// meet their sum (backward of pooling) or the last in row-major order (unpooling). collect: from the cells to
// the windows, of all (adjoint of the former) or of the winners alone (adjoint of the latter).
//
// spread is written from the side of the result: every cell asks the windows that may hold it, so each is
// written once, zeros included, by one thread and in one order. Rows of the result are shared out among the
// threads. Planes: a row is summed up in L1, as `stride` interleaved rows of which each tap of the window
// adds a vector of neighbours; 2x2 windows without overlap skip that. Channels: vectors of channels, pixel by
// pixel. Floor: reads values and switches, writes the result, 21 bytes a window for 2x2 float32.
//
// Switches are data from outside: what points outside its window or the tensor matches no cell in spread and
// is looked at before use in collect. Both then return false.
#pragma once
#include "cpu/windows.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// Set by any thread that met a switch that it could not use.
class Good {
 public:
  void fail() { __atomic_store_n(&good_, false, __ATOMIC_RELAXED); }
  explicit operator bool() const { return __atomic_load_n(&good_, __ATOMIC_RELAXED); }

 private:
  bool good_ = true;
};

inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
inline int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

template <class T, class Switch>
bool check_switches(const TensorRef& switches, const PoolShape& s, Walk walk, int threads) {
  Good good;
  const int64_t c = switches.size[1];
  const bool channels = walk == Walk::kChannels;
  for_rows(switches.size[0], channels ? 1 : c, s.h.output, s.w.output, int64_t{1} << 40,
           s.w.output * (channels ? c : 1) * sizeof(Switch), threads, [&](const Piece& p) {
             const auto at = plane_of<const Switch>(switches, p.n, p.c);
             if (!check_row<Switch>(at, s, p.row, p.begin, p.end, channels ? c : 1)) good.fail();
           });
  return static_cast<bool>(good);
}

// A call of spread.
template <class T, class Switch>
struct Spread {
  const TensorRef &pooled, &switches, &big;
  const PoolShape& s;
  bool stream;
};

// ---- spread, planes, 2x2 windows side by side ----

constexpr int64_t kPairs = 512;  // windows of a piece

inline bool side_by_side_2x2(const PoolAxis& a) {
  return a.kernel == 2 && a.stride == 2 && a.padding == 0 && a.dilation == 1;
}

// N windows to columns [column, column + 2N) of the rows.
template <int N, int Rows, class E, class Switch>
inline void spread_pairs(const E* values, const Switch* switches, E* const (&to)[2], int64_t column) {
  using I = Vec<Lane<E>, N>;
  I value;
  std::memcpy(&value, values, sizeof value);
  value = in_blocks<Lane<E>, N>(value);
  const I at = in_blocks<Lane<E>, N>(widen<Lane<E>, N>(switches));
  for (int row = 0; row < Rows; ++row) {
    const I even = (at == static_cast<Lane<E>>(2 * row)) & value;
    const I odd = (at == static_cast<Lane<E>>(2 * row + 1)) & value;
    const I low = weave_low<Lane<E>, N>(even, odd), high = weave_high<Lane<E>, N>(even, odd);
    std::memcpy(to[row] + column, &low, sizeof low);
    std::memcpy(to[row] + column + N, &high, sizeof high);
  }
}

// Windows and the `columns` columns of their one or two rows of cells. E: the bits of a value, which is only
// moved.
template <int Rows, class E, class Switch>
void spread_pairs_of_rows(const E* values, const Switch* switches, int64_t windows, int64_t columns,
                          E* const (&to)[2]) {
  const int64_t whole = columns / 2 < windows ? columns / 2 : windows;
  const bool done = cover<E, kLanes<E>>(
      whole, [&](auto n, int64_t i) { spread_pairs<n.value, Rows>(values + i, switches + i, to, 2 * i); });
  for (int64_t ow = done ? whole : 0; ow < windows; ++ow) {
    for (int row = 0; row < Rows; ++row) {
      for (int64_t k = 0; k < 2 && 2 * ow + k < columns; ++k) {
        to[row][2 * ow + k] = switches[ow] == row * 2 + k ? values[ow] : E{0};
      }
    }
  }
}

template <class T, class Switch>
[[gnu::noinline]] bool spread_row_2x2(const Spread<T, Switch>& job, const Piece& p) {
  const PoolShape& s = job.s;
  const auto from = plane_of<const Bits<T>>(job.pooled, p.n, p.c);
  const auto at = plane_of<const Switch>(job.switches, p.n, p.c);
  const auto out = plane_of<Bits<T>>(job.big, p.n, p.c);
  const int64_t begin = 2 * p.begin, end = 2 * p.end < s.w.input ? 2 * p.end : s.w.input;
  const int64_t rows = s.h.input - 2 * p.row < 2 ? s.h.input - 2 * p.row : 2;
  if (begin < end && rows > 0) {
    RowBuffer<Bits<T>, 2 * kPairs> buffer[2];
    Bits<T>* to[2] = {};
    for (int64_t row = 0; row < rows; ++row) {
      to[row] = buffer[row].open(out.at(2 * p.row + row, begin), job.stream);
    }
    const auto run =
        rows == 2 ? spread_pairs_of_rows<2, Bits<T>, Switch> : spread_pairs_of_rows<1, Bits<T>, Switch>;
    run(from.at(p.row, p.begin), at.at(p.row, p.begin), p.end - p.begin, end - begin, to);
    for (int64_t row = 0; row < rows; ++row) buffer[row].close(end - begin);
  }
  // The last row and the last column of windows also see to the cells that no window holds.
  const int64_t rows_end = p.row + 1 == s.h.output ? s.h.input : 2 * p.row + rows;
  const int64_t columns_end = p.end == s.w.output ? s.w.input : end;
  for (int64_t h = 2 * p.row; h < rows_end; ++h) {
    for (int64_t w = h < 2 * p.row + 2 ? end : begin; w < columns_end; ++w) *out.at(h, w) = 0;
  }
  return check_row<Switch>(at, s, p.row, p.begin, p.end, 1);
}

// ---- spread, planes, any windows ----

constexpr int64_t kRowCells = 1024;  // of a piece of a row
constexpr int64_t kMaxTaps = 8;      // strides and kernel widths up to this go tap by tap

// One row of windows, of whose cells row kh lies in this row of the result: columns [begin, end) of that,
// summed up in `sum`, where column begin + q·stride + r is sum[r·pitch + q].
template <bool Sum, class T, class Switch>
void spread_taps(const T* values, const Switch* switches, const PoolAxis& w, int64_t kh, int64_t begin,
                 int64_t end, Compute<T>* sum, int64_t pitch) {
  using C = Compute<T>;
  constexpr int kN = kLanes<C>, kHalf = kN * sizeof(C) > 16 ? kN / 2 : kN;
  for (int64_t kw = w.kernel - 1; kw >= 0; --kw) {  // windows in order
    const int64_t shift = kw * w.dilation - w.padding - begin;
    int64_t ow = ceil_div(-shift, w.stride), last = ceil_div(end - begin - shift, w.stride);
    ow = ow > 0 ? ow : 0, last = last < w.output ? last : w.output;
    const int64_t q = floor_div(shift, w.stride), r = shift - q * w.stride;
    C* const row = sum + r * pitch + q;
    const auto code = static_cast<int32_t>(kh * w.kernel + kw);
    const auto step = [&](auto n) {
      constexpr int kWidth = n.value;
      using V = Vec<C, kWidth>;
      using I = Vec<Lane<C>, kWidth>;
      const I match = widen<Lane<C>, kWidth>(switches + ow) == static_cast<Lane<C>>(code);
      const V x = load_vec<kWidth>(values + ow), old = load_vec<kWidth>(row + ow);
      store_vec<kWidth>(row + ow, Sum ? old + bit_cast<V>(match & bit_cast<I>(x)) : match ? x : old);
    };
    for (; ow + kN <= last; ow += kN) step(Width<kN>{});
    if (kHalf < kN && ow + kHalf <= last) step(Width<kHalf>{}), ow += kHalf;
    for (; ow < last; ++ow) {
      if (switches[ow] != code) continue;
      const C x = load(values + ow);
      row[ow] = Sum ? row[ow] + x : x;
    }
  }
}

// The same for wide kernels or strides, window by window; column begin + x is sum[x].
template <bool Sum, class T, class Switch>
void spread_windows(const T* values, const Switch* switches, const PoolAxis& w, int64_t kh, int64_t begin,
                    int64_t end, Compute<T>* sum) {
  const int64_t last = w.reach_end(end - 1);
  for (int64_t ow = w.reach_begin(begin); ow < last; ++ow) {
    const int64_t kw = switches[ow] - kh * w.kernel;
    if (kw < 0 || kw >= w.kernel) continue;
    const int64_t x = w.cell(ow, kw) - begin;
    if (x < 0 || x >= end - begin) continue;
    const Compute<T> value = load(values + ow);
    sum[x] = Sum ? sum[x] + value : value;
  }
}

// Weaves `stride` rows of sums together.
template <class T>
void store_row(const Compute<T>* sum, int64_t stride, int64_t pitch, int64_t count, T* to) {
  using C = Compute<T>;
  constexpr int kN = kLanes<C>;
  int64_t i = 0;
  if (stride == 1) {
    for (; i + kN <= count; i += kN) store_vec<kN>(to + i, load_vec<kN>(sum + i));
    for (; i < count; ++i) store(to + i, sum[i]);
  } else if (stride == 2) {
    for (; i + 2 * kN <= count; i += 2 * kN) {
      const auto even = in_blocks<C, kN>(load_vec<kN>(sum + i / 2));
      const auto odd = in_blocks<C, kN>(load_vec<kN>(sum + pitch + i / 2));
      store_vec<kN>(to + i, weave_low<C, kN>(even, odd));
      store_vec<kN>(to + i + kN, weave_high<C, kN>(even, odd));
    }
    for (; i < count; ++i) store(to + i, sum[i % 2 * pitch + i / 2]);
  } else {
    for (int64_t r = 0; r < stride; ++r) {
      for (int64_t q = 0; q * stride + r < count; ++q) store(to + q * stride + r, sum[r * pitch + q]);
    }
  }
}

template <bool Sum, class T, class Switch>
[[gnu::noinline]] void spread_row(const Spread<T, Switch>& job, const Piece& p) {
  using C = Compute<T>;
  const PoolShape& s = job.s;
  const bool taps = sizeof(Switch) == 1 && s.w.kernel <= kMaxTaps && s.w.stride <= kMaxTaps;
  const int64_t stride = taps ? s.w.stride : 1;
  const auto from = plane_of<const T>(job.pooled, p.n, p.c);
  const auto at = plane_of<const Switch>(job.switches, p.n, p.c);
  const int64_t count = p.end - p.begin, pitch = (count + stride - 1) / stride;
  alignas(64) C sum[kRowCells + kMaxTaps];
  std::memset(sum, 0, pitch * stride * sizeof(C));
  const int64_t last = s.h.reach_end(p.row);
  for (int64_t oh = s.h.reach_begin(p.row); oh < last; ++oh) {
    const int64_t kh = s.h.cell_of(p.row, oh);
    if (kh < 0) continue;
    if constexpr (sizeof(Switch) == 1) {
      if (taps) {
        spread_taps<Sum>(from.at(oh, 0), at.at(oh, 0), s.w, kh, p.begin, p.end, sum, pitch);
        continue;
      }
    }
    spread_windows<Sum>(from.at(oh, 0), at.at(oh, 0), s.w, kh, p.begin, p.end, sum);
  }
  RowBuffer<T, kRowCells> buffer;
  T* const to = plane_of<T>(job.big, p.n, p.c).at(p.row, p.begin);
  store_row<T>(sum, stride, pitch, count, buffer.open(to, job.stream));
  buffer.close(count);
}

// ---- spread, channels and any strides ----

// A window that may hold the cell at hand, and the switch by which it does.
template <class T, class Switch>
struct Sender {
  const T* values;
  const Switch* switches;
  int32_t code;
};
constexpr int kMaxSenders = 1024;

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

// All channels of one cell; `c_*` are the steps from channel to channel.
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

// One cell, one channel, asking window after window.
template <bool Sum, class T, class Switch>
Compute<T> spread_one(const Plane<const T>& from, const Plane<const Switch>& at, const PoolShape& s,
                      int64_t ih, int64_t iw, int64_t channel) {
  Compute<T> sum = 0;
  for (int64_t oh = s.h.reach_begin(ih); oh < s.h.reach_end(ih); ++oh) {
    const int64_t kh = s.h.cell_of(ih, oh);
    for (int64_t ow = s.w.reach_begin(iw); kh >= 0 && ow < s.w.reach_end(iw); ++ow) {
      const int64_t kw = s.w.cell_of(iw, ow);
      if (kw < 0 || at.at(oh, ow)[channel] != kh * s.w.kernel + kw) continue;
      const Compute<T> x = load(from.at(oh, ow) + channel);
      sum = Sum ? sum + x : x;
    }
  }
  return sum;
}

constexpr int64_t kPixelElements = 4096;  // of a piece of a row of pixels

template <bool Sum, class T, class Switch>
[[gnu::noinline]] void spread_pixels(const Spread<T, Switch>& job, const Piece& p) {
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
      const int64_t kh = s.h.dilation == 1 ? p.row - s.h.start(oh) : s.h.cell_of(p.row, oh);
      if (kh < 0) continue;
      for (int64_t ow = ow_begin > 0 ? ow_begin : 0; ow < last; ++ow) {
        const int64_t kw = w.dilation == 1 ? iw - w.start(ow) : w.cell_of(iw, ow);
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

template <bool Sum, class T, class Switch>
[[gnu::noinline]] void spread_singly(const Spread<T, Switch>& job, const Piece& p, int64_t channels) {
  const auto from = plane_of<const T>(job.pooled, p.n, p.c);
  const auto at = plane_of<const Switch>(job.switches, p.n, p.c);
  const auto out = plane_of<T>(job.big, p.n, p.c);
  for (int64_t iw = p.begin; iw < p.end; ++iw) {
    for (int64_t c = 0; c < channels; ++c) {
      store(out.at(p.row, iw) + c, spread_one<Sum>(from, at, job.s, p.row, iw, c));
    }
  }
}

template <bool Sum, class T, class Switch>
bool run_spread(Spread<T, Switch> job, int threads) {
  const PoolShape& s = job.s;
  const int64_t bytes = span_bytes<T>(job.big);
  job.stream = bytes > kStreamBytes;
  advise_huge(job.big.data, bytes);
  const Walk walk = walk_of(job.pooled, job.switches, job.big);
  const int64_t batch = job.pooled.size[0], channels = job.pooled.size[1];
  const int64_t row_bytes = s.w.input * static_cast<int64_t>(sizeof(T));
  if constexpr (sizeof(Switch) == 1) {
    if (walk == Walk::kPlanes && side_by_side_2x2(s.h) && side_by_side_2x2(s.w)) {
      Good good;
      for_rows(batch, channels, s.h.output, s.w.output, kPairs, 2 * row_bytes, threads, [&](const Piece& p) {
        if (!spread_row_2x2(job, p)) good.fail();
      });
      return static_cast<bool>(good);
    }
  }
  if (!check_switches<T, Switch>(job.switches, s, walk, threads)) return false;
  if (walk == Walk::kPlanes) {
    for_rows(batch, channels, s.h.input, s.w.input, kRowCells, row_bytes, threads,
             [&](const Piece& p) { spread_row<Sum>(job, p); });
  } else if (walk == Walk::kChannels && most_senders(s.h) * most_senders(s.w) <= kMaxSenders) {
    const int64_t pixels = channels < kPixelElements ? kPixelElements / channels : 1;
    for_rows(batch, 1, s.h.input, s.w.input, pixels, row_bytes * channels, threads,
             [&](const Piece& p) { spread_pixels<Sum>(job, p); });
  } else {
    const int64_t inner = walk == Walk::kChannels ? channels : 1;
    for_rows(batch, channels / inner, s.h.input, s.w.input, kRowCells, row_bytes * inner, threads,
             [&](const Piece& p) { spread_singly<Sum>(job, p, inner); });
  }
  return true;
}

// pooled (N, C, OH, OW) and its switches -> big (N, C, H, W).
template <bool Sum>
bool spread(const TensorRef& pooled, const TensorRef& switches, const TensorRef& big, const PoolShape& s,
            int threads) {
  bool good = true;
  if (big.numel() == 0) return good;
  for_float_dtype(pooled.dtype, [&](auto t) {
    for_switch_dtype(switches.dtype, [&](auto w) {
      good = run_spread<Sum>(
          Spread<typename decltype(t)::type, typename decltype(w)::type>{pooled, switches, big, s, false},
          threads);
    });
  });
  return good;
}

// ---- collect ----

// Whether a window after (oh, ow) in row-major order names the same cell.
template <class Switch>
bool loses(const Plane<const Switch>& at, const PoolShape& s, int64_t oh, int64_t ow, const SwitchCell& cell,
           int64_t channel) {
  const int64_t h_end = s.h.reach_end(cell.h), w_begin = s.w.reach_begin(cell.w),
                w_end = s.w.reach_end(cell.w);
  for (int64_t ph = oh; ph < h_end; ++ph) {
    const int64_t kh = s.h.cell_of(cell.h, ph);
    for (int64_t pw = ph == oh ? ow + 1 : w_begin; kh >= 0 && pw < w_end; ++pw) {
      const int64_t kw = s.w.cell_of(cell.w, pw);
      if (kw >= 0 && at.at(ph, pw)[channel] == kh * s.w.kernel + kw) return true;
    }
  }
  return false;
}

// One window; false for a switch that points outside.
template <bool WinnerOnly, class T, class Switch>
inline bool collect_one(const Plane<const T>& from, const Plane<const Switch>& at, const PoolShape& s,
                        int64_t oh, int64_t ow, int64_t channel, T* to) {
  const Switch code = at.at(oh, ow)[channel];
  const SwitchCell cell(s, oh, ow, code);
  if (!cell.valid) {
    std::memset(static_cast<void*>(to), 0, sizeof(T));
    return code == kNoSwitch<Switch>;
  }
  if (WinnerOnly && loses(at, s, oh, ow, cell, channel)) {
    std::memset(static_cast<void*>(to), 0, sizeof(T));
  } else {
    *to = from.at(cell.h, cell.w)[channel];
  }
  return true;
}

template <bool WinnerOnly, class T, class Switch>
bool run_collect(const TensorRef& big, const TensorRef& switches, const TensorRef& pooled, const PoolShape& s,
                 int threads) {
  advise_huge(pooled.data, span_bytes<T>(pooled));
  Good good;
  const int64_t channels = pooled.size[1];
  const int64_t inner = walk_of(pooled, switches, big) == Walk::kChannels ? channels : 1;
  const auto one = WinnerOnly && s.overlaps() ? collect_one<true, T, Switch> : collect_one<false, T, Switch>;
  for_rows(pooled.size[0], channels / inner, s.h.output, s.w.output, kRowCells,
           s.w.output * inner * s.h.stride * s.w.stride * static_cast<int64_t>(sizeof(T)), threads,
           [&](const Piece& p) {
             const auto from = plane_of<const T>(big, p.n, p.c);
             const auto at = plane_of<const Switch>(switches, p.n, p.c);
             const auto to = plane_of<T>(pooled, p.n, p.c);
             for (int64_t ow = p.begin; ow < p.end; ++ow) {
               for (int64_t c = 0; c < inner; ++c) {
                 if (!one(from, at, s, p.row, ow, c, to.at(p.row, ow) + c)) good.fail();
               }
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
  for_float_dtype(pooled.dtype, [&](auto t) {
    for_switch_dtype(switches.dtype, [&](auto w) {
      good = run_collect<WinnerOnly, typename decltype(t)::type, typename decltype(w)::type>(
          big, switches, pooled, s, threads);
    });
  });
  return good;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
