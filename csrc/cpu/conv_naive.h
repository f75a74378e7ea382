// The convolution family element by element.
#pragma once
#include <cmath>

#include "cpu/conv.h"
#include "cpu/dispatch.h"
#include "cpu/parallel.h"
#include "geometry/conv_shape.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

template <class C>
inline C activate(C x, const ConvOptions& options) {
  switch (options.activation) {
    case Activation::kReLU:
      return x > 0 || x != x ? x : C(0);
    case Activation::kLeakyReLU:
      return x > 0 ? x : x * static_cast<C>(options.slope);
    case Activation::kTanh:
      return static_cast<C>(__builtin_tanh(x));
    case Activation::kSigmoid:
      return static_cast<C>(1 / (1 + __builtin_exp(-static_cast<double>(x))));
    default:
      return x;
  }
}

template <class T>
inline Compute<T> at(const TensorRef& t, int64_t a, int64_t b, int64_t c, int64_t d) {
  return load(t.as<T>() + a * t.stride[0] + b * t.stride[1] + c * t.stride[2] + d * t.stride[3]);
}

template <class T>
inline T* address(const TensorRef& t, int64_t a, int64_t b, int64_t c, int64_t d) {
  return t.as<T>() + a * t.stride[0] + b * t.stride[1] + c * t.stride[2] + d * t.stride[3];
}

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
