// conv2d and conv_transpose2d as one direct, implicit GEMM over the phases of the output.
//
// For each phase (geometry/phases.h) rows are its pixels, columns the output channels, k runs over taps and
// input channels. Tasks are blocks of pixels (the same cells in every phase) by chunks of output channels by
// groups. A task, for each block of input channels:
//   stages the input region that the block reads, channels innermost, once for all phases, taps and output
//   channels; for each panel of 16 or 32 output channels, phase and tile of 6 or 12 pixels: runs the
//   micro-kernel, panel in L2.
// Sums stay in a scratch of the task until the epilogue adds bias and activation, interleaves the phases and
// stores. Panels are packed once for a call, or, where few blocks of pixels would share them, inside the
// task.
//
// Phases that read the same inputs (`fine` of geometry/phases.h) are columns of one product, where that
// leaves fewer lanes of the panels empty; column (r_h, r_w, m) makes channel m of cell (r_h, r_w). Where the
// processor multiplies pairs of bfloat16 they are staged and packed as they are, two channels a number.
//
// Floor: 2 operations for each product; input read once for each chunk of channels, output written once.
#include "cpu/conv_gather.h"

#include "cpu/epilogue.h"
#include "cpu/integers.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/pairs.h"
#include "cpu/parallel.h"
#include "cpu/stage.h"
#include "cpu/tap_span.h"
#include "cpu/workspace.h"
#include "dispatch.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {
namespace {

// One phase, or a run of its taps where they are too many for one panel.
struct Unit {
  int64_t phase;             // in the scratch of sums
  int64_t phase_h, phase_w;  //
  int64_t first, count;      // segments
  int64_t taps_before;       // taps of the phases before, in the packed panels
};

// K: what is staged and packed, a number or a pair of them.
template <class T, class K>
class Gather {
  using C = Compute<T>;
  static constexpr bool kPairs = !__is_same(K, C);
  static constexpr int L = kLanes<C>;
  static constexpr int kCols = kTileCols<C>;
  static constexpr int64_t kMostStaged = (int64_t{16} << 20) / int64_t{sizeof(C)};  // numbers

 public:
  Gather(const GatherProblem& p, int threads)
      : p_(p),
        view_{p.weight.data,          p.weight.m,    p.weight.c, p.weight.kh * p.h.fine,
              p.weight.kw * p.w.fine, p.weight.group},
        packer_(view_, p.h.kernel, p.w.kernel),
        fine_(p.h.fine * p.w.fine),
        columns_(fine_ * p.out_channels) {
    const int64_t axis_bytes = (p.h.phases() + p.w.phases()) * int64_t{sizeof(PhaseTaps)};
    describe(workspace<char>(Slot::kPlan, axis_bytes));
    plan(threads);
    const int64_t head = round_up(
        units_ * int64_t{sizeof(Unit)} + p.groups * p.out_channels * int64_t{sizeof(C)} + kernel_cells() * 8,
        64);
    char* base = workspace<char>(Slot::kGather, head + packed_bytes_ + threads_ * thread_bytes_);
    unit_ = reinterpret_cast<Unit*>(base);
    at_ = reinterpret_cast<int64_t*>(unit_ + units_);
    bias_ = reinterpret_cast<C*>(at_ + kernel_cells());
    packed_ = reinterpret_cast<K*>(base + head);
    thread_base_ = base + head + packed_bytes_;
    list_units();
    for (int64_t i = 0; i < p.groups * p.out_channels; ++i) {
      bias_[i] = p.bias ? load(p.bias.as<T>() + i * p.bias.stride[0]) : C{0};
    }
  }

  void run() {
    if (packed_bytes_) {
      const int64_t panels = ceil_div(padded_, kCols);
      parallel_tasks(
          p_.groups * blocks_c_ * panels, threads_,
          [&](int64_t i, int thread) {
            const int64_t panel = i % panels, block = i / panels % blocks_c_, group = i / panels / blocks_c_;
            const int64_t c0 = block * cb_, clen = min64(cb_, p_.in_channels - c0);
            pack_panel(thread, group, c0, clen, panel * kCols, packed_at(group, c0, clen, panel * kCols));
          },
          false);
    }
    const int64_t blocks = blocks_n_ * blocks_h_ * blocks_w_;
    parallel_tasks(
        p_.groups * chunks_ * blocks, threads_,
        [&](int64_t i, int thread) {
          const int64_t block = i % blocks, chunk = i / blocks % chunks_, group = i / blocks / chunks_;
          Task task(*this, thread, group, chunk * chunk_, block / (blocks_h_ * blocks_w_),
                    block / blocks_w_ % blocks_h_, block % blocks_w_);
          task.run();
        },
        true);
  }

 private:
  // Numbers of so many channels.
  static constexpr int64_t numbers(int64_t channels) { return kPairs ? pairs_of(channels) : channels; }

  int64_t kernel_cells() const { return p_.h.kernel * p_.w.kernel; }

  void describe(char* base) {
    taps_h_ = reinterpret_cast<PhaseTaps*>(base);
    taps_w_ = taps_h_ + p_.h.phases();
    for (int64_t i = 0; i < p_.h.phases(); ++i) taps_h_[i] = p_.h.taps(i);
    for (int64_t i = 0; i < p_.w.phases(); ++i) taps_w_[i] = p_.w.taps(i);
  }

  void plan(int threads) {
    const Span h(p_.h, taps_h_), w(p_.w, taps_w_);
    first_h_ = h.first, last_h_ = h.last, first_w_ = w.first, last_w_ = w.last;
    taps_ = h.taps * w.taps;
    phases_ = p_.h.phases() * p_.w.phases();
    const int64_t most = max64(1, h.most * w.most);

    // Input channels of one round: a panel streams from L2 and is reused by every tile of the block. Rounds
    // decide the order of sums: by the shape alone.
    const int64_t steps = (kPairs ? 2 : 1) * 36864 / (kCols * int64_t{sizeof(C)});
    cb_ = min64(p_.in_channels, max64(steps / most, 16));
    cb_ = balanced(p_.in_channels, cb_);
    if (cb_ < p_.in_channels) cb_ = min64(p_.in_channels, round_up(cb_, 4));
    blocks_c_ = ceil_div(p_.in_channels, cb_);
    // With few channels the taps of a kernel row make one run, over columns staged with their zero border.
    fold_ = blocks_c_ == 1 && cb_ <= 24 && w.consecutive && w.most > 1 && p_.w.in_step <= w.most;
    const int64_t segment = fold_ ? w.most * cb_ : cb_;
    chunk_taps_ = max64(1, 2 * steps / segment);
    units_ = 0;
    for (int64_t i = 0; i < p_.h.phases(); ++i) {
      for (int64_t j = 0; j < p_.w.phases(); ++j) units_ += max64(1, ceil_div(segments(i, j), chunk_taps_));
    }

    // Output channels of one task.
    padded_ = padded_columns<C>(columns_);
    constexpr int64_t kSums = 786432;
    int64_t cells = 1536 / int64_t{sizeof(C)} / 2;
    const int64_t least = fine_ > 1 ? padded_ : kCols;  // fine cells are stored together
    while (cells > 2 * kTileRows && phases_ * cells * least * int64_t{sizeof(C)} > kSums) cells /= 2;
    chunk_ = min64(padded_, max64(kCols, kSums / (phases_ * cells * int64_t{sizeof(C)}) / kCols * kCols));
    if (chunk_ < padded_) chunk_ = round_up(balanced(padded_, chunk_), kCols);
    if (fine_ > 1) chunk_ = padded_;

    // Pixels of one task. Where many products meet the border, a tile is one pixel of several images.
    const int64_t rows = p_.h.cells(), columns = p_.w.cells();
    if (!fold_ && p_.batch >= kTileRows && h.useful * w.useful < 0.95) {
      nb_ = kTileRows;
      if (rows * columns * nb_ <= 2 * cells) {
        wb_ = columns, hb_ = rows;
        nb_ *= max64(1, min64(p_.batch / kTileRows, 2 * cells / (rows * columns * nb_)));
      } else {
        wb_ = balanced(columns, max64(8, 2 * cells / nb_));
        hb_ = balanced(rows, max64(1, 2 * cells / nb_ / wb_));
      }
    } else {
      wb_ = columns <= 64 ? columns : min64(columns, round_up(balanced(columns, 64), 8));
      wb_ = min64(wb_, max64(cells, 8));
      hb_ = rows_of_full_tiles(rows, max64(1, cells / wb_));
      nb_ = hb_ == rows && wb_ == columns ? max64(1, min64(p_.batch, cells / (rows * columns))) : 1;
    }
    const int64_t work = p_.batch * p_.groups * p_.in_channels * padded_ * taps_ * rows * columns;
    threads_ = useful_threads(threads, work, 1 << 17);
    // Enough tasks for all threads: smaller blocks down to a floor, then fewer channels.
    while (tasks() < 3 * threads_ && nb_ * hb_ * wb_ > 96) {
      if (nb_ > 1) {
        nb_ = ceil_div(nb_, 2);
      } else if (hb_ > 1) {
        hb_ = ceil_div(hb_, 2);
      } else {
        wb_ = round_up(ceil_div(wb_, 2), kTileRows);
      }
      nb_ = min64(nb_, p_.batch);
    }
    const auto staged = [&] {
      const int64_t high = min64(p_.h.in, (hb_ - 1) * p_.h.in_step + h.width());
      const int64_t wide = (wb_ - 1) * p_.w.in_step + w.width();
      return nb_ * high * (fold_ ? wide : min64(p_.w.in, wide)) * numbers(cb_);
    };
    // Strides and dilations that reach far: fewer pixels.
    while (staged() > kMostStaged && nb_ * hb_ * wb_ > 1) {
      int64_t& most = nb_ > 1 ? nb_ : hb_ > 1 ? hb_ : wb_;
      most = ceil_div(most, 2);
    }
    while (tasks() < 3 * threads_ && chunk_ > kCols && fine_ == 1)
      chunk_ = round_up(ceil_div(chunk_, 2), kCols);
    tasks();

    // Bytes.
    const int64_t packed = p_.groups * numbers(p_.in_channels) * padded_ * taps_ * int64_t{sizeof(K)};
    const int64_t uses = blocks_n_ * blocks_h_ * blocks_w_;
    packed_bytes_ = uses > 3 && packed <= (int64_t{48} << 20) ? round_up(packed, 64) : 0;
    const int64_t cells_block = nb_ * hb_ * wb_;
    zeros_ = round_up(fold_ ? w.most * numbers(cb_) : numbers(cb_), 16);
    tiles_ = ceil_div(cells_block, kTileRows);
    const int64_t segments_all = fold_ ? h.taps * p_.w.phases() : taps_;
    int64_t at = 0;
    const auto reserve = [&](int64_t bytes) {
      const int64_t here = at;
      at += round_up(bytes, 64);
      return here;
    };
    stage_at_ = reserve((zeros_ + staged()) * int64_t{sizeof(K)});
    sums_at_ = reserve(phases_ * cells_block * chunk_ * int64_t{sizeof(C)});
    panel_at_ = reserve(packed_bytes_ ? 0 : taps_ * numbers(cb_) * kCols * int64_t{sizeof(K)});
    unpaired_at_ = reserve(kPairs ? taps_ * cb_ * kCols * int64_t{sizeof(C)} : 0);
    panel_taps_at_ = reserve(kernel_cells() * 8);
    offsets_at_ = reserve(segments_all * tiles_ * kTileRows * 4);
    taps_at_ = reserve(segments_all * tiles_ * 4);
    cells_at_ = reserve(3 * (cells_block + kTileRows) * 4);
    tiles_at_ = reserve(units_ * tiles_ * int64_t{sizeof(TileTaps)});
    line_at_ = reserve(L * kPiece * int64_t{sizeof(C)});
    thread_bytes_ = round_up(at, 4096) + 64;  // off the powers of two
  }

  // About so many rows of a block, whose pixels leave few rows of the tiles empty.
  int64_t rows_of_full_tiles(int64_t rows, int64_t about) const {
    int64_t best = balanced(rows, about);
    double least = 1;
    for (int64_t i = (about + 1) / 2; i <= about + 1; ++i) {
      const int64_t height = balanced(rows, i), cells = height * wb_;
      const double empty = 1 - static_cast<double>(cells) / static_cast<double>(round_up(cells, kTileRows));
      if (empty < least - 0.02 || (empty <= least && height > best)) least = empty, best = height;
    }
    return best;
  }

  int64_t tasks() {
    blocks_n_ = ceil_div(p_.batch, nb_);
    blocks_h_ = ceil_div(p_.h.cells(), hb_);
    blocks_w_ = ceil_div(p_.w.cells(), wb_);
    chunks_ = ceil_div(padded_, chunk_);
    return p_.groups * blocks_n_ * blocks_h_ * blocks_w_ * chunks_;
  }

  int64_t segments(int64_t phase_h, int64_t phase_w) const {
    const int64_t w = taps_w_[phase_w].count;
    return taps_h_[phase_h].count * (fold_ ? (w > 0) : w);
  }

  // Pixels of L channels that the epilogue holds at once.
  static constexpr int64_t kPiece = 8 * L;

  void list_units() {
    Unit* u = unit_;
    int64_t taps = 0;
    for (int64_t i = 0; i < p_.h.phases(); ++i) {
      for (int64_t j = 0; j < p_.w.phases(); ++j) {
        const int64_t all = segments(i, j);
        for (int64_t first = 0; first == 0 || first < all; first += chunk_taps_) {
          *u++ = {i * p_.w.phases() + j, i, j, first, min64(chunk_taps_, all - first), taps};
        }
        taps += taps_h_[i].count * taps_w_[j].count;
      }
    }
    // Where each kernel cell goes, in taps.
    for (int64_t k = 0; k < kernel_cells(); ++k) at_[k] = -1;
    for (const Unit* v = unit_; v < unit_ + units_; ++v) {
      if (v->first) continue;
      const PhaseTaps &h = taps_h_[v->phase_h], &w = taps_w_[v->phase_w];
      for (int64_t i = 0; i < h.count; ++i) {
        for (int64_t j = 0; j < w.count; ++j) {
          at_[(h.kernel + i * h.kernel_step) * p_.w.kernel + w.kernel + j * w.kernel_step] =
              v->taps_before + i * w.count + j;
        }
      }
    }
  }

  K* packed_at(int64_t group, int64_t c0, int64_t clen, int64_t m0) const {
    return packed_ + taps_ * ((group * numbers(p_.in_channels) + numbers(c0)) * padded_ + m0 * numbers(clen));
  }

  char* thread_memory(int thread) const { return thread_base_ + thread * thread_bytes_; }

  void pack_panel(int thread, int64_t group, int64_t c0, int64_t clen, int64_t m0, K* to) const {
    if constexpr (kPairs) {
      const int64_t width = panel_width<C>(columns_, m0);
      C* const unpaired = reinterpret_cast<C*>(thread_memory(thread) + unpaired_at_);
      pack_numbers(thread, group, c0, clen, m0, unpaired);
      for (int64_t tap = 0; tap < taps_; ++tap) {
        pair_rows(unpaired + tap * clen * width, clen, width, to + tap * pairs_of(clen) * width);
      }
    } else {
      pack_numbers(thread, group, c0, clen, m0, to);
    }
  }

  void pack_numbers(int thread, int64_t group, int64_t c0, int64_t clen, int64_t m0, C* to) const {
    const int64_t width = panel_width<C>(columns_, m0);
    int64_t* at = reinterpret_cast<int64_t*>(thread_memory(thread) + panel_taps_at_);
    for (int64_t k = 0; k < kernel_cells(); ++k) at[k] = at_[k] < 0 ? -1 : at_[k] * clen * width;
    const T* w = static_cast<const T*>(p_.weight.data) + group * p_.weight.group + c0 * p_.weight.c;
    if (fine_ == 1) {
      packer_.pack(w + m0 * p_.weight.m, clen, min64(width, columns_ - m0), width, at, to);
      return;
    }
    // A panel holds pieces of several cells' kernels.
    for (int64_t i = 0; i < taps_ * clen * width; ++i) to[i] = 0;
    for (int64_t j = m0; j < min64(m0 + width, columns_);) {
      const int64_t cell = j / p_.out_channels, m = j % p_.out_channels;
      const int64_t lanes = min64(p_.out_channels - m, m0 + width - j);
      packer_.pack_lanes(
          w + cell / p_.w.fine * p_.weight.kh + cell % p_.w.fine * p_.weight.kw + m * p_.weight.m, clen,
          lanes, width, at, to + (j - m0));
      j += lanes;
    }
  }

  class Task;

  const GatherProblem& p_;
  WeightView view_;
  PanelPacker<T> packer_;
  int64_t fine_, columns_;  // output cells of a cell, columns of the product
  PhaseTaps *taps_h_ = nullptr, *taps_w_ = nullptr;
  int64_t first_h_, last_h_, first_w_, last_w_, taps_, phases_;
  int64_t cb_, blocks_c_, chunk_taps_, units_;
  bool fold_;
  int64_t padded_, chunk_, nb_, hb_, wb_, blocks_n_, blocks_h_, blocks_w_, chunks_;
  int threads_;
  int64_t packed_bytes_, zeros_, tiles_;
  int64_t stage_at_, sums_at_, panel_at_, unpaired_at_, panel_taps_at_, offsets_at_, taps_at_, cells_at_,
      tiles_at_, line_at_, thread_bytes_;
  Unit* unit_ = nullptr;
  int64_t* at_ = nullptr;
  C* bias_ = nullptr;
  K* packed_ = nullptr;
  char* thread_base_ = nullptr;
};

// One block of pixels, one chunk of output channels.
template <class T, class K>
class Gather<T, K>::Task {
 public:
  Task(const Gather& g, int thread, int64_t group, int64_t m0, int64_t block_n, int64_t block_h,
       int64_t block_w)
      : g_(g), p_(g.p_), thread_(thread), group_(group), m0_(m0) {
    n0_ = block_n * g.nb_, nb_ = min64(g.nb_, p_.batch - n0_);
    h0_ = block_h * g.hb_, hb_ = min64(g.hb_, p_.h.cells() - h0_);
    w0_ = block_w * g.wb_, wb_ = min64(g.wb_, p_.w.cells() - w0_);
    chunk_ = min64(g.chunk_, g.padded_ - m0);
    cells_ = nb_ * hb_ * wb_;
    tiles_ = ceil_div(cells_, kTileRows);
    // What is staged: rows inside the input; columns too, unless folding wants the border as zeros.
    r0_ = max64(0, h0_ * p_.h.in_step + g.first_h_);
    r1_ = min64(p_.h.in, (h0_ + hb_ - 1) * p_.h.in_step + g.last_h_ + 1);
    x0_ = w0_ * p_.w.in_step + g.first_w_;
    x1_ = (w0_ + wb_ - 1) * p_.w.in_step + g.last_w_ + 1;
    if (!g.fold_) x0_ = max64(0, x0_), x1_ = min64(p_.w.in, x1_);
    r1_ = max64(r0_, r1_), x1_ = max64(x0_, x1_);
    const int64_t cb = numbers(g.cb_);
    to_ = g.fold_ ? Strides4{(r1_ - r0_) * (x1_ - x0_) * cb, 1, (x1_ - x0_) * cb, cb}
                  : Strides4{cb, 1, (x1_ - x0_) * nb_ * cb, nb_ * cb};
    char* base = g.thread_memory(thread);
    zeros_ = reinterpret_cast<K*>(base + g.stage_at_);
    sums_ = reinterpret_cast<C*>(base + g.sums_at_);
    panel_ = reinterpret_cast<K*>(base + g.panel_at_);
    offsets_ = reinterpret_cast<int32_t*>(base + g.offsets_at_);
    taps_ = reinterpret_cast<int32_t*>(base + g.taps_at_);
    cell_y_ = reinterpret_cast<int32_t*>(base + g.cells_at_);
    cell_x_ = cell_y_ + cells_ + kTileRows;
    cell_at_ = cell_x_ + cells_ + kTileRows;
    tile_taps_ = reinterpret_cast<TileTaps*>(base + g.tiles_at_);
    line_ = reinterpret_cast<C*>(base + g.line_at_);
  }

  void run() {
    list_tiles();
    for (int64_t i = 0; i < g_.zeros_; ++i) zeros_[i] = 0;
    for (int64_t c0 = 0; c0 < p_.in_channels; c0 += g_.cb_) {
      const int64_t clen = min64(g_.cb_, p_.in_channels - c0);
      stage_input(c0, clen);
      for (int64_t m = 0; m < chunk_; m += kCols) {
        const K* panel = panel_;
        if (g_.packed_bytes_) {
          panel = g_.packed_at(group_, c0, clen, m0_ + m);
        } else {
          g_.pack_panel(thread_, group_, c0, clen, m0_ + m, panel_);
        }
        multiply(panel, clen, m, c0 > 0);
      }
    }
    if (p_.output.stride[1] == 1 && (p_.output.stride[3] != 1 || out_w() == 1)) {
      store_pixels();
    } else {
      store_lines();
    }
  }

 private:
  int64_t tile_begin(int64_t tile) const { return tile * cells_ / tiles_; }

  // Cells are numbered row by row, the images innermost.
  void list_cells() {
    int32_t *y = cell_y_, *x = cell_x_, *at = cell_at_;
    for (int64_t h = 0; h < hb_; ++h) {
      for (int64_t w = 0; w < wb_; ++w) {
        const int64_t row = (h0_ + h) * p_.h.in_step - r0_, column = (w0_ + w) * p_.w.in_step - x0_;
        const int64_t first = g_.zeros_ + row * to_.h + column * to_.w;  // the zeros lie before the block
        for (int64_t n = 0; n < nb_; ++n) {
          *y++ = static_cast<int32_t>(row);
          *x++ = static_cast<int32_t>(column);
          *at++ = static_cast<int32_t>(first + n * to_.n);
        }
      }
    }
    for (int64_t i = 0; i < kTileRows; ++i) y[i] = INT32_MIN / 2, x[i] = at[i] = 0;
  }

  void list_tiles() {
    list_cells();
    int32_t* offsets = offsets_;
    int32_t* taps = taps_;
    TileTaps* out = tile_taps_;
    const uint32_t rows = static_cast<uint32_t>(r1_ - r0_), columns = static_cast<uint32_t>(x1_ - x0_);
    for (const Unit* u = g_.unit_; u < g_.unit_ + g_.units_; ++u) {
      const PhaseTaps &h = g_.taps_h_[u->phase_h], &w = g_.taps_w_[u->phase_w];
      const int64_t per_row = g_.fold_ ? 1 : w.count;
      for (int64_t tile = 0; tile < tiles_; ++tile, ++out) {
        const int64_t begin = tile_begin(tile);
        const int32_t *cell_y = cell_y_ + begin, *cell_x = cell_x_ + begin, *cell_at = cell_at_ + begin;
        *out = {offsets, taps, 0};
        for (int64_t s = u->first; s < u->first + u->count; ++s) {
          const int32_t offset_h = static_cast<int32_t>(h.offset + s / per_row * h.offset_step);
          const int32_t offset_w = static_cast<int32_t>(w.offset + s % per_row * w.offset_step);
          const int32_t shift = static_cast<int32_t>(offset_h * to_.h + offset_w * to_.w);
          int32_t any = 0;
          for (int i = 0; i < kTileRows; ++i) {  // a row beyond the tile belongs to the next one
            const bool inside = (static_cast<uint32_t>(cell_y[i] + offset_h) < rows) &
                                (static_cast<uint32_t>(cell_x[i] + offset_w) < columns);
            const int32_t offset = inside ? cell_at[i] + shift : 0;
            offsets[i] = offset;
            any |= offset;
          }
          if (!any) continue;
          *taps++ = static_cast<int32_t>(s);
          offsets += kTileRows;
          ++out->count;
        }
      }
    }
  }

  void stage_input(int64_t c0, int64_t clen) {
    const TensorRef& in = p_.input;
    K* to = zeros_ + g_.zeros_;
    int64_t x0 = x0_, x1 = x1_;
    if (g_.fold_) {
      const int64_t numbers = nb_ * to_.n;
      if (x0 < 0 || x1 > p_.w.in) {
        for (int64_t i = 0; i < numbers; ++i) to[i] = 0;
        x0 = max64(0, x0), x1 = max64(x0, min64(p_.w.in, x1));
      }
      to += (x0 - x0_) * to_.w;
    }
    const T* from = in.as<T>() + n0_ * in.stride[0] + (group_ * p_.in_channels + c0) * in.stride[1] +
                    r0_ * in.stride[2] + x0 * in.stride[3];
    stage(from, {in.stride[0], in.stride[1], in.stride[2], in.stride[3]}, {nb_, clen, r1_ - r0_, x1 - x0}, to,
          to_);
  }

  void multiply(const K* panel, int64_t clen, int64_t m, bool accumulate) {
    const int64_t width = panel_width<C>(g_.columns_, m0_ + m), in_tap = numbers(clen);
    const TileTaps* taps = tile_taps_;
    for (const Unit* u = g_.unit_; u < g_.unit_ + g_.units_; ++u) {
      const int64_t len = g_.fold_ ? g_.taps_w_[u->phase_w].count * in_tap : in_tap;
      const K* unit_panel = panel + u->taps_before * in_tap * width;
      C* sums = sums_ + u->phase * cells_ * chunk_ + m;
      for (int64_t tile = 0; tile < tiles_; ++tile, ++taps) {
        const int64_t begin = tile_begin(tile), rows = tile_begin(tile + 1) - begin;
        kGatherKernels<C, K>.table[rows - 1][width / L - 1](
            zeros_, *taps, len, unit_panel, sums + begin * chunk_, chunk_, accumulate || u->first);
      }
    }
  }

  int64_t valid_channels() const { return min64(chunk_, p_.out_channels - m0_); }
  // Output rows and columns from one cell to the next, and where the first of a phase lies.
  int64_t step_h() const { return p_.h.out_step * p_.h.fine; }
  int64_t step_w() const { return p_.w.out_step * p_.w.fine; }
  int64_t out_h() const { return p_.output.size[2]; }
  int64_t out_w() const { return p_.output.size[3]; }
  // The sums of a row's first cell and of image n of the block, for one phase and fine row.
  const C* row_sums(int64_t phase_h, int64_t phase_w, int64_t fine_h, int64_t h, int64_t n) const {
    return sums_ + ((phase_h * p_.w.phases() + phase_w) * cells_ + h * wb_ * nb_ + n) * chunk_ +
           fine_h * p_.w.fine * p_.out_channels;
  }
  // Calls f(phase_h, fine_h, h, y) for each row y of output that the block makes.
  template <class F>
  void for_rows(F&& f) const {
    for (int64_t i = 0; i < p_.h.phases() * p_.h.fine; ++i) {
      for (int64_t h = 0; h < hb_; ++h) {
        const int64_t y = (h0_ + h) * step_h() + i;
        if (y >= out_h()) break;
        f(i / p_.h.fine, i % p_.h.fine, h, y);
      }
    }
  }
  const C* bias() const { return g_.bias_ + group_ * p_.out_channels + m0_; }
  T* output(int64_t n, int64_t m, int64_t y, int64_t x) const {
    const TensorRef& o = p_.output;
    return o.as<T>() + n * o.stride[0] + (group_ * p_.out_channels + m0_ + m) * o.stride[1] +
           y * o.stride[2] + x * o.stride[3];
  }

  // Channels innermost in the output: a run of channels for each pixel.
  void store_pixels() {
    for_rows([&](int64_t phase_h, int64_t fine_h, int64_t h, int64_t y) {
      for (int64_t i = 0; i < p_.w.phases() * p_.w.fine; ++i) {
        const int64_t x0 = w0_ * step_w() + i;
        const int64_t width = out_w() > x0 ? min64(wb_, ceil_div(out_w() - x0, step_w())) : 0;
        for (int64_t n = 0; n < nb_ && width > 0; ++n) {
          finish_rows<false>(row_sums(phase_h, i / p_.w.fine, fine_h, h, n) + i % p_.w.fine * p_.out_channels,
                             nb_ * chunk_, bias(), output(n0_ + n, 0, y, x0), step_w() * p_.output.stride[3],
                             width, valid_channels(), p_.options);
        }
      }
    });
  }

  // Columns innermost in the output: for L channels at once lines of pixels, in pieces.
  void store_lines() {
    const int64_t x0 = w0_ * step_w(), count = min64(out_w(), (w0_ + wb_) * step_w()) - x0;
    for (int64_t m = 0; m < valid_channels(); m += L) {
      const int64_t channels = min64(L, valid_channels() - m);
      for_rows([&](int64_t phase_h, int64_t fine_h, int64_t h, int64_t y) {
        for (int64_t n = 0; n < nb_; ++n) {
          const C* sums = row_sums(phase_h, 0, fine_h, h, n) + m;
          for (int64_t x = 0; x < count; x += kPiece) {
            const int64_t size = min64(kPiece, count - x);
            transpose_sums(sums, x, size);
            if (p_.output.stride[3] == 1) {
              finish_rows<true>(line_, kPiece, bias() + m, output(n0_ + n, m, y, x0 + x), p_.output.stride[1],
                                channels, size, p_.options);
              continue;
            }
            for (int64_t c = 0; c < channels; ++c) {
              C* const line = line_ + c * kPiece;
              finish_strided<true>(line, bias() + m + c, output(n0_ + n, m + c, y, x0 + x),
                                   p_.output.stride[3], size, p_.options, line);
            }
          }
        }
      });
    }
  }

  // Pixels [x, x + size) of a row of the block -> L lines. Pixel x is fine cell x % fine of cell
  // x / fine / step of phase x / fine % step.
  void transpose_sums(const C* sums, int64_t x, int64_t size) const {
    const int64_t next_fine = p_.out_channels, next_phase = cells_ * chunk_, next_cell = nb_ * chunk_;
    int64_t fine = x % p_.w.fine, phase = x / p_.w.fine % p_.w.out_step;
    const C* from = sums + x / step_w() * next_cell + phase * next_phase + fine * next_fine;
    for (int64_t i = 0; i < size; i += L) {
      Vec<C, L> v[L];
      for (int j = 0; j < L; ++j) {
        v[j] = load_vec<L>(from);
        if (i + j + 1 >= size) continue;  // the last pixel again
        from += next_fine;
        if (++fine < p_.w.fine) continue;
        fine = 0;
        from += next_phase - p_.w.fine * next_fine;
        if (++phase < p_.w.out_step) continue;
        phase = 0;
        from += next_cell - p_.w.out_step * next_phase;
      }
      transpose<L, C>(v);
      for (int j = 0; j < L; ++j) store_vec<L>(line_ + j * kPiece + i, v[j]);
    }
  }

  const Gather& g_;
  const GatherProblem& p_;
  int thread_;
  int64_t group_, m0_, n0_, nb_, h0_, hb_, w0_, wb_, chunk_, cells_, tiles_, r0_, r1_, x0_, x1_;
  Strides4 to_;
  K *zeros_, *panel_;
  C *sums_, *line_;
  int32_t *offsets_, *taps_, *cell_y_, *cell_x_, *cell_at_;
  TileTaps* tile_taps_;
};

}  // namespace

void conv_gather(const GatherProblem& problem, int threads) {
  if (problem.output.numel() == 0) return;
  for_float_dtype(problem.output.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    advise_huge(problem.output.data, problem.output.numel() * int64_t{sizeof(T)});
    if constexpr (kDotsPairs && __is_same(T, BFloat16)) {
      if (dots_pairs()) return Gather<T, Pair>(problem, threads).run();
    }
    Gather<T, Compute<T>>(problem, threads).run();
  });
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
