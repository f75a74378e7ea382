// Gradient of the convolution family by its weight, as outer products summed over batch and pixels.
//
// Lanes are the channels of one side, rows those of the other. Tasks are chunks of rows by chunks of lanes by
// groups by parts of the pixels. A task, for each block of pixels of its part:
//   stages the block of the small side and the region of the large one, channels innermost, lanes in panels;
//   for each panel of lanes, tap and tile of rows: runs the micro-kernel over the runs of pixels that the tap
//   joins.
// Sums stay in a scratch of the task. Parts depend on the shape alone and are added in order, so that the
// result does not depend on the thread count. With few large channels the cells of a kernel row are rows of
// one product.
//
// Floor: 2 operations for each product; both sides read once for each chunk of the other.
#include "cpu/conv_winograd.h"
#include "cpu/gemm.h"
#include "cpu/integers.h"
#include "cpu/memory.h"
#include "cpu/parallel.h"
#include "cpu/stage.h"
#include "cpu/workspace.h"
#include "dispatch.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

template <class T>
class WeightGrad {
  using C = Compute<T>;
  static constexpr int L = kLanes<C>;
  static constexpr int kCols = kTileCols<C>;

 public:
  WeightGrad(const TensorRef& small, const TensorRef& large, const TensorRef& grad, const ConvShape& s,
             int threads)
      : small_(small), large_(large), grad_(grad), s_(s) {
    plan(threads);
    char* base = workspace<char>(Slot::kOuter, threads_ * thread_bytes_ + parts_bytes());
    thread_base_ = base;
    parts_ = reinterpret_cast<C*>(base + threads_ * thread_bytes_);
  }

  void run() {
    const int64_t tiles = s_.groups * row_chunks_ * lane_chunks_;
    parallel_tasks(
        tiles * part_count_, threads_,
        [&](int64_t i, int thread) {
          const int64_t tile = i / part_count_, part = i % part_count_;
          Tile t(*this, tile, thread);
          C* sums = part_count_ == 1 ? t.sums_ : parts_ + i * chunk_numbers();
          t.sum(sums, part);
          if (part_count_ == 1) t.store_all(sums);
        },
        true);
    if (part_count_ == 1) return;
    // Slices of every tile, so that all threads have some.
    const int64_t slices = lane_chunk_ / L;
    parallel_for(tiles * slices, threads_, [&](int64_t i) {
      Tile t(*this, i / slices, 0);
      C* sums = parts_ + i / slices * part_count_ * chunk_numbers();
      const int64_t lane = i % slices * L;
      if (lane >= t.lanes_) return;
      for (int64_t j = lane; j < chunk_numbers(); j += lane_chunk_) {
        Vec<C, L> sum = load_vec<L>(sums + j);
        for (int64_t part = 1; part < part_count_; ++part)
          sum += load_vec<L>(sums + part * chunk_numbers() + j);
        store_vec<L>(sums + j, sum);
      }
      t.store(sums, lane, min64(lane + L, t.lanes_));
    });
  }

 private:
  // Numbers in the sums of one tile: [tap][row][lane].
  int64_t chunk_numbers() const { return taps_ * row_chunk_ * lane_chunk_; }
  int64_t parts_bytes() const {
    return part_count_ == 1
               ? 0
               : s_.groups * row_chunks_ * lane_chunks_ * part_count_ * chunk_numbers() * int64_t{sizeof(C)};
  }

  void plan(int threads) {
    const int64_t small_channels = s_.group_small(), large_channels = s_.group_large();
    // The side whose channels fill vectors better, the large one where both do.
    const auto filled = [](int64_t channels) { return channels * L * L / padded_columns<C>(channels); };
    lanes_large_ = large_channels >= L && small_channels >= L
                       ? filled(large_channels) >= filled(small_channels)
                       : large_channels >= L || large_channels >= small_channels;
    fold_ = !lanes_large_ && s_.w.dilation == 1 && s_.w.kernel > 1 && s_.w.stride <= s_.w.kernel &&
            large_channels * s_.w.kernel <= 64;
    kernel_w_ = fold_ ? 1 : s_.w.kernel;
    taps_ = s_.h.kernel * kernel_w_;
    rows_ = lanes_large_ ? small_channels : large_channels * (fold_ ? s_.w.kernel : 1);
    lanes_ = lanes_large_ ? large_channels : small_channels;

    // A tile of the weight, so that its sums stay near.
    constexpr int64_t kSums = 1 << 20;
    const int64_t padded = padded_columns<C>(lanes_);
    lane_chunk_ = min64(padded, 96 / L * L);
    row_chunk_ = min64(rows_, 96);
    while (taps_ * row_chunk_ * lane_chunk_ * int64_t{sizeof(C)} > kSums &&
           (row_chunk_ > 24 || lane_chunk_ > kCols)) {
      if (lane_chunk_ > row_chunk_ && lane_chunk_ > kCols) {
        lane_chunk_ = round_up(lane_chunk_ / 2, kCols);
      } else if (row_chunk_ > 24) {
        row_chunk_ = (row_chunk_ + 1) / 2;
      } else {
        lane_chunk_ = round_up(lane_chunk_ / 2, kCols);
      }
    }
    lane_chunk_ = min64(padded, round_up(balanced(padded, lane_chunk_), padded > L ? kCols : L));
    row_chunk_ = balanced(rows_, row_chunk_);
    row_chunks_ = ceil_div(rows_, row_chunk_), lane_chunks_ = ceil_div(padded, lane_chunk_);

    // A block of pixels: the panels of one tap fill half of L1. Images innermost where rows are short.
    const int64_t cells = 1024 / int64_t{sizeof(C)};
    const int64_t height = s_.h.small, width = s_.w.small;
    wb_ = width <= 64 || height == 1 ? min64(width, cells) : balanced(width, 64);
    images_inside_ = !fold_ && width < 24 && s_.batch > 1 && (s_.w.stride == 1 || s_.batch >= 8);
    if (images_inside_) {
      nb_ = min64(s_.batch, max64(s_.w.stride == 1 ? 2 : 16, ceil_div(48, s_.w.stride == 1 ? width : 1)));
      nb_ = max64(nb_, min64(s_.batch, cells / (height * width)));
      nb_ = balanced(s_.batch, nb_);
      hb_ = balanced(height, max64(1, cells / (nb_ * wb_)));
    } else {
      hb_ = balanced(height, max64(1, cells / wb_));
      nb_ = hb_ == height && wb_ == width ? max64(1, min64(s_.batch, cells / (hb_ * wb_))) : 1;
    }
    // Strides and dilations that reach far: fewer pixels.
    const auto region = [&] {
      region_h_ = min64(s_.h.large, (hb_ - 1) * s_.h.stride + (s_.h.kernel - 1) * s_.h.dilation + 1);
      region_w_ = (wb_ - 1) * s_.w.stride + (s_.w.kernel - 1) * s_.w.dilation + 1;
      if (!fold_) region_w_ = min64(s_.w.large, region_w_);
      return nb_ * region_h_ * region_w_ * max64(lane_chunk_, row_chunk_) * int64_t{sizeof(C)};
    };
    while (region() > int64_t{16} << 20 && nb_ * hb_ * wb_ > 1) {
      int64_t& most = nb_ > 1 ? nb_ : hb_ > 1 ? hb_ : wb_;
      most = ceil_div(most, 2);
    }
    blocks_n_ = ceil_div(s_.batch, nb_), blocks_h_ = ceil_div(height, hb_), blocks_w_ = ceil_div(width, wb_);
    blocks_ = blocks_n_ * blocks_h_ * blocks_w_;

    // Parts: by the shape alone.
    const int64_t tiles = s_.groups * row_chunks_ * lane_chunks_;
    const int64_t block_work = nb_ * hb_ * wb_ * row_chunk_ * lane_chunk_ * taps_;
    part_count_ = min64(ceil_div(24, tiles), ceil_div(blocks_, max64(1, (int64_t{1} << 21) / block_work)));
    part_count_ = min64(part_count_, (int64_t{16} << 20) / (tiles * chunk_numbers() * int64_t{sizeof(C)}));
    part_count_ = max64(1, part_count_);
    threads_ = useful_threads(threads, tiles * blocks_ * block_work, 1 << 17);

    const int64_t small_cells = nb_ * hb_ * wb_, large_cells = nb_ * region_h_ * region_w_;
    const int64_t row_cells = lanes_large_ ? small_cells : large_cells;
    const int64_t lane_cells = lanes_large_ ? large_cells : small_cells;
    int64_t at = 0;
    const auto reserve = [&](int64_t bytes) {
      const int64_t here = at;
      at += round_up(bytes, 64);
      return here;
    };
    const int64_t row_numbers = fold_ ? row_cells * large_channels + kTileRows : row_cells * row_chunk_;
    lanes_at_ = reserve(lane_cells * lane_chunk_ * int64_t{sizeof(C)});
    dense_at_ = reserve(fold_ ? 0 : row_numbers * int64_t{sizeof(C)});
    rows_at_ = reserve(row_numbers * int64_t{sizeof(C)});
    runs_at_ = reserve(taps_ * (images_inside_ ? hb_ * wb_ : nb_ * hb_) * int64_t{sizeof(Run)});
    firsts_at_ = reserve((taps_ + 1) * 8);
    sums_at_ = reserve(part_count_ == 1 ? chunk_numbers() * int64_t{sizeof(C)} : 0);
    thread_bytes_ = round_up(at, 4096) + 64;
  }

  class Tile;

  const TensorRef &small_, &large_, &grad_;
  const ConvShape& s_;
  bool lanes_large_, fold_, images_inside_;
  int64_t kernel_w_, taps_, rows_, lanes_, row_chunk_, lane_chunk_, row_chunks_, lane_chunks_;
  int64_t nb_, hb_, wb_, blocks_n_, blocks_h_, blocks_w_, blocks_, part_count_, region_h_, region_w_;
  int64_t lanes_at_, dense_at_, rows_at_, runs_at_, firsts_at_, sums_at_, thread_bytes_;
  int threads_;
  char* thread_base_ = nullptr;
  C* parts_ = nullptr;
};

// One chunk of rows by one chunk of lanes of one group.
template <class T>
class WeightGrad<T>::Tile {
 public:
  Tile(const WeightGrad& g, int64_t tile, int thread) : g_(g), s_(g.s_) {
    group_ = tile / (g.row_chunks_ * g.lane_chunks_);
    row0_ = tile / g.lane_chunks_ % g.row_chunks_ * g.row_chunk_;
    lane0_ = tile % g.lane_chunks_ * g.lane_chunk_;
    rows_ = min64(g.row_chunk_, g.rows_ - row0_);
    lanes_ = min64(g.lane_chunk_, g.lanes_ - lane0_);
    panels_ = ceil_div(rows_, kTileRows);
    char* base = g.thread_base_ + thread * g.thread_bytes_;
    lane_panels_ = reinterpret_cast<C*>(base + g.lanes_at_);
    dense_ = reinterpret_cast<C*>(base + g.dense_at_);
    row_panels_ = reinterpret_cast<C*>(base + g.rows_at_);
    runs_ = reinterpret_cast<Run*>(base + g.runs_at_);
    firsts_ = reinterpret_cast<int64_t*>(base + g.firsts_at_);
    sums_ = reinterpret_cast<C*>(base + g.sums_at_);
  }

  void sum(C* sums, int64_t part) {
    for (int64_t i = 0; i < g_.chunk_numbers(); ++i) sums[i] = 0;
    const int64_t last = (part + 1) * g_.blocks_ / g_.part_count_;
    for (int64_t block = part * g_.blocks_ / g_.part_count_; block < last; ++block) {
      place(block);
      list_runs();
      stage_rows();
      for (int64_t lane = 0; lane < lanes_; lane += kCols) {
        stage_lanes(lane);
        multiply(sums + lane, panel_width<C>(lanes_, lane));
      }
    }
  }

  void store_all(const C* sums) const {
    for (int64_t lane = 0; lane < lanes_; lane += L) store(sums, lane, min64(lane + L, lanes_));
  }

  // Some lanes of the tile -> the gradient.
  void store(const C* sums, int64_t first, int64_t last) const {
    const auto& stride = g_.grad_.stride;
    const int64_t taps = g_.taps_, pitch = g_.row_chunk_ * g_.lane_chunk_;
    const int64_t lane_stride = g_.lanes_large_ ? stride[1] : stride[0];
    T* grad = g_.grad_.as<T>() + group_ * s_.group_small() * stride[0] + (lane0_ + first) * lane_stride;
    for (int64_t row = 0; row < rows_; ++row) {
      const C* from = sums + row * g_.lane_chunk_ + first;
      const int64_t r = row0_ + row;
      T* to = grad;
      if (g_.lanes_large_) {
        to += r * stride[0];
      } else if (g_.fold_) {
        to += r % s_.group_large() * stride[1] + r / s_.group_large() * stride[3];
      } else {
        to += r * stride[1];
      }
      if (lane_stride == 1 && last - first == L) {
        for (int64_t tap = 0; tap < taps; ++tap) {
          store_vec<L>(to + tap / g_.kernel_w_ * stride[2] + tap % g_.kernel_w_ * stride[3],
                       load_vec<L>(from + tap * pitch));
        }
      } else if (!g_.fold_ && stride[3] == 1 && stride[2] == g_.kernel_w_ && taps >= L && last - first == L) {
        for (int64_t tap = 0;;) {
          Vec<C, L> v[L];
          for (int i = 0; i < L; ++i) v[i] = load_vec<L>(from + (tap + i) * pitch);
          transpose<L, C>(v);
          for (int i = 0; i < L; ++i) store_vec<L>(to + i * lane_stride + tap, v[i]);
          if (tap + L >= taps) break;
          tap = tap + 2 * L <= taps ? tap + L : taps - L;
        }
      } else {
        for (int64_t tap = 0; tap < taps; ++tap) {
          T* t = to + tap / g_.kernel_w_ * stride[2] + tap % g_.kernel_w_ * stride[3];
          for (int64_t lane = 0; lane < last - first; ++lane) {
            deconvkit::DECONVKIT_ISA_NAMESPACE::store(t + lane * lane_stride, from[tap * pitch + lane]);
          }
        }
      }
    }
  }

  C* sums_;
  int64_t lanes_;

 private:
  friend class WeightGrad;

  void place(int64_t block) {
    n0_ = block / (g_.blocks_h_ * g_.blocks_w_) * g_.nb_;
    h0_ = block / g_.blocks_w_ % g_.blocks_h_ * g_.hb_;
    w0_ = block % g_.blocks_w_ * g_.wb_;
    nb_ = min64(g_.nb_, s_.batch - n0_);
    hb_ = min64(g_.hb_, s_.h.small - h0_);
    wb_ = min64(g_.wb_, s_.w.small - w0_);
    y0_ = max64(0, s_.h.large_index(h0_, 0));
    y1_ = max64(y0_, min64(s_.h.large, s_.h.large_index(h0_ + hb_ - 1, s_.h.kernel - 1) + 1));
    x0_ = s_.w.large_index(w0_, 0);
    x1_ = s_.w.large_index(w0_ + wb_ - 1, s_.w.kernel - 1) + 1;
    if (!g_.fold_) x0_ = max64(0, x0_), x1_ = max64(x0_, min64(s_.w.large, x1_));
  }

  // Positions of the two sides; strides in positions.
  Strides4 positions(int64_t rows, int64_t columns) const {
    return g_.images_inside_ ? Strides4{1, 0, columns * nb_, nb_} : Strides4{rows * columns, 0, columns, 1};
  }

  void list_runs() {
    const Strides4 sp = positions(hb_, wb_), lp = positions(y1_ - y0_, x1_ - x0_);
    Run* run = runs_;
    for (int64_t tap = 0; tap < g_.taps_; ++tap) {
      firsts_[tap] = run - runs_;
      const int64_t kh = tap / g_.kernel_w_, kw = tap % g_.kernel_w_;
      // Small columns [w0, w1) of the block whose partners are staged.
      const int64_t stride = s_.w.stride, shift = s_.w.large_index(w0_, kw) - x0_, limit = x1_ - x0_;
      const int64_t w0 = g_.fold_ || shift >= 0 ? 0 : ceil_div(-shift, stride);
      const int64_t w1 = g_.fold_ ? wb_ : limit > shift ? min64(wb_, (limit - 1 - shift) / stride + 1) : 0;
      if (w0 >= w1) continue;
      for (int64_t h = 0; h < hb_; ++h) {
        const int64_t y = s_.h.large_index(h0_ + h, kh);
        if (y < y0_ || y >= y1_) continue;
        const auto add = [&](int64_t n, int64_t w, int64_t count) {
          const int64_t small = n * sp.n + h * sp.h + w * sp.w;
          const int64_t large = n * lp.n + (y - y0_) * lp.h + (w * stride + shift) * lp.w;
          *run++ = {static_cast<int32_t>(g_.lanes_large_ ? small : large),
                    static_cast<int32_t>(g_.lanes_large_ ? large : small), static_cast<int32_t>(count)};
        };
        if (!g_.images_inside_) {
          for (int64_t n = 0; n < nb_; ++n) add(n, w0, w1 - w0);
        } else if (stride == 1) {
          add(0, w0, (w1 - w0) * nb_);
        } else {
          for (int64_t w = w0; w < w1; ++w) add(0, w, nb_);
        }
      }
    }
    firsts_[g_.taps_] = run - runs_;
  }

  // Channels [c, c + count) of one side of the block, `pitch` numbers a position.
  void stage_side(bool large, int64_t c, int64_t count, C* to, int64_t pitch) const {
    const TensorRef& t = large ? g_.large_ : g_.small_;
    const int64_t channels = large ? s_.group_large() : s_.group_small();
    const int64_t rows = large ? y1_ - y0_ : hb_, columns = large ? x1_ - x0_ : wb_;
    const Strides4 p = positions(rows, columns);
    int64_t x0 = large ? x0_ : w0_, x1 = x0 + columns;
    if (x0 < 0 || x1 > t.size[3]) {  // folding: the border as zeros
      for (int64_t i = 0; i < nb_ * rows * columns * pitch; ++i) to[i] = 0;
      const int64_t before = x0 < 0 ? -x0 : 0;
      to += before * pitch;
      x0 += before;
      x1 = max64(x0, min64(t.size[3], x1));
    }
    const T* from = t.as<T>() + n0_ * t.stride[0] + (group_ * channels + c) * t.stride[1] +
                    (large ? y0_ : h0_) * t.stride[2] + x0 * t.stride[3];
    stage<T>(from, {t.stride[0], t.stride[1], t.stride[2], t.stride[3]}, {nb_, count, rows, x1 - x0}, to,
             {p.n * pitch, 1, p.h * pitch, p.w * pitch});
  }

  int64_t row_cells() const { return g_.lanes_large_ ? nb_ * hb_ * wb_ : nb_ * (y1_ - y0_) * (x1_ - x0_); }
  int64_t lane_cells() const { return g_.lanes_large_ ? nb_ * (y1_ - y0_) * (x1_ - x0_) : nb_ * hb_ * wb_; }
  int64_t panel_begin(int64_t panel) const { return panel * rows_ / panels_; }

  void stage_rows() {
    const int64_t cells = row_cells();
    if (g_.fold_) {
      // Every row panel reads the same dense block; a tile may look past the last position.
      stage_side(true, 0, s_.group_large(), row_panels_, s_.group_large());
      return;
    }
    stage_side(!g_.lanes_large_, row0_, rows_, dense_, rows_);
    C* to = row_panels_;
    for (int64_t panel = 0; panel < panels_; ++panel) {
      const int64_t begin = panel_begin(panel), width = panel_begin(panel + 1) - begin;
      const C* from = dense_ + begin;
      if (width == kTileRows) {
        for (int64_t i = 0; i < cells; ++i, to += kTileRows, from += rows_)
          std::memcpy(to, from, kTileRows * sizeof(C));
      } else {
        for (int64_t i = 0; i < cells; ++i, to += width, from += rows_) {
          for (int64_t j = 0; j < width; ++j) to[j] = from[j];
        }
      }
    }
  }

  void stage_lanes(int64_t lane) {
    const int64_t width = panel_width<C>(lanes_, lane), valid = min64(width, lanes_ - lane);
    if (valid < width) {
      for (int64_t i = 0; i < lane_cells() * width; ++i) lane_panels_[i] = 0;
    }
    stage_side(g_.lanes_large_, lane0_ + lane, valid, lane_panels_, width);
  }

  void multiply(C* sums, int64_t width) const {
    const int64_t stride = g_.images_inside_ ? 1 : s_.w.stride;
    const int64_t row_step = g_.lanes_large_ ? 1 : stride, lane_step = g_.lanes_large_ ? stride : 1;
    const Factor<C> b = {lane_panels_, width, lane_step * width};
    for (int64_t tap = 0; tap < g_.taps_; ++tap) {
      const Run* runs = runs_ + firsts_[tap];
      const int64_t count = firsts_[tap + 1] - firsts_[tap];
      if (count == 0) continue;
      for (int64_t panel = 0; panel < panels_; ++panel) {
        const int64_t begin = panel_begin(panel), rows = panel_begin(panel + 1) - begin;
        const int64_t pitch = g_.fold_ ? s_.group_large() : rows;
        const Factor<C> a = {row_panels_ + (g_.fold_ ? row0_ + begin : begin * row_cells()), pitch,
                             row_step * pitch};
        kOuterKernels<C>.table[rows - 1][width / L - 1](
            a, b, runs, count, sums + (tap * g_.row_chunk_ + begin) * g_.lane_chunk_, g_.lane_chunk_);
      }
    }
  }

  const WeightGrad& g_;
  const ConvShape& s_;
  int64_t group_, row0_, lane0_, rows_, panels_;
  int64_t n0_, nb_, h0_, hb_, w0_, wb_, y0_, y1_, x0_, x1_;
  C *lane_panels_, *dense_, *row_panels_;
  Run* runs_;
  int64_t* firsts_;
};

}  // namespace

void conv_weight_grad(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                      const ConvShape& s, ConvAlgorithm algorithm, int threads) {
  if (grad_weight.numel() == 0) return;
  if (algorithm == ConvAlgorithm::kWinograd &&
      conv_weight_grad_winograd(small, large, grad_weight, s, threads)) {
    return;
  }
  for_float_dtype(grad_weight.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    advise_huge(grad_weight.data, grad_weight.numel() * int64_t{sizeof(T)});
    WeightGrad<T>(small, large, grad_weight, s, threads).run();
  });
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
