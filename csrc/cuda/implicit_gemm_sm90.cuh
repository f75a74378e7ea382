// The implicit GEMM of implicit_gemm.cuh for Hopper (sm_90a alone): bfloat16 and float16.
//
// A block computes a box of 256 cells by 16, 64 or 128 columns (geometry/implicit_gemm_sm90.h), tile after
// tile. One thread, the producer, has the copy engine fetch what the terms read, as far ahead as there is
// room: the box of the input by a tensor map, whose zeros beyond the edges are the padding, and the weights,
// which were packed in the order of this walk and in the swizzle of the instruction. Two warpgroups, the
// consumers, multiply the two halves of the rows, and put bias, activation and rounding on their sums, while
// the producer fetches for the next tile.
//
// Of each stage there are two barriers. `full`: the producer arrives, and expects the bytes that it has had
// copied; consumers wait for it before they read. `empty`: each warp of the consumers arrives when its
// products are done; the producer waits for it before it fills the stage again. A stage's n-th use waits for
// phase n of `full`, of parity n % 2, and for phase n - 1 of `empty`, which of the first use counts as over.
// Floor: as implicit_gemm.cuh; from L2 a box for the taps above each other, and each term's weights, a tile.
#pragma once
#ifdef __CUDACC__
#include "cuda/device.h"
#endif
#include "cuda/implicit_gemm_output.cuh"
#include "cuda/implicit_gemm_pack.cuh"
#include "cuda/matrix_sm90.cuh"
#include "cuda/roles.cuh"
#include "geometry/implicit_gemm_sm90.h"

namespace deconvkit::cuda {

template <class T, int kColumns>
struct ImplicitGemmSm90 : GemmOutput<T, Sm90Tiles, WarpgroupMatrix::kThreads> {
  using Tiles = Sm90Tiles;
  using Matrix = WarpgroupMatrix;
  using Output = GemmOutput<T, Sm90Tiles, WarpgroupMatrix::kThreads>;
  using Output::tiles;
  static constexpr int kOnlyArchitecture = 90;
  static constexpr int kConsumers = 2, kWarps = kConsumers * Matrix::kThreads / 32;
  static constexpr int kThreads = (kConsumers + 1) * Matrix::kThreads;
  static constexpr int kMatrices =
      Tiles::kRows / Matrix::kRows / kConsumers;  // of a group, one below the other
  static constexpr int kFragments = kColumns / 8;
  // Sums go through shared memory by 64 rows and so many columns.
  static constexpr int kAcross = kColumns < 64 ? kColumns : 64, kParts = kColumns / kAcross;
  static constexpr int kChunks = kMatrices * kParts;

  struct alignas(Matrix::kAtomBytes) Shared {
    unsigned char memory[Tiles::kRoom];
    float sums[kConsumers][Matrix::kRows * Output::pitch(kAcross)];
    typename Output::Row rows[kConsumers][kMatrices][Matrix::kRows];
    typename Output::Column columns[kConsumers][kColumns];
    Barrier full[Tiles::kMostStages], empty[Tiles::kMostStages];
  };

  struct Producer {
    static constexpr int kFirst = kConsumers * Matrix::kThreads, kGroup = 1, kGroups = 1;
    static constexpr int kRegisters = 40;
    Tiles::Walk walk;
    Tiles::Tile tile;
  };
  struct Consumer {
    static constexpr int kFirst = 0, kGroup = Matrix::kThreads, kGroups = kConsumers, kRegisters = 232;
    Tiles::Walk walk;
    int32_t sheet_h, sheet_w;
    float sums[kMatrices][kFragments][4];
  };

  TensorMap maps[Tiles::kMostSources];
  const unsigned char* weights;
  Divisor by_terms, by_steps;

  ImplicitGemmSm90(const TensorMap (&source_maps)[Tiles::kMostSources], const void* packed,
                   const TensorRef& bias, const TensorRef& out, const ConvOptions& options, const Tiles& t)
      : Output(bias, out, options, t),
        weights(static_cast<const unsigned char*>(packed)),
        by_terms(t.terms),
        by_steps(1 + t.terms + 2 * kChunks) {
    for (int i = 0; i < Tiles::kMostSources; ++i) maps[i] = source_maps[i];
  }

  DECONVKIT_HD void begin(Shared& shared) const {
    DECONVKIT_ROLL
    for (int32_t i = 0; i < tiles.stages; ++i) {
      make_barrier(shared.full[i], 1);
      make_barrier(shared.empty[i], kWarps);
    }
  }

  // ---- the producer: a step for each term of each tile ----

  DECONVKIT_HD int64_t steps(const Place& place, const Producer&) const {
    return tiles_of(place) * by_terms.d;
  }
  DECONVKIT_HD Need need(int64_t, Shared& shared, const Producer& own) const {
    return {&shared.empty[own.walk.stage], own.walk.parity ^ 1};
  }
  DECONVKIT_HD void step(int64_t i, const Place& place, Shared& shared, Producer& own) const {
    const int64_t turn = by_terms.quotient(i);
    if (i == turn * by_terms.d) own.tile = tiles.tile(place.block + turn * place.blocks);
    const Tiles::Tile& tile = own.tile;
    const Tiles::Term& t = own.walk.term;
    const GemmTaps& h = tiles.h.taps_of(tile.sheet_h, t.source_h);
    const GemmTaps& w = tiles.w.taps_of(tile.sheet_w, t.source_w);
    Barrier& full = shared.full[own.walk.stage];
    if (tiles.is_empty(t, h, w)) {
      arrive(full);
    } else {
      const bool box = tiles.begins_box(t);
      arrive_and_expect(full, kColumns * Matrix::kRowBytes + (box ? tiles.box_bytes() : 0));
      if (box) {
        copy_box(shared.memory + tiles.box_at(own.walk.box), maps[tiles.source(t)],
                 tiles.corner(tile, t, h, w).at, full);
      }
      const int64_t row =
          (tile.sheet * tiles.terms + tiles.packed_term(t)) * tiles.packed_columns() + tile.column;
      copy_bytes(shared.memory + tiles.columns_at(own.walk.stage), weights + row * Matrix::kRowBytes,
                 kColumns * Matrix::kRowBytes, full);
    }
    tiles.advance(own.walk);
  }

  // ---- a consumer: of each tile its tables, a step for each term, and for each chunk of its sums two ----

  DECONVKIT_HD int64_t steps(const Place& place, const Consumer&) const {
    return tiles_of(place) * by_steps.d;
  }
  DECONVKIT_HD Need need(int64_t i, Shared& shared, const Consumer& own) const {
    const int64_t at = by_steps.remainder(i);
    if (at == 0 || at > tiles.terms) return {};
    return {&shared.full[own.walk.stage], own.walk.parity};
  }
  DECONVKIT_HD void step(int64_t i, const Place& place, Shared& shared, Consumer& own) const {
    const int64_t turn = by_steps.quotient(i), at = i - turn * by_steps.d;
    const int32_t group = place.thread / Matrix::kThreads, thread = place.thread % Matrix::kThreads;
    if (at == 0) {
      begin_tile(place.block + turn * place.blocks, group, thread, shared, own);
    } else if (at <= tiles.terms) {
      multiply_term(group, thread, shared, own);
      if (thread % 32 == 0) arrive(shared.empty[own.walk.stage]);
      tiles.advance(own.walk);
    } else {
      const auto j = static_cast<int32_t>(at - tiles.terms - 1);
      if (j % 2 == 0) {
        DECONVKIT_UNROLL
        for (int32_t chunk = 0; chunk < kChunks; ++chunk) {
          if (chunk == j / 2) share_sums(chunk, thread, shared.sums[group], own);
        }
      } else {
        const int32_t matrix = j / 2 / kParts, part = j / 2 % kParts;
        this->store_rows(kAcross, thread, shared.sums[group], shared.rows[group][matrix],
                         shared.columns[group] + part * kAcross);
      }
    }
  }

 private:
  DECONVKIT_INLINE int64_t tiles_of(const Place& place) const {
    return (tiles.tiles() - place.block + place.blocks - 1) / place.blocks;
  }

  DECONVKIT_INLINE void begin_tile(int64_t index, int32_t group, int32_t thread, Shared& shared,
                                   Consumer& own) const {
    const Tiles::Tile tile = tiles.tile(index);
    own.sheet_h = static_cast<int32_t>(tile.sheet_h);
    own.sheet_w = static_cast<int32_t>(tile.sheet_w);
    const int32_t row = thread % Matrix::kRows, matrix = thread / Matrix::kRows;
    static_assert(kMatrices * Matrix::kRows == Matrix::kThreads, "a row for each thread");
    shared.rows[group][matrix][row] = this->row(tile, group * Matrix::kThreads + thread);
    if (thread < kColumns) shared.columns[group][thread] = this->column(tile, thread);
    DECONVKIT_UNROLL
    for (int m = 0; m < kMatrices; ++m) {
      DECONVKIT_UNROLL
      for (int j = 0; j < kFragments; ++j) {
        DECONVKIT_UNROLL
        for (int k = 0; k < 4; ++k) own.sums[m][j][k] = 0;
      }
    }
  }

  DECONVKIT_INLINE void multiply_term(int32_t group, int32_t thread, const Shared& shared,
                                      Consumer& own) const {
    const Tiles::Term& t = own.walk.term;
    const GemmTaps& h = tiles.h.taps_of(own.sheet_h, t.source_h);
    const GemmTaps& w = tiles.w.taps_of(own.sheet_w, t.source_w);
    if (!leads_warpgroup(thread) || tiles.is_empty(t, h, w)) return;
    const uint32_t memory = shared_address(shared.memory);
    const uint32_t columns = memory + tiles.columns_at(own.walk.stage);
    uint32_t rows[kMatrices];
    DECONVKIT_UNROLL
    for (int m = 0; m < kMatrices; ++m) {
      rows[m] = memory + tiles.box_at(own.walk.box) +
                tiles.row_in_box((group * kMatrices + m) * Matrix::kRows, t, h) * Matrix::kRowBytes;
    }
    begin_products(own.sums);
    DECONVKIT_UNROLL
    for (int k = 0; k < Matrix::kRowBytes / Matrix::kStepBytes; ++k) {
      DECONVKIT_UNROLL
      for (int m = 0; m < kMatrices; ++m) {
        multiply<T>(own.sums[m], sizeof(Consumer), Matrix::descriptor(rows[m], k),
                    Matrix::descriptor(columns, k));
      }
    }
    wait_for_products(own.sums);
  }

  DECONVKIT_INLINE static void share_sums(int32_t chunk, int32_t thread, float* sums, const Consumer& own) {
    const int32_t matrix = chunk / kParts, first = chunk % kParts * (kAcross / 8);
    DECONVKIT_UNROLL
    for (int j = 0; j < kAcross / 8; ++j) {
      DECONVKIT_UNROLL
      for (int i = 0; i < 4; i += 2) {
        float* const to = sums + Matrix::row_of_sum(thread, i) * Output::pitch(kAcross) + 8 * j +
                          Matrix::column_of_sum(thread, i);
        const float(&from)[4] = own.sums[matrix][first + j];
        *reinterpret_cast<Group<float, 2>*>(to) = {{from[i], from[i + 1]}};
      }
    }
  }
};

#ifdef __CUDACC__
// A launcher's part of these kernels, whose code is in a file of its own (implicit_gemm_sm90.cu) as it is for
// one architecture alone. What is packed for them is launched by the caller's.
template <class Kernel>
bool can_run_sm90(const Stream& stream);
template <class Kernel>
void launch_sm90(const Kernel& kernel, int64_t tiles, const Stream& stream);
#endif

// Whether the copy engine reads the input where it lies: else it is packed.
template <class T>
bool is_ready_for(const Sm90Tiles& t, const TensorRef& input) {
  if (!is_ready<T>(input, t.groups)) return false;
  const View<const T> in(input);
  for (int64_t i = 0; i < t.sources(); ++i) {
    if (!t.box_of(i, reinterpret_cast<uintptr_t>(in.data), t.in_channels, in.n, in.h, in.w).is_legal()) {
      return false;
    }
  }
  return true;
}

// Whether a call that this kernel serves is for it: the other one may be asked for, and splits few tiles.
inline bool is_for_sm90(const ConvShape& s, const ConvOptions& options, bool transposed) {
  return options.algorithm != ConvAlgorithm::kImplicitGemmMma && !Sm90Tiles::has_few_tiles(s, transposed);
}

// Doubles of workspace that implicit_gemm_sm90() takes.
inline int64_t implicit_gemm_sm90_workspace_size(const TensorRef& input, const TensorRef& output,
                                                 const ConvShape& s, bool transposed) {
  if (input.dtype != DType::kBFloat16 && input.dtype != DType::kFloat16) return 0;
  const Sm90Tiles tiles(s, transposed, !channels_innermost(output));
  if (!tiles.serves()) return 0;
  using T = BFloat16;  // as large as float16
  return (tiles.packed_bytes() + (is_ready_for<T>(tiles, input) ? 0 : packed_bytes_of<T>(input, s.groups)) +
          7) /
         8;
}

// Whether this algorithm served the call, and so computed it: on compute capability 9.0, where Sm90Tiles
// serves and the driver makes the maps. What the copy engine cannot read where it lies is packed: it does not
// turn what it copies.
template <class Launch>
bool implicit_gemm_sm90(const Launch& launch, const TensorRef& input, const TensorRef& weight,
                        const TensorRef& bias, const TensorRef& output, const ConvShape& s,
                        const ConvOptions& options, bool transposed, void* workspace) {
  if (input.dtype != DType::kBFloat16 && input.dtype != DType::kFloat16) return false;
  const Sm90Tiles tiles(s, transposed, !channels_innermost(output));
  if (!tiles.serves() || tiles.tiles() == 0) return false;
  bool serves = false;
  const auto run = [&](auto t, auto columns) {
    using T = typename decltype(t)::type;
    using Kernel = ImplicitGemmSm90<T, decltype(columns)::value>;
    if (!launch.template can_run<Kernel>()) return;
    const bool ready = is_ready_for<T>(tiles, input);
    const PackInput<T> pack_input(input, static_cast<char*>(workspace) + tiles.packed_bytes(), s.groups);
    const View<const T> in = ready ? View<const T>(input) : View<const T>(pack_input.packed);
    TensorMap maps[Sm90Tiles::kMostSources] = {};
    for (int64_t i = 0; i < tiles.sources(); ++i) {
      const TensorBox box = tiles.box_of(i, reinterpret_cast<uintptr_t>(in.data),
                                         padded_channels<T>(tiles.in_channels), in.n, in.h, in.w);
      if (!box.is_legal() || !launch.encode(box, maps[i])) return;
    }
    const PackWeights<T> pack(weight, s, transposed, workspace, tiles);
    launch(pack, pack.items.tiles);
    if (!ready) launch(pack_input, pack_input.items.tiles);
    launch(Kernel(maps, workspace, bias, output, options, tiles), tiles.tiles());
    serves = true;
  };
  const auto by_columns = [&](auto t) {
    if (tiles.columns_of_tile == GemmTiles::kNarrow) {
      return run(t, std::integral_constant<int, GemmTiles::kNarrow>{});
    }
    if (tiles.columns_of_tile == GemmTiles::kMiddle) {
      return run(t, std::integral_constant<int, GemmTiles::kMiddle>{});
    }
    run(t, std::integral_constant<int, GemmTiles::kWide>{});
  };
  if (input.dtype == DType::kBFloat16) {
    by_columns(Type<BFloat16>{});
  } else {
    by_columns(Type<Float16>{});
  }
  return serves;
}

}  // namespace deconvkit::cuda
