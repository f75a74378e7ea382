// The sparsity penalty β Σ_j KL(ρ‖ρ̂_j), alone or fused with the sigmoid before it.
//
// Forward, one pass: σ(z), written as it is computed, and for each unit Σσ and Σ(1 - σ); the latter by
// itself, so that 1 - ρ̂ does not cancel for units that are always on. Rows are summed 64 at a time in the
// compute type, runs and blocks (geometry/unit_shape.h) in double and in order. A second phase of the same
// parallel region makes of the sums each unit's KL and its derivative ("slope"). Floor: 8 bytes an element
// (float32), about 20 vector operations.
//
// Backward, one pass: σ'(z) (upstream + slope_j), σ' = t / (1 + t)^2 with t = e^-|z|. It reads z, not σ: 1 -
// σ has lost its digits where σ is near 1, and a unit stuck there could not come back. Floor: 12 bytes an
// element, about 17 vector operations.
#include "cpu/memory.h"
#include "cpu/parallel.h"
#include "cpu/vector_math.h"
#include "cpu/workspace.h"
#include "dispatch.h"
#include "geometry/unit_shape.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

constexpr int64_t kReduceColumns = 512;  // columns of one task of the second phase
constexpr int64_t kStreamRow = 128;      // elements a row from which on its whole lines are streamed

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

template <class... Ts>
UnitShape unit_shape(const TensorRef& t, const Ts&... others) {
  const UnitShape s = {t.size[0], t.size[1], t.size[2], t.size[3]};
  const bool contiguous = (... && (!others || others.stride[1] == s.units * s.inner));
  return contiguous ? s.joined() : s;
}

template <class C>
struct Limits;
template <>
struct Limits<float> {
  static constexpr double kSmallest = 0x1p-126, kLargest = 0x1p126;
};
template <>
struct Limits<double> {
  static constexpr double kSmallest = 0x1p-1022, kLargest = 0x1p1022;
};

// x kept to where it stays finite in C with another such number added. NaN stays.
template <class C>
C bounded(double x) {
  constexpr double most = Limits<C>::kLargest;
  return static_cast<C>(x > most ? most : x < -most ? -most : x);
}

// What an element adds to the two sums, and whether it is stored.
struct Sigmoid {
  static constexpr bool kStores = true;
  template <class V>
  static SigmoidPair<V> pair(V z) {
    return sigmoid_pair(z);
  }
};
struct Identity {
  static constexpr bool kStores = false;
  template <class V>
  static SigmoidPair<V> pair(V a) {
    return {a, 1 - a};
  }
};

// ---- rows, vector by vector ----

template <class V>
constexpr int kLanesOf = sizeof(V) / sizeof(Element<V>);

// Lanes first ... last - 1 of v, and zeros.
template <class V>
V keep(V v, int64_t first, int64_t last) {
  using Bits = vector_math::BitsOf<V>;
  using Bit = typename vector_math::Exp<Element<V>>::Bits;
  Bits lane;
  for (int i = 0; i < kLanesOf<V>; ++i) lane[i] = i;
  return (lane >= static_cast<Bit>(first)) & (lane < static_cast<Bit>(last)) ? v : V{};
}

// What is read soon, on another page: the processor's own prefetching stops at the ends of pages.
inline void prefetch(const void* p) { __builtin_prefetch(p); }

template <bool kStream, class T, class V>
void put(T* p, V v) {
  if constexpr (kStream) {
    stream_vec(p, v);
  } else {
    store_vec<kLanesOf<V>>(p, v);
  }
}

// Lanes first ... last - 1 of a vector, the others being stored by its neighbours, before or after. Beside
// streamed lines only these; else all, which is quicker.
template <bool kStream, class T, class V>
void put_part(T* p, V v, int64_t first, int64_t last) {
  if constexpr (kStream) {
    T stored[kLanesOf<V>];
    store_vec<kLanesOf<V>>(stored, v);
    std::memcpy(p + first, stored + first, static_cast<size_t>(last - first) * sizeof(T));
  } else {
    store_vec<kLanesOf<V>>(p, v);
  }
}

// Walks a row of n >= W elements in vectors: whole(i), and part(i, first, last) where only these lanes are
// new: the last vector overlaps the one before and, where the output is streamed, whole ones start with a
// cache line; a row too short for one that does has none.
template <bool kStream, int W, class T, class Whole, class Part>
void walk_row(const T* out, int64_t n, Whole&& whole, Part&& part) {
  int64_t i = 0;
  if constexpr (kStream) {
    const int64_t head = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(out) % 64 / sizeof(T));
    const bool some = head + W <= n;
    for (; i + W <= (some ? head : n); i += W) part(i, 0, W);
    if (some && i < head) part(i, 0, head - i);
    if (some) i = head;
  }
  for (; i + W <= n; i += W) whole(i);
  if (i < n) part(n - W, i - (n - W), W);
}

// ---- forward: sums down columns ----

// R rows; columns >= W.
template <class Op, bool kStream, int W, int R, class T, class C>
void add_rows(const T* in, int64_t in_row, T* out, int64_t out_row, int64_t columns, C* on, C* off) {
  walk_row<kStream, W>(
      out, columns,
      [&](int64_t c) {
        Vec<C, W> sum_on = load_vec<W>(on + c), sum_off = load_vec<W>(off + c);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const T* from = in + r * in_row + c;
          prefetch(R == 1 ? from + 4096 / sizeof(T) : from + R * in_row);
          const auto p = Op::pair(load_vec<W>(from));
          if constexpr (Op::kStores) put<kStream>(out + r * out_row + c, p.on);
          sum_on += p.on;
          sum_off += p.off;
        }
        store_vec<W>(on + c, sum_on);
        store_vec<W>(off + c, sum_off);
      },
      [&](int64_t c, int64_t first, int64_t last) {
        Vec<C, W> sum_on = load_vec<W>(on + c), sum_off = load_vec<W>(off + c);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const auto p = Op::pair(load_vec<W>(in + r * in_row + c));
          if constexpr (Op::kStores) put_part<kStream>(out + r * out_row + c, p.on, first, last);
          sum_on += keep(p.on, first, last);
          sum_off += keep(p.off, first, last);
        }
        store_vec<W>(on + c, sum_on);
        store_vec<W>(off + c, sum_off);
      });
}

template <class Op, bool kStream, int W, class T>
void sum_columns(const T* in, int64_t in_row, T* out, int64_t out_row, int64_t rows, int64_t columns,
                 double* on, double* off) {
  using C = Compute<T>;
  alignas(64) C run_on[UnitShape::kMaxTileColumns], run_off[UnitShape::kMaxTileColumns];
  for (int64_t start = 0; start < rows; start += UnitShape::kRun) {
    const int64_t end = least(start + UnitShape::kRun, rows);
    for (int64_t c = 0; c < columns; ++c) run_on[c] = run_off[c] = 0;
    int64_t r = start;
    // Streamed rows that begin at the same place of a cache line have their whole lines in the same columns.
    const bool alike = !kStream || out_row * static_cast<int64_t>(sizeof(T)) % 64 == 0;
    for (; alike && r + 4 <= end; r += 4) {
      add_rows<Op, kStream, W, 4>(in + r * in_row, in_row, out + r * out_row, out_row, columns, run_on,
                                  run_off);
    }
    for (; r < end; ++r) {
      add_rows<Op, kStream, W, 1>(in + r * in_row, in_row, out + r * out_row, out_row, columns, run_on,
                                  run_off);
    }
    for (int64_t c = 0; c < columns; ++c) {
      on[c] += static_cast<double>(run_on[c]);
      off[c] += static_cast<double>(run_off[c]);
    }
  }
}

// ---- forward: sums along planes ----

template <class V>
double sum_lanes(V v) {
  constexpr int half = kLanesOf<V> / 2;
  if constexpr (half == 0) {
    return v[0];
  } else {
    struct Halves {
      Vec<double, half> low, high;
    };
    const auto halves = bit_cast<Halves>(v);
    return sum_lanes<Vec<double, half>>(halves.low + halves.high);
  }
}

// Part of a plane: at most a chunk, so a lane adds up to kChunk / W elements.
template <class Op, bool kStream, class T>
void sum_plane(const T* in, T* out, int64_t n, double* on, double* off) {
  using C = Compute<T>;
  constexpr int W = kLanes<C>;
  Vec<C, W> sum_on{}, sum_off{};
  int64_t added = 0;
  const auto widen = [&] {
    *on += sum_lanes(__builtin_convertvector(sum_on, Vec<double, W>));
    *off += sum_lanes(__builtin_convertvector(sum_off, Vec<double, W>));
    sum_on = sum_off = Vec<C, W>{};
    added = 0;
  };
  walk_row<kStream, W>(
      out, n,
      [&](int64_t i) {
        const auto p = Op::pair(load_vec<W>(in + i));
        if constexpr (Op::kStores) put<kStream>(out + i, p.on);
        sum_on += p.on;
        sum_off += p.off;
        if (++added == UnitShape::kRun) widen();
      },
      [&](int64_t i, int64_t first, int64_t last) {
        const auto p = Op::pair(load_vec<W>(in + i));
        if constexpr (Op::kStores) put_part<kStream>(out + i, p.on, first, last);
        sum_on += keep(p.on, first, last);
        sum_off += keep(p.off, first, last);
      });
  widen();
}

// ---- the partition into tasks ----

// Task i covers these rows and columns of a problem.
struct Task {
  int64_t problem, block, first_row, rows, first_column, columns;
};
Task task(const UnitShape& s, int64_t i) {
  const int64_t tile = i % s.tiles(), block = i / s.tiles() % s.blocks();
  const int64_t row = block * s.block_rows(), column = s.tile_start(tile);
  return {i / (s.tiles() * s.blocks()),          block,  row,
          least(s.block_rows(), s.rows() - row), column, s.tile_start(tile + 1) - column};
}

// Calls f(first_row, rows, columns) for the task's rows down columns: all in one, but for a shorter last row.
template <class F>
void for_equal_rows(const UnitShape& s, const Task& t, F&& f) {
  const int64_t left = s.last_columns() - t.first_column, last = left < 0 ? 0 : least(left, t.columns);
  const bool uneven = t.first_row + t.rows == s.rows() && last < t.columns;
  if (t.rows > uneven) f(t.first_row, t.rows - uneven, t.columns);
  if (uneven && last) f(t.first_row + t.rows - 1, 1, last);
}

// Where a row lies in each of the planes.
struct PlaneRow {
  int64_t outer, inner, length;
};
PlaneRow plane_row(const UnitShape& s, int64_t row) {
  const int64_t chunk = row % s.chunks(), start = s.chunk_start(chunk);
  return {row / s.chunks(), start, s.chunk_start(chunk + 1) - start};
}

// Whether the output is written past the caches: they would not hold all that a pass over so many tensors of
// its size touches. A line that is streamed is not read first, a third of the traffic of a copy.
template <class T>
bool streams(const UnitShape& s, int tensors) {
  const int64_t row = s.planes() ? s.inner : s.columns();
  return row >= kStreamRow && s.numel() * static_cast<int64_t>(sizeof(T)) * tensors >= kStreamBytes;
}

// Adds the task's elements to its block's sums, and stores σ.
template <class Op, bool kStream, class T>
void forward_task(const TensorRef& input, const TensorRef& output, const UnitShape& s, const Task& t,
                  double* on, double* off) {
  constexpr int W = kLanes<Compute<T>>;
  const T* in = input.as<T>() + t.problem * input.stride[0];
  T* out = output.as<T>() + t.problem * output.stride[0];
  for (int64_t c = 0; c < t.columns; ++c) on[c] = off[c] = 0;
  if (s.planes()) {
    for (int64_t r = t.first_row; r < t.first_row + t.rows; ++r) {
      const PlaneRow row = plane_row(s, r);
      for (int64_t c = 0; c < t.columns; ++c) {
        const int64_t at = (t.first_column + c) * s.inner + row.inner;
        sum_plane<Op, kStream>(in + row.outer * input.stride[1] + at, out + row.outer * output.stride[1] + at,
                               row.length, on + c, off + c);
      }
    }
  } else {
    const int64_t in_row = s.repeat * input.stride[1], out_row = s.repeat * output.stride[1];
    in += t.first_column;
    out += t.first_column;
    for_equal_rows(s, t, [&](int64_t first, int64_t rows, int64_t columns) {
      if (columns >= W) {
        sum_columns<Op, kStream, W>(in + first * in_row, in_row, out + first * out_row, out_row, rows,
                                    columns, on, off);
      } else {
        sum_columns<Op, false, 1>(in + first * in_row, in_row, out + first * out_row, out_row, rows, columns,
                                  on, off);
      }
    });
  }
  if constexpr (kStream) stream_fence();
}

// ---- from sums to penalty and slope ----

// KL(ρ‖ρ̂) of one unit and its derivative by ρ̂. The means are kept off zero here, in log and division, alone.
struct Divergence {
  double kl, slope;
};
template <class C>
Divergence divergence(double mean_on, double mean_off, double rho) {
  constexpr double least_mean = Limits<C>::kSmallest;
  const double on = mean_on < least_mean ? least_mean : mean_on;
  const double off = mean_off < least_mean ? least_mean : mean_off;
  const double kl = rho * __builtin_log(rho / on) + (1 - rho) * __builtin_log((1 - rho) / off);
  return {kl < 0 ? 0 : kl, (1 - rho) / off - rho / on};
}

struct Target {
  double rho, beta;
  double samples;  // of each unit
  double scale;    // of the slope
};

// Σ_j KL of some units, and their slopes.
template <class C>
double penalise(const double* on, const double* off, int64_t units, const Target& target, C* slope) {
  double sum = 0;
  for (int64_t j = 0; j < units; ++j) {
    const Divergence d = divergence<C>(on[j] / target.samples, off[j] / target.samples, target.rho);
    slope[j] = bounded<C>(target.beta * d.slope / target.samples * target.scale);
    sum += d.kl;
  }
  return sum;
}

// ---- forward ----

void store_zero(const TensorRef& t, int64_t i) {
  for_float_dtype(t.dtype, [&](auto type) { store(t.as<typename decltype(type)::type>() + i, 0); });
}

// Adds up the blocks of some units in order. partial: (blocks, 2, columns).
void reduce_blocks(const UnitShape& s, const double* partial, int64_t first_unit, int64_t units, double* on,
                   double* off) {
  const int64_t fold = s.columns_per_unit(), columns = units * fold;
  alignas(64) double sum[2][kReduceColumns];
  for (int half = 0; half < 2; ++half) {
    for (int64_t c = 0; c < columns; ++c) sum[half][c] = 0;
    for (int64_t k = 0; k < s.blocks(); ++k) {
      const double* from = partial + (k * 2 + half) * s.columns() + first_unit * fold;
      for (int64_t r = 0; r < s.repeat; ++r, from += s.units * fold) {
        for (int64_t c = 0; c < columns; ++c) sum[half][c] += from[c];
      }
    }
    double* to = half ? off : on;
    for (int64_t j = 0; j < units; ++j) {
      to[j] = 0;
      for (int64_t i = 0; i < fold; ++i) to[j] += sum[half][j * fold + i];
    }
  }
}

template <class Op>
void forward(const TensorRef& input, const TensorRef& output, const TensorRef& sums, const TensorRef& penalty,
             const TensorRef& slope, double rho, double beta, int threads) {
  const UnitShape s = unit_shape(input, input, output);
  if (s.numel() == 0) {  // no units, or no samples on this process
    for (int64_t i = 0; sums && i < sums.numel(); ++i) sums.as<double>()[i] = 0;
    for (int64_t b = 0; penalty && b < s.batch; ++b) store_zero(penalty, b);
    return;
  }
  const Target target{rho, beta, static_cast<double>(s.samples()), 1};
  const int64_t tile_units = kReduceColumns / s.columns_per_unit();
  const int64_t unit_tiles = (s.units + tile_units - 1) / tile_units;
  const int64_t partials = s.blocks() * 2 * s.columns();
  double* const scratch = workspace<double>(Slot::kShared, s.batch * (partials + unit_tiles));
  double* const divergences = scratch + s.batch * partials;
  for_float_dtype(input.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using C = Compute<T>;
    if constexpr (Op::kStores) advise_huge(output.data, s.numel() * static_cast<int64_t>(sizeof(T)));
    const bool stream = Op::kStores && streams<T>(s, 2);
    parallel_two_phases(
        s.batch * s.blocks() * s.tiles(), s.batch * unit_tiles,
        useful_threads(threads, s.numel() * static_cast<int64_t>(sizeof(C))),
        [&](int64_t i) {
          const Task t = task(s, i);
          double* on = scratch + t.problem * partials + t.block * 2 * s.columns() + t.first_column;
          if constexpr (Op::kStores) {
            if (stream) return forward_task<Op, true, T>(input, output, s, t, on, on + s.columns());
          }
          forward_task<Op, false, T>(input, output, s, t, on, on + s.columns());
        },
        [&](int64_t i) {
          const int64_t problem = i / unit_tiles, first = i % unit_tiles * tile_units;
          const int64_t units = least(tile_units, s.units - first);
          double on[kReduceColumns], off[kReduceColumns];
          reduce_blocks(s, scratch + problem * partials, first, units, on, off);
          if (sums) {
            double* to = sums.as<double>() + problem * 2 * s.units + first;
            std::memcpy(to, on, static_cast<size_t>(units) * sizeof(double));
            std::memcpy(to + s.units, off, static_cast<size_t>(units) * sizeof(double));
          } else {
            divergences[i] = penalise(on, off, units, target, slope.as<C>() + problem * s.units + first);
          }
        });
    if (sums) return;
    for (int64_t b = 0; b < s.batch; ++b) {
      double sum = 0;
      for (int64_t i = 0; i < unit_tiles; ++i) sum += divergences[b * unit_tiles + i];
      penalty.as<C>()[b] = static_cast<C>(beta * sum);
    }
  });
}

// ---- backward ----

// One row of n >= W elements; slope(i) is that of vector i.
template <bool kStream, int W, class T, class Slope>
void backward_row(const T* grad, const T* z, T* grad_z, int64_t n, Slope&& slope) {
  const auto vec = [&](int64_t i) {
    prefetch(z + i + 4096 / sizeof(T));
    if (grad) prefetch(grad + i + 4096 / sizeof(T));
    const auto upstream = grad ? load_vec<W>(grad + i) + slope(i) : slope(i);
    return sigmoid_slope_vec(load_vec<W>(z + i)) * upstream;
  };
  walk_row<kStream, W>(
      grad_z, n, [&](int64_t i) { put<kStream>(grad_z + i, vec(i)); },
      [&](int64_t i, int64_t first, int64_t last) { put_part<kStream>(grad_z + i, vec(i), first, last); });
}

template <bool kStream, class T>
void backward_task(const TensorRef& grad_output, const TensorRef& z, const TensorRef& grad_z,
                   const UnitShape& s, const Task& t, const Compute<T>* unit_slope, double grad_penalty) {
  using C = Compute<T>;
  constexpr int W = kLanes<C>;
  const T* grad = grad_output ? grad_output.as<T>() + t.problem * grad_output.stride[0] : nullptr;
  const T* in = z.as<T>() + t.problem * z.stride[0];
  T* out = grad_z.as<T>() + t.problem * grad_z.stride[0];
  alignas(64) C slope[UnitShape::kMaxTileColumns];
  const int64_t fold = s.columns_per_unit();
  int64_t unit = t.first_column / fold % s.units, left = fold - t.first_column % fold;
  for (int64_t c = 0; c < t.columns; ++c) {
    slope[c] = unit_slope[unit];
    if (--left == 0) left = fold, unit = unit + 1 == s.units ? 0 : unit + 1;
  }
  for (int64_t c = 0; c < t.columns; ++c) slope[c] = bounded<C>(grad_penalty * static_cast<double>(slope[c]));
  if (s.planes()) {
    for (int64_t r = t.first_row; r < t.first_row + t.rows; ++r) {
      const PlaneRow row = plane_row(s, r);
      for (int64_t c = 0; c < t.columns; ++c) {
        const int64_t at = (t.first_column + c) * s.inner + row.inner;
        const Vec<C, W> unit = splat<C, W>(slope[c]);
        backward_row<kStream, W>(grad ? grad + row.outer * grad_output.stride[1] + at : grad,
                                 in + row.outer * z.stride[1] + at, out + row.outer * grad_z.stride[1] + at,
                                 row.length, [&](int64_t) { return unit; });
      }
    }
  } else {
    for_equal_rows(s, t, [&](int64_t first, int64_t rows, int64_t columns) {
      for (int64_t r = first * s.repeat; r < (first + rows) * s.repeat; r += s.repeat) {
        const T* g = grad ? grad + r * grad_output.stride[1] + t.first_column : grad;
        const T* x = in + r * z.stride[1] + t.first_column;
        T* y = out + r * grad_z.stride[1] + t.first_column;
        if (columns >= W) {
          backward_row<kStream, W>(g, x, y, columns, [&](int64_t i) { return load_vec<W>(slope + i); });
        } else {
          backward_row<false, 1>(g, x, y, columns, [&](int64_t i) { return load_vec<1>(slope + i); });
        }
      }
    });
  }
  if constexpr (kStream) stream_fence();
}

}  // namespace

void sparse_sigmoid(const TensorRef& z, const TensorRef& activations, const TensorRef& sums,
                    const TensorRef& penalty, const TensorRef& slope, double rho, double beta, int threads) {
  forward<Sigmoid>(z, activations, sums, penalty, slope, rho, beta, threads);
}

void sparse_kl(const TensorRef& activations, const TensorRef& sums, const TensorRef& penalty,
               const TensorRef& slope, double rho, double beta, int threads) {
  forward<Identity>(activations, activations, sums, penalty, slope, rho, beta, threads);
}

void sparse_kl_from_sums(const TensorRef& sums, const TensorRef& penalty, const TensorRef& slope,
                         double samples, double scale, double rho, double beta) {
  const int64_t units = slope.size[0];
  const Target target{rho, beta, samples, scale};
  for_float_dtype(slope.dtype, [&](auto type) {
    using C = Compute<typename decltype(type)::type>;
    const double* on = sums.as<double>();
    *penalty.as<C>() = static_cast<C>(beta * penalise(on, on + units, units, target, slope.as<C>()));
  });
}

void sparse_sigmoid_backward(const TensorRef& grad_activations, const TensorRef& z, const TensorRef& slope,
                             const TensorRef& grad_penalty, const TensorRef& grad_z, int threads) {
  const UnitShape s = unit_shape(z, grad_activations, z, grad_z);
  if (s.numel() == 0) return;
  for_float_dtype(z.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using C = Compute<T>;
    advise_huge(grad_z.data, s.numel() * static_cast<int64_t>(sizeof(T)));
    const bool stream = streams<T>(s, grad_activations ? 3 : 2);
    // From the end: what forward, or the gradient's maker, touched last is still in the caches.
    const int64_t tasks = s.batch * s.blocks() * s.tiles();
    parallel_for(tasks, useful_threads(threads, s.numel() * static_cast<int64_t>(sizeof(C))), [&](int64_t i) {
      const Task t = task(s, tasks - 1 - i);
      const C* unit_slope = slope.as<C>() + t.problem * s.units;
      const double scale = grad_penalty ? static_cast<double>(grad_penalty.as<C>()[t.problem]) : 0;
      if (stream) {
        backward_task<true, T>(grad_activations, z, grad_z, s, t, unit_slope, scale);
      } else {
        backward_task<false, T>(grad_activations, z, grad_z, s, t, unit_slope, scale);
      }
    });
  });
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
