#include <algorithm>

#include "cuda/conv_weight_grad_gemm.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"
#include "geometry/conv_tiles.h"

namespace deconvkit::cuda {

int64_t conv_weight_grad_workspace_size(const TensorRef& small, const TensorRef& large,
                                        const TensorRef& grad_weight, BiasSide side, const ConvShape& shape,
                                        ConvAlgorithm algorithm) {
  const int64_t plain = plain_weight_grad_workspace_size(shape, grad_weight.dtype);
  if (!is_implicit_gemm(algorithm)) return plain;
  return std::max(plain, weight_grad_gemm_workspace_size(small, large, grad_weight, side, shape));
}

bool weight_grad_gemm(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                      const TensorRef& grad_bias, BiasSide side, const ConvShape& shape,
                      ConvAlgorithm algorithm, const TensorRef& workspace, const Stream& stream) {
  return weight_grad_gemm(DeviceLauncher(stream), small, large, grad_weight, grad_bias, side, shape,
                          algorithm, workspace.data);
}

}  // namespace deconvkit::cuda
