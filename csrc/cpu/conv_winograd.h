// The Winograd algorithm of the three convolution kernels. Included by per-ISA kernel files only.
#pragma once
#include "conv_options.h"
#include "cpu/simd.h"
#include "geometry/conv_shape.h"
#include "tensor_ref.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

// The first and the last return false, having done nothing, where the shape is not Winograd's
// (geometry/winograd.h).
bool conv_winograd(bool transposed, const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                   const TensorRef& output, const ConvShape& shape, const ConvOptions& options, int threads);
int64_t conv_transformed_size(bool transposed, DType dtype, const ConvShape& shape);
void conv_transform_weights(bool transposed, const TensorRef& weight, const TensorRef& transformed,
                            const ConvShape& shape, int threads);
bool conv_weight_grad_winograd(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                               const ConvShape& shape, int threads);

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
