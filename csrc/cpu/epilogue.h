// Bias, activation, conversion and store. Included by per-ISA kernel files only.
#pragma once
#include <cstdint>
#include <type_traits>

#include "conv_options.h"
#include "cpu/simd.h"
#include "cpu/transpose.h"
#include "cpu/vector_math.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

namespace epilogue {

template <Activation A, class V, class C>
inline V activate(V x, C slope) {
  if constexpr (A == Activation::kReLU) return x < 0 ? V{} : x;  // NaN stays
  if constexpr (A == Activation::kLeakyReLU) return x > 0 ? x : x * slope;
  if constexpr (A == Activation::kTanh) return tanh_vec(x);
  if constexpr (A == Activation::kSigmoid) return sigmoid_vec(x);
  return x;
}

// to[i] = activation(from[i] + bias[i]), or bias[0] for all i; `to` may be `from`.
template <Activation A, bool OneBias, class T>
inline void finish(const Compute<T>* from, const Compute<T>* bias, T* to, int64_t n, Compute<T> slope) {
  using C = Compute<T>;
  constexpr int L = kLanes<C>;
  const auto at = [&](int64_t i) {
    const Vec<C, L> b = OneBias ? splat<C, L>(*bias) : load_vec<L>(bias + i);
    return activate<A>(load_vec<L>(from + i) + b, slope);
  };
  if (n < L) {
    // One vector, so that every element takes the same path.
    C all[L] = {};
    for (int64_t i = 0; i < n; ++i) all[i] = from[i] + bias[OneBias ? 0 : i];
    store_vec<L>(all, activate<A>(load_vec<L>(all), slope));
    for (int64_t i = 0; i < n; ++i) store(to + i, all[i]);
    return;
  }
  const Vec<C, L> last = at(n - L);  // overlaps the one before
  for (int64_t i = 0; i + L < n; i += L) store_vec<L>(to + i, at(i));
  store_vec<L>(to + n - L, last);
}

}  // namespace epilogue

// Rows of n numbers each, with one bias a row or one a column.
template <bool OneBias, class T>
[[gnu::noinline]] void finish_rows(const Compute<T>* from, int64_t from_stride, const Compute<T>* bias, T* to,
                                   int64_t to_stride, int64_t rows, int64_t n, const ConvOptions& options) {
  const auto all = [&](auto activation) {
    constexpr Activation A = decltype(activation)::value;
    const Compute<T> slope = static_cast<Compute<T>>(options.slope);
    for (int64_t i = 0; i < rows; ++i) {
      epilogue::finish<A, OneBias>(from + i * from_stride, bias + (OneBias ? i : 0), to + i * to_stride, n,
                                   slope);
    }
  };
  switch (options.activation) {
    case Activation::kReLU:
      return all(std::integral_constant<Activation, Activation::kReLU>{});
    case Activation::kLeakyReLU:
      return all(std::integral_constant<Activation, Activation::kLeakyReLU>{});
    case Activation::kTanh:
      return all(std::integral_constant<Activation, Activation::kTanh>{});
    case Activation::kSigmoid:
      return all(std::integral_constant<Activation, Activation::kSigmoid>{});
    default:
      return all(std::integral_constant<Activation, Activation::kNone>{});
  }
}

template <bool OneBias, class T>
inline void finish_run(const Compute<T>* from, const Compute<T>* bias, T* to, int64_t n,
                       const ConvOptions& options) {
  finish_rows<OneBias>(from, 0, bias, to, 0, 1, n, options);
}

// The same where the destination is strided; `scratch` holds n numbers and may be `from`.
template <bool OneBias, class T>
inline void finish_strided(const Compute<T>* from, const Compute<T>* bias, T* to, int64_t stride, int64_t n,
                           const ConvOptions& options, Compute<T>* scratch) {
  if (stride == 1) return finish_run<OneBias>(from, bias, to, n, options);
  finish_run<OneBias>(from, bias, scratch, n, options);
  for (int64_t i = 0; i < n; ++i) store(to + i * stride, scratch[i]);
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
