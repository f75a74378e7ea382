// Winograd convolutions: the loop orders around the stages of winograd.h.
//
// weights_once: many tiles, weights that fit the last-level cache. U of the whole layer first; then threads
//   own chunks of tiles: V, and for each panel of output channels M over all points, and the output.
//   A caller that keeps U (conv_transform_weights) spares both orders their weight transforms.
// weights_streamed: few tiles or many channels (1024→512 would have 250 MB of U). V of a round of tiles
// first;
//   then threads own panels of output channels and transform each block of weights into L2 just before its
//   use. U never travels through memory.
//
// Floor: products / (32 or 64 a cycle and core); the transforms add 10-25 %, most of it where channels are
// few.
#include "cpu/conv_winograd.h"

#include <type_traits>

#include "cpu/winograd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

constexpr int64_t kDepth = 128;                         // input channels a GEMM call sums in registers
constexpr int64_t kMaxSharedBytes = int64_t{16} << 20;  // of U in weights_once
constexpr int64_t kMaxStreamBytes = int64_t{20} << 20;  // of V in weights_streamed
constexpr int64_t kMaxProductBytes = int64_t{8} << 20;  // of M in the weight gradient, a thread
constexpr int64_t kMaxSumBytes = int64_t{32} << 20;     // of its sums between rounds
constexpr int64_t kMaxTiles = 128;                      // whose M stays near in weights_streamed

template <class C, int PH>
struct Pass {
  using W = Winograd<C, PH>;
  using Gemm = typename W::Gemm;
  static constexpr int64_t kPanel = W::kPanel, kPad = W::kPad;
  static constexpr int kPoints = W::kPoints;

  const WinogradShape& s;
  Image input, output;
  Taps taps;
  const TensorRef& bias;
  const ConvOptions& options;
  int threads;
  W w{s};

  int64_t panels() const { return (s.out_channels + kPanel - 1) / kPanel; }
  int cells() const { return taps.kernel_h * taps.kernel_w; }
  // U lies [phase][point][panel][channel][lane].
  int64_t u_point() const { return panels() * s.in_channels * kPanel + kPad; }
  int64_t u_size() const { return s.phases() * kPoints * u_point(); }
  int64_t weight_bytes() const {  // of U at the active points
    int64_t points = 0;
    for (int phase = 0; phase < s.phases(); ++phase) {
      for (int p = 0; p < kPoints; ++p) points += s.active(phase, p);
    }
    return points * panels() * kPanel * s.in_channels * static_cast<int64_t>(sizeof(C));
  }

  // kept: U, or nullptr.
  void run(const C* kept) const {
    // Below 256 tiles there is too little work between two reads of U.
    if (weight_bytes() > kMaxSharedBytes || s.tiles() <= 256) return weights_streamed(kept);
    if (!kept) {
      C* u = workspace<C>(Slot::kShared, u_size());
      transform_all_weights(u);
      kept = u;
    }
    weights_once(kept);
  }

  void transform_all_weights(C* u) const {
    constexpr int64_t kBlock = 16;
    const int64_t channels = s.in_channels, blocks = (channels + kBlock - 1) / kBlock;
    parallel_for(
        blocks * panels(), threads,
        [&](int64_t i) {
          const int64_t panel = i / blocks, c = i % blocks * kBlock;
          const int64_t count = channels - c < kBlock ? channels - c : kBlock;
          C* gathered = workspace<C>(Slot::kTaps, kBlock * cells() * kPanel);
          w.gather_taps(taps, panel, c, c + count, gathered);
          for (int phase = 0; phase < s.phases(); ++phase) {
            w.transform_weights(phase, taps, gathered, count,
                                u + phase * kPoints * u_point() + (panel * channels + c) * kPanel, u_point());
          }
        },
        true);
  }

  // m (+)= V U over all input channels of one phase at one point; u holds the channels [c0, c1).
  static void product(int64_t tiles, const C* v, const typename W::Layout& layout, int64_t c0, int64_t c1,
                      const C* u, C* m, bool accumulate) {
    for (int64_t c = c0; c < c1; c += layout.block) {
      const int64_t depth = c1 - c < layout.block ? c1 - c : layout.block;
      Gemm::template run<false>(tiles, depth, v + layout.at(0, c), layout.block, u + (c - c0) * kPanel, m,
                                accumulate || c > c0);
    }
  }

  void weights_once(const C* u) const {
    const int64_t channels = s.in_channels, in_phases = s.in_phases(), out_phases = s.out_phases();
    const int64_t chunk = channels > kDepth ? 24 : 48;
    const int64_t lanes = (channels + W::L - 1) / W::L * W::L;
    const typename W::Layout v_layout(chunk, channels, lanes < kDepth ? lanes : kDepth);
    const int64_t m_point = chunk * kPanel + kPad;
    const int64_t tiles = s.tiles();
    parallel_for((tiles + chunk - 1) / chunk, threads,
                 [&](int64_t i) {
                   const int64_t begin = i * chunk, end = begin + chunk < tiles ? begin + chunk : tiles;
                   C* v = workspace<C>(Slot::kInput, in_phases * v_layout.phase_stride);
                   C* m = workspace<C>(Slot::kProducts, out_phases * kPoints * m_point);
                   w.transform_input(input, begin, end, 0, channels, v, v_layout);
                   w.clear_silent_points(end - begin, m, m_point);
                   for (int64_t panel = 0; panel < panels(); ++panel) {
                     for (int o = 0; o < out_phases; ++o) {
                       for (int p = 0; p < kPoints; ++p) {
                         bool accumulate = false;
                         for (int in = 0; in < in_phases; ++in) {
                           const int phase = o + in;  // one of the two is 0
                           if (!s.active(phase, p)) continue;
                           product(end - begin, v + in * v_layout.phase_stride + p * v_layout.point_stride,
                                   v_layout, 0, channels,
                                   u + (phase * kPoints + p) * u_point() + panel * channels * kPanel,
                                   m + (o * kPoints + p) * m_point, accumulate);
                           accumulate = true;
                         }
                       }
                     }
                     w.transform_output(output, begin, end, panel, m, m_point, bias, options);
                   }
                 },
                 true);
  }

  void weights_streamed(const C* kept) const {
    constexpr int64_t kBlock = 64;  // input channels whose transformed weights share L2 with M
    const int64_t channels = s.in_channels, in_phases = s.in_phases(), out_phases = s.out_phases();
    const int64_t blocks = (channels + kBlock - 1) / kBlock;
    const int64_t tiles = s.tiles();
    const int64_t u_stride = kept ? u_point() : kBlock * kPanel + kPad;
    // Every round transforms the weights anew: few and even rounds.
    const int64_t tile_bytes = in_phases * kPoints * blocks * kBlock * static_cast<int64_t>(sizeof(C));
    const int64_t fit = kMaxStreamBytes / tile_bytes;
    const int64_t most = fit > kMaxTiles ? kMaxTiles : fit > 1 ? fit : 1;
    const int64_t rounds = (tiles + most - 1) / most, round = (tiles + rounds - 1) / rounds;
    for (int64_t begin = 0; begin < tiles; begin += round) {
      const int64_t end = begin + round < tiles ? begin + round : tiles, count = end - begin;
      const typename W::Layout v_layout(count, channels, kBlock);
      const int64_t m_point = count * kPanel + kPad;
      C* v = workspace<C>(Slot::kShared, in_phases * v_layout.phase_stride);
      const int64_t run = w.input_run();
      parallel_for(
          blocks * ((count + run - 1) / run), threads,
          [&](int64_t i) {
            const int64_t c = i % blocks * kBlock, t = i / blocks * run;
            w.transform_input(input, begin + t, begin + (t + run < count ? t + run : count), c,
                              c + kBlock < channels ? c + kBlock : channels, v + t * v_layout.block,
                              v_layout);
          },
          true);
      parallel_for(
          panels(), threads,
          [&](int64_t panel) {
            C* gathered = workspace<C>(Slot::kTaps, kBlock * cells() * kPanel);
            C* own = kept ? nullptr : workspace<C>(Slot::kWeights, kPoints * u_stride);
            C* m = workspace<C>(Slot::kProducts, out_phases * kPoints * m_point);
            w.clear_silent_points(count, m, m_point);
            for (int64_t c = 0; c < channels; c += kBlock) {
              const int64_t depth = channels - c < kBlock ? channels - c : kBlock;
              if (!kept) w.gather_taps(taps, panel, c, c + depth, gathered);
              bool written[kPoints] = {};
              for (int phase = 0; phase < s.phases(); ++phase) {
                const int in = in_phases > 1 ? phase : 0, o = out_phases > 1 ? phase : 0;
                const C* u = kept ? kept + phase * kPoints * u_stride + (panel * channels + c) * kPanel : own;
                if (!kept) w.transform_weights(phase, taps, gathered, depth, own, u_stride);
                for (int p = 0; p < kPoints; ++p) {
                  if (!s.active(phase, p)) continue;
                  product(count, v + in * v_layout.phase_stride + p * v_layout.point_stride, v_layout, c,
                          c + depth, u + p * u_stride, m + (o * kPoints + p) * m_point,
                          c > 0 || (in > 0 && written[p]));
                  written[p] = true;
                }
              }
            }
            w.transform_output(output, begin, end, panel, m, m_point, bias, options);
          },
          true);
    }
  }
};

int64_t size_of(DType dtype) { return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2; }

// Calls f with the compute type and the rows of points of a tile: 6, or 1 where the vertical axis is trivial.
template <class F>
void for_compute_type(DType dtype, const WinogradAxis& h, F&& f) {
  const auto with_rows = [&](auto compute) {
    if (h.points == 6) {
      f(compute, std::integral_constant<int, 6>{});
    } else {
      f(compute, std::integral_constant<int, 1>{});
    }
  };
  if (dtype == DType::kFloat64) {
    with_rows(Type<double>{});
  } else {
    with_rows(Type<float>{});
  }
}

// A pass in one direction, as it is or with the large side folded (geometry/fold.h): where a vector holds the
// channels of all its sub-grids, one product over them takes the place of one for each, of few channels.
struct Form {
  WinogradShape s;
  bool folded = false, flipped = false;
  ConvShape shape;
  int kernel_h, kernel_w;

  // False where the shape is not Winograd's.
  bool make(bool transposed, bool may_fold, const ConvShape& c) {
    shape = c;
    kernel_h = static_cast<int>(c.h.kernel), kernel_w = static_cast<int>(c.w.kernel);
    s.batch = c.batch;
    s.in_channels = transposed ? c.group_small() : c.group_large();
    s.out_channels = transposed ? c.group_large() : c.group_small();
    if (!make_winograd_axes(c.h, c.w, transposed, s.h, s.w)) return false;
    constexpr int64_t kMostFolded = 16;
    const int64_t grids = c.h.stride * c.w.stride;
    if (!may_fold || grids == 1 || grids * c.group_large() > kMostFolded) return true;
    const ConvAxis h = deconvkit::folded(c.h), w = deconvkit::folded(c.w);
    Form f = *this;
    f.folded = true, f.flipped = transposed;
    f.kernel_h = static_cast<int>(h.kernel), f.kernel_w = static_cast<int>(w.kernel);
    f.s.in_channels = grids * c.group_large();
    f.s.out_channels = c.group_small();
    f.s.h = f.s.w = {};
    if (make_winograd_axes(transposed ? sides_changed(h) : h, transposed ? sides_changed(w) : w, transposed,
                           f.s.h, f.s.w)) {
      *this = f;
    }
    return true;
  }

  Image small(const TensorRef& x, int64_t group) const {
    return Image::of(x, group * shape.group_small(), shape.group_small());
  }
  Image large(const TensorRef& x, int64_t group) const {
    Image image = Image::of(x, group * shape.group_large(), shape.group_large());
    if (folded) image.fold_h = shape.h.stride, image.fold_w = shape.w.stride;
    return image;
  }
  // in: the weight's axis of input channels.
  Taps taps(const TensorRef& weight, int in, int64_t group) const {
    return {static_cast<char*>(weight.data) +
                group * shape.group_small() * weight.stride[0] * size_of(weight.dtype),
            weight.dtype,
            weight.stride[in],
            weight.stride[1 - in],
            weight.stride[2],
            weight.stride[3],
            kernel_h,
            kernel_w,
            folded,
            flipped,
            FoldAxis::of(shape.h),
            FoldAxis::of(shape.w),
            shape.group_large()};
  }
};

}  // namespace

bool conv_winograd(bool transposed, const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                   const TensorRef& output, const ConvShape& shape, const ConvOptions& options, int threads) {
  Form form;
  if (!form.make(transposed, !transposed, shape)) return false;
  const WinogradShape& s = form.s;
  if (s.tiles() == 0 || s.out_channels == 0) return true;
  advise_huge(output.data, output.numel() * size_of(output.dtype));
  for_compute_type(input.dtype, s.h, [&](auto compute, auto rows) {
    using C = typename decltype(compute)::type;
    for (int64_t g = 0; g < shape.groups; ++g) {
      const Pass<C, decltype(rows)::value> pass{s,
                                                transposed ? form.small(input, g) : form.large(input, g),
                                                transposed ? form.large(output, g) : form.small(output, g),
                                                form.taps(weight, transposed ? 0 : 1, g),
                                                bias,
                                                options,
                                                threads};
      const C* kept = static_cast<const C*>(options.transformed);
      pass.run(kept ? kept + g * pass.u_size() : nullptr);
    }
  });
  return true;
}

int64_t conv_transformed_size(bool transposed, DType dtype, const ConvShape& shape) {
  Form form;
  if (!form.make(transposed, !transposed, shape)) return 0;
  const WinogradShape& s = form.s;
  int64_t size = 0;
  for_compute_type(dtype, s.h, [&](auto compute, auto rows) {
    using C = typename decltype(compute)::type;
    const Pass<C, decltype(rows)::value> pass{s, {}, {}, {}, {}, {}, 1};
    size = shape.groups * pass.u_size();
  });
  return size;
}

void conv_transform_weights(bool transposed, const TensorRef& weight, const TensorRef& transformed,
                            const ConvShape& shape, int threads) {
  Form form;
  if (!form.make(transposed, !transposed, shape)) return;
  const WinogradShape& s = form.s;
  advise_huge(transformed.data, transformed.numel() * size_of(transformed.dtype));
  for_compute_type(weight.dtype, s.h, [&](auto compute, auto rows) {
    using C = typename decltype(compute)::type;
    for (int64_t g = 0; g < shape.groups; ++g) {
      const Pass<C, decltype(rows)::value> pass{s,  {}, {},     form.taps(weight, transposed ? 0 : 1, g),
                                                {}, {}, threads};
      pass.transform_all_weights(transformed.as<C>() + g * pass.u_size());
    }
  });
}

// dU[p][c][k] = Σ_tiles V[p][tile][c] (A dy)[p][tile][k], with V of the small side and dy on the large one:
// the transposed convolution's form, whose transforms touch each element of the large side once. Threads own
// panels of the large side's channels; sums over tiles run in order, in runs of kDepth. The gradient of all
// taps is kept in the compute type until the last tile. A folded large side changes places with the small.
bool conv_weight_grad_winograd(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                               const ConvShape& shape, int threads) {
  Form form;
  if (!form.make(true, true, shape) || form.s.tiles() == 0) return false;
  const WinogradShape& s = form.s;
  advise_huge(grad_weight.data, grad_weight.numel() * size_of(grad_weight.dtype));
  for_compute_type(small.dtype, s.h, [&](auto compute, auto rows) {
    using C = typename decltype(compute)::type;
    using W = Winograd<C, decltype(rows)::value>;
    using Gemm = typename W::Gemm;
    constexpr int kPoints = W::kPoints;
    constexpr int64_t kPanel = W::kPanel, kBlock = 64;
    const W w(s);
    const int64_t channels = s.in_channels, blocks = (channels + kBlock - 1) / kBlock;
    const int64_t tiles = s.tiles();
    const int64_t panels = (s.out_channels + kPanel - 1) / kPanel;
    const int64_t cells = form.kernel_h * form.kernel_w;
    const int phases = s.phases(), in_phases = s.in_phases(), out_phases = s.out_phases();
    // A round: tiles whose V is shared and whose M stays near. A block of channels' U is turned into taps at
    // once.
    const auto most = [](int64_t bytes, int64_t tile_numbers) {
      return bytes / (tile_numbers * static_cast<int64_t>(sizeof(C)));
    };
    int64_t round = kDepth * 36 / kPoints;
    for (int64_t limit : {tiles, most(kMaxStreamBytes, in_phases * kPoints * blocks * kBlock),
                          most(kMaxProductBytes, out_phases * kPoints * kPanel)}) {
      round = limit < 1 ? 1 : limit < round ? limit : round;
    }
    if (round < tiles && round > s.w.tiles) round -= round % s.w.tiles;  // whole rows
    const bool one_round = round == tiles;
    const int64_t u_point = kBlock * kPanel + W::kPad, m_point = round * kPanel + W::kPad;
    const typename W::Layout v_layout(round, channels, kBlock);
    const int64_t v_size = in_phases * v_layout.phase_stride, sum_size = channels * cells * kPanel;
    // With several rounds, panels whose sums are kept meanwhile; V is made anew for each lot of them.
    const int64_t kept = most(kMaxSumBytes, sum_size);
    const int64_t rounds = (tiles + round - 1) / round;
    const int64_t lot = one_round || kept >= panels ? panels : kept > threads ? kept : threads;
    const int64_t lots = (panels + lot - 1) / lot;
    for (int64_t g = 0; g < shape.groups; ++g) {
      const Image in = form.folded ? form.large(large, g) : form.small(small, g);
      const Image out = form.folded ? form.small(small, g) : form.large(large, g);
      const Taps taps = form.taps(grad_weight, form.folded ? 1 : 0, g);
      C* v = workspace<C>(Slot::kShared, v_size + (one_round ? 0 : lot * sum_size));
      for (int64_t i = 0; i < lots * rounds; ++i) {
        const int64_t first_panel = i / rounds * lot, begin = i % rounds * round;
        const int64_t count = tiles - begin < round ? tiles - begin : round;
        const int64_t run = w.input_run();
        parallel_for(
            blocks * ((count + run - 1) / run), threads,
            [&](int64_t j) {
              const int64_t c = j % blocks * kBlock, first = j / blocks * run;
              w.transform_input(in, begin + first, begin + (first + run < count ? first + run : count), c,
                                c + kBlock < channels ? c + kBlock : channels, v + first * v_layout.block,
                                v_layout);
            },
            true);
        parallel_for(
            panels - first_panel < lot ? panels - first_panel : lot, threads,
            [&](int64_t place) {
              const int64_t panel = first_panel + place;
              C* m = workspace<C>(Slot::kProducts, out_phases * kPoints * m_point);
              C* u = workspace<C>(Slot::kWeights, kPoints * u_point);
              C* block_sum = workspace<C>(Slot::kTaps, kBlock * cells * kPanel);
              w.transform_output_gradient(out, begin, begin + count, panel, m, m_point);
              for (int64_t c = 0; c < channels; c += kBlock) {
                const int64_t width = channels - c < kBlock ? channels - c : kBlock;
                C* sum = one_round ? block_sum : v + v_size + place * sum_size + c * cells * kPanel;
                if (begin == 0) {
                  for (int64_t i = 0; i < width * cells * kPanel; ++i) sum[i] = 0;
                }
                for (int phase = 0; phase < phases; ++phase) {
                  const int in = in_phases > 1 ? phase : 0, o = out_phases > 1 ? phase : 0;
                  for (int p = 0; p < kPoints; ++p) {
                    if (!s.active(phase, p)) continue;
                    for (int64_t t = 0; t < count; t += kDepth) {
                      Gemm::template run<true>(
                          width, count - t < kDepth ? count - t : kDepth,
                          v + in * v_layout.phase_stride + p * v_layout.point_stride + v_layout.at(t, c),
                          kBlock, m + (o * kPoints + p) * m_point + t * kPanel, u + p * u_point, t > 0);
                    }
                  }
                  w.add_weight_gradient(phase, taps.kernel_w, static_cast<int>(cells), u, u_point, width,
                                        sum);
                }
                if (begin + count == tiles) w.scatter_taps(taps, panel, c, c + width, sum);
              }
            },
            true);
      }
    }
  });
  return true;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
