// Gradient of the convolution family by its weight on tensor cores (sm_80 on), and of the bias with it.
//
// A block computes 64 or 128 channels of the small side by 256 bytes of (kernel cell, channel of the large
// side), over one part of the pixels (geometry/weight_grad_gemm.h). For each 32 pixels, three of these in
// flight: both sides' channels of the pixels, as they lie, and, where the tensor core wants pixels side by
// side, turned on the way to the registers. Other blocks of the same launch add the pixels of the bias's
// side. The parts' sums go to the workspace as float32, and a second kernel adds them in their order
// (sum_parts.cuh): no atomics, and the result depends on the shape and the numbers alone.
// Floor: 2 operations for each product on the tensor cores; both sides from L2 for each tile.
#pragma once
#include "conv_options.h"
#include "cuda/async_copy.cuh"
#include "cuda/implicit_gemm_pack.cuh"
#include "cuda/matrix_tile.cuh"
#include "cuda/steps.cuh"
#include "cuda/sum_parts.cuh"
#include "cuda/view.cuh"
#include "geometry/weight_grad_gemm.h"

namespace deconvkit::cuda {

// kExact: float32 by three products of TF32, else by one.
template <class T, int kRows, bool kExact>
struct WeightGradGemm {
  using Tiles = WeightGradGemmTiles;
  static constexpr int kColumns = Tiles::kColumnBytes / static_cast<int>(sizeof(T));
  using Matrix = MatrixTile<T, kRows, kColumns, kExact>;
  static constexpr int kThreads = Matrix::kThreads, kResident = 2, kLeastArchitecture = 80;
  static constexpr int kDepth = Tiles::kDepth, kStages = Tiles::kStages, kPiece = Tiles::kPiece;
  static constexpr int kRowPieces = kRows / kVector<T>, kColumnPieces = kColumns / kVector<T>;
  static constexpr int kRowBytes = kDepth * kRowPieces * kPiece,
                       kColumnBytes = kDepth * kColumnPieces * kPiece;
  // Pixels of a step of the product, of an 8x8 matrix of it, and of the steps for which there are registers.
  static constexpr int kStep = Matrix::kStepBytes / static_cast<int>(sizeof(T)), kMatrix = kStep / 2;
  static constexpr int kAtOnce = kExact ? kStep : 2 * kStep;

  struct Pixel {
    int64_t small, large;  // offsets in either side, the large one's of its image; < 0: there is no pixel
    int32_t h, w;          // where the pixel's cell (0, 0) lies on the large side
  };
  struct Piece {
    int64_t from;   // offset of its channel in the large side; < 0: there is none
    int64_t to;     // offset in a row of the sums, or of the gradient
    int32_t h, w;   // of its kernel cell, from the pixel's cell (0, 0)
    int32_t count;  // of its columns
  };
  struct alignas(16) Shared {
    unsigned char memory[kStages * (kRowBytes + kColumnBytes)];
    Pixel pixels[kStages][kDepth];
    Piece pieces[kColumnPieces];
    Tiles::Tile tile;
  };
  struct Own {
    typename Matrix::Sums sums;
    int32_t stage;  // that the next chunk gets
  };

  View<const T> small, large, summed;  // channels side by side, 16 bytes of them aligned; the bias's side
  int64_t small_channels, large_channels, summed_channels;  // of a group, in memory
  float *partial, *bias;  // (part, channel of the small side, column), (part, channel)
  View<T> grad;
  bool direct;  // the sums are the gradient: one part, and pairs of channels that lie side by side
  Tiles tiles;
  Divisor by_tile;

  // Of each tile: its tables, the first chunks' fetch, a step for each chunk, the stores.
  DECONVKIT_HD int64_t steps(int64_t block, int64_t blocks) const {
    return (tiles.tiles() - block + blocks - 1) / blocks * by_tile.d;
  }

  DECONVKIT_HD void step(int64_t i, const Place& place, Shared& shared, Own& own) const {
    const int64_t turn = by_tile.quotient(i), at = i - turn * by_tile.d;
    const int32_t thread = place.thread;
    if (at == 0) {
      begin(place.block + turn * place.blocks, thread, shared, own);
    } else if (at == 1) {
      DECONVKIT_UNROLL
      for (int s = 0; s < kStages - 1; ++s) fetch(s, thread, shared, own);
      note_pixels(shared.tile, kStages - 1, kStages - 1, thread, shared);
      wait_for_copies<kStages - 2>();
    } else if (at < tiles.part_chunks + 2) {
      fetch(at - 2 + kStages - 1, thread, shared, own);
      note_pixels(shared.tile, at - 2 + kStages, own.stage, thread, shared);
      if (shared.tile.is_bias) {
        add_pixels(own.stage, thread, shared, own);
      } else {
        multiply_fetched(own.stage, thread, shared, own);
      }
      wait_for_copies<kStages - 2>();
    } else if (shared.tile.is_bias) {
      store_bias(thread, shared, own);
    } else {
      store_sums(thread, shared, own);
    }
  }

 private:
  // Where channel c of pixel k lies, of an operand of so many pieces a pixel: matrices of 8 pixels by 16
  // bytes (of float32: 4 by 32) have their rows in different banks.
  DECONVKIT_INLINE static int32_t place(int32_t k, int32_t c, int32_t pieces) {
    const int32_t turned = c / kVector<T> ^ (sizeof(T) == 2 ? k % 8 : k % 4 * 2);
    return (k * pieces + turned) * kPiece + c % kVector<T> * static_cast<int32_t>(sizeof(T));
  }
  DECONVKIT_INLINE static int32_t rows_at(int32_t stage) { return stage * (kRowBytes + kColumnBytes); }
  DECONVKIT_INLINE static int32_t columns_at(int32_t stage) { return rows_at(stage) + kRowBytes; }

  DECONVKIT_HD void begin(int64_t index, int32_t thread, Shared& shared, Own& own) const {
    const Tiles::Tile tile = tiles.tile(index);
    if (thread == 0) shared.tile = tile;
    if (thread < kColumnPieces) {
      const Tiles::Piece p = tiles.piece(tile, tile.column + thread * kVector<T>);
      const int64_t first = tile.group * (tile.is_bias ? summed_channels : large_channels);
      int64_t to = tile.column + thread * kVector<T>;
      if (tile.is_bias) to += (tile.part * tiles.groups + tile.group) * tiles.bias_channels;
      if (!tile.is_bias && direct) to = p.channel * grad.c + p.kh * grad.h + p.kw * grad.w;
      shared.pieces[thread] = {p.count > 0 ? first + p.channel : -1, to,
                               static_cast<int32_t>(p.kh * tiles.h.dilation),
                               static_cast<int32_t>(p.kw * tiles.w.dilation), p.count};
    }
    DECONVKIT_UNROLL
    for (int s = 0; s < kStages - 1; ++s) note_pixels(tile, s, s, thread, shared);
    own.stage = 0;
    Matrix::clear(own.sums);
  }

  // Where the pixels of a chunk lie, one step before they are fetched.
  DECONVKIT_INLINE void note_pixels(const Tiles::Tile& tile, int64_t chunk, int32_t stage, int32_t thread,
                                    Shared& shared) const {
    if (thread >= kDepth) return;
    const PixelGrid::Pixel p = tiles.pixel(tile, chunk, thread);
    Pixel& to = shared.pixels[stage][thread];
    if (!p.valid) {
      to = {-1, -1, 0, 0};
    } else if (tile.is_bias) {
      to = {-1, p.n * summed.n + p.h * summed.h + p.w * summed.w, 0, 0};
    } else {
      to = {p.n * small.n + p.h * small.h + p.w * small.w, p.n * large.n,
            static_cast<int32_t>(p.h * tiles.h.stride - tiles.h.padding),
            static_cast<int32_t>(p.w * tiles.w.stride - tiles.w.padding)};
    }
  }

  // Starts the copies of the next chunk: of a bias's tile the summed side alone, in the place of the columns.
  DECONVKIT_INLINE void fetch(int64_t chunk, int32_t thread, Shared& shared, Own& own) const {
    const int32_t stage = own.stage;
    if (chunk < tiles.part_chunks) {
      const Tiles::Tile& tile = shared.tile;
      if (!tile.is_bias) fetch_rows(tile, shared.pixels[stage], thread, shared.memory + rows_at(stage));
      fetch_columns(tile, shared.pixels[stage], thread, shared, shared.memory + columns_at(stage));
    }
    if (++own.stage == kStages) own.stage = 0;
    commit_copies();
  }
  DECONVKIT_INLINE void fetch_rows(const Tiles::Tile& tile, const Pixel* pixels, int32_t thread,
                                   unsigned char* to) const {
    const int32_t c = thread % kRowPieces * kVector<T>;
    const int64_t channel = tile.row + c;
    const T* const from = small.data + tile.group * small_channels + channel;
    DECONVKIT_ROLL
    for (int32_t k = thread / kRowPieces; k < kDepth; k += kThreads / kRowPieces) {
      const bool valid = pixels[k].small >= 0 && channel < small_channels;
      copy_async(to + place(k, c, kRowPieces), valid ? from + pixels[k].small : small.data, valid);
    }
  }
  DECONVKIT_INLINE void fetch_columns(const Tiles::Tile& tile, const Pixel* pixels, int32_t thread,
                                      const Shared& shared, unsigned char* to) const {
    const Piece& piece = shared.pieces[thread % kColumnPieces];
    const T* const data = tile.is_bias ? summed.data : large.data;
    DECONVKIT_ROLL
    for (int32_t k = thread / kColumnPieces; k < kDepth; k += kThreads / kColumnPieces) {
      const Pixel& p = pixels[k];
      const int64_t y = p.h + piece.h, x = p.w + piece.w;
      const bool valid =
          p.large >= 0 && piece.from >= 0 && y >= 0 && y < tiles.h.large && x >= 0 && x < tiles.w.large;
      const int64_t offset = p.large + piece.from + y * large.h + x * large.w;
      copy_async(to + place(k, thread % kColumnPieces * kVector<T>, kColumnPieces),
                 valid ? data + offset : data, valid);
    }
  }

  DECONVKIT_INLINE void multiply_fetched(int32_t stage, int32_t thread, const Shared& shared,
                                         Own& own) const {
    if (!leads_warp(thread)) return;
    const unsigned char* const rows = shared.memory + rows_at(stage);
    const unsigned char* const columns = shared.memory + columns_at(stage);
    DECONVKIT_ROLL
    for (int first = 0; first < kDepth; first += kAtOnce) {
      DECONVKIT_UNROLL
      for (int k = first; k < first + kAtOnce; k += kStep) {
        Matrix::multiply_step(
            thread, [&](int l) -> auto& { return own_of(own, l).sums; },
            [&](auto& to, int32_t row) {
              load_turned<T>(to, thread, [&](int l) {
                return rows + place(k + l / 16 * kMatrix + l % 8, row + l / 8 % 2 * 8, kRowPieces);
              });
            },
            [&](auto& to, int32_t column) {
              load_turned<T>(to, thread, [&](int l) {
                return columns + place(k + l / 8 % 2 * kMatrix + l % 8, column + l / 16 * 8, kColumnPieces);
              });
            });
      }
    }
  }
  DECONVKIT_INLINE void store_sums(int32_t thread, const Shared& shared, const Own& own) const {
    const Tiles::Tile& tile = shared.tile;
    const int64_t first = tile.group * tiles.small_channels;
    const int64_t part = tile.part * tiles.sums();
    Matrix::for_pairs(thread, own.sums, [&](int32_t r, int32_t c, const Group<float, 2>& pair) {
      const Piece& piece = shared.pieces[c / kVector<T>];
      const int32_t within = c % kVector<T>;
      if (tile.row + r >= tiles.small_channels || within >= piece.count) return;
      const int64_t channel = first + tile.row + r;
      if (!direct) return store(partial + part + channel * tiles.columns() + piece.to + within, pair);
      store(grad.data + channel * grad.n + piece.to + within,
            Group<T, 2>{{narrow<T>(pair.at[0]), narrow<T>(pair.at[1])}});
    });
  }

  // A thread adds the pixels of a channel: those of a chunk, and that to what it has.
  DECONVKIT_INLINE static void add_pixels(int32_t stage, int32_t thread, const Shared& shared, Own& own) {
    if (thread >= kColumns) return;
    const unsigned char* const columns = shared.memory + columns_at(stage);
    float sum = 0;
    DECONVKIT_UNROLL_4
    for (int32_t k = 0; k < kDepth; ++k) {
      sum += widen(*reinterpret_cast<const T*>(columns + place(k, thread, kColumnPieces)));
    }
    own.sums.at[0][0][0] += sum;
  }
  DECONVKIT_INLINE void store_bias(int32_t thread, const Shared& shared, const Own& own) const {
    if (thread >= kColumns) return;
    const Piece& piece = shared.pieces[thread / kVector<T>];
    if (thread % kVector<T> >= piece.count) return;
    store(bias + piece.to + thread % kVector<T>, own.sums.at[0][0][0]);
  }
};

// A number for each channel as a tensor of one pixel.
inline TensorRef as_pixel(TensorRef t) {
  t.rank = 4;
  t.size[1] = t.size[0];
  t.stride[1] = t.stride[0];
  t.size[0] = t.size[2] = t.size[3] = 1;
  return t;
}

// What a call of these shapes and layouts does: its tiles, and how its workspace is cut.
template <class T>
struct WeightGradGemmPlan {
  WeightGradGemmTiles tiles;
  bool direct;
  int64_t partial_bytes, bias_bytes, small_bytes, large_bytes;

  WeightGradGemmPlan(const TensorRef& small, const TensorRef& large, const TensorRef& grad, BiasSide side,
                     const ConvShape& s)
      : tiles(s, sizeof(T), side),
        direct(tiles.parts == 1 && tiles.large_channels % 2 == 0 && unit_stride(grad, 1) &&
               groups_along(grad, 1, 2, sizeof(T))),
        partial_bytes(direct ? 0 : tiles.parts * tiles.sums() * static_cast<int64_t>(sizeof(float))),
        bias_bytes((tiles.bias_parts * tiles.bias_sums() + 3) / 4 * 16),
        small_bytes(packed_input_bytes<T>(small, s.groups)),
        large_bytes(packed_input_bytes<T>(large, s.groups)) {}

  int64_t bytes() const { return partial_bytes + bias_bytes + small_bytes + large_bytes; }
};

// Doubles of workspace that weight_grad_gemm() takes.
inline int64_t weight_grad_gemm_workspace_size(const TensorRef& small, const TensorRef& large,
                                               const TensorRef& grad, BiasSide side, const ConvShape& s) {
  if (grad.dtype == DType::kFloat64) return 0;
  int64_t bytes = 0;
  for_gemm_dtype(grad.dtype, [&](auto t) {
    const WeightGradGemmPlan<typename decltype(t)::type> plan(small, large, grad, side, s);
    if (plan.tiles.serves()) bytes = plan.bytes();
  });
  return (bytes + 7) / 8;
}

// Whether this algorithm served the call, and so computed the gradients of the weight and, where there is a
// side for it, of the bias.
template <class Launch>
bool weight_grad_gemm(const Launch& launch, const TensorRef& small, const TensorRef& large,
                      const TensorRef& grad, const TensorRef& grad_bias, BiasSide side, const ConvShape& s,
                      ConvAlgorithm algorithm, void* workspace) {
  if (grad.dtype == DType::kFloat64) return false;
  bool serves = false;
  for_gemm_dtype(grad.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const WeightGradGemmPlan<T> plan(small, large, grad, side, s);
    const WeightGradGemmTiles& tiles = plan.tiles;
    const auto run = [&](auto rows, auto exact) {
      using Kernel = WeightGradGemm<T, decltype(rows)::value, decltype(exact)::value>;
      serves = tiles.serves() && launch.template can_run<Kernel>();
      if (!serves) return;
      char* memory = static_cast<char*>(workspace);
      float* const partial = reinterpret_cast<float*>(memory);
      float* const bias = reinterpret_cast<float*>(memory += plan.partial_bytes);
      const View<const T> a = ready_input<T>(launch, small, s.groups, memory += plan.bias_bytes);
      const View<const T> b = ready_input<T>(launch, large, s.groups, memory += plan.small_bytes);
      const int64_t small_channels = padded_channels<T>(tiles.small_channels);
      const int64_t large_channels = padded_channels<T>(tiles.large_channels);
      const bool of_large = side == BiasSide::kLarge;
      launch(Kernel{a, b, of_large ? b : a, small_channels, large_channels,
                    of_large ? large_channels : small_channels, partial, bias, View<T>(grad), plan.direct,
                    tiles, Divisor(tiles.part_chunks + 3)},
             tiles.tiles());
      if (!plan.direct) {
        const int64_t cell = tiles.cell_channels;
        const View<const float> sums(partial, tiles.columns(), 1, tiles.w.kernel * cell, cell);
        sum_parts<T>(launch, sums, tiles.parts, tiles.sums(), grad);
      }
      if (side != BiasSide::kNone) {
        const View<const float> sums(bias, 0, 1, 0, 0);
        sum_parts<T>(launch, sums, tiles.bias_parts, tiles.bias_sums(), as_pixel(grad_bias));
      }
    };
    const auto by_rows = [&](auto exact) {
      if (tiles.rows_of_tile == WeightGradGemmTiles::kFewRows) {
        return run(std::integral_constant<int, WeightGradGemmTiles::kFewRows>{}, exact);
      }
      run(std::integral_constant<int, WeightGradGemmTiles::kRows>{}, exact);
    };
    if constexpr (std::is_same_v<T, float>) {
      if (algorithm != ConvAlgorithm::kImplicitGemmTF32) return by_rows(std::true_type{});
    }
    by_rows(std::false_type{});
  });
  return serves;
}

}  // namespace deconvkit::cuda
