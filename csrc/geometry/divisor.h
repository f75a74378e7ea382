// Division by a number that is known before the launch: a multiplication. A GPU divides 64-bit numbers by a
// call of a hundred instructions, which costs registers wherever one may happen.
#pragma once
#include <cstdint>

#include "geometry/host_device.h"
#include "geometry/pool_shape.h"

namespace deconvkit {

// a / d for 0 <= a < 2^63 as a · m / 2^(63 + l), with l = ceil(log2 d) and m = ceil(2^(63 + l) / d), below
// 2^64: m·d exceeds 2^(63 + l) by less than d <= 2^l, too little to reach the next quotient. (Granlund and
// Montgomery, "Division by invariant integers using multiplication", 1994.)
struct Divisor {
  int64_t d = 1;
  uint64_t magic = 0;
  int32_t shift = 0;

  Divisor() = default;
  constexpr explicit Divisor(int64_t d_) : d(d_) {
    if (d <= 1) return;
    int32_t l = 1;
    while (l < 63 && (int64_t{1} << l) < d) ++l;
    // 2^(63 + l) / d bit by bit, rounded up.
    uint64_t rest = 1;
    const auto divisor = static_cast<uint64_t>(d);
    for (int32_t i = 0; i < 63 + l; ++i) {
      rest *= 2;
      magic *= 2;
      if (rest >= divisor) rest -= divisor, magic += 1;
    }
    magic += rest != 0;
    shift = l - 1;
  }

  DECONVKIT_HD constexpr int64_t quotient(int64_t a) const {
    return d == 1 ? a : static_cast<int64_t>(high(static_cast<uint64_t>(a), magic) >> shift);
  }
  DECONVKIT_HD constexpr int64_t remainder(int64_t a) const { return a - quotient(a) * d; }
  DECONVKIT_HD constexpr int64_t quotient_up(int64_t a) const { return quotient(a + d - 1); }

 private:
  DECONVKIT_HD static constexpr uint64_t high(uint64_t a, uint64_t b) {
#ifdef __CUDA_ARCH__
    return __umul64hi(a, b);
#else
    return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
#endif
  }
};

// A PoolAxis whose divisions are multiplications.
struct FastPoolAxis : PoolAxis {
  Divisor by_stride, by_dilation, by_kernel;

  constexpr explicit FastPoolAxis(const PoolAxis& a)
      : PoolAxis(a), by_stride(a.stride), by_dilation(a.dilation), by_kernel(a.kernel) {}

  DECONVKIT_HD constexpr int64_t first(int64_t o) const {
    const int64_t s = start(o);
    return s >= 0 ? 0 : by_dilation.quotient_up(-s);
  }
  DECONVKIT_HD constexpr int64_t last(int64_t o) const {
    const int64_t room = input - start(o);
    const int64_t k = room <= 0 ? 0 : by_dilation.quotient_up(room);
    return k < kernel ? k : kernel;
  }
  DECONVKIT_HD constexpr int64_t reach_begin(int64_t i) const {
    const int64_t from = i + padding - (kernel - 1) * dilation;
    return from <= 0 ? 0 : by_stride.quotient_up(from);
  }
  DECONVKIT_HD constexpr int64_t reach_end(int64_t i) const {
    const int64_t o = by_stride.quotient(i + padding) + 1;
    return o < output ? o : output;
  }
  DECONVKIT_HD constexpr int64_t cell_of(int64_t i, int64_t o) const {
    const int64_t offset = i - start(o), k = by_dilation.quotient(offset);
    return k * dilation == offset ? k : -1;
  }
};

struct FastPoolShape {
  FastPoolAxis h, w;

  constexpr explicit FastPoolShape(const PoolShape& s) : h(s.h), w(s.w) {}
};

}  // namespace deconvkit
