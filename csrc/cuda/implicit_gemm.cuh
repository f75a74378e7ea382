// conv2d and conv_transpose2d as matrix products on tensor cores (sm_80 on): an implicit GEMM by phases.
//
// A block computes a box of 128 cells by 16, 64 or 128 columns (geometry/implicit_gemm.h). For each source
// phase, block of 64 bytes of channels and tap, three of these in flight: the halo of the box once for all
// its taps, and the tap's weights, which were packed in the order of this walk. A halo whose channels do not
// lie side by side is read number by number and turned on its way through the registers, where the layer is
// bound by memory; else such inputs are packed first (implicit_gemm_pack.cuh). Eight warps multiply; the
// sums go through shared memory, get bias and activation, and are stored in the order of the output. Where
// tiles are few, a block takes a part of the terms and leaves float32 sums in the workspace, which a second
// kernel adds in their order (implicit_gemm_output.cuh).
// Floor: 2 operations for each product on the tensor cores; the halo and the weights from L2 for each tile.
#pragma once
#include "cuda/async_copy.cuh"
#include "cuda/implicit_gemm_output.cuh"
#include "cuda/implicit_gemm_pack.cuh"
#include "cuda/matrix_tile.cuh"

namespace deconvkit::cuda {

// kExact: float32 by three products of TF32, else by one. kByNumbers: the input may have any layout.
template <class T, int kColumns, bool kExact, bool kByNumbers>
struct ImplicitGemm : GemmOutput<T> {
  using Tiles = GemmTiles;
  using Output = GemmOutput<T>;
  using Output::kThreads, Output::kRows, Output::tiles;
  using Matrix = MatrixTile<T, kRows, kColumns, kExact>;
  static_assert(kThreads == Matrix::kThreads && kThreads == Tiles::kThreads, "of one block");
  static constexpr int kResident = 2, kLeastArchitecture = 80;
  static constexpr int kRowBytes = Tiles::kDepthBytes, kPiece = Tiles::kPiece;
  static constexpr int kPieces = Tiles::kPieces, kStages = Tiles::kStages;
  static constexpr int kAtOnce = kColumns == Tiles::kNarrow ? 3 : kColumns == Tiles::kMiddle ? 2 : 1;
  static constexpr int kOperandBytes = (kStages * kColumns + Tiles::kHaloRows) * kRowBytes;
  static constexpr int kSumBytes = kRows * Output::pitch(kColumns) * static_cast<int>(sizeof(float));

  struct HaloCell {
    int64_t from;  // offset of its image and group in the input; < 0: there is none
    int32_t h, w;
  };
  struct Fetched {
    int32_t tap;   // what its tap adds to a row's place in the halo; < 0: the term is empty
    int32_t halo;  // where the halo lies
  };
  struct alignas(16) Shared {
    unsigned char memory[kOperandBytes > kSumBytes ? kOperandBytes : kSumBytes];
    HaloCell halo[Tiles::kHaloRows / 2];
    typename Output::Row rows[kRows];
    typename Output::Column columns[kColumns];
    Fetched fetched[kStages];
    int64_t weights;  // offset of the part's first term in the packed ones
    int32_t terms;    // of the part
    int32_t sheet_h, sheet_w;
  };

  // The next term to fetch, and which of the memory for terms and for halos it gets.
  struct Next {
    Tiles::Term term;
    int32_t stage, halo;
  };
  struct Own {
    typename Matrix::Sums sums;
    Next next;
  };

  View<const T> input;  // channels side by side, 16 bytes of them aligned, unless it is read by numbers
  const unsigned char* weights;
  float* partial;          // (part, tile, row, column), where there are parts
  int64_t group_channels;  // of the input, in elements from group to group
  Divisor by_tile;

  ImplicitGemm(const Output& o, const View<const T>& in, const void* packed, float* sums)
      : Output(o),
        input(in),
        weights(static_cast<const unsigned char*>(packed)),
        partial(sums),
        group_channels(kByNumbers ? tiles.in_channels : padded_channels<T>(tiles.in_channels)),
        by_tile(tiles.part_terms() + 4) {}

  int64_t work() const { return tiles.tiles() * tiles.parts; }
  // Of each tile: its tables, the first terms' fetch, a step for each term, the sums, the stores.
  DECONVKIT_HD int64_t steps(int64_t block, int64_t blocks) const {
    return (tiles.tiles() * tiles.parts - block + blocks - 1) / blocks * by_tile.d;
  }

  DECONVKIT_HD void step(int64_t i, const Place& place, Shared& shared, Own& own) const {
    const int64_t turn = by_tile.quotient(i);
    const auto at = static_cast<int32_t>(i - turn * by_tile.d);
    const int64_t index = place.block + turn * place.blocks;
    if (at == 0) {
      begin(index, place.thread, shared, own);
    } else if (at == 1) {
      DECONVKIT_UNROLL
      for (int s = 0; s < kStages - 1; ++s) fetch(s, place.thread, shared, own);
      wait_for_copies<kStages - 2>();
    } else if (at < tiles.part_terms() + 2) {
      fetch(at - 2 + kStages - 1, place.thread, shared, own);
      if (at - 2 < shared.terms) multiply_fetched(own.next.stage, place.thread, shared, own);
      wait_for_copies<kStages - 2>();
    } else if (at == tiles.part_terms() + 2) {
      if (tiles.parts > 1) return store_partial(index, place.thread, own);
      share_sums(place.thread, shared, own);
    } else if (tiles.parts == 1) {
      const float* const sums = reinterpret_cast<const float*>(shared.memory);
      this->store_rows(kColumns, place.thread, sums, shared.rows, shared.columns);
    }
  }

 private:
  // Where a piece of a row lies: any 8 neighbouring rows' pieces are in different banks.
  DECONVKIT_INLINE static int32_t swizzled(int32_t row, int32_t piece) {
    return row * kRowBytes + (piece ^ (row >> 1 & (kPieces - 1))) * kPiece;
  }
  DECONVKIT_INLINE static int32_t columns_at(int32_t stage) { return stage * kColumns * kRowBytes; }

  DECONVKIT_HD void begin(int64_t index, int32_t thread, Shared& shared, Own& own) const {
    const Tiles::Tile tile = tiles.tile(index);
    if (thread == 0) {
      const int64_t first = tile.sheet * tiles.terms + tile.part * tiles.part_terms();
      shared.weights = (first * tiles.packed_columns() + tile.column) * kRowBytes;
      shared.terms = static_cast<int32_t>(tiles.terms_of(tile.part));
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
    if (thread < kRows) shared.rows[thread] = this->row(tile, thread);
    if (thread < kColumns) shared.columns[thread] = this->column(tile, thread);
    own.next = {tiles.first_term(tile.part), 0, 0};
    Matrix::clear(own.sums);
  }

  // Starts the copies of the next term's operands: its weights, and the halo where its first tap begins one.
  DECONVKIT_INLINE void fetch(int32_t index, int32_t thread, Shared& shared, Own& own) const {
    Next& next = own.next;
    if (index < shared.terms) {
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
    if constexpr (kByNumbers) return read_halo(h, w, t, thread, shared, to);
    const int32_t piece = thread % kPieces;
    const int64_t channel = int64_t{t.block} * tiles.depth + piece * kVector<T>;
    DECONVKIT_ROLL
    for (int32_t i = thread / kPieces; i < tiles.halo(); i += kThreads / kPieces) {
      const int64_t at = place_in_input(h, w, t, shared.halo[i]);
      const bool valid = at >= 0 && channel < group_channels;
      copy_async(to + swizzled(i, piece), input.data + (valid ? at + channel : 0), valid);
    }
  }
  // A thread's share, a few pieces at once: their numbers are all on the way before the first is needed.
  DECONVKIT_INLINE void read_halo(const GemmTaps& h, const GemmTaps& w, const Tiles::Term& t, int32_t thread,
                                  const Shared& shared, unsigned char* to) const {
    DECONVKIT_ROLL
    for (int32_t first = 0; first * Tiles::kHaloStep < tiles.halo(); first += kAtOnce) {
      Group<T, kVector<T>> pieces[kAtOnce];
      DECONVKIT_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const Tiles::HaloPiece p = Tiles::piece_of_halo(thread, first + j);
        const int64_t at = p.cell < tiles.halo() ? place_in_input(h, w, t, shared.halo[p.cell]) : -1;
        const int64_t channel = int64_t{t.block} * tiles.depth + p.piece * kVector<T>;
        const int64_t left = at < 0 ? 0 : group_channels - channel;
        const T* from = input.data + (left > 0 ? at + channel * input.c : 0);
        DECONVKIT_UNROLL
        for (int k = 0; k < kVector<T>; ++k, from += input.c) pieces[j].at[k] = k < left ? *from : T{};
      }
      DECONVKIT_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const Tiles::HaloPiece p = Tiles::piece_of_halo(thread, first + j);
        if (p.cell >= tiles.halo()) continue;
        *reinterpret_cast<Group<T, kVector<T>>*>(to + swizzled(p.cell, p.piece)) = pieces[j];
      }
    }
  }
  // Where the first channel of a halo's cell lies, from the first tap and of a term's source; < 0: a zero.
  DECONVKIT_INLINE int64_t place_in_input(const GemmTaps& h, const GemmTaps& w, const Tiles::Term& t,
                                          const HaloCell& c) const {
    const int64_t y = (c.h + h.offset) * tiles.h.in_step + t.source_h;
    const int64_t x = (c.w + w.offset) * tiles.w.in_step + t.source_w;
    const bool inside = c.from >= 0 && y >= 0 && y < tiles.h.in && x >= 0 && x < tiles.w.in;
    return inside ? c.from + y * input.h + x * input.w : -1;
  }

  // Once the next term's copies are under way, its stage's successor is the oldest: the one to multiply.
  DECONVKIT_INLINE void multiply_fetched(int32_t stage, int32_t thread, const Shared& shared,
                                         Own& own) const {
    const Fetched f = shared.fetched[stage];
    if (!leads_warp(thread) || f.tap < 0) return;
    const unsigned char* const halo = shared.memory + f.halo;
    const unsigned char* const columns = shared.memory + columns_at(stage);
    DECONVKIT_UNROLL
    for (int k = 0; k < kPieces / 2; ++k) {
      Matrix::multiply_step(
          thread, [&](int l) -> auto& { return own_of(own, l).sums; },
          [&](auto& to, int32_t row) {
            load_matrices(to, thread, [&](int l) {
              return halo + swizzled(tiles.place_of_row(row + l % 16) + f.tap, 2 * k + l / 16);
            });
          },
          [&](auto& to, int32_t column) {
            load_matrices(to, thread, [&](int l) {
              return columns + swizzled(column + l / 16 * 8 + l % 8, 2 * k + l / 8 % 2);
            });
          });
    }
  }

  // The operands' memory becomes that of the sums.
  DECONVKIT_INLINE static void share_sums(int32_t thread, Shared& shared, const Own& own) {
    float* const sums = reinterpret_cast<float*>(shared.memory);
    Matrix::for_pairs(thread, own.sums, [&](int32_t row, int32_t column, const Group<float, 2>& pair) {
      *reinterpret_cast<Group<float, 2>*>(sums + row * Output::pitch(kColumns) + column) = pair;
    });
  }
  DECONVKIT_INLINE void store_partial(int64_t index, int32_t thread, const Own& own) const {
    float* const to = partial + index * (kRows * kColumns);
    Matrix::for_pairs(thread, own.sums, [&](int32_t row, int32_t column, const Group<float, 2>& pair) {
      store(to + row * kColumns + column, pair);
    });
  }
};

// Doubles of workspace that implicit_gemm() takes: the parts' sums, the packed weights, and the input where
// it must be packed.
inline int64_t implicit_gemm_workspace_size(const TensorRef& input, const TensorRef& output,
                                            const ConvShape& s, bool transposed) {
  if (input.dtype == DType::kFloat64) return 0;
  int64_t bytes = 0;
  for_gemm_dtype(input.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const GemmTiles tiles(s, transposed, sizeof(T), !channels_innermost(output));
    if (!tiles.serves()) return;
    bytes = tiles.partial_sums() * static_cast<int64_t>(sizeof(float)) + tiles.packed_bytes() +
            (reads_numbers<T>(input, s, transposed) ? 0 : packed_input_bytes<T>(input, s.groups));
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
    const auto run_kernel = [&](auto columns, auto exact, auto by_numbers) {
      using Kernel =
          ImplicitGemm<T, decltype(columns)::value, decltype(exact)::value, decltype(by_numbers)::value>;
      serves = tiles.serves() && launch.template can_run<Kernel>();
      if (!serves) return;
      float* const partial = static_cast<float*>(workspace);
      char* const packed = static_cast<char*>(workspace) + tiles.partial_sums() * sizeof(float);
      const PackWeights<T> pack(weight, s, transposed, packed, tiles);
      launch(pack, pack.items.tiles);
      const View<const T> ready =
          by_numbers ? View<const T>(input)
                     : ready_input<T>(launch, input, s.groups, packed + tiles.packed_bytes());
      const Kernel kernel({bias, output, options, tiles}, ready, packed, partial);
      launch(kernel, kernel.work());
      if (tiles.parts == 1) return;
      const SumGemmParts<T> sum(kernel, partial);
      launch(sum, sum.slices());
    };
    const auto run = [&](auto columns, auto exact) {
      if (reads_numbers<T>(input, s, transposed)) return run_kernel(columns, exact, std::true_type{});
      run_kernel(columns, exact, std::false_type{});
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
      if (options.algorithm != ConvAlgorithm::kImplicitGemmTF32) return by_columns(std::true_type{});
    }
    by_columns(std::false_type{});
  });
  return serves;
}

}  // namespace deconvkit::cuda
