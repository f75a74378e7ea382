// What the convolution kernels take beside tensors and shape.
#pragma once
#include <cstdint>

namespace deconvkit {

// Applied to the output, after the bias. The numbers are those of python/deconvkit/ops/_arguments.py.
enum class Activation : int32_t { kNone, kReLU, kLeakyReLU, kTanh, kSigmoid };

// Winograd's is the CPU's, implicit GEMMs are CUDA's; elsewhere, and where they do not serve, they are the
// direct sum. kImplicitGemm computes float32 by three products of TF32, kImplicitGemmTF32 by a single one;
// kImplicitGemmMma is kImplicitGemm without Hopper's own kernel, to compare the two.
enum class ConvAlgorithm : int32_t { kDirect, kWinograd, kImplicitGemm, kImplicitGemmTF32, kImplicitGemmMma };

struct ConvOptions {
  Activation activation = Activation::kNone;
  double slope = 0;  // of the leaky ReLU
  ConvAlgorithm algorithm = ConvAlgorithm::kDirect;
  const void* transformed =
      nullptr;  // what conv_transform_weights made of the weight, if the caller keeps it
};

inline bool is_implicit_gemm(ConvAlgorithm a) {
  return a == ConvAlgorithm::kImplicitGemm || a == ConvAlgorithm::kImplicitGemmTF32 ||
         a == ConvAlgorithm::kImplicitGemmMma;
}

}  // namespace deconvkit
