// The sparsity penalty β Σ_j KL(ρ‖ρ̂_j), alone or fused with the sigmoid before it.
//
// Forward, one pass: σ(z), written as it is computed, and for each unit Σσ and Σ(1 - σ); the latter by
// itself, so that 1 - ρ̂ does not cancel for units that are always on. Rows are summed 64 at a time in the
// compute type, runs and blocks (geometry/unit_shape.h) in double and in order. A second phase of the same
// parallel region makes of the sums each unit's KL and its derivative ("slope"). Floor: 8 bytes an element
// (float32), about 24 vector operations.
//
// Backward, one pass: σ'(z) (upstream + slope_j), σ' = t / (1 + t)^2 with t = e^-|z|. It reads z, not σ: 1 -
// σ has lost its digits where σ is near 1, and a unit stuck there could not come back. Floor: 12 bytes an
// element, about 22 vector operations.
#include <cstdlib>

#include "cpu/dispatch.h"
#include "cpu/memory.h"
#include "cpu/out_of_memory.h"
#include "cpu/parallel.h"
#include "cpu/vector_math.h"
#include "geometry/unit_shape.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

constexpr int64_t kMaxTileColumns = UnitShape::kTileColumns;
constexpr int64_t kMaxLanes = 16;
constexpr int64_t kReduceColumns = 512;  // columns of one task of the second phase

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

UnitShape unit_shape(const TensorRef& t) { return {t.size[0], t.size[1], t.size[2], t.size[3]}; }

struct Free {
  void* block;
  ~Free() { std::free(block); }
};

double* allocate(int64_t doubles) {
  const int64_t bytes = doubles * static_cast<int64_t>(sizeof(double));
  void* block = std::malloc(static_cast<size_t>(bytes));
  if (!block) throw_out_of_memory(bytes);
  advise_huge(block, bytes);
  return static_cast<double*>(block);
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

template <bool kStream, class T, class V>
void put(T* p, V v) {
  if constexpr (kStream) {
    stream_vec(p, v);
  } else {
    store_vec<sizeof(V) / sizeof(Compute<T>)>(p, v);
  }
}

// ---- forward: sums down columns ----

// R rows of W columns.
template <class Op, bool kStream, int W, int R, class T, class C>
void add_rows(const T* in, int64_t in_row, T* out, int64_t out_row, C* on, C* off) {
  Vec<C, W> sum_on = load_vec<W>(on), sum_off = load_vec<W>(off);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const auto p = Op::pair(load_vec<W>(in + r * in_row));
    if constexpr (Op::kStores) put<kStream>(out + r * out_row, p.on);
    sum_on += p.on;
    sum_off += p.off;
  }
  store_vec<W>(on, sum_on);
  store_vec<W>(off, sum_off);
}

template <class Op, bool kStream, int W, int R, class T, class C>
void add_rows_of_tile(const T* in, int64_t in_row, T* out, int64_t out_row, int64_t columns, C* on, C* off) {
  const int64_t whole = columns - columns % W;
  for (int64_t c = 0; c < whole; c += W) {
    add_rows<Op, kStream, W, R>(in + c, in_row, out + c, out_row, on + c, off + c);
  }
  // The last columns: a vector that overlaps the one before and has sums of its own.
  if (whole < columns) {
    const int64_t c = columns - W;
    add_rows<Op, kStream, W, R>(in + c, in_row, out + c, out_row, on + whole, off + whole);
  }
}

template <class Op, bool kStream, int W, class T>
void sum_columns(const T* in, int64_t in_row, T* out, int64_t out_row, int64_t rows, int64_t columns,
                 double* on, double* off) {
  using C = Compute<T>;
  alignas(64) C run_on[kMaxTileColumns + kMaxLanes], run_off[kMaxTileColumns + kMaxLanes];
  const int64_t whole = columns - columns % W;
  for (int64_t start = 0; start < rows; start += UnitShape::kRun) {
    const int64_t end = least(start + UnitShape::kRun, rows);
    std::memset(run_on, 0, static_cast<size_t>(whole + W) * sizeof(C));
    std::memset(run_off, 0, static_cast<size_t>(whole + W) * sizeof(C));
    int64_t r = start;
    for (; !kStream && r + 4 <= end; r += 4) {
      add_rows_of_tile<Op, kStream, W, 4>(in + r * in_row, in_row, out + r * out_row, out_row, columns,
                                          run_on, run_off);
    }
    for (; r < end; ++r) {
      add_rows_of_tile<Op, kStream, W, 1>(in + r * in_row, in_row, out + r * out_row, out_row, columns,
                                          run_on, run_off);
    }
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t from = c < whole ? c : whole + c - (columns - W);
      on[c] += static_cast<double>(run_on[from]);
      off[c] += static_cast<double>(run_off[from]);
    }
  }
}

// ---- forward: sums along planes ----

template <class Op, bool kStream, class T>
void sum_plane(const T* in, T* out, int64_t n, double* on, double* off) {
  using C = Compute<T>;
  constexpr int W = kLanes<C>;
  using V = Vec<C, W>;
  const int64_t whole = n - n % W;
  for (int64_t start = 0; start < whole; start += UnitShape::kRun * W) {
    const int64_t end = least(start + UnitShape::kRun * W, whole);
    V sum_on{}, sum_off{};
    for (int64_t i = start; i < end; i += W) {
      const auto p = Op::pair(load_vec<W>(in + i));
      if constexpr (Op::kStores) put<kStream>(out + i, p.on);
      sum_on += p.on;
      sum_off += p.off;
    }
    for (int i = 0; i < W; ++i) {
      *on += static_cast<double>(sum_on[i]);
      *off += static_cast<double>(sum_off[i]);
    }
  }
  if (whole < n) {  // a vector that overlaps the one before; its last lanes are new
    const auto p = Op::pair(load_vec<W>(in + n - W));
    if constexpr (Op::kStores) put<kStream>(out + n - W, p.on);
    for (int64_t i = W - (n - whole); i < W; ++i) {
      *on += static_cast<double>(p.on[i]);
      *off += static_cast<double>(p.off[i]);
    }
  }
}

// ---- the partition into tasks ----

// Task i covers these rows and columns of a problem.
struct Task {
  int64_t problem, block, first_row, rows, first_column, columns;
};
Task task(const UnitShape& s, int64_t i) {
  const int64_t tile = i % s.tiles(), block = i / s.tiles() % s.blocks();
  const int64_t row = block * s.block_rows(), column = tile * s.tile_columns();
  return {i / (s.tiles() * s.blocks()),          block,  row,
          least(s.block_rows(), s.rows() - row), column, least(s.tile_columns(), s.columns() - column)};
}

// Where a row lies in each of the planes.
struct PlaneRow {
  int64_t outer, inner, length;
};
PlaneRow plane_row(const UnitShape& s, int64_t row) {
  const int64_t chunk = row % s.chunks(), start = s.chunk_start(chunk);
  return {row / s.chunks(), start, s.chunk_start(chunk + 1) - start};
}

// Whether an output is written past the caches: large, and made of whole lines.
template <class T>
bool streams(const TensorRef& t, const UnitShape& s) {
  const auto bytes = static_cast<int64_t>(sizeof(T));
  const int64_t row = (s.planes() ? s.inner : s.units * s.inner) * bytes;
  return s.numel() * bytes >= kStreamBytes && row % 64 == 0 && t.stride[0] * bytes % 64 == 0 &&
         t.stride[1] * bytes % 64 == 0 && reinterpret_cast<uintptr_t>(t.data) % 64 == 0;
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
    in += t.first_row * input.stride[1] + t.first_column;
    out += t.first_row * output.stride[1] + t.first_column;
    if (t.columns >= W) {
      sum_columns<Op, kStream, W>(in, input.stride[1], out, output.stride[1], t.rows, t.columns, on, off);
    } else {
      sum_columns<Op, false, 1>(in, input.stride[1], out, output.stride[1], t.rows, t.columns, on, off);
    }
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
      for (int64_t c = 0; c < columns; ++c) sum[half][c] += from[c];
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
  const UnitShape s = unit_shape(input);
  if (s.numel() == 0) {  // no units, or no samples on this process
    for (int64_t i = 0; sums && i < sums.numel(); ++i) sums.as<double>()[i] = 0;
    for (int64_t b = 0; penalty && b < s.batch; ++b) store_zero(penalty, b);
    return;
  }
  const Target target{rho, beta, static_cast<double>(s.samples()), 1};
  const int64_t tile_units = kReduceColumns / s.columns_per_unit();
  const int64_t unit_tiles = (s.units + tile_units - 1) / tile_units;
  const int64_t partials = s.blocks() * 2 * s.columns();
  double* const workspace = allocate(s.batch * (partials + unit_tiles));
  const Free guard{workspace};
  double* const divergences = workspace + s.batch * partials;
  for_float_dtype(input.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using C = Compute<T>;
    if constexpr (Op::kStores) advise_huge(output.data, s.numel() * static_cast<int64_t>(sizeof(T)));
    const bool stream = Op::kStores && streams<T>(output, s);
    parallel_two_phases(
        s.batch * s.blocks() * s.tiles(), s.batch * unit_tiles,
        useful_threads(threads, s.numel() * static_cast<int64_t>(sizeof(C))),
        [&](int64_t i) {
          const Task t = task(s, i);
          double* on = workspace + t.problem * partials + t.block * 2 * s.columns() + t.first_column;
          if constexpr (Op::kStores) {
            if (stream) return forward_task<Op, true, T>(input, output, s, t, on, on + s.columns());
          }
          forward_task<Op, false, T>(input, output, s, t, on, on + s.columns());
        },
        [&](int64_t i) {
          const int64_t problem = i / unit_tiles, first = i % unit_tiles * tile_units;
          const int64_t units = least(tile_units, s.units - first);
          double on[kReduceColumns], off[kReduceColumns];
          reduce_blocks(s, workspace + problem * partials, first, units, on, off);
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

template <bool kStream, class T, class V>
void backward_vec(const T* grad, const T* z, T* grad_z, V slope) {
  constexpr int W = sizeof(V) / sizeof(Compute<T>);
  const V upstream = grad ? load_vec<W>(grad) + slope : slope;
  put<kStream>(grad_z, sigmoid_slope_vec(load_vec<W>(z)) * upstream);
}

// One row of n >= W elements.
template <bool kStream, int W, class T, class Slope>
void backward_row(const T* grad, const T* z, T* grad_z, int64_t n, Slope&& slope) {
  int64_t i = 0;
  for (; i + W <= n; i += W) backward_vec<kStream>(grad ? grad + i : grad, z + i, grad_z + i, slope(i));
  if (i < n) {
    i = n - W;
    backward_vec<kStream>(grad ? grad + i : grad, z + i, grad_z + i, slope(i));
  }
}

template <bool kStream, class T>
void backward_task(const TensorRef& grad_output, const TensorRef& z, const TensorRef& grad_z,
                   const UnitShape& s, const Task& t, const Compute<T>* unit_slope, double grad_penalty) {
  using C = Compute<T>;
  constexpr int W = kLanes<C>;
  const T* grad = grad_output ? grad_output.as<T>() + t.problem * grad_output.stride[0] : nullptr;
  const T* in = z.as<T>() + t.problem * z.stride[0];
  T* out = grad_z.as<T>() + t.problem * grad_z.stride[0];
  alignas(64) C slope[kMaxTileColumns];
  if (s.columns_per_unit() == 1) {
    for (int64_t c = 0; c < t.columns; ++c) slope[c] = unit_slope[t.first_column + c];
  } else {
    for (int64_t c = 0; c < t.columns; ++c) slope[c] = unit_slope[(t.first_column + c) / s.inner];
  }
  for (int64_t c = 0; c < t.columns; ++c) slope[c] = bounded<C>(grad_penalty * static_cast<double>(slope[c]));
  for (int64_t r = t.first_row; r < t.first_row + t.rows; ++r) {
    if (s.planes()) {
      const PlaneRow row = plane_row(s, r);
      for (int64_t c = 0; c < t.columns; ++c) {
        const int64_t at = (t.first_column + c) * s.inner + row.inner;
        const Vec<C, W> unit = splat<C, W>(slope[c]);
        backward_row<kStream, W>(grad ? grad + row.outer * grad_output.stride[1] + at : grad,
                                 in + row.outer * z.stride[1] + at, out + row.outer * grad_z.stride[1] + at,
                                 row.length, [&](int64_t) { return unit; });
      }
    } else {
      const T* g = grad ? grad + r * grad_output.stride[1] + t.first_column : grad;
      const T* x = in + r * z.stride[1] + t.first_column;
      T* y = out + r * grad_z.stride[1] + t.first_column;
      if (t.columns >= W) {
        backward_row<kStream, W>(g, x, y, t.columns, [&](int64_t i) { return load_vec<W>(slope + i); });
      } else {
        backward_row<false, 1>(g, x, y, t.columns, [&](int64_t i) { return load_vec<1>(slope + i); });
      }
    }
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
  const UnitShape s = unit_shape(z);
  if (s.numel() == 0) return;
  for_float_dtype(z.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    using C = Compute<T>;
    advise_huge(grad_z.data, s.numel() * static_cast<int64_t>(sizeof(T)));
    const bool stream = streams<T>(grad_z, s);
    parallel_for(s.batch * s.blocks() * s.tiles(),
                 useful_threads(threads, s.numel() * static_cast<int64_t>(sizeof(C))), [&](int64_t i) {
                   const Task t = task(s, i);
                   const C* unit_slope = slope.as<C>() + t.problem * s.units;
                   const double scale =
                       grad_penalty ? static_cast<double>(grad_penalty.as<C>()[t.problem]) : 0;
                   if (stream) {
                     backward_task<true, T>(grad_activations, z, grad_z, s, t, unit_slope, scale);
                   } else {
                     backward_task<false, T>(grad_activations, z, grad_z, s, t, unit_slope, scale);
                   }
                 });
  });
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
