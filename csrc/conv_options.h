// What the convolution kernels take beside tensors and shape.
#pragma once
#include <cstdint>

namespace deconvkit {

// Applied to the output, after the bias. The numbers are those of python/deconvkit/ops/_arguments.py.
enum class Activation : int32_t { kNone, kReLU, kLeakyReLU, kTanh, kSigmoid };

enum class ConvAlgorithm : int32_t { kDirect, kWinograd };

struct ConvOptions {
  Activation activation = Activation::kNone;
  double slope = 0;  // of the leaky ReLU
  ConvAlgorithm algorithm = ConvAlgorithm::kDirect;
  const void* transformed =
      nullptr;  // what conv_transform_weights made of the weight, if the caller keeps it
};

}  // namespace deconvkit
