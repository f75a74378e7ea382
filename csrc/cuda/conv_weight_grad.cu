#include "cuda/conv_weight_grad.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"

namespace deconvkit::cuda {

bool conv_weight_grad(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                      const TensorRef& grad_bias, BiasSide side, const ConvShape& shape,
                      ConvAlgorithm algorithm, const TensorRef& workspace, const Stream& stream) {
  if (is_implicit_gemm(algorithm) &&
      weight_grad_gemm(small, large, grad_weight, grad_bias, side, shape, algorithm, workspace, stream)) {
    return side != BiasSide::kNone;
  }
  conv_weight_grad(DeviceLauncher(stream), small, large, grad_weight, shape, workspace.data);
  return false;
}

}  // namespace deconvkit::cuda
