// Pointwise convolutions of planes (NCHW): 1x1, and transposed ones whose kernel is their stride.
//
// Each image is one matrix product, [rows x input channels] · [input channels x pixels], a row being an
// output channel's cell of the kernel: (m, kh, kw). Pixels lie in the lanes, as they lie in the planes of
// both sides, so that nothing is transposed, neither on load nor on store. Tasks are blocks of pixels of an
// image by chunks of rows by groups. A task stages its pixels in panels of two vectors (L2); then, for each
// tile of rows (L1), for each panel: runs the micro-kernel for each block of input channels, weaves the cells
// (kh, ·) of a channel, adds bias and activation and stores. So few lines at a time wait in the store
// buffer, while the next panel is multiplied.
//
// Floor: 2 operations for each product; input read once for each chunk of rows, output written once.
#include "cpu/conv_pointwise.h"

#include "cpu/epilogue.h"
#include "cpu/gemm.h"
#include "cpu/integers.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/pairs.h"
#include "cpu/parallel.h"
#include "cpu/shuffle.h"
#include "cpu/workspace.h"
#include "dispatch.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

// Numbers [from, from + n) of a plane into a row of a panel, zeros behind them up to its width.
template <class T>
void stage_row(const T* from, const T*, int64_t n, int64_t width, Compute<T>* to) {
  convert_copy(from, to, n);
  for (int64_t x = n; x < width; ++x) to[x] = 0;
}
// And of the next channel's plane, if there is one, in pairs.
void stage_row(const BFloat16* from, const BFloat16* next, int64_t n, int64_t width, Pair* to) {
  constexpr int L = kLanes<Pair>;
  int64_t x = 0;
  for (; x + L <= n; x += L) {
    const auto low = pairs_detail::widen_half(from + x);
    const auto high = next ? pairs_detail::widen_half(next + x) : Vec<uint32_t, L>{};
    store_vec<L>(to + x, bit_cast<Vec<Pair, L>>(low | high << 16));
  }
  for (; x < width; ++x) {
    to[x] = x < n ? pairs_detail::pair(from + x, 0, next ? 2 : 1, next ? next - from : 0) : 0;
  }
}

// Numbers, or pairs of them, that a row of weights has.
template <class T, class K>
int64_t depth_of(const PointwiseProblem& p) {
  return __is_same(K, Compute<T>) ? p.in_channels : pairs_of(p.in_channels);
}

// Whether the weight's rows are read where they lie.
template <class T, class K>
bool reads_in_place(const PointwiseProblem& p) {
  return __is_same(T, K) && p.cells_h * p.cells_w == 1 && p.weight.c == 1 &&
         p.weight.m < INT32_MAX / kTileRows;
}

// K: what is staged and packed, a number or a pair of them.
template <class T, class K>
class Pointwise {
  using C = Compute<T>;
  static constexpr bool kPairs = !__is_same(K, C);
  static constexpr int L = kLanes<C>;
  static constexpr int kCols = kTileCols<C>;

 public:
  Pointwise(const PointwiseProblem& p, int threads)
      : p_(p),
        pixels_(p.input.size[2] * p.input.size[3]),
        cells_(p.cells_h * p.cells_w),
        rows_(p.out_channels * cells_),
        depth_(depth_of<T, K>(p)) {
    // A tile holds whole rows of the kernel; its sums over at most so many channels run in registers.
    tile_ = kTileRows / p.cells_w * p.cells_w;
    step_ = balanced(depth_, 36864 / (kCols * int64_t{sizeof(C)}));
    constexpr int64_t kStaged = 384 << 10;
    const int64_t most = max64(kCols, min64(512, kStaged / (depth_ * int64_t{sizeof(K)}) / kCols * kCols));
    block_ = min64(round_up(pixels_, L), round_up(balanced(pixels_, most), kCols));
    blocks_ = ceil_div(pixels_, block_);
    threads_ = useful_threads(threads, p.batch * p.groups * pixels_ * rows_ * depth_, 1 << 17);
    // Enough tasks for all threads: fewer rows.
    const int64_t tiles = ceil_div(rows_, tile_), blocks = p.batch * p.groups * blocks_;
    chunk_ = tile_ * balanced(tiles, max64(1, tiles * blocks / (3 * threads_)));
    chunks_ = ceil_div(rows_, chunk_);

    in_place_ = reads_in_place<T, K>(p);
    row_ = in_place_ ? p.weight.m : depth_;
    int64_t at = 0;
    const auto reserve = [&](int64_t bytes) {
      const int64_t here = at;
      at += round_up(bytes, 64);
      return here;
    };
    stage_at_ = reserve(depth_ * block_ * int64_t{sizeof(K)});
    sums_at_ = reserve((tile_ * kCols + L) * int64_t{sizeof(C)});  // weave() takes whole vectors
    line_at_ = reserve((kCols * p.cells_w + 2 * L) * int64_t{sizeof(C)});
    thread_bytes_ = round_up(at, 4096) + 64;  // off the powers of two
    const int64_t packed = in_place_ ? 0 : round_up(p.groups * rows_ * depth_ * int64_t{sizeof(K)}, 64);
    const int64_t head = packed + round_up(p.groups * p.out_channels * int64_t{sizeof(C)}, 64);
    char* base = workspace<char>(Slot::kGather, head + threads_ * thread_bytes_);
    packed_ = reinterpret_cast<K*>(base);
    bias_ = reinterpret_cast<C*>(base + packed);
    thread_base_ = base + head;
    for (int64_t i = 0; i < p.groups * p.out_channels; ++i) {
      bias_[i] = p.bias ? load(p.bias.as<T>() + i * p.bias.stride[0]) : C{0};
    }
    for (int i = 0; i < kTileRows; ++i) offsets_[i] = static_cast<int32_t>(min64(i, tile_ - 1) * row_);
  }

  void run() {
    if (!in_place_) {
      const int threads = useful_threads(threads_, p_.groups * rows_ * depth_);
      parallel_for(p_.groups * p_.out_channels, threads, [&](int64_t i) { pack(i); });
    }
    parallel_tasks(
        p_.batch * p_.groups * blocks_ * chunks_, threads_,
        [&](int64_t i, int thread) {
          const int64_t chunk = i % chunks_, block = i / chunks_ % blocks_, image = i / chunks_ / blocks_;
          task(thread_base_ + thread * thread_bytes_, image / p_.groups, image % p_.groups, block * block_,
               chunk * chunk_);
        },
        true);
  }

 private:
  // The rows of one output channel.
  void pack(int64_t channel) const {
    const WeightView& v = p_.weight;
    const T* from =
        static_cast<const T*>(v.data) + channel / p_.out_channels * v.group + channel % p_.out_channels * v.m;
    K* to = packed_ + channel * cells_ * depth_;
    for (int64_t kh = 0; kh < p_.cells_h; ++kh) {
      for (int64_t kw = 0; kw < p_.cells_w; ++kw, to += depth_) {
        const T* cell = from + kh * v.kh + kw * v.kw;
        for (int64_t k = 0; k < depth_; ++k) {
          if constexpr (kPairs) {
            to[k] = pairs_detail::pair(cell, 2 * k, p_.in_channels, v.c);
          } else {
            to[k] = load(cell + k * v.c);
          }
        }
      }
    }
  }

  const K* weights(int64_t group) const {
    if constexpr (__is_same(T, K)) {
      if (in_place_) return static_cast<const K*>(p_.weight.data) + group * p_.weight.group;
    }
    return packed_ + group * rows_ * depth_;
  }

  void task(char* memory, int64_t n, int64_t group, int64_t x0, int64_t first_row) const {
    K* const staged = reinterpret_cast<K*>(memory + stage_at_);
    C* const sums = reinterpret_cast<C*>(memory + sums_at_);
    C* const line = reinterpret_cast<C*>(memory + line_at_);
    const TensorRef& in = p_.input;
    const int64_t size = min64(block_, pixels_ - x0);
    const T* from = in.as<T>() + n * in.stride[0] + group * p_.in_channels * in.stride[1] + x0;
    constexpr int64_t kChannels = kPairs ? 2 : 1;
    for (int64_t k = 0; k < depth_; ++k, from += kChannels * in.stride[1]) {
      const T* const next = k * kChannels + 1 < p_.in_channels ? from + in.stride[1] : nullptr;
      for (int64_t x = 0; x < size; x += kCols) {
        const int64_t width = panel_width<C>(size, x);
        stage_row(from + x, next ? next + x : nullptr, min64(width, size - x), width,
                  staged + x * depth_ + k * width);
      }
    }
    const int32_t first_tap = 0;
    const TileTaps taps{offsets_, &first_tap, 1};
    const int64_t last_row = min64(rows_, first_row + chunk_);
    for (int64_t row = first_row; row < last_row; row += tile_) {
      const int64_t rows = min64(tile_, last_row - row);
      for (int64_t x = 0; x < size; x += kCols) {
        const int64_t width = panel_width<C>(size, x);
        for (int64_t k = 0; k < depth_; k += step_) {
          kGatherKernels<C, K>.table[rows - 1][width / L - 1](
              weights(group) + row * row_ + k, taps, min64(step_, depth_ - k),
              staged + x * depth_ + k * width, sums, kCols, k > 0);
        }
        store_tile(sums, n, group, row, rows, x0 + x, min64(width, size - x), line);
      }
    }
  }

  // Pixels [x0, x0 + size) of some rows; the sums lie kCols apart.
  void store_tile(const C* sums, int64_t n, int64_t group, int64_t row, int64_t rows, int64_t x0,
                  int64_t size, C* line) const {
    const TensorRef& out = p_.output;
    const int64_t columns = p_.input.size[3];
    const C* const bias = bias_ + group * p_.out_channels;
    T* const to = out.as<T>() + n * out.stride[0] + group * p_.out_channels * out.stride[1];
    if (cells_ == 1 && (out.stride[2] == columns || out.size[2] == 1)) {
      finish_rows<true>(sums, kCols, bias + row, to + row * out.stride[1] + x0, out.stride[1], rows, size,
                        p_.options);
      return;
    }
    for (int64_t i = 0; i < rows; i += p_.cells_w) {
      const int64_t m = (row + i) / cells_, kh = (row + i) / p_.cells_w % p_.cells_h;
      for (int64_t x = 0, run = 0; x < size; x += run) {
        const int64_t y = (x0 + x) / columns, column = (x0 + x) % columns;
        run = min64(size - x, columns - column);
        const C* const woven = weave(sums + i * kCols + x, run, line);
        T* const first = to + m * out.stride[1] + (y * p_.cells_h + kh) * out.stride[2];
        finish_run<true>(woven, bias + m, first + column * p_.cells_w, run * p_.cells_w, p_.options);
      }
    }
  }

  // line[x·cells_w + kw] = sums[kw·kCols + x]; returns it, or the sums where they are in order.
  const C* weave(const C* sums, int64_t n, C* line) const {
    const int64_t w = p_.cells_w;
    if (w == 1) return sums;
    if (w == 2) {
      for (int64_t x = 0; x < n; x += L) {
        const auto even = in_blocks<C, L>(load_vec<L>(sums + x));
        const auto odd = in_blocks<C, L>(load_vec<L>(sums + kCols + x));
        store_vec<L>(line + 2 * x, weave_low<C, L>(even, odd));
        store_vec<L>(line + 2 * x + L, weave_high<C, L>(even, odd));
      }
      return line;
    }
    for (int64_t x = 0; x < n; ++x) {
      for (int64_t kw = 0; kw < w; ++kw) line[x * w + kw] = sums[kw * kCols + x];
    }
    return line;
  }

  const PointwiseProblem& p_;
  int64_t pixels_, cells_, rows_, depth_;  // of an image; of a kernel; of a group's product
  int64_t tile_, step_, block_, blocks_, chunk_, chunks_;
  bool in_place_;
  int64_t row_;  // from one row of weights to the next
  int threads_;
  int64_t stage_at_, sums_at_, line_at_, thread_bytes_;
  int32_t offsets_[kTileRows];
  K* packed_;
  C* bias_;
  char* thread_base_;
};

// Planes whose rows follow each other, with pixels enough to fill the lanes; and to share weights where these
// are packed, all of them at once.
template <class T, class K>
bool serves(const PointwiseProblem& p) {
  const int64_t columns = p.input.size[3], pixels = p.input.size[2] * columns;
  const bool planes = p.input.stride[3] == 1 && (p.input.stride[2] == columns || p.input.size[2] == 1) &&
                      p.input.stride[1] != 1 && p.output.stride[3] == 1;
  const int64_t weights = p.groups * p.out_channels * p.cells_h * p.cells_w * depth_of<T, K>(p);
  const bool shared = p.batch * pixels >= 64 && weights * int64_t{sizeof(K)} <= int64_t{48} << 20;
  return planes && p.cells_w <= kTileRows && p.in_channels <= 4096 &&
         2 * round_up(pixels, kLanes<Compute<T>>) <= 3 * pixels && (shared || reads_in_place<T, K>(p));
}

template <class T, class K>
bool run_if_served(const PointwiseProblem& p, int threads) {
  if (!serves<T, K>(p)) return false;
  advise_huge(p.output.data, p.output.numel() * int64_t{sizeof(T)});
  Pointwise<T, K>(p, threads).run();
  return true;
}

}  // namespace

bool conv_pointwise(const PointwiseProblem& problem, int threads) {
  if (problem.output.numel() == 0) return false;
  bool served = false;
  for_float_dtype(problem.output.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    if constexpr (kDotsPairs && __is_same(T, BFloat16)) {
      if (dots_pairs()) {
        served = run_if_served<T, Pair>(problem, threads);
        return;
      }
    }
    served = run_if_served<T, Compute<T>>(problem, threads);
  });
  return served;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
