// Bias and activation: what csrc/cpu/epilogue.h does to vectors, for one number.
#pragma once
#include "conv_options.h"
#include "cuda/number.cuh"

namespace deconvkit::cuda {

template <class T>
struct Epilogue {
  using C = Compute<T>;

  const T* bias;  // nullptr: none
  int64_t bias_stride;
  Activation activation;
  C slope;

  Epilogue(const TensorRef& b, const ConvOptions& options)
      : bias(b.as<const T>()),
        bias_stride(b.stride[0]),
        activation(options.activation),
        slope(static_cast<C>(options.slope)) {}

  DECONVKIT_HD T operator()(C x, int64_t channel) const {
    if (bias) x += widen(bias[channel * bias_stride]);
    switch (activation) {
      case Activation::kReLU:
        x = x < 0 ? C{0} : x;  // NaN stays
        break;
      case Activation::kLeakyReLU:
        x = x > 0 ? x : x * slope;
        break;
      case Activation::kTanh:
        x = std::tanh(x);
        break;
      case Activation::kSigmoid:
        x = C{1} / (C{1} + std::exp(-x));
        break;
      default:
        break;
    }
    return narrow<T>(x);
  }
};

}  // namespace deconvkit::cuda
