// Moving values by switches. spread: from the windows to the cells that their switches name, where several
// meet their sum (backward of pooling) or the last in row-major order (unpooling). collect: from the cells to
// the windows, of all (adjoint of the former) or of the winners alone (adjoint of the latter).
//
// Every cell and every window is written once, zeros included, by one thread and in one order: a task is a
// region of the result.
//   2x2 windows side by side, planes: both rows of a window at once, vectors of neighbouring windows.
//   spread, many channels: pixel by pixel, vectors of channels ask the windows that may hold the pixel.
//   Anything else: window by window. A table says for each switch how far its cell lies from the window's
//   first. spread adds up in a buffer in L1 that holds the region; where windows overlap and the last one
//   wins, collect first strikes out the switches of those that lose, vectors of them against each later
//   neighbour.
// Floor: reads values and switches, writes the result, 21 bytes a window for 2x2 float32.
//
// Switches are data from outside: each is compared with the range that its window has inside the region
// before it is used. Where one was outside, check_row tells "no valid cell" and cells of other regions from
// what is wrong; then both return false.
#pragma once
#include "cpu/windows.h"
#include "cpu/workspace.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// Set by any thread that met a switch that it could not use.
class Good {
 public:
  void fail() { __atomic_store_n(&good_, false, __ATOMIC_RELAXED); }
  explicit operator bool() const { return __atomic_load_n(&good_, __ATOMIC_RELAXED); }

 private:
  bool good_ = true;
};

// ---- window by window: what a switch may be, and where it then points ----

struct Range {
  int64_t low, high;
  bool has(int64_t x) const {
    return static_cast<uint64_t>(x - low) < static_cast<uint64_t>(high - low);  // low <= high
  }
};
inline Range range(int64_t low, int64_t high) { return {low, high > low ? high : low}; }

// How far cell (kh, kw) of a window lies from its first, in memory with these distances between rows and
// columns. Only for switches that name a cell.
template <class Switch>
class Places {
 public:
  Places(const PoolShape& s, int64_t h, int64_t w)
      : kernel_(s.w.kernel), h_(s.h.dilation * h), w_(s.w.dilation * w) {}
  int64_t column(int64_t at) const { return at % kernel_; }
  int64_t offset(int64_t at) const { return at / kernel_ * h_ + at % kernel_ * w_; }

 private:
  int64_t kernel_, h_, w_;
};
template <>
class Places<uint8_t> {
 public:
  Places(const PoolShape& s, int64_t h, int64_t w) {
    for (int64_t kh = 0, at = 0; kh < s.h.kernel && at < kMaxCellsUInt8; ++kh) {
      for (int64_t kw = 0; kw < s.w.kernel && at < kMaxCellsUInt8; ++kw, ++at) {
        column_[at] = static_cast<uint8_t>(kw);
        offset_[at] = kh * s.h.dilation * h + kw * s.w.dilation * w;
      }
    }
  }
  int64_t column(int64_t at) const { return column_[at]; }
  int64_t offset(int64_t at) const { return offset_[at]; }

 private:
  uint8_t column_[256] = {};
  int64_t offset_[256];
};

// Distances from one window (or channel) to the next.
struct Steps {
  int64_t pooled, switches, cells;
};

// Calls run(whole, ow, windows, columns) for windows [begin, end) of a row in order. `columns` are those of a
// window that lie inside. Whole: all of them do, of `windows` windows from ow on where `together`.
template <class F>
inline void for_windows(const PoolAxis& w, int64_t begin, int64_t end, const Range& inner, bool together,
                        const F& run) {
  int64_t ow = begin;
  while (ow < end) {
    if (!inner.has(ow)) {
      run(Width<0>{}, ow, 1, range(w.first(ow), w.last(ow)));
      ++ow;
      continue;
    }
    const int64_t stop = inner.high < end ? inner.high : end, windows = together ? stop - ow : 1;
    run(Width<1>{}, ow, windows, Range{0, w.kernel});
    ow += windows;
  }
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
