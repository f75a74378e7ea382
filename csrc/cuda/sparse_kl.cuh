// The sparsity penalty β Σ_j KL(ρ‖ρ̂_j), alone or fused with the sigmoid before it: formulas and bounds as in
// csrc/cpu/sparse_kl.cpp.
//
// Forward: one pass over the activations (geometry/sample_tiles.h): σ(z), written as it is computed, and each
// task's Σσ and Σ(1 - σ) by column, 64 at a time in the compute type, then in double. A second stage adds up
// the chunks, a third the units' divergences; both in one order, without atomics. Floor: 8 bytes an element
// (float32). Backward: one pass, σ'(z) (upstream + slope_j); it reads z and computes σ' anew. Floor: 12
// bytes.
#pragma once
#include "cuda/number.cuh"
#include "cuda/steps.cuh"
#include "geometry/sample_tiles.h"

namespace deconvkit::cuda {

// ---- formulas ----

template <class C>
struct Pair {
  C on, off;
};

// 1 / x for x in [1, 2], to two units in the last place. In float32 the exact division would take a quarter
// of a forward pass's instructions.
DECONVKIT_INLINE double reciprocal(double x) { return 1 / x; }
DECONVKIT_INLINE float reciprocal(float x) {
#ifdef __CUDA_ARCH__
  return __fdividef(1, x);
#else
  return 1 / x;
#endif
}

struct Sigmoid {
  static constexpr bool kStores = true;
  template <class C>
  DECONVKIT_HD static Pair<C> pair(C z) {
    const C t = exp(z < 0 ? z : -z), large = reciprocal(1 + t), small = t * large;
    return z < 0 ? Pair<C>{small, large} : Pair<C>{large, small};
  }
};
struct Identity {
  static constexpr bool kStores = false;
  template <class C>
  DECONVKIT_HD static Pair<C> pair(C a) {
    return {a, 1 - a};
  }
};

template <class C>
DECONVKIT_INLINE C sigmoid_slope(C z) {
  const C t = exp(z < 0 ? z : -z), large = reciprocal(1 + t);
  return t * large * large;
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
DECONVKIT_INLINE C bounded(double x) {
  const double most = Limits<C>::kLargest;
  return static_cast<C>(x > most ? most : x < -most ? -most : x);
}

struct Target {
  double rho, beta;
  double scale;  // of the slope
};

// KL(ρ‖ρ̂) of a unit and its slope β KL'(ρ̂) / samples · scale.
template <class C>
DECONVKIT_INLINE double penalise(double on, double off, double samples, const Target& t, C* slope) {
  const double least = Limits<C>::kSmallest;
  on /= samples, off /= samples;
  on = on < least ? least : on;
  off = off < least ? least : off;
  store(slope, bounded<C>(t.beta * ((1 - t.rho) / off - t.rho / on) / samples * t.scale));
  const double kl = t.rho * log(t.rho / on) + (1 - t.rho) * log((1 - t.rho) / off);
  return kl < 0 ? 0 : kl;
}

// ---- a pass over the activations ----

// Rows or problems of activations, in elements.
template <class T>
struct Samples {
  T* data = nullptr;
  int64_t problem = 0, row = 0;

  Samples() = default;
  explicit Samples(const TensorRef& t) : data(t.as<T>()), problem(t.stride[0]), row(t.stride[1]) {}
};

constexpr int kAtOnce = 4;  // groups that a thread reads before it uses them

template <class T, int N>
DECONVKIT_INLINE Group<T, N> load_some(const T* from, int count) {
  if (count == N) return load<N>(from);
  Group<T, N> x;
  DECONVKIT_UNROLL
  for (int k = 0; k < N; ++k) x.at[k] = k < count ? from[k] : T{};
  return x;
}
template <class T, int N>
DECONVKIT_INLINE void store_some(T* to, const Group<T, N>& x, int count) {
  if (count == N) return store(to, x);
  DECONVKIT_UNROLL
  for (int k = 0; k < N; ++k) {
    if (k < count) store(to + k, x.at[k]);
  }
}

// The first stage. In planes a thread's group is one unit's, elsewhere N columns'.
template <class Op, class T, int N>
struct SumSamples {
  using C = Compute<T>;
  static constexpr int kThreads = SampleTiles::kThreads;
  static constexpr int kResident = 2;
  static constexpr int kRun = 64;    // sums in C
  static constexpr int kParts = 16;  // that long columns are added up in
  static constexpr int kSteps = 3;   // of a task
  struct Shared {
    double sums[2][N][kThreads];    // of each thread
    double parts[2][2 * kThreads];  // (parts, columns of a tile): 16 x 4 N or 1 x 32 N
  };
  using Own = Empty;

  SampleTiles s;
  Samples<const T> input;
  Samples<T> output;
  double* partial;  // (batch, chunks, 2, columns)

  DECONVKIT_HD int64_t steps(int64_t block, int64_t blocks) const {
    return (s.tasks() - block + blocks - 1) / blocks * kSteps;
  }

  DECONVKIT_HD void step(int64_t i, const Place& place, Shared& shared, Own&) const {
    const int64_t task = place.block + i / kSteps * place.blocks;
    const int64_t phase = i % kSteps;
    if (phase == 0) return sum(task, place.thread, shared);
    const int32_t columns = s.planes ? 1 : s.across() * N, down = s.down();
    const int32_t parts = down > 2 * kParts ? kParts : 1, length = down / parts;
    for (int32_t item = place.thread; item < 2 * columns * (phase == 1 ? parts : 1); item += kThreads) {
      const int32_t half = item & 1, column = (item >> 1) % columns, part = (item >> 1) / columns;
      double total = 0;
      if (phase == 1) {
        const double* const from = shared.sums[half][column % N] + column / N;
        for (int32_t k = part * length; k < (part + 1) * length; ++k) total += from[k << s.across_log2];
        shared.parts[half][part * columns + column] = total;
        continue;
      }
      for (int32_t k = 0; k < parts; ++k) total += shared.parts[half][k * columns + column];
      const SampleTiles::Share share = s.share(task, 0);
      if (share.column + column < s.columns) {
        store(partial + ((share.problem * s.chunks + share.chunk) * 2 + half) * s.columns + share.column +
                  column,
              total);
      }
    }
  }

 private:
  DECONVKIT_HD void sum(int64_t task, int32_t thread, Shared& shared) const {
    const SampleTiles::Share share = s.share(task, thread);
    const int count = s.planes ? N : share.count;
    const T* const in = input.data + share.problem * input.problem;
    T* const out = Op::kStores ? output.data + share.problem * output.problem : nullptr;
    double on[N] = {}, off[N] = {};
    if (share.count) {
      C run_on[N] = {}, run_off[N] = {};
      int added = 0;
      for (int64_t m = share.first; m < share.last; m += kAtOnce * share.step) {
        Group<T, N> x[kAtOnce];
        DECONVKIT_UNROLL
        for (int u = 0; u < kAtOnce; ++u) {
          const int64_t at = m + u * share.step;
          if (at < share.last) x[u] = load_some<T, N>(in + s.offset(share, at, input.row), count);
        }
        DECONVKIT_UNROLL
        for (int u = 0; u < kAtOnce; ++u) {
          const int64_t at = m + u * share.step;
          if (at >= share.last) break;
          Group<T, N> stored;
          DECONVKIT_UNROLL
          for (int k = 0; k < N; ++k) {
            const Pair<C> p = Op::pair(widen(x[u].at[k]));
            if constexpr (Op::kStores) stored.at[k] = narrow<T>(p.on);
            run_on[k] += p.on;
            run_off[k] += p.off;
          }
          if constexpr (Op::kStores) store_some<T, N>(out + s.offset(share, at, output.row), stored, count);
        }
        added += kAtOnce;
        if (added == kRun || m + kAtOnce * share.step >= share.last) {
          DECONVKIT_UNROLL
          for (int k = 0; k < N; ++k) {
            on[k] += run_on[k], off[k] += run_off[k];
            run_on[k] = run_off[k] = 0;
          }
          added = 0;
        }
      }
    }
    if (s.planes) {
      DECONVKIT_UNROLL
      for (int k = 1; k < N; ++k) on[0] += on[k], off[0] += off[k];
    }
    DECONVKIT_UNROLL
    for (int k = 0; k < N; ++k) {
      shared.sums[0][k][thread] = on[k];
      shared.sums[1][k][thread] = off[k];
    }
  }
};

// The second stage: a unit's chunks and columns, to its sums, or to its slope and divergence.
template <class C>
struct AddChunks {
  static constexpr int kThreads = 256;
  struct Shared {
    double sums[2][kThreads];
  };
  using Own = Empty;

  SampleTiles s;
  int32_t across_log2;      // units of a block
  int64_t units_of_blocks;  // blocks for a problem
  const double* partial;
  double* sums;         // (batch, 2, units), or absent: then
  C* slope;             // (batch, units)
  double* divergences;  // (batch, units)
  Target target;

  DECONVKIT_HD int64_t tiles() const { return s.batch * units_of_blocks; }
  DECONVKIT_HD int64_t steps(int64_t block, int64_t blocks) const {
    return (tiles() - block + blocks - 1) / blocks * 2;
  }
  DECONVKIT_HD void step(int64_t i, const Place& place, Shared& shared, Own&) const {
    const int64_t tile = place.block + i / 2 * place.blocks;
    const int64_t problem = tile / units_of_blocks;
    const int32_t lane = place.thread & ((1 << across_log2) - 1), down = kThreads >> across_log2;
    const int64_t unit = ((tile - problem * units_of_blocks) << across_log2) + lane;
    if (i % 2 == 0) {
      double on = 0, off = 0;
      if (unit < s.units) {
        const int64_t fold = s.columns_per_unit();
        const double* const from = partial + problem * s.chunks * 2 * s.columns + unit * fold;
        for (int64_t k = 0; k < fold; ++k) {
          DECONVKIT_UNROLL_4
          for (int64_t chunk = place.thread >> across_log2; chunk < s.chunks; chunk += down) {
            const double* const row = from + chunk * 2 * s.columns + k;
            on += row[0], off += row[s.columns];
          }
        }
      }
      shared.sums[0][place.thread] = on;
      shared.sums[1][place.thread] = off;
      return;
    }
    if (place.thread >= 1 << across_log2 || unit >= s.units) return;
    double on = 0, off = 0;
    for (int32_t k = lane; k < kThreads; k += 1 << across_log2) {
      on += shared.sums[0][k], off += shared.sums[1][k];
    }
    if (sums) {
      store(sums + problem * 2 * s.units + unit, on);
      store(sums + (problem * 2 + 1) * s.units + unit, off);
    } else {
      const int64_t at = problem * s.units + unit;
      store(divergences + at, penalise(on, off, static_cast<double>(s.outer * s.inner), target, slope + at));
    }
  }
};

// From sums (2, units), to which `samples`, of all processes, is added behind: slopes and divergences.
template <class C>
struct PenaliseSums {
  static constexpr int kThreads = 256;
  using Shared = Empty;
  using Own = Empty;

  const double *sums, *samples;
  C* slope;
  double* divergences;
  int64_t units;
  Target target;

  DECONVKIT_HD int64_t steps(int64_t, int64_t) const { return 1; }
  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for (int64_t j = place.block * kThreads + place.thread; j < units; j += place.blocks * kThreads) {
      store(divergences + j, penalise(sums[j], sums[units + j], *samples, target, slope + j));
    }
  }
};

// The third stage, a block for a problem: penalty = β Σ_j divergence.
template <class C>
struct AddUnits {
  static constexpr int kThreads = 256;
  struct Shared {
    double sums[kThreads], parts[16];
  };
  using Own = Empty;

  const double* divergences;
  C* penalty;
  int64_t batch, units;
  double beta;

  DECONVKIT_HD int64_t steps(int64_t block, int64_t blocks) const {
    return (batch - block + blocks - 1) / blocks * 3;
  }
  DECONVKIT_HD void step(int64_t i, const Place& place, Shared& shared, Own&) const {
    const int64_t problem = place.block + i / 3 * place.blocks, phase = i % 3;
    double sum = 0;
    if (phase == 0) {
      for (int64_t j = place.thread; j < units; j += kThreads) sum += divergences[problem * units + j];
      shared.sums[place.thread] = sum;
    } else if (phase == 1 && place.thread < 16) {
      for (int k = 0; k < 16; ++k) sum += shared.sums[place.thread * 16 + k];
      shared.parts[place.thread] = sum;
    } else if (phase == 2 && place.thread == 0) {
      for (int k = 0; k < 16; ++k) sum += shared.parts[k];
      store(penalty + problem, static_cast<C>(beta * sum));
    }
  }
};

template <class T>
struct StoreZeros {
  static constexpr int kThreads = 256;
  using Shared = Empty;
  using Own = Empty;

  T* to;
  int64_t count;

  DECONVKIT_HD int64_t steps(int64_t, int64_t) const { return 1; }
  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for (int64_t j = place.block * kThreads + place.thread; j < count; j += place.blocks * kThreads) {
      store(to + j, T{});
    }
  }
};

template <class T, int N>
struct SigmoidBackward {
  using C = Compute<T>;
  static constexpr int kThreads = SampleTiles::kThreads;
  using Shared = Empty;
  using Own = Empty;

  SampleTiles s;
  Samples<const T> grad, z;  // grad may be absent
  Samples<T> grad_z;
  const C *slope, *grad_penalty;  // (batch, units), (batch) or absent

  DECONVKIT_HD int64_t steps(int64_t, int64_t) const { return 1; }
  DECONVKIT_HD void step(int64_t, const Place& place, Shared&, Own&) const {
    for (int64_t task = place.block; task < s.tasks(); task += place.blocks) {
      const SampleTiles::Share share = s.share(task, place.thread);
      if (share.count) run(share);
    }
  }

 private:
  DECONVKIT_HD void run(const SampleTiles::Share& share) const {
    const int count = s.planes ? N : share.count;
    const double scale = grad_penalty ? static_cast<double>(grad_penalty[share.problem]) : 0;
    C unit_slope[N];
    DECONVKIT_UNROLL
    for (int k = 0; k < N; ++k) {
      const int64_t column = s.planes ? share.column : share.column + (k < count ? k : 0);
      const C own = slope[share.problem * s.units + s.unit_of(column)];
      unit_slope[k] = bounded<C>(scale * static_cast<double>(own));
    }
    const T* const from = z.data + share.problem * z.problem;
    const T* const up = grad.data ? grad.data + share.problem * grad.problem : nullptr;
    T* const to = grad_z.data + share.problem * grad_z.problem;
    for (int64_t m = share.first; m < share.last; m += kAtOnce * share.step) {
      Group<T, N> x[kAtOnce], g[kAtOnce];
      DECONVKIT_UNROLL
      for (int u = 0; u < kAtOnce; ++u) {
        const int64_t at = m + u * share.step;
        if (at >= share.last) continue;
        x[u] = load_some<T, N>(from + s.offset(share, at, z.row), count);
        if (up) g[u] = load_some<T, N>(up + s.offset(share, at, grad.row), count);
      }
      DECONVKIT_UNROLL
      for (int u = 0; u < kAtOnce; ++u) {
        const int64_t at = m + u * share.step;
        if (at >= share.last) continue;
        Group<T, N> result;
        DECONVKIT_UNROLL
        for (int k = 0; k < N; ++k) {
          const C upstream = up ? widen(g[u].at[k]) + unit_slope[k] : unit_slope[k];
          result.at[k] = narrow<T>(sigmoid_slope(widen(x[u].at[k])) * upstream);
        }
        store_some<T, N>(to + s.offset(share, at, grad_z.row), result, count);
      }
    }
  }
};

// ---- entries ----

// Doubles of workspace that sparse_sigmoid and sparse_kl take for activations of this shape.
inline int64_t sparse_workspace(const TensorRef& t) {
  const SampleTiles s(t.size[0], t.size[1], t.size[2], t.size[3], 1);
  return s.partials() + s.batch * s.units;
}

// How many neighbours a thread may take at once of each of these tensors, where they are present.
template <class T, class... Ts>
int group_of(const TensorRef& t, const Ts&... others) {
  constexpr int n = kVector<T>;
  const auto fits = [&](const TensorRef& x) { return !x || groups_along(x, 3, n, sizeof(T)); };
  const auto rows = [&](const TensorRef& x) {  // inner = 1: along the units
    return !x || (reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && (x.size[0] == 1 || x.stride[0] % n == 0) &&
                  (x.size[1] == 1 || x.stride[1] % n == 0));
  };
  // Planes have no tail: strides alone would not say so, for none is asked of an axis of size 1.
  if (t.size[3] >= SampleTiles::kPlane) return t.size[3] % n == 0 && (fits(t) && ... && fits(others)) ? n : 1;
  return (rows(t) && ... && rows(others)) ? n : 1;
}

template <class C, class Launch>
void add_chunks(const Launch& launch, const SampleTiles& s, const TensorRef& sums, const TensorRef& penalty,
                const TensorRef& slope, const Target& target, double* workspace) {
  int32_t across_log2 = 0;  // at most 8: one line of memory, and many threads for the chunks
  while (across_log2 < 3 && (1 << across_log2) < s.units) ++across_log2;
  const int64_t blocks = (s.units + (1 << across_log2) - 1) >> across_log2;
  double* const divergences = workspace + s.partials();
  const AddChunks<C> second{s,           across_log2, blocks, workspace, sums.as<double>(), slope.as<C>(),
                            divergences, target};
  launch(second, second.tiles());
  if (!sums) launch(AddUnits<C>{divergences, penalty.as<C>(), s.batch, s.units, target.beta}, s.batch);
}

template <class Op, class T, int N, class Launch>
void sum_samples(const Launch& launch, const TensorRef& input, const TensorRef& output, const TensorRef& sums,
                 const TensorRef& penalty, const TensorRef& slope, const Target& target, double* workspace) {
  const SampleTiles s(input.size[0], input.size[1], input.size[2], input.size[3], N);
  launch(SumSamples<Op, T, N>{s, Samples<const T>(input), Samples<T>(output), workspace}, s.tasks());
  add_chunks<Compute<T>>(launch, s, sums, penalty, slope, target, workspace);
}

template <class Op, class Launch>
void sparse_forward(const Launch& launch, const TensorRef& input, const TensorRef& output,
                    const TensorRef& sums, const TensorRef& penalty, const TensorRef& slope, double rho,
                    double beta, double* workspace) {
  if (input.numel() == 0) {  // no units, or no samples on this process
    if (sums) return launch(StoreZeros<double>{sums.as<double>(), 2 * input.size[0] * input.size[2]}, 64);
    if (penalty.dtype == DType::kFloat64) {
      return launch(StoreZeros<double>{penalty.as<double>(), input.size[0]}, 1);
    }
    return launch(StoreZeros<float>{penalty.as<float>(), input.size[0]}, 1);
  }
  for_float_dtype(input.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const Target target{rho, beta, 1};
    if (group_of<T>(input, output) == 1) {
      sum_samples<Op, T, 1>(launch, input, output, sums, penalty, slope, target, workspace);
    } else {
      sum_samples<Op, T, kVector<T>>(launch, input, output, sums, penalty, slope, target, workspace);
    }
  });
}

template <class C, class Launch>
void penalise_sums(const Launch& launch, const TensorRef& sums, const TensorRef& samples,
                   const TensorRef& penalty, const TensorRef& slope, const Target& target,
                   double* workspace) {
  const int64_t units = slope.size[0];
  launch(PenaliseSums<C>{sums.as<double>(), samples.as<double>(), slope.as<C>(), workspace, units, target},
         (units + 255) / 256);
  launch(AddUnits<C>{workspace, penalty.as<C>(), 1, units, target.beta}, 1);
}

template <class Launch>
void sparse_from_sums(const Launch& launch, const TensorRef& sums, const TensorRef& samples,
                      const TensorRef& penalty, const TensorRef& slope, double scale, double rho, double beta,
                      double* workspace) {
  const Target target{rho, beta, scale};
  if (penalty.dtype == DType::kFloat64) {
    penalise_sums<double>(launch, sums, samples, penalty, slope, target, workspace);
  } else {
    penalise_sums<float>(launch, sums, samples, penalty, slope, target, workspace);
  }
}

template <class T, int N, class Launch>
void run_backward(const Launch& launch, const TensorRef& grad, const TensorRef& z, const TensorRef& slope,
                  const TensorRef& grad_penalty, const TensorRef& grad_z) {
  using C = Compute<T>;
  const SampleTiles s(z.size[0], z.size[1], z.size[2], z.size[3], N);
  launch(SigmoidBackward<T, N>{s, Samples<const T>(grad), Samples<const T>(z), Samples<T>(grad_z),
                               slope.as<const C>(), grad_penalty.as<const C>()},
         s.tasks());
}

template <class Launch>
void sparse_backward(const Launch& launch, const TensorRef& grad, const TensorRef& z, const TensorRef& slope,
                     const TensorRef& grad_penalty, const TensorRef& grad_z) {
  if (z.numel() == 0) return;
  for_float_dtype(z.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    if (group_of<T>(z, grad, grad_z) == 1) {
      run_backward<T, 1>(launch, grad, z, slope, grad_penalty, grad_z);
    } else {
      run_backward<T, kVector<T>>(launch, grad, z, slope, grad_penalty, grad_z);
    }
  });
}

}  // namespace deconvkit::cuda
