// conv2d and conv_transpose2d as matrix products on tensor cores (sm_80 on): an implicit GEMM by phases.
//
// A block computes a box of 128 cells by 16, 64 or 128 columns (geometry/implicit_gemm.h). For each source
// phase, block of 64 bytes of channels and tap, three of these in flight: the halo of the box once for all
// its taps, and the tap's weights, which were packed in the order of this walk. Eight warps multiply; the
// sums go through shared memory, get bias and activation, and are stored in the order of the output.
// Floor: 2 operations for each product on the tensor cores; the halo and the weights from L2 for each tile.
#pragma once
#include "cuda/async_copy.cuh"
#include "cuda/epilogue.cuh"
#include "cuda/implicit_gemm_pack.cuh"
#include "cuda/matrix.cuh"
#include "cuda/steps.cuh"
#include "cuda/view.cuh"
#include "geometry/implicit_gemm.h"

namespace deconvkit::cuda {

// kExact: float32 by three products of TF32, else by one.
template <class T, int kColumns, bool kExact>
struct ImplicitGemm {
  using Tiles = GemmTiles;
  static constexpr int kThreads = 256, kResident = 2, kLeastArchitecture = 80;
  static constexpr int kRows = Tiles::kRows, kRowBytes = Tiles::kDepthBytes, kPiece = Tiles::kPiece;
  static constexpr int kPieces = kRowBytes / kPiece, kStages = Tiles::kStages;
  // A warp's part of the tile, in fragments of 16 rows and of 8 columns.
  static constexpr int kWarps = kThreads / kWarpLanes, kWarpsAcross = kColumns > 32 ? kColumns / 32 : 1;
  static constexpr int kDown = kRows / (kWarps / kWarpsAcross) / 16, kAcross = kColumns / kWarpsAcross / 8;
  static_assert(kAcross % 2 == 0, "columns come by two fragments");
  // Sums in shared memory: the gap puts the rows of a quarter warp into different banks.
  static constexpr int kPitch = kColumns + 8;
  static constexpr int kOperandBytes = (kStages * kColumns + Tiles::kHaloRows) * kRowBytes;
  static constexpr int kSumBytes = kRows * kPitch * static_cast<int>(sizeof(float));

  struct HaloCell {
    int64_t from;  // offset of its image and group in the input; < 0: there is none
    int32_t h, w;
  };
  struct Row {
    int64_t to;    // offset of its phase 0 in the output; < 0: there is none
    int32_t h, w;  // where that is
  };
  struct Column {
    int64_t to;       // offset of its channel and phase
    int32_t channel;  // < 0: there is none
    int16_t h, w;     // its phase
  };
  struct Fetched {
    int32_t tap;   // what its tap adds to a row's place in the halo; < 0: the term is empty
    int32_t halo;  // where the halo lies
  };
  struct alignas(16) Shared {
    unsigned char memory[kOperandBytes > kSumBytes ? kOperandBytes : kSumBytes];
    HaloCell halo[Tiles::kHaloRows / 2];
    Row rows[kRows];
    Column columns[kColumns];
    Fetched fetched[kStages];
    int64_t weights;  // offset of the tile's first term in the packed ones
    int32_t sheet_h, sheet_w;
  };

  // The next term to fetch, and which of the memory for terms and for halos it gets.
  struct Next {
    Tiles::Term term;
    int32_t stage, halo;
  };
  struct Own {
    float sums[kDown][kAcross][4];
    Next next;
  };

  View<const T> input;  // channels side by side, 16 bytes of them aligned
  const unsigned char* weights;
  View<T> output;
  Epilogue<T> epilogue;
  Tiles tiles;
  int64_t group_channels;  // of the input, in elements from group to group
  bool by_vectors;         // 16 bytes of the output's channels lie side by side
  Divisor by_tile;

  ImplicitGemm(const View<const T>& in, const void* packed, const TensorRef& bias, const TensorRef& out,
               const ConvOptions& options, const Tiles& t)
      : input(in),
        weights(static_cast<const unsigned char*>(packed)),
        output(out),
        epilogue(bias, options),
        tiles(t),
        group_channels(padded_channels<T>(t)),
        by_vectors(!t.channels_first && t.out_channels % kVector<T> == 0 &&
                   groups_along(out, 1, kVector<T>, sizeof(T))),
        by_tile(t.terms + 4) {}

  // Of each tile: its tables, the first terms' fetch, a step for each term, the sums, the stores.
  DECONVKIT_HD int64_t steps(int64_t block, int64_t blocks) const {
    return (tiles.tiles() - block + blocks - 1) / blocks * by_tile.d;
  }

  DECONVKIT_HD void step(int64_t i, const Place& place, Shared& shared, Own& own) const {
    const int64_t turn = by_tile.quotient(i), at = i - turn * by_tile.d;
    if (at == 0) {
      begin(place.block + turn * place.blocks, place.thread, shared);
      clear(own);
    } else if (at == 1) {
      DECONVKIT_UNROLL
      for (int s = 0; s < kStages - 1; ++s) fetch(s, place.thread, shared, own);
      wait_for_copies<kStages - 2>();
    } else if (at < tiles.terms + 2) {
      fetch(at - 2 + kStages - 1, place.thread, shared, own);
      multiply_fetched(own.next.stage, place.thread, shared, own);
      wait_for_copies<kStages - 2>();
    } else if (at == tiles.terms + 2) {
      share_sums(place.thread, shared, own);
    } else if (by_vectors) {
      store_vectors(place.thread, shared);
    } else {
      store_numbers(place.thread, shared);
    }
  }

 private:
  DECONVKIT_INLINE static int32_t row_of(int32_t thread) {
    return thread / kWarpLanes / kWarpsAcross * (16 * kDown);
  }
  DECONVKIT_INLINE static int32_t column_of(int32_t thread) {
    return thread / kWarpLanes % kWarpsAcross * (8 * kAcross);
  }
  // Where a piece of a row lies: any 8 neighbouring rows' pieces are in different banks.
  DECONVKIT_INLINE static int32_t swizzled(int32_t row, int32_t piece) {
    return row * kRowBytes + (piece ^ (row >> 1 & (kPieces - 1))) * kPiece;
  }
  DECONVKIT_INLINE static int32_t columns_at(int32_t stage) { return stage * kColumns * kRowBytes; }

  DECONVKIT_INLINE static void clear(Own& own) {
    own.next = {};
    DECONVKIT_UNROLL
    for (int i = 0; i < kDown; ++i) {
      DECONVKIT_UNROLL
      for (int j = 0; j < kAcross; ++j) {
        DECONVKIT_UNROLL
        for (int k = 0; k < 4; ++k) own.sums[i][j][k] = 0;
      }
    }
  }
  DECONVKIT_HD void begin(int64_t index, int32_t thread, Shared& shared) const {
    const Tiles::Tile tile = tiles.tile(index);
    if (thread == 0) {
      shared.weights = (tile.sheet * tiles.terms * tiles.packed_columns() + tile.column) * kRowBytes;
      shared.sheet_h = static_cast<int32_t>(tile.sheet_h);
      shared.sheet_w = static_cast<int32_t>(tile.sheet_w);
    }
    DECONVKIT_ROLL
    for (int32_t i = thread; i < tiles.halo(); i += kThreads) {
      const Tiles::Cell c = tiles.cell_of_halo(i);
      const int64_t n = tile.n + c.n;
      shared.halo[i] = {n < tiles.batch ? n * input.n + tile.group * group_channels * input.c : -1,
                        static_cast<int32_t>(tile.h) + c.h, static_cast<int32_t>(tile.w) + c.w};
    }
    if (thread < kRows) {
      const Tiles::Cell c = tiles.cell_of_row(thread);
      const int64_t n = tile.n + c.n, h = tile.h + c.h, w = tile.w + c.w;
      const bool valid = c.n < tiles.tile_n && n < tiles.batch && h < tiles.h.cells && w < tiles.w.cells;
      const int64_t y = h * tiles.h.out_step, x = w * tiles.w.out_step;
      shared.rows[thread] = {valid ? n * output.n + y * output.h + x * output.w : -1, static_cast<int32_t>(y),
                             static_cast<int32_t>(x)};
    }
    if (thread < kColumns) {
      const Tiles::Column c = tiles.column(tile.column + thread);
      const int64_t channel = tile.group * tiles.out_channels + c.channel;
      const int64_t h = tile.sheet_h + c.fold_h, w = tile.sheet_w + c.fold_w;
      shared.columns[thread] = {channel * output.c + h * output.h + w * output.w,
                                c.valid ? static_cast<int32_t>(channel) : -1, static_cast<int16_t>(h),
                                static_cast<int16_t>(w)};
    }
  }

  // Starts the copies of the next term's operands: its weights, and the halo where its first tap begins one.
  DECONVKIT_INLINE void fetch(int64_t index, int32_t thread, Shared& shared, Own& own) const {
    Next& next = own.next;
    if (index < tiles.terms) {
      const Tiles::Term& t = next.term;
      const GemmTaps& h = tiles.h.taps_of(shared.sheet_h, t.source_h);
      const GemmTaps& w = tiles.w.taps_of(shared.sheet_w, t.source_w);
      const int32_t halo_at = (kStages * kColumns + next.halo * tiles.halo()) * kRowBytes;
      const bool empty = t.tap_h >= h.count || t.tap_w >= w.count;
      if (thread == 0) {
        shared.fetched[next.stage] = {empty ? -1 : tiles.place_of_tap(h, w, t.tap_h, t.tap_w), halo_at};
      }
      if (!empty) {
        if (t.tap_h == 0 && t.tap_w == 0) fetch_halo(h, w, t, thread, shared, shared.memory + halo_at);
        const unsigned char* const from =
            weights + shared.weights + index * tiles.packed_columns() * kRowBytes;
        unsigned char* const to = shared.memory + columns_at(next.stage);
        DECONVKIT_UNROLL
        for (int32_t i = thread; i < kColumns * kPieces; i += kThreads) {
          copy_async(to + swizzled(i / kPieces, i % kPieces), from + i * kPiece, true);
        }
      }
      tiles.advance(next.term);
      if (next.term.tap_h == 0 && next.term.tap_w == 0 && ++next.halo == tiles.halos) next.halo = 0;
    }
    if (++next.stage == kStages) next.stage = 0;
    commit_copies();
  }
  DECONVKIT_INLINE void fetch_halo(const GemmTaps& h, const GemmTaps& w, const Tiles::Term& t, int32_t thread,
                                   const Shared& shared, unsigned char* to) const {
    const int32_t piece = thread % kPieces;
    const int64_t channel = int64_t{t.block} * tiles.depth + piece * kVector<T>;
    DECONVKIT_ROLL
    for (int32_t i = thread / kPieces; i < tiles.halo(); i += kThreads / kPieces) {
      const HaloCell& c = shared.halo[i];
      const int64_t y = (c.h + h.offset) * tiles.h.in_step + t.source_h;
      const int64_t x = (c.w + w.offset) * tiles.w.in_step + t.source_w;
      const bool valid =
          c.from >= 0 && y >= 0 && y < tiles.h.in && x >= 0 && x < tiles.w.in && channel < group_channels;
      const T* const from = input.data + (valid ? c.from + y * input.h + x * input.w + channel : 0);
      copy_async(to + swizzled(i, piece), from, valid);
    }
  }

  // Once the next term's copies are under way, its stage's successor is the oldest: the one to multiply.
  DECONVKIT_INLINE void multiply_fetched(int32_t stage, int32_t thread, const Shared& shared,
                                         Own& own) const {
    const Fetched f = shared.fetched[stage];
    if (!leads_warp(thread) || f.tap < 0) return;
    const unsigned char* const halo = shared.memory + f.halo;
    const unsigned char* const columns = shared.memory + columns_at(stage);
    const int32_t first_row = row_of(thread), first_column = column_of(thread);
    DECONVKIT_UNROLL
    for (int k = 0; k < kPieces / 2; ++k) {
      Operand<kAcross / 2> b;
      DECONVKIT_UNROLL
      for (int j = 0; j < kAcross / 2; ++j) {
        load_matrices(b.big[j], thread, [&](int l) {
          return columns + swizzled(first_column + 16 * j + l / 16 * 8 + l % 8, 2 * k + l / 8 % 2);
        });
        split(b, j);
      }
      DECONVKIT_UNROLL
      for (int i = 0; i < kDown; ++i) {
        Operand<1> a;
        load_matrices(a.big[0], thread, [&](int l) {
          return halo + swizzled(tiles.place_of_row(first_row + 16 * i + l % 16) + f.tap, 2 * k + l / 16);
        });
        split(a, 0);
        DECONVKIT_UNROLL
        for (int j = 0; j < kAcross; ++j) {
          const auto sums = [&](int l) -> float(&)[4] { return own_of(own, l).sums[i][j]; };
          if constexpr (kExact) {
            multiply<T>(sums, a.rest[0], b.big[j / 2], j % 2);
            multiply<T>(sums, a.big[0], b.rest[j / 2], j % 2);
          }
          multiply<T>(sums, a.big[0], b.big[j / 2], j % 2);
        }
      }
    }
  }

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

  // The operands' memory becomes that of the sums.
  DECONVKIT_INLINE static void share_sums(int32_t thread, Shared& shared, const Own& own) {
    float* const sums = reinterpret_cast<float*>(shared.memory);
    const int32_t lane = thread % kWarpLanes;
    const int32_t row = row_of(thread) + lane / 4, column = column_of(thread) + lane % 4 * 2;
    DECONVKIT_UNROLL
    for (int i = 0; i < kDown; ++i) {
      DECONVKIT_UNROLL
      for (int j = 0; j < kAcross; ++j) {
        DECONVKIT_UNROLL
        for (int half = 0; half < 2; ++half) {
          float* const to = sums + (row + 16 * i + 8 * half) * kPitch + column + 8 * j;
          *reinterpret_cast<Group<float, 2>*>(to) = {
              {own.sums[i][j][2 * half], own.sums[i][j][2 * half + 1]}};
        }
      }
    }
  }

  DECONVKIT_INLINE bool is_output(const Row& row, const Column& column) const {
    return row.to >= 0 && column.channel >= 0 && row.h + column.h < tiles.h.out &&
           row.w + column.w < tiles.w.out;
  }
  DECONVKIT_INLINE void store_vectors(int32_t thread, const Shared& shared) const {
    constexpr int32_t n = kVector<T>, across = kColumns / n;
    const float* const sums = reinterpret_cast<const float*>(shared.memory);
    DECONVKIT_ROLL
    for (int32_t i = thread; i < kRows * across; i += kThreads) {
      const int32_t r = i / across, c = i % across * n;
      const Row& row = shared.rows[r];
      const Column& column = shared.columns[c];
      if (!is_output(row, column)) continue;
      Group<T, n> group;
      DECONVKIT_UNROLL
      for (int k = 0; k < n; ++k) group.at[k] = epilogue(sums[r * kPitch + c + k], column.channel + k);
      store(output.data + row.to + column.to, group);
    }
  }
  // Runs of columns that are neighbours in the output, row after row.
  DECONVKIT_INLINE void store_numbers(int32_t thread, const Shared& shared) const {
    const float* const sums = reinterpret_cast<const float*>(shared.memory);
    const int32_t run = tiles.run(), runs = (kColumns + run - 1) / run;
    DECONVKIT_ROLL
    for (int32_t i = thread; i < kRows * runs * run; i += kThreads) {
      const int32_t line = i / run, r = line % kRows, c = line / kRows * run + (i - line * run);
      if (c >= kColumns) continue;
      const Row& row = shared.rows[r];
      const Column& column = shared.columns[c];
      if (!is_output(row, column)) continue;
      store(output.data + row.to + column.to, epilogue(sums[r * kPitch + c], column.channel));
    }
  }
};

// Doubles of workspace that implicit_gemm() takes: packed weights, and the input where it must be packed.
inline int64_t implicit_gemm_workspace_size(const TensorRef& input, const TensorRef& output,
                                            const ConvShape& s, bool transposed) {
  if (input.dtype == DType::kFloat64) return 0;
  int64_t bytes = 0;
  for_gemm_dtype(input.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const GemmTiles tiles(s, transposed, sizeof(T), !channels_innermost(output));
    if (!tiles.serves()) return;
    bytes = tiles.packed_bytes() + (is_ready<T>(input, tiles) ? 0 : packed_input_bytes<T>(tiles));
  });
  return (bytes + 7) / 8;
}

// Whether this algorithm served the call, and so computed it.
template <class Launch>
bool implicit_gemm(const Launch& launch, const TensorRef& input, const TensorRef& weight,
                   const TensorRef& bias, const TensorRef& output, const ConvShape& s,
                   const ConvOptions& options, bool transposed, void* workspace) {
  if (input.dtype == DType::kFloat64) return false;
  bool serves = false;
  for_gemm_dtype(input.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const GemmTiles tiles(s, transposed, sizeof(T), !channels_innermost(output));
    const auto run = [&](auto columns, auto exact) {
      using Kernel = ImplicitGemm<T, decltype(columns)::value, decltype(exact)::value>;
      serves = tiles.serves() && launch.template can_run<Kernel>();
      if (!serves) return;
      const PackWeights<T> pack(weight, s, transposed, workspace, tiles);
      launch(pack, pack.items.tiles);
      View<const T> ready(input);
      if (!is_ready<T>(input, tiles)) {
        const PackInput<T> pack_input(input, static_cast<char*>(workspace) + tiles.packed_bytes(), tiles);
        launch(pack_input, pack_input.items.tiles);
        const View<T>& p = pack_input.packed;
        ready = {p.data, p.n, p.c, p.h, p.w};
      }
      launch(Kernel(ready, workspace, bias, output, options, tiles), tiles.tiles());
    };
    const auto by_columns = [&](auto exact) {
      if (tiles.columns_of_tile == GemmTiles::kNarrow) {
        return run(std::integral_constant<int, GemmTiles::kNarrow>{}, exact);
      }
      if constexpr (sizeof(T) == 2) {
        if (tiles.columns_of_tile == GemmTiles::kWide) {
          return run(std::integral_constant<int, GemmTiles::kWide>{}, exact);
        }
      }
      run(std::integral_constant<int, GemmTiles::kMiddle>{}, exact);
    };
    if constexpr (std::is_same_v<T, float>) {
      if (options.algorithm == ConvAlgorithm::kImplicitGemm) return by_columns(std::true_type{});
    }
    by_columns(std::false_type{});
  });
  return serves;
}

}  // namespace deconvkit::cuda
