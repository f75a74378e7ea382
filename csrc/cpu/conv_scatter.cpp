// Transposed convolutions (and stride-1 convolutions, which are such) to few channels, scattering.
//
// With fewer output channels than lanes a gathering tile would be mostly padding. Here the lanes are the
// kernel cells of all output channels: one GEMM [input pixels x input channels] · [input channels x (kh, kw,
// channel)], whose rows are then added into the output where they fall, in L1/L2, channels innermost so that
// a kernel row is one run. Tasks are bands of output rows of one image; each computes the input pixels that
// reach it. The bands depend on the shape alone, for they decide the order of sums.
//
// Floor: 2 operations for each product, and one vector addition for each 16 or more of them.
#include "cpu/conv_scatter.h"

#include "cpu/epilogue.h"
#include "cpu/integers.h"
#include "cpu/memory.h"
#include "cpu/parallel.h"
#include "cpu/stage.h"
#include "cpu/workspace.h"
#include "dispatch.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

// Input cells [first, last) that reach output cells [begin, end).
struct Reach {
  int64_t first, last;

  Reach(const ScatterAxis& a, int64_t begin, int64_t end) {
    const int64_t low = begin + a.padding - (a.kernel - 1) * a.dilation, high = end - 1 + a.padding;
    first = low <= 0 ? 0 : ceil_div(low, a.stride);
    last = high < 0 ? 0 : min64(a.in, high / a.stride + 1);
    if (last < first) last = first;
  }
};

template <class T>
class Scatter {
  using C = Compute<T>;
  static constexpr int L = kLanes<C>;
  static constexpr int kCols = kTileCols<C>;
  static constexpr int64_t kCells = 96;  // input cells of one round of the GEMM

 public:
  Scatter(const ScatterProblem& p, int threads) : p_(p) {
    run_ = p.w.kernel * p.out_channels;
    columns_ = p.h.kernel * run_;
    padded_ = padded_columns<C>(columns_);
    cb_ = balanced(p.in_channels, 288);
    // Bands of whole columns where rows are short.
    columns_in_ = balanced(p.w.in, 128);
    strip_ = columns_in_ == p.w.in ? p.w.out : columns_in_ * p.w.stride;
    strips_ = ceil_div(p.w.out, strip_);
    const int64_t reach = (p.h.kernel - 1) * p.h.dilation + 1;
    band_ = max64(1024 / columns_in_, 1) * p.h.stride;
    const int64_t least = max64(2 * reach, p.h.stride);
    while (band_ > least && p.batch * p.groups * strips_ * ceil_div(p.h.out, band_) < 16)
      band_ = ceil_div(band_, 2);
    band_ = balanced(p.h.out, max64(band_, min64(least, p.h.out)));
    bands_ = ceil_div(p.h.out, band_);
    const int64_t work = p.batch * p.groups * p.h.in * p.w.in * p.in_channels * padded_;
    threads_ = useful_threads(threads, work, 1 << 17);

    // A strip of the output before it is cut to size: all that its input cells touch.
    cells_w_ = min64(p.w.in, (strip_ - 1 + (p.w.kernel - 1) * p.w.dilation) / p.w.stride + 1);
    pitch_ = ((cells_w_ - 1) * p.w.stride + (p.w.kernel - 1) * p.w.dilation + 1) * p.out_channels;
    const int64_t cells = max64(kCells, cells_w_);
    int64_t at = 0;
    const auto reserve = [&](int64_t bytes) {
      const int64_t here = at;
      at += round_up(bytes, 64);
      return here;
    };
    stage_at_ = reserve(cells * cb_ * int64_t{sizeof(C)});
    products_at_ = reserve((cells * padded_ + L) * int64_t{sizeof(C)});
    sums_at_ = reserve((band_ * pitch_ + L) * int64_t{sizeof(C)});
    line_at_ = reserve(strip_ * int64_t{sizeof(C)});
    offsets_at_ = reserve(cells * 4);
    thread_bytes_ = round_up(at, 4096) + 64;
    const int64_t packed = p.groups * p.in_channels * padded_;
    const int64_t head = round_up((packed + p.groups * p.out_channels) * int64_t{sizeof(C)}, 64);
    char* base = workspace<char>(Slot::kGather, head + threads_ * thread_bytes_);
    packed_ = reinterpret_cast<C*>(base);
    bias_ = packed_ + packed;
    thread_base_ = base + head;
    for (int64_t i = 0; i < p.groups * p.out_channels; ++i) {
      bias_[i] = p.bias ? load(p.bias.as<T>() + i * p.bias.stride[0]) : C{0};
    }
  }

  void run() {
    pack();
    const int64_t parts = bands_ * strips_;
    parallel_tasks(
        p_.batch * p_.groups * parts, threads_,
        [&](int64_t i, int thread) {
          const int64_t part = i % parts;
          band(thread, i / parts / p_.groups, i / parts % p_.groups, part / strips_ * band_,
               part % strips_ * strip_);
        },
        true);
  }

 private:
  char* thread_memory(int thread) const { return thread_base_ + thread * thread_bytes_; }

  // [group][block of input channels][panel][channel][lane]; column (kh, kw, m) = kh·run + kw·out_channels +
  // m.
  void pack() {
    const WeightView& v = p_.weight;
    const int64_t panels = ceil_div(padded_, kCols), blocks = ceil_div(p_.in_channels, cb_);
    const int threads = useful_threads(threads_, p_.groups * p_.in_channels * padded_);
    parallel_for(p_.groups * blocks * panels, threads, [&](int64_t i) {
      const int64_t first = i % panels * kCols, c0 = i / panels % blocks * cb_, group = i / panels / blocks;
      const int64_t clen = min64(cb_, p_.in_channels - c0), width = panel_width<C>(columns_, first);
      C* to = packed_ + (group * p_.in_channels + c0) * padded_ + first * clen;
      for (int64_t lane = 0; lane < width; ++lane, ++to) {
        const int64_t j = first + lane, kh = j / run_, kw = j % run_ / p_.out_channels,
                      m = j % p_.out_channels;
        const T* from =
            static_cast<const T*>(v.data) + group * v.group + c0 * v.c + m * v.m + kh * v.kh + kw * v.kw;
        for (int64_t c = 0; c < clen; ++c) to[c * width] = j < columns_ ? load(from + c * v.c) : C{0};
      }
    });
  }

  void band(int thread, int64_t n, int64_t group, int64_t y0, int64_t x0) const {
    char* base = thread_memory(thread);
    C* const staged = reinterpret_cast<C*>(base + stage_at_);
    C* const products = reinterpret_cast<C*>(base + products_at_);
    C* const sums = reinterpret_cast<C*>(base + sums_at_);
    int32_t* const offsets = reinterpret_cast<int32_t*>(base + offsets_at_);
    const int64_t y1 = min64(p_.h.out, y0 + band_), x1 = min64(p_.w.out, x0 + strip_);
    const Reach rows(p_.h, y0, y1), columns(p_.w, x0, x1);
    const int64_t width = columns.last - columns.first;
    const int64_t x_first = columns.first * p_.w.stride - p_.w.padding;  // of the sums' first column
    for (int64_t i = 0; i < (y1 - y0) * pitch_; ++i) sums[i] = 0;
    const int64_t at_once = width ? max64(1, kCells / width) : 1;
    const TensorRef& in = p_.input;
    for (int64_t r0 = rows.first; r0 < rows.last && width > 0; r0 += at_once) {
      const int64_t count = min64(at_once, rows.last - r0), cells = count * width;
      const int64_t tiles = ceil_div(cells, kTileRows);
      for (int64_t i = 0; i < cells; ++i) offsets[i] = static_cast<int32_t>(i * cb_);
      for (int64_t c0 = 0; c0 < p_.in_channels; c0 += cb_) {
        const int64_t clen = min64(cb_, p_.in_channels - c0);
        const T* from = in.as<T>() + n * in.stride[0] + (group * p_.in_channels + c0) * in.stride[1] +
                        r0 * in.stride[2] + columns.first * in.stride[3];
        stage<T>(from, {in.stride[0], in.stride[1], in.stride[2], in.stride[3]}, {1, clen, count, width},
                 staged, {0, 1, width * cb_, cb_});
        const C* block = packed_ + (group * p_.in_channels + c0) * padded_;
        for (int64_t j = 0; j < padded_; j += kCols) {
          const int64_t lanes = panel_width<C>(columns_, j);
          for (int64_t tile = 0; tile < tiles; ++tile) {
            const int64_t first = tile * cells / tiles, size = (tile + 1) * cells / tiles - first;
            static constexpr int32_t kOneTap = 0;
            kGatherKernels<C>.table[size - 1][lanes / L - 1](staged, {offsets + first, &kOneTap, 1}, clen,
                                                             block + j * clen, products + first * padded_ + j,
                                                             padded_, c0 > 0);
          }
        }
      }
      for (int64_t r = 0; r < count; ++r) {
        add_row(products + r * width * padded_, width, (r0 + r) * p_.h.stride - p_.h.padding - y0, y1 - y0,
                sums);
      }
    }
    store_band(reinterpret_cast<C*>(base + line_at_), sums, n, group, y0, y1, x0, x1, x_first);
  }

  // The products of one row of input pixels, whose first kernel row falls on row y of the sums.
  void add_row(const C* products, int64_t width, int64_t y, int64_t rows, C* sums) const {
    if (p_.w.dilation > 1) {
      for (int64_t i = 0; i < width; ++i) {
        for (int64_t kh = 0; kh < p_.h.kernel; ++kh) {
          const int64_t row = y + kh * p_.h.dilation;
          if (row < 0 || row >= rows) continue;
          C* to = sums + row * pitch_ + i * p_.w.stride * p_.out_channels;
          const C* from = products + i * padded_ + kh * run_;
          for (int64_t j = 0; j < run_; ++j)
            to[j / p_.out_channels * p_.w.dilation * p_.out_channels + j % p_.out_channels] += from[j];
        }
      }
      return;
    }
    // Neighbours overlap: taking every apart-th pixel keeps a store away from the next load of the same
    // numbers.
    const int64_t step = p_.w.stride * p_.out_channels, apart = ceil_div(round_up(run_, L), step);
    const int64_t whole = run_ / L * L, tail = run_ - whole;
    Vec<C, L> keep;
    for (int i = 0; i < L; ++i) keep[i] = i < tail;
    const int64_t first = y >= 0 ? 0 : ceil_div(-y, p_.h.dilation);
    const int64_t last = rows > y ? min64(p_.h.kernel, (rows - 1 - y) / p_.h.dilation + 1) : 0;
    for (int64_t start = 0; start < apart && start < width; ++start) {
      for (int64_t i = start; i < width; i += apart) {
        for (int64_t kh = first; kh < last; ++kh) {
          C* to = sums + (y + kh * p_.h.dilation) * pitch_ + i * step;
          const C* from = products + i * padded_ + kh * run_;
          for (int64_t j = 0; j < whole; j += L)
            store_vec<L>(to + j, load_vec<L>(to + j) + load_vec<L>(from + j));
          if (tail) {
            const Vec<C, L> x = load_vec<L>(from + whole);
            store_vec<L>(to + whole, load_vec<L>(to + whole) + (keep > 0 ? x : Vec<C, L>{}));
          }
        }
      }
    }
  }

  void store_band(C* line, const C* sums, int64_t n, int64_t group, int64_t y0, int64_t y1, int64_t x0,
                  int64_t x1, int64_t x_first) const {
    const TensorRef& out = p_.output;
    const int64_t channels = p_.out_channels, width = x1 - x0;
    // Columns of the band that some input reaches.
    const int64_t low = min64(x1, max64(x0, x_first));
    const int64_t high = max64(low, min64(x1, x_first + pitch_ / channels));
    for (int64_t y = y0; y < y1; ++y) {
      const C* row = sums + (y - y0) * pitch_ + (low - x_first) * channels;
      for (int64_t m = 0; m < channels; ++m) {
        for (int64_t x = 0; x < low - x0; ++x) line[x] = 0;
        for (int64_t x = 0; x < high - low; ++x) line[low - x0 + x] = row[x * channels + m];
        for (int64_t x = high - x0; x < width; ++x) line[x] = 0;
        const int64_t channel = group * channels + m;
        finish_strided<true>(line, bias_ + channel,
                             out.as<T>() + n * out.stride[0] + channel * out.stride[1] + y * out.stride[2] +
                                 x0 * out.stride[3],
                             out.stride[3], width, p_.options, line);
      }
    }
  }

  const ScatterProblem& p_;
  int64_t run_, columns_, padded_, cb_, columns_in_, strip_, strips_, band_, bands_, cells_w_, pitch_;
  int64_t stage_at_, products_at_, sums_at_, line_at_, offsets_at_, thread_bytes_;
  int threads_;
  C *packed_ = nullptr, *bias_ = nullptr;
  char* thread_base_ = nullptr;
};

// The shares of a tile's lanes that hold results, in the two engines.
template <class C>
bool scattering_pays(const ScatterProblem& p) {
  constexpr int64_t L = kLanes<C>;
  const int64_t columns = p.h.kernel * p.w.kernel * p.out_channels;
  if (p.out_channels >= L || p.in_channels < 16 || columns > 1024 || p.h.in * p.w.in < kTileRows)
    return false;
  // The sums of a task cover all that its input touches: a kernel that reaches beyond the output has none.
  if ((p.h.kernel - 1) * p.h.dilation > p.h.out || (p.w.kernel - 1) * p.w.dilation > p.w.out) return false;
  // Nor has a band of the output that strides and dilations spread too far.
  const int64_t columns_in = min64(p.w.in, 128);
  const int64_t high = max64(1024 / columns_in, 1) * p.h.stride + 2 * (p.h.kernel - 1) * p.h.dilation;
  const int64_t wide = columns_in * p.w.stride + (p.w.kernel - 1) * p.w.dilation;
  if (high * wide * p.out_channels * int64_t{sizeof(C)} > int64_t{16} << 20) return false;
  // A single vector of lanes does not hide the latency of its six sums.
  const double gather = 0.75 * static_cast<double>(p.out_channels) / L;
  const double scatter = 0.8 * static_cast<double>(columns) / static_cast<double>(round_up(columns, L));
  return scatter > 1.2 * gather;
}

}  // namespace

bool conv_scatter(const ScatterProblem& problem, int threads) {
  if (problem.output.numel() == 0) return false;
  bool done = false;
  for_float_dtype(problem.output.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    if (!scattering_pays<Compute<T>>(problem)) return;
    advise_huge(problem.output.data, problem.output.numel() * int64_t{sizeof(T)});
    Scatter<T>(problem, threads).run();
    done = true;
  });
  return done;
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
