// Winograd convolution F(4x4, 3x3), or F(4, 3) along rows where the vertical kernel is 1, in both directions
// and any stride whose phases fit a window of three taps (geometry/winograd.h). What is computed, for a tile
// of 4x4 outputs of every phase:
//
//   V[p][c] = Bᵀ d B at the points p that some phase needs     input tile of channel c      (P points)
//   U[p][c][k] = G g Gᵀ                                        taps of one phase
//   M[p][k] = Σ_c V[p][c] U[p][c][k]                           winograd_gemm.h: all the multiplications
//   y[k] = Aᵀ M A + bias, activation                           interleaved by phase
//
// Products a 4x4 tile of the small side and a pair of channels: 36 for 3x3 s1 (direct 144), 100 for 4x4 s2
// (256), 121 for 5x5 s2 (400), since a phase with fewer taps skips the points that vanish. A transposed
// convolution has one V and s² U, M and y; a convolution has s² V and U that sum into one M.
//
// Channels lie in the lanes in every transform, whatever the tensor's layout; strip.h turns NCHW.
// V is blocked [p][block of channels][tile][channel], so that the product reads it in one stream. Distances
// between points are padded by a cache line: with powers of two all of a tile's points would fall into one
// cache set.
#pragma once
#include "conv_options.h"
#include "cpu/epilogue.h"
#include "cpu/parallel.h"
#include "cpu/strip.h"
#include "cpu/winograd_gemm.h"
#include "cpu/winograd_transform.h"
#include "cpu/workspace.h"
#include "geometry/fold.h"
#include "geometry/winograd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// A weight seen from one direction: strides of input channel, output channel and the two taps. Folded, each
// input channel stands for one of each sub-grid, and kernel_h, kernel_w are the folded kernel's.
struct Taps {
  void* data;
  DType dtype;
  int64_t in, out, h, w;
  int kernel_h, kernel_w;
  bool folded = false, flipped = false;  // flipped: cells are counted from the last
  FoldAxis fold_h, fold_w;
  int64_t channels = 0;  // of one sub-grid

  int64_t cells() const { return kernel_h * kernel_w; }
  // Where a cell of a folded input channel lies, or -1.
  int64_t offset(int64_t c, int64_t cell) const {
    const int64_t grid = c / channels, i = flipped ? cells() - 1 - cell : cell;
    const int64_t y = fold_h.cell(i / kernel_w, grid / fold_w.stride);
    const int64_t x = fold_w.cell(i % kernel_w, grid % fold_w.stride);
    return y < 0 || x < 0 ? -1 : c % channels * in + y * h + x * w;
  }
};

struct WinogradShape {
  WinogradAxis h, w;
  int64_t batch, in_channels, out_channels;  // of one group

  int64_t tiles() const { return batch * h.tiles * w.tiles; }
  int in_phases() const { return h.in_phases * w.in_phases; }
  int out_phases() const { return h.out_phases * w.out_phases; }
  int phases() const { return in_phases() * out_phases(); }
  bool active(int phase, int point) const {
    return h.active(phase / w.phases(), point / w.points) && w.active(phase % w.phases(), point % w.points);
  }
};

template <class C, int PH>
class Winograd {
 public:
  using Gemm = WinogradGemm<C>;
  using V = typename Gemm::V;
  static constexpr int L = Gemm::L;
  static constexpr int kPoints = PH * 6;
  static constexpr int kRows = PH == 6 ? 4 : 1;  // outputs of a tile, vertically
  static constexpr int kTapRows = PH == 6 ? 3 : 1;
  static constexpr int kStrip = 8;  // tiles of a row that are loaded or stored together
  static constexpr int64_t kPanel = Gemm::kPanel;
  static constexpr int64_t kPad = 64 / sizeof(C);  // a cache line

  explicit Winograd(const WinogradShape& shape) : s_(shape) {}

  // Where a block of tiles' transformed inputs or products lie.
  struct Layout {
    int64_t block;         // channels side by side
    int64_t block_stride;  // from one block of channels to the next
    int64_t point_stride;
    int64_t phase_stride;

    Layout(int64_t tiles, int64_t channels, int64_t block_size)
        : block(block_size),
          block_stride(tiles * block_size),
          point_stride((channels + block_size - 1) / block_size * block_stride + kPad),
          phase_stride(kPoints * point_stride) {}
    int64_t at(int64_t tile, int64_t channel) const {
      return channel / block * block_stride + tile * block + channel % block;
    }
  };

  // Tiles whose transform is one thread's task: whole strips.
  int64_t input_run() const {
    const int64_t most = 4 * input_strip();
    return s_.w.tiles <= kStrip ? kStrip : s_.w.tiles < most ? s_.w.tiles : most;
  }

  // V of the tiles [begin, end) and the channels [c0, c1): c0 a multiple of the lanes. Lanes beyond the last
  // channel are zero. The vertical transform is done once for columns that two tiles share.
  void transform_input(const Image& image, int64_t begin, int64_t end, int64_t c0, int64_t c1, C* v,
                       const Layout& layout) const {
    const int sh = s_.h.in_phases, sw = s_.w.in_phases;
    const int64_t rows = s_.h.reach(kRows), pitch = (s_.w.reach(4 * kStrip) + L) * L;
    // Windows of interleaved phases share no row, so their columns are transformed in place; those of pieces
    // do.
    const bool apart = s_.h.shift == 1;
    C* strip = workspace<C>(Slot::kStrip, (rows + (apart ? 0 : sh * PH)) * pitch);
    C* const transformed = strip + (apart ? 0 : rows * pitch);
    const int64_t phase_rows = apart ? pitch : PH * pitch, row = apart ? s_.h.step * pitch : pitch;
    for_strips(begin, end, input_strip(), [&](int64_t n, int64_t ty, int64_t tx, int count, int64_t first) {
      const int64_t columns = s_.w.reach(4 * count);
      for (int64_t c = c0; c < c1; c += L) {
        for (int64_t r = 0; r < rows; ++r) {
          load_row<C>(image, n, c, s_.h.step * (ty * kRows + s_.h.lo) + r, s_.w.step * (tx * 4 + s_.w.lo),
                      columns, strip + r * pitch);
        }
        for (int a = 0; a < sh && PH == 6; ++a) {
          for (int64_t i = 0; i < columns; ++i) {
            input_column<C>(strip + a * s_.h.shift * pitch + i * L, s_.h.step * pitch,
                            transformed + a * phase_rows + i * L, row);
          }
        }
        for (int t = 0; t < count; ++t) {
          for (int phase = 0; phase < sh * sw; ++phase) {
            const C* corner =
                transformed + phase / sw * phase_rows + (s_.w.step * t * 4 + s_.w.shift * (phase % sw)) * L;
            C* out = v + phase * layout.phase_stride + layout.at(first - begin + t, c);
            for (int i = 0; i < PH; ++i) {
              V d[6], o[6];
              for (int j = 0; j < 6; ++j) d[j] = load_vec<L>(corner + i * row + s_.w.step * j * L);
              input_transform<C>(d, 1, o, 1);
              for (int j = 0; j < 6; ++j) store_vec<L>(out + (i * 6 + j) * layout.point_stride, o[j]);
            }
          }
        }
      }
    });
  }

  // taps[c - c0][cell][panel lane] of the output channels of a panel, read in runs through transposes where
  // the taps of an input channel, or of all of them, are adjacent.
  void gather_taps(const Taps& w, int64_t panel, int64_t c0, int64_t c1, C* taps) const {
    for_storage_of<C>(w.dtype, [&](auto t) {
      using T = typename decltype(t)::type;
      const int64_t cells = w.cells();
      if (w.folded) {
        for_folded_taps<const T>(w, panel, c0, c1, taps,
                                 [](const T* weight, C* tap) { *tap = weight ? C(load(weight)) : C(0); });
        return;
      }
      const bool adjacent = w.w == 1 && w.h == w.kernel_w;
      const bool joined = adjacent && w.in == cells;                // a run goes on through the next channel
      const bool across = w.in == 1 && w.out != 1 && c1 - c0 >= L;  // channels_last: a cell's channels
      const int64_t step = joined || across ? c1 - c0 : 1, run = step * cells;
      for (int64_t c = c0; c < c1; c += step) {
        for (int v = 0; v < Gemm::kVectors; ++v) {
          const int64_t k = panel * kPanel + v * L;
          const int64_t left = s_.out_channels - k;
          const int lanes = left >= L ? L : left > 0 ? static_cast<int>(left) : 0;
          const T* src = static_cast<const T*>(w.data) + c * w.in + k * w.out;
          C* dst = taps + (c - c0) * cells * kPanel + v * L;
          if (lanes == L && across) {
            for (int64_t i = 0; i < cells; ++i) {
              const T* cell = src + i / w.kernel_w * w.h + i % w.kernel_w * w.w;
              for (int64_t j = 0; j < step; j += L) {
                if (j + L > step) j = step - L;
                load_transposed(cell + j, w.out, L, dst + (j * cells + i) * kPanel, cells * kPanel);
              }
            }
          } else if (lanes == L && adjacent && run >= L) {
            if (!joined && c + 2 < c1) {
              for (int l = 0; l < L; ++l) __builtin_prefetch(src + 2 * w.in + l * w.out);
            }
            for (int64_t i = 0; i < run; i += L) {
              if (i + L > run) i = run - L;
              load_transposed(src + i, w.out, L, dst + i * kPanel, kPanel);
            }
          } else if (lanes == L && adjacent && w.out == cells && (left - L + 1) * cells >= L) {
            load_transposed(src, w.out, static_cast<int>(run), dst,
                            kPanel);  // reads into the next output channel
          } else {
            for (int64_t i = 0; i < run; ++i) {
              const int64_t cell = i % cells;
              const T* from = src + i / cells * w.in + cell / w.kernel_w * w.h + cell % w.kernel_w * w.w;
              if (lanes == L && w.out == 1) {
                store_vec<L>(dst + i * kPanel, load_vec<L>(from));
              } else {
                for (int l = 0; l < L; ++l) dst[i * kPanel + l] = l < lanes ? load(from + l * w.out) : C(0);
              }
            }
          }
        }
      }
    });
  }

  // U of one phase at its active points, from gathered taps: u[p · point_stride + c · kPanel].
  void transform_weights(int phase, const Taps& w, const C* taps, int64_t channels, C* u,
                         int64_t point_stride) const {
    const int cells = w.kernel_h * w.kernel_w;
    int cell[kTapRows * 3];
    phase_cells(phase, w.kernel_w, cell);
    bool active[kPoints];
    for (int p = 0; p < kPoints; ++p) active[p] = s_.active(phase, p);
    for (int64_t c = 0; c < channels; ++c) {
      for (int v = 0; v < Gemm::kVectors; ++v) {
        const C* src = taps + c * cells * kPanel + v * L;
        V g[kTapRows * 3], t[kPoints];
        for (int i = 0; i < kTapRows * 3; ++i) g[i] = cell[i] < 0 ? V{} : load_vec<L>(src + cell[i] * kPanel);
        weight_tile<C, PH>(g, t);
        for (int p = 0; p < kPoints; ++p) {
          if (active[p]) store_vec<L>(u + p * point_stride + c * kPanel + v * L, t[p]);
        }
      }
    }
  }

  // Zeros for M where no product is written.
  void clear_silent_points(int64_t tiles, C* m, int64_t point_stride) const {
    for (int phase = 0; phase < s_.out_phases(); ++phase) {
      for (int p = 0; p < kPoints; ++p) {
        if (!summed(phase, p))
          std::memset(m + (phase * kPoints + p) * point_stride, 0, tiles * kPanel * sizeof(C));
      }
    }
  }

  // y of a panel of output channels for the tiles [begin, end), from M laid out [phase][p][tile][kPanel].
  void transform_output(const Image& image, int64_t begin, int64_t end, int64_t panel, const C* m,
                        int64_t point_stride, const TensorRef& bias, const ConvOptions& options) const {
    const int sh = s_.h.out_phases, sw = s_.w.out_phases;
    const int64_t pitch = sw * 4 * kStrip;
    C* strip = workspace<C>(Slot::kStrip, sh * kRows * pitch * L);
    const C zero = 0;
    for (int v = 0; v < Gemm::kVectors; ++v) {
      const int64_t k = panel * kPanel + v * L;
      if (k >= s_.out_channels) return;
      V shift = {};
      if (bias) {
        for_storage_of<C>(bias.dtype, [&](auto t) {
          using T = typename decltype(t)::type;
          for (int l = 0; l < L && k + l < s_.out_channels; ++l) {
            shift[l] = load(bias.as<T>() + (image.first_channel + k + l) * bias.stride[0]);
          }
        });
      }
      for_strips(begin, end, kStrip, [&](int64_t n, int64_t ty, int64_t tx, int count, int64_t first) {
        for (int t = 0; t < count; ++t) {
          for (int phase = 0; phase < sh * sw; ++phase) {
            const C* src = m + phase * kPoints * point_stride + (first - begin + t) * kPanel + v * L;
            V y[kRows * 4];
            output_tile<C, PH>(src, point_stride, y);
            C* corner = strip + ((phase / sw) * pitch + sw * t * 4 + phase % sw) * L;
            for (int i = 0; i < kRows; ++i) {
              for (int j = 0; j < 4; ++j)
                store_vec<L>(corner + (sh * i * pitch + sw * j) * L, y[i * 4 + j] + shift);
            }
          }
        }
        for (int r = 0; r < sh * kRows; ++r) {
          C* row = strip + r * pitch * L;
          if (options.activation != Activation::kNone) {
            finish_run<true, C>(row, &zero, row, sw * 4 * count * L, options);
          }
          store_row<C>(image, n, k, sh * ty * kRows + r, sw * tx * 4, sw * 4 * count, strip + r * pitch * L);
        }
      });
    }
  }

  // A dy of a panel of the output's channels, [phase][p][tile][kPanel]: the weight gradient's other factor.
  void transform_output_gradient(const Image& image, int64_t begin, int64_t end, int64_t panel, C* m,
                                 int64_t point_stride) const {
    const int sh = s_.h.out_phases, sw = s_.w.out_phases;
    const int64_t pitch = sw * 4 * kStrip + L;
    C* strip = workspace<C>(Slot::kStrip, sh * kRows * pitch * L);
    for (int v = 0; v < Gemm::kVectors; ++v) {
      const int64_t k = panel * kPanel + v * L;
      for_strips(begin, end, kStrip, [&](int64_t n, int64_t ty, int64_t tx, int count, int64_t first) {
        for (int r = 0; r < sh * kRows; ++r) {
          C* row = strip + r * pitch * L;
          if (k < s_.out_channels) {
            load_row<C>(image, n, k, sh * ty * kRows + r, sw * tx * 4, sw * 4 * count, row);
          } else {
            for (int64_t i = 0; i < sw * 4 * count; ++i) store_vec<L>(row + i * L, V{});
          }
        }
        for (int t = 0; t < count; ++t) {
          for (int phase = 0; phase < sh * sw; ++phase) {
            const C* corner = strip + ((phase / sw) * pitch + sw * t * 4 + phase % sw) * L;
            V y[kRows * 4], d[kPoints];
            for (int i = 0; i < kRows; ++i) {
              for (int j = 0; j < 4; ++j) y[i * 4 + j] = load_vec<L>(corner + (sh * i * pitch + sw * j) * L);
            }
            output_tile_adjoint<C, PH>(y, d);
            C* out = m + phase * kPoints * point_stride + (first - begin + t) * kPanel + v * L;
            for (int p = 0; p < kPoints; ++p) store_vec<L>(out + p * point_stride, d[p]);
          }
        }
      });
    }
  }

  // taps[c][cell][kPanel] += Gᵀ dU G of one phase.
  void add_weight_gradient(int phase, int kernel_w, int cells, const C* u, int64_t point_stride,
                           int64_t channels, C* taps) const {
    int cell[kTapRows * 3];
    phase_cells(phase, kernel_w, cell);
    for (int64_t c = 0; c < channels; ++c) {
      for (int v = 0; v < Gemm::kVectors; ++v) {
        V t[kPoints], g[kTapRows * 3];
        for (int p = 0; p < kPoints; ++p) {
          t[p] = s_.active(phase, p) ? load_vec<L>(u + p * point_stride + c * kPanel + v * L) : V{};
        }
        weight_tile_adjoint<C, PH>(t, g);
        for (int i = 0; i < kTapRows * 3; ++i) {
          if (cell[i] < 0) continue;
          C* dst = taps + (c * cells + cell[i]) * kPanel + v * L;
          store_vec<L>(dst, load_vec<L>(dst) + g[i]);
        }
      }
    }
  }

  // Gathered taps back into a weight.
  void scatter_taps(const Taps& w, int64_t panel, int64_t c0, int64_t c1, const C* taps) const {
    for_storage_of<C>(w.dtype, [&](auto t) {
      using T = typename decltype(t)::type;
      const int64_t cells = w.cells();
      if (w.folded) {
        for_folded_taps<T>(w, panel, c0, c1, taps, [](T* weight, const C* tap) {
          if (weight) store(weight, *tap);
        });
        return;
      }
      const bool adjacent = w.w == 1 && w.h == w.kernel_w;
      for (int64_t c = c0; c < c1; ++c) {
        for (int v = 0; v < Gemm::kVectors; ++v) {
          const int64_t k = panel * kPanel + v * L;
          const int64_t left = s_.out_channels - k;
          const int lanes = left >= L ? L : left > 0 ? static_cast<int>(left) : 0;
          T* dst = static_cast<T*>(w.data) + c * w.in + k * w.out;
          const C* src = taps + (c - c0) * cells * kPanel + v * L;
          if (lanes == L && w.out == 1) {
            for (int64_t i = 0; i < cells; ++i) {
              store_vec<L>(dst + i / w.kernel_w * w.h + i % w.kernel_w * w.w, load_vec<L>(src + i * kPanel));
            }
          } else if (lanes == L && adjacent && cells >= L) {
            for (int64_t i = 0; i < cells; i += L) {
              if (i + L > cells) i = cells - L;
              store_transposed(src + i * kPanel, L, dst + i, w.out);
            }
          } else if (lanes == L && adjacent && w.out == cells) {
            T row[2 * L * L];  // each channel's surplus is overwritten by the next one
            store_transposed(src, static_cast<int>(cells), row, cells);
            std::memcpy(dst, row, L * cells * sizeof(T));
          } else {
            for (int64_t i = 0; i < cells; ++i) {
              T* to = dst + i / w.kernel_w * w.h + i % w.kernel_w * w.w;
              for (int l = 0; l < lanes; ++l) store(to + l * w.out, src[i * kPanel + l]);
            }
          }
        }
      }
    });
  }

  // Whether any phase contributes to M at a point of an output phase.
  bool summed(int out_phase, int point) const {
    if (s_.out_phases() > 1) return s_.active(out_phase, point);
    for (int i = 0; i < s_.in_phases(); ++i) {
      if (s_.active(i, point)) return true;
    }
    return false;
  }

 private:
  // f(a weight of a panel's output channels or null, its place in taps[c - c0][cell][panel lane]).
  template <class T, class Tap, class Function>
  void for_folded_taps(const Taps& w, int64_t panel, int64_t c0, int64_t c1, Tap* taps, Function&& f) const {
    for (int64_t c = c0; c < c1; ++c) {
      for (int64_t cell = 0; cell < w.cells(); ++cell, taps += kPanel) {
        const int64_t at = w.offset(c, cell);
        for (int64_t l = 0; l < kPanel; ++l) {
          const int64_t k = panel * kPanel + l;
          f(at < 0 || k >= s_.out_channels ? nullptr : static_cast<T*>(w.data) + at + k * w.out, taps + l);
        }
      }
    }
  }

  // dst[i · stride][lane] = src[lane][i] for i < count <= L; reads L elements of each lane.
  template <class T>
  static void load_transposed(const T* src, int64_t lane_stride, int count, C* dst, int64_t stride) {
    V block[L];
    for (int l = 0; l < L; ++l) block[l] = load_vec<L>(src + l * lane_stride);
    transpose<L, C>(block);
    for (int i = 0; i < count; ++i) store_vec<L>(dst + i * stride, block[i]);
  }
  // The way back; writes L elements of each lane in the lanes' order, those from count on arbitrary.
  template <class T>
  static void store_transposed(const C* src, int count, T* dst, int64_t lane_stride) {
    V block[L];
    for (int i = 0; i < L; ++i) block[i] = i < count ? load_vec<L>(src + i * kPanel) : V{};
    transpose<L, C>(block);
    for (int l = 0; l < L; ++l) store_vec<L>(dst + l * lane_stride, block[l]);
  }

  // Tiles of a row that are read together: with two more columns than 4 a tile, 7 fill two transposes of 16
  // or four of 8, 8 would need another.
  int64_t input_strip() const { return s_.w.tiles > kStrip ? kStrip - 1 : kStrip; }

  // f(image, tile row, first tile column, count, index of the first tile) for runs of at most `length` tiles
  // within [begin, end).
  template <class Function>
  void for_strips(int64_t begin, int64_t end, int64_t length, Function&& f) const {
    for (int64_t t = begin; t < end;) {
      const int64_t tx = t % s_.w.tiles, row = t / s_.w.tiles;
      int64_t count = s_.w.tiles - tx < length ? s_.w.tiles - tx : length;
      if (end - t < count) count = end - t;
      f(row / s_.h.tiles, row % s_.h.tiles, tx, static_cast<int>(count), t);
      t += count;
    }
  }

  void phase_cells(int phase, int kernel_w, int* cell) const {
    for (int i = 0; i < kTapRows; ++i) {
      for (int j = 0; j < 3; ++j) {
        const int th = PH == 6 ? s_.h.taps[phase / s_.w.phases()][i] : 0;
        const int tw = s_.w.taps[phase % s_.w.phases()][j];
        cell[i * 3 + j] = th < 0 || tw < 0 ? -1 : th * kernel_w + tw;
      }
    }
  }

  WinogradShape s_;
};

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
