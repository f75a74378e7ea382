// Packing weights into the panels of gemm.h. Included by per-ISA kernel files only.
#pragma once
#include <cstdint>

#include "cpu/gemm.h"
#include "cpu/transpose.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// A weight seen from the output of a pass: m counts the output channels, c the summed ones, inside one group.
struct WeightView {
  const void* data;
  int64_t m, c, kh, kw, group;  // strides
};

// One panel: to[at[tap] + c·width + lane] = w[lane·ms + c·cs + tap], zero beyond `valid` lanes; taps with at
// < 0 are left out.
template <class T>
class PanelPacker {
 public:
  using C = Compute<T>;
  static constexpr int L = kLanes<C>;

  PanelPacker(const WeightView& view, int64_t kernel_h, int64_t kernel_w)
      : v_(view), kernel_h_(kernel_h), kernel_w_(kernel_w), taps_(kernel_h * kernel_w) {}

  void pack(const T* w, int64_t channels, int64_t valid, int64_t width, const int64_t* at, C* to) const {
    if (v_.m == 1) return copy(w, channels, valid, width, at, to);
    if (v_.kw == 1 && v_.kh == kernel_w_) {
      if (v_.c == taps_ && channels * taps_ >= L) {
        return transposed(w, channels * taps_, valid, width, [&](int64_t f) {
          const int64_t c = f / taps_, tap = f % taps_;
          return at[tap] < 0 ? nullptr : to + at[tap] + c * width;
        });
      }
      if (taps_ >= L) {
        for (int64_t c = 0; c < channels; ++c) {
          transposed(w + c * v_.c, taps_, valid, width,
                     [&](int64_t tap) { return at[tap] < 0 ? nullptr : to + at[tap] + c * width; });
        }
        return;
      }
    } else if (v_.c == 1 && channels >= L) {
      for (int64_t tap = 0; tap < taps_; ++tap) {
        if (at[tap] < 0) continue;
        transposed(w + tap_offset(tap), channels, valid, width,
                   [&](int64_t c) { return to + at[tap] + c * width; });
      }
      return;
    }
    pack_lanes(w, channels, valid, width, at, to);
    for (int64_t tap = 0; tap < taps_; ++tap) {
      if (at[tap] < 0) continue;
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t lane = valid; lane < width; ++lane) to[at[tap] + c * width + lane] = 0;
      }
    }
  }

  // The `valid` lanes alone; others stay as they are.
  void pack_lanes(const T* w, int64_t channels, int64_t valid, int64_t width, const int64_t* at,
                  C* to) const {
    for (int64_t tap = 0; tap < taps_; ++tap) {
      if (at[tap] < 0) continue;
      const T* from = w + tap_offset(tap);
      for (int64_t c = 0; c < channels; ++c) {
        C* t = to + at[tap] + c * width;
        for (int64_t lane = 0; lane < valid; ++lane) t[lane] = load(from + lane * v_.m + c * v_.c);
      }
    }
  }

 private:
  int64_t tap_offset(int64_t tap) const { return tap / kernel_w_ * v_.kh + tap % kernel_w_ * v_.kw; }

  void copy(const T* w, int64_t channels, int64_t valid, int64_t width, const int64_t* at, C* to) const {
    for (int64_t tap = 0; tap < taps_; ++tap) {
      if (at[tap] < 0) continue;
      const T* from = w + tap_offset(tap);
      C* t = to + at[tap];
      for (int64_t c = 0; c < channels; ++c, t += width, from += v_.c) {
        if (valid == width) {
          for (int64_t lane = 0; lane < width; lane += L) store_vec<L>(t + lane, load_vec<L>(from + lane));
        } else {
          for (int64_t lane = 0; lane < width; ++lane) t[lane] = lane < valid ? load(from + lane) : 0;
        }
      }
    }
  }

  // n >= L consecutive numbers of each lane; to(f) says where number f of all lanes goes, or null.
  template <class To>
  void transposed(const T* from, int64_t n, int64_t valid, int64_t width, To&& to) const {
    for (int64_t f = 0;;) {
      for (int64_t lane = 0; lane < width; lane += L) {
        Vec<C, L> v[L];
        for (int r = 0; r < L; ++r) {
          v[r] = lane + r < valid ? load_vec<L>(from + (lane + r) * v_.m + f) : Vec<C, L>{};
        }
        transpose<L, C>(v);
        for (int r = 0; r < L; ++r) {
          if (C* t = to(f + r)) store_vec<L>(t + lane, v[r]);
        }
      }
      if (f + L >= n) break;
      f = f + 2 * L <= n ? f + L : n - L;
    }
  }

  WeightView v_;
  int64_t kernel_h_, kernel_w_, taps_;
};

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
