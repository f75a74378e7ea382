// exp, sigmoid and tanh of vectors of float or double, any width; one element is a vector of one lane.
//
// exp(x) = 2^n e^r with n = round(x / ln 2), |r| <= ln(2) / 2: Cody-Waite reduction and a polynomial, shorter
// where sixteenths of n are looked up. Results are within 2 (exp), 3 (sigmoid, tanh) ulp, into the denormals;
// infinities and NaN come out as they should.
#pragma once
#include <cstdint>

#include "cpu/simd.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

template <class V>
using Element = decltype(V{}[0] + V{}[0]);

namespace vector_math {

template <class T>
struct Exp;

template <>
struct Exp<float> {
  using Bits = int32_t;
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr int kShift = 64;                // scales are 2^n as 2^(n + kShift) 2^-kShift: both normal
  static constexpr float kLow = -104, kHigh = 89;  // beyond: 0 and infinity
  static constexpr float kRound = 0x1.8p23f;       // adding it leaves an integer in the low bits
  static constexpr float kLog2e = 1.44269504088896341f;
  static constexpr float kLn2High = 0x1.63p-1f, kLn2Low = -2.12194440e-4f;  // n * kLn2High is exact
  static constexpr float kUp = 0x1p64f, kDown = 0x1p-64f;
  // (e^r - 1 - r) / r^2, highest power first.
  // A minimax fit, e^r within 4e-9.
  static constexpr float kPolynomial[] = {1.381454058e-3f, 8.368745446e-3f, 4.166838899e-2f, 1.666652113e-1f,
                                          4.999999404e-1f};
};

template <>
struct Exp<double> {
  using Bits = int64_t;
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr int kShift = 512;
  static constexpr double kLow = -746, kHigh = 710;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kLog2e = 1.4426950408889634074;
  static constexpr double kLn2High = 6.93145751953125e-1, kLn2Low = 1.42860682030941723212e-6;
  static constexpr double kUp = 0x1p512, kDown = 0x1p-512;
  static constexpr double kPolynomial[] = {// Taylor: 1/13!, ..., 1/2!
                                           1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
                                           1.0 / 362880,     1.0 / 40320,     1.0 / 5040,     1.0 / 720,
                                           1.0 / 120,        1.0 / 24,        1.0 / 6,        1.0 / 2};
};

template <class V>
using BitsOf = Vec<typename Exp<Element<V>>::Bits, sizeof(V) / sizeof(Element<V>)>;

// x clamped to [low, high]; NaN stays.
template <class V>
inline V clamp(V x, Element<V> low, Element<V> high) {
  x = x < low ? V{} + low : x;
  return x > high ? V{} + high : x;
}

template <class V>
inline V abs(V x) {
  using Bits = BitsOf<V>;
  using T = Element<V>;
  constexpr typename Exp<T>::Bits sign = typename Exp<T>::Bits{1} << (8 * sizeof(T) - 1);
  return bit_cast<V>(bit_cast<Bits>(x) & ~(Bits{} + sign));
}

// -|x|.
template <class V>
inline V negative_abs(V x) {
  using Bits = BitsOf<V>;
  using T = Element<V>;
  constexpr typename Exp<T>::Bits sign = typename Exp<T>::Bits{1} << (8 * sizeof(T) - 1);
  return bit_cast<V>(bit_cast<Bits>(x) | (Bits{} + sign));
}

template <class V>
inline V copy_sign(V x, V sign_of) {
  using Bits = BitsOf<V>;
  using T = Element<V>;
  constexpr typename Exp<T>::Bits sign = typename Exp<T>::Bits{1} << (8 * sizeof(T) - 1);
  return bit_cast<V>(bit_cast<Bits>(abs(x)) | (bit_cast<Bits>(sign_of) & (Bits{} + sign)));
}

// x = n ln 2 + r for x within the clamp: gives 2^(n + shift) and e^r - 1. round = kRound + kBias + shift.
template <class V>
struct Reduced {
  V scale, expm1_r;
};
template <class V>
inline Reduced<V> reduce(V x, V round) {
  using T = Element<V>;
  using E = Exp<T>;
  const V shifted = x * E::kLog2e + round;
  const V n = shifted - round;
  const V r = (x - n * E::kLn2High) - n * E::kLn2Low;
  V p = V{} + E::kPolynomial[0];
  for (unsigned i = 1; i < sizeof E::kPolynomial / sizeof(T); ++i) p = p * r + E::kPolynomial[i];
  return {bit_cast<V>(bit_cast<BitsOf<V>>(shifted) << E::kMantissa), p * (r * r) + r};
}

// Vectors of 16 floats look 2^(i/16) up in a vector: |r| <= ln(2) / 32, and three multiplications fewer.
template <class V>
constexpr bool kLooksUp = sizeof(V) == 64 && sizeof(Element<V>) == 4;

// Bits of 2^(i/16), less i << 19: adding n << 19 gives those of 2^(n/16), for n % 16 = i.
constexpr int32_t kSixteenths[16] = {0x3f800000, 0x3f7daac3, 0x3f7b95c2, 0x3f79c3d3, 0x3f7837f0, 0x3f76f532,
                                     0x3f75fed7, 0x3f75583f, 0x3f7504f3, 0x3f7508a4, 0x3f75672a, 0x3f76248c,
                                     0x3f7744fd, 0x3f78ccdf, 0x3f7ac0c7, 0x3f7d257d};

// e^x for x <= 0 or NaN.
template <class V>
inline V exp_nonpositive(V x) {
  using E = Exp<Element<V>>;
  x = x < E::kLow ? V{} + E::kLow : x;
  if constexpr (kLooksUp<V>) {
    using Bits = BitsOf<V>;
    const V shifted = x * (16 * E::kLog2e) + (E::kRound + 16 * E::kShift);
    const V n = shifted - (E::kRound + 16 * E::kShift);
    const V r = (x - n * (E::kLn2High / 16)) - n * (E::kLn2Low / 16);
    const V p = (r * (1.f / 6) + 0.5f) * (r * r) + r;
    const Bits index = bit_cast<Bits>(shifted), table = bit_cast<Bits>(kSixteenths);
    const V scale = bit_cast<V>(__builtin_shuffle(table, index) + (index << 19));
    return (p * scale + scale) * E::kDown;
  }
  const auto [scale, expm1_r] = reduce(x, V{} + (E::kRound + (E::kBias + E::kShift)));
  return (expm1_r * scale + scale) * E::kDown;
}

}  // namespace vector_math

// e^x.
template <class V>
inline V exp_vec(V x) {
  using E = vector_math::Exp<Element<V>>;
  const auto negative = x < 0;
  const V round =
      negative ? V{} + (E::kRound + (E::kBias + E::kShift)) : V{} + (E::kRound + (E::kBias - E::kShift));
  const auto [scale, expm1_r] = vector_math::reduce(vector_math::clamp(x, E::kLow, E::kHigh), round);
  return (expm1_r * scale + scale) * (negative ? V{} + E::kDown : V{} + E::kUp);
}

// on = σ(x), off = 1 - σ(x) = σ(-x), each with full relative accuracy.
template <class V>
struct SigmoidPair {
  V on, off;
};
template <class V>
inline SigmoidPair<V> sigmoid_pair(V x) {
  const V t = vector_math::exp_nonpositive(vector_math::negative_abs(x));  // e^-|x|
  const V large = 1 / (1 + t), small = t * large;
  const auto negative = x < 0;
  return {negative ? small : large, negative ? large : small};
}

// σ(x) = 1 / (1 + e^-x).
template <class V>
inline V sigmoid_vec(V x) {
  return sigmoid_pair(x).on;
}

// σ'(x) = σ(x) (1 - σ(x)), even in x and without cancellation.
template <class V>
inline V sigmoid_slope_vec(V x) {
  const V t = vector_math::exp_nonpositive(vector_math::negative_abs(x)), y = 1 / (1 + t);
  return t * y * y;
}

// tanh(x) = -u / (2 + u) with u = e^(-2|x|) - 1, and x's sign.
template <class V>
inline V tanh_vec(V x) {
  using T = Element<V>;
  using E = vector_math::Exp<T>;
  constexpr T kFlat = sizeof(T) == 4 ? 20 : 40;  // tanh(x) rounds to 1 from here on
  V y = vector_math::abs(x);
  y = y > kFlat ? V{} + kFlat : y;
  const auto [scale, expm1_r] = vector_math::reduce(y * -2, V{} + (E::kRound + E::kBias));
  const V u = scale * expm1_r + (scale - 1);
  return vector_math::copy_sign(-u / (2 + u), x);
}

// The same for one number.
inline float exp_scalar(float x) { return exp_vec(Vec<float, 1>{x})[0]; }
inline double exp_scalar(double x) { return exp_vec(Vec<double, 1>{x})[0]; }
inline float sigmoid_scalar(float x) { return sigmoid_vec(Vec<float, 1>{x})[0]; }
inline double sigmoid_scalar(double x) { return sigmoid_vec(Vec<double, 1>{x})[0]; }
inline float tanh_scalar(float x) { return tanh_vec(Vec<float, 1>{x})[0]; }
inline double tanh_scalar(double x) { return tanh_vec(Vec<double, 1>{x})[0]; }

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
