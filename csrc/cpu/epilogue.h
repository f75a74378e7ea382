// Bias, activation, conversion and store. Included by per-ISA kernel files only.
#pragma once
#include <cstdint>

#include "cpu/conv.h"
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

// to[i] = activation(from[i] + bias[i]), or bias[0] for all i.
template <Activation A, bool OneBias, class T>
inline void finish(const Compute<T>* from, const Compute<T>* bias, T* to, int64_t n, Compute<T> slope) {
  using C = Compute<T>;
  constexpr int L = kLanes<C>;
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    const Vec<C, L> b = OneBias ? splat<C, L>(*bias) : load_vec<L>(bias + i);
    store_vec<L>(to + i, activate<A>(load_vec<L>(from + i) + b, slope));
  }
  if (i < n) {
    // The tail in one vector, so that every element takes the same path.
    C tail[L] = {};
    for (int64_t j = i; j < n; ++j) tail[j - i] = from[j] + bias[OneBias ? 0 : j];
    store_vec<L>(tail, activate<A>(load_vec<L>(tail), slope));
    for (int64_t j = i; j < n; ++j) store(to + j, tail[j - i]);
  }
}

}  // namespace epilogue

template <bool OneBias, class T>
[[gnu::noinline]] void finish_run(const Compute<T>* from, const Compute<T>* bias, T* to, int64_t n,
                                  const ConvOptions& options) {
  const Compute<T> slope = static_cast<Compute<T>>(options.slope);
  switch (options.activation) {
    case Activation::kReLU:
      return epilogue::finish<Activation::kReLU, OneBias>(from, bias, to, n, slope);
    case Activation::kLeakyReLU:
      return epilogue::finish<Activation::kLeakyReLU, OneBias>(from, bias, to, n, slope);
    case Activation::kTanh:
      return epilogue::finish<Activation::kTanh, OneBias>(from, bias, to, n, slope);
    case Activation::kSigmoid:
      return epilogue::finish<Activation::kSigmoid, OneBias>(from, bias, to, n, slope);
    default:
      return epilogue::finish<Activation::kNone, OneBias>(from, bias, to, n, slope);
  }
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
