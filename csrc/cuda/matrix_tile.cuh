// A block's tile of a matrix product on tensor cores: its sums dealt out to eight warps.
#pragma once
#include "cuda/matrix.cuh"

namespace deconvkit::cuda {

// kExact: float32 by three products of TF32, else by one.
template <class T, int kRows, int kColumns, bool kExact>
struct MatrixTile {
  static constexpr int kThreads = 256, kWarps = kThreads / kWarpLanes;
  // A warp's part of the tile, in fragments of 16 rows and of 8 columns.
  static constexpr int kWarpsAcross = kColumns > 32 ? kColumns / 32 : 1;
  static constexpr int kDown = kRows / (kWarps / kWarpsAcross) / 16, kAcross = kColumns / kWarpsAcross / 8;
  static_assert(kDown > 0 && kAcross % 2 == 0, "columns come by two fragments");
  static constexpr int kStepBytes = 32;  // of depth, what the instruction takes

  struct Sums {
    float at[kDown][kAcross][4];
  };

  DECONVKIT_INLINE static int32_t first_row(int32_t thread) {
    return thread / kWarpLanes / kWarpsAcross * (16 * kDown);
  }
  DECONVKIT_INLINE static int32_t first_column(int32_t thread) {
    return thread / kWarpLanes % kWarpsAcross * (8 * kAcross);
  }

  DECONVKIT_INLINE static void clear(Sums& sums) {
    DECONVKIT_UNROLL
    for (int i = 0; i < kDown; ++i) {
      DECONVKIT_UNROLL
      for (int j = 0; j < kAcross; ++j) {
        DECONVKIT_UNROLL
        for (int k = 0; k < 4; ++k) sums.at[i][j][k] = 0;
      }
    }
  }

  // Adds the product of a step of depth to a warp's sums, sums_of(l) for lane l. load_rows(fragments, r)
  // loads the rows from r on, load_columns(fragments, c) 16 columns from c on (matrix.cuh).
  template <class SumsOf, class LoadRows, class LoadColumns>
  DECONVKIT_INLINE static void multiply_step(int32_t thread, SumsOf&& sums_of, LoadRows&& load_rows,
                                             LoadColumns&& load_columns) {
    Operand<kAcross / 2> b;
    DECONVKIT_UNROLL
    for (int j = 0; j < kAcross / 2; ++j) {
      load_columns(b.big[j], first_column(thread) + 16 * j);
      split(b, j);
    }
    DECONVKIT_UNROLL
    for (int i = 0; i < kDown; ++i) {
      Operand<1> a;
      load_rows(a.big[0], first_row(thread) + 16 * i);
      split(a, 0);
      DECONVKIT_UNROLL
      for (int j = 0; j < kAcross; ++j) {
        const auto sums = [&](int l) -> float(&)[4] { return sums_of(l).at[i][j]; };
        if constexpr (kExact) {
          multiply<T>(sums, a.rest[0], b.big[j / 2], j % 2);
          multiply<T>(sums, a.big[0], b.rest[j / 2], j % 2);
        }
        multiply<T>(sums, a.big[0], b.big[j / 2], j % 2);
      }
    }
  }

  // Calls f(row, column, sums of this column and the next) for what a thread has.
  template <class F>
  DECONVKIT_INLINE static void for_pairs(int32_t thread, const Sums& sums, F&& f) {
    const int32_t lane = thread % kWarpLanes;
    const int32_t row = first_row(thread) + lane / 4, column = first_column(thread) + lane % 4 * 2;
    DECONVKIT_UNROLL
    for (int i = 0; i < kDown; ++i) {
      DECONVKIT_UNROLL
      for (int j = 0; j < kAcross; ++j) {
        DECONVKIT_UNROLL
        for (int half = 0; half < 2; ++half) {
          f(row + 16 * i + 8 * half, column + 8 * j,
            Group<float, 2>{{sums.at[i][j][2 * half], sums.at[i][j][2 * half + 1]}});
        }
      }
    }
  }

 private:
  // Fragments of an operand: of float32 rounded to TF32, and what that leaves.
  template <int N>
  struct Operand {
    Fragment big[N][kLanes];
    Fragment rest[kExact ? N : 1][kLanes];
  };
  template <int N>
  DECONVKIT_INLINE static void split([[maybe_unused]] Operand<N>& o, [[maybe_unused]] int j) {
    if constexpr (std::is_same_v<T, float>) {
      DECONVKIT_UNROLL
      for (int l = 0; l < kLanes; ++l) {
        DECONVKIT_UNROLL
        for (int m = 0; m < 4; ++m) {
          const float x = bits_as<float>(o.big[j][l].at[m]);
          o.big[j][l].at[m] = tf32(x);
          if constexpr (kExact) o.rest[j][l].at[m] = rest_of_tf32(x, o.big[j][l].at[m]);
        }
      }
    }
  }
};

}  // namespace deconvkit::cuda
