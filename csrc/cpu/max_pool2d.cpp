// Max-pooling that records switches, its backward, and the adjoint of that (cpu/by_switches.h).
//
// Forward: one pass over rows of windows, shared out among the threads. Planes: vectors of neighbouring
// windows, whose cells are every stride-th column; windows at the border one by one. Channels: vectors of
// channels, window by window. Floor: reads the input, writes output and switches, 21 bytes a pooled element
// for 2x2 float32.
//
// torch's rules: a window starts from its first valid cell; a cell is taken when it is greater or NaN, so
// ties keep the first in row-major order and the last NaN wins.
#include "cpu/collect.h"
#include "cpu/spread.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

// The cells of one window that lie inside.
struct Cells {
  int64_t kh0, kh1, kw0, kw1;
};

// One window, from its first valid cell at `in`.
template <class T, class Switch>
inline void pool_window(const T* in, int64_t in_h, int64_t in_w, const PoolShape& s, const Cells& cells,
                        T* out, Switch* where) {
  auto best = -static_cast<Compute<T>>(__builtin_inf());
  int64_t at = kNoSwitch<Switch>;
  for (int64_t kh = cells.kh0; kh < cells.kh1; ++kh) {
    for (int64_t kw = cells.kw0; kw < cells.kw1; ++kw) {
      const Compute<T> x =
          load(in + (kh - cells.kh0) * s.h.dilation * in_h + (kw - cells.kw0) * s.w.dilation * in_w);
      if ((x > best) | (x != x) | (at == kNoSwitch<Switch>)) {
        best = x;
        at = kh * s.w.kernel + kw;
      }
    }
  }
  store(out, best);
  *where = static_cast<Switch>(at);
}

// N windows' best cells so far.
template <class T, int N>
struct Best {
  Vec<T, N> value;
  Vec<Lane<T>, N> where;

  void start(Vec<T, N> x, int64_t at) {
    value = x;
    where = splat<Lane<T>, N>(static_cast<Lane<T>>(at));
  }
  void take(Vec<T, N> x, int64_t at) {
    const auto better = (x > value) | (x != x);
    value = better ? x : value;
    where = better ? splat<Lane<T>, N>(static_cast<Lane<T>>(at)) : where;
  }
};

// ---- planes ----

// N neighbouring windows' cells, Stride columns apart, from the first one's at p. For 2, results are in
// blocks (cpu/shuffle.h), and reads stay within the row because the first cell of a window is followed by
// another one and the others follow one.
template <int N, int Stride, class T>
inline Vec<Compute<T>, N> load_cells(const T* p, bool first) {
  if constexpr (Stride == 1) {
    return load_vec<N>(p);
  } else {
    if (first) return split_even<Compute<T>, N>(load_vec<N>(p), load_vec<N>(p + N));
    return split_odd<Compute<T>, N>(load_vec<N>(p - 1), load_vec<N>(p - 1 + N));
  }
}

// `count` neighbouring windows that lie inside from left to right; their rows [kh0, kh1) do, and `in` is the
// first one's first cell of these. KH and KW are the window's size where that is known and whole, else 0.
// False: they are too few for vectors.
template <int Stride, int KH, int KW, class T, class Switch>
[[gnu::noinline]] bool pool_windows(const T* in, int64_t in_h, const PoolShape& s, int64_t kh0, int64_t kh1,
                                    int64_t count, T* out, Switch* where) {
  using C = Compute<T>;
  const int64_t kernel = KW ? KW : s.w.kernel, dilation = KW ? 1 : s.w.dilation;
  const int64_t begin = KH ? 0 : kh0, end = KH ? KH : kh1, step = (KH ? 1 : s.h.dilation) * in_h;
  return cover<C, kLanes<C>>(count, [&](auto n, int64_t i) {
    Best<C, n.value> best;
    const T* row = in + i * Stride;
    best.start(load_cells<n.value, Stride>(row, true), begin * kernel);
    for (int64_t kh = begin; kh < end; ++kh, row += step) {
      for (int64_t kw = kh == begin ? 1 : 0; kw < kernel; ++kw) {
        best.take(load_cells<n.value, Stride>(row + kw * dilation, kw == 0), kh * kernel + kw);
      }
    }
    if constexpr (Stride == 2) {
      best.value = in_order<C, n.value>(best.value);
      best.where = in_order<Lane<C>, n.value>(best.where);
    }
    store_vec<n.value>(out + i, best.value);
    narrow<Lane<C>, n.value>(where + i, best.where);
  });
}

// The sizes and strides with code of their own; windows of other strides go one by one, false.
template <class T, class Switch>
bool pool_inner(const T* in, int64_t in_h, const PoolShape& s, int64_t kh0, int64_t kh1, int64_t count,
                T* out, Switch* where) {
  if (s.w.stride > 2 || (s.w.stride == 2 && s.w.kernel == 1))
    return false;  // load_cells<2> needs a second cell
  if constexpr (sizeof(Switch) == 1) {
    if (s.h.dilation == 1 && s.w.dilation == 1 && kh1 - kh0 == s.h.kernel && s.h.kernel == s.w.kernel) {
      if (s.w.stride == 2 && s.w.kernel == 2)
        return pool_windows<2, 2, 2>(in, in_h, s, kh0, kh1, count, out, where);
      if (s.w.stride == 2 && s.w.kernel == 3)
        return pool_windows<2, 3, 3>(in, in_h, s, kh0, kh1, count, out, where);
      if (s.w.stride == 1 && s.w.kernel == 3)
        return pool_windows<1, 3, 3>(in, in_h, s, kh0, kh1, count, out, where);
    }
  }
  if (s.w.stride == 2) return pool_windows<2, 0, 0>(in, in_h, s, kh0, kh1, count, out, where);
  return pool_windows<1, 0, 0>(in, in_h, s, kh0, kh1, count, out, where);
}

template <class T, class Switch>
[[gnu::noinline]] void pool_row(const Plane<const T>& in, const PoolShape& s, const Piece& piece,
                                const Plane<T>& out, const Plane<Switch>& where) {
  const int64_t oh = piece.row;
  Cells cells{s.h.first(oh), s.h.last(oh), 0, 0};
  T* const to = out.at(oh, 0);
  Switch* const at = where.at(oh, 0);
  int64_t begin = piece.begin, end = piece.begin;  // of the windows that need not go one by one
  const T* from = in.data;
  if (cells.kh0 < cells.kh1) {
    from = in.at(s.h.cell(oh, cells.kh0), 0);
    if (in.w == 1 && out.w == 1 && where.w == 1) {  // else vectors would run past the windows
      begin = s.w.inner_begin() > begin ? s.w.inner_begin() : begin;
      end = s.w.inner_end() < piece.end ? s.w.inner_end() : piece.end;
    }
    if (end <= begin || !pool_inner(from + s.w.start(begin), in.h, s, cells.kh0, cells.kh1, end - begin,
                                    to + begin, at + begin)) {
      end = begin = piece.begin;
    }
  }
  for (int64_t ow = piece.begin; ow < piece.end; ++ow) {
    if (ow == begin) ow = end;
    if (ow == piece.end) break;
    cells.kw0 = s.w.first(ow), cells.kw1 = s.w.last(ow);
    pool_window(from + s.w.cell(ow, cells.kw0) * in.w, in.h, in.w, s, cells, to + ow * out.w,
                at + ow * where.w);
  }
}

// ---- channels ----

// U vectors of N channels of one window, from its first valid cell at `in`.
template <int N, int U, class T, class Switch>
inline void pool_channels(const T* in, int64_t step_h, int64_t step_w, int64_t kernel, const Cells& cells,
                          T* out, Switch* where) {
  using C = Compute<T>;
  Best<C, N> best[U];
  for (int u = 0; u < U; ++u) best[u].start(load_vec<N>(in + u * N), cells.kh0 * kernel + cells.kw0);
  for (int64_t kh = cells.kh0; kh < cells.kh1; ++kh) {
    for (int64_t kw = kh == cells.kh0 ? cells.kw0 + 1 : cells.kw0; kw < cells.kw1; ++kw) {
      const T* const cell = in + (kh - cells.kh0) * step_h + (kw - cells.kw0) * step_w;
      for (int u = 0; u < U; ++u) best[u].take(load_vec<N>(cell + u * N), kh * kernel + kw);
    }
  }
  for (int u = 0; u < U; ++u) {
    store_vec<N>(out + u * N, best[u].value);
    narrow<Lane<C>, N>(where + u * N, best[u].where);
  }
}

template <class T, class Switch>
[[gnu::noinline]] void pool_row_channels(const Plane<const T>& in, const PoolShape& s, const Piece& piece,
                                         int64_t channels, const Plane<T>& out, const Plane<Switch>& where) {
  constexpr int kUnroll = sizeof(Switch) == 1 ? 4 : 1, kN = kLanes<Compute<T>>;
  const int64_t oh = piece.row, step_h = s.h.dilation * in.h, step_w = s.w.dilation * in.w;
  const int64_t inner_begin = s.w.inner_begin(), inner_end = s.w.inner_end();
  Cells cells{s.h.first(oh), s.h.last(oh), 0, s.w.kernel};
  for (int64_t ow = piece.begin; ow < piece.end; ++ow) {
    const bool inner = ow >= inner_begin && ow < inner_end;
    cells.kw0 = inner ? 0 : s.w.first(ow);
    cells.kw1 = inner ? s.w.kernel : s.w.last(ow);
    const bool some = cells.kh0 < cells.kh1 && cells.kw0 < cells.kw1;
    const T* const from = some ? in.at(s.h.cell(oh, cells.kh0), s.w.cell(ow, cells.kw0)) : in.data;
    T* const to = out.at(oh, ow);
    Switch* const at = where.at(oh, ow);
    if (some) {
      int64_t c = 0;
      for (; c + kUnroll * kN <= channels; c += kUnroll * kN) {
        pool_channels<kN, kUnroll>(from + c, step_h, step_w, s.w.kernel, cells, to + c, at + c);
      }
      const bool done = cover<Compute<T>, kN>(channels - c, [&](auto n, int64_t i) {
        pool_channels<n.value, 1>(from + c + i, step_h, step_w, s.w.kernel, cells, to + c + i, at + c + i);
      });
      if (done) continue;
    }
    for (int64_t c = 0; c < channels; ++c) pool_window(from + c, in.h, in.w, s, cells, to + c, at + c);
  }
}

template <class T, class Switch>
void pool(const TensorRef& input, const TensorRef& output, const TensorRef& switches, const PoolShape& s,
          int threads) {
  advise_huge(output.data, span_bytes<T>(output));
  advise_huge(switches.data, span_bytes<Switch>(switches));
  const Walk walk = walk_of(input, output, switches);
  const int64_t batch = output.size[0], channels = output.size[1];
  const int64_t pixel =
      s.h.stride * s.w.stride * static_cast<int64_t>(sizeof(T));  // bytes read for an output
  if (walk == Walk::kChannels) {
    for_rows(batch, 1, s.h.output, s.w.output, 256, s.w.output * channels * pixel, threads,
             [&](const Piece& p) {
               pool_row_channels(plane_of<const T>(input, p.n, 0), s, p, channels,
                                 plane_of<T>(output, p.n, 0), plane_of<Switch>(switches, p.n, 0));
             });
  } else {
    for_rows(batch, channels, s.h.output, s.w.output, 4096, s.w.output * pixel, threads, [&](const Piece& p) {
      pool_row(plane_of<const T>(input, p.n, p.c), s, p, plane_of<T>(output, p.n, p.c),
               plane_of<Switch>(switches, p.n, p.c));
    });
  }
}

}  // namespace

bool max_pool2d_with_switches(const TensorRef& input, const TensorRef& output, const TensorRef& switches,
                              const PoolShape& shape, int threads) {
  for_float_dtype(input.dtype, [&](auto t) {
    for_switch_dtype(switches.dtype, [&](auto w) {
      pool<typename decltype(t)::type, typename decltype(w)::type>(input, output, switches, shape, threads);
    });
  });
  return true;
}

bool max_pool2d_backward(const TensorRef& grad_output, const TensorRef& switches, const TensorRef& grad_input,
                         const PoolShape& shape, int threads) {
  return spread<true>(grad_output, switches, grad_input, shape, threads);
}

bool max_pool2d_gather(const TensorRef& input, const TensorRef& switches, const TensorRef& output,
                       const PoolShape& shape, int threads) {
  return collect<false>(input, switches, output, shape, threads);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
