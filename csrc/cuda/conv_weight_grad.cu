#include "cuda/conv_weight_grad.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"

namespace deconvkit::cuda {

void conv_weight_grad(const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
                      const ConvShape& shape, const TensorRef& workspace, const Stream& stream) {
  conv_weight_grad(DeviceLauncher(stream), small, large, grad_weight, shape, workspace.data);
}

}  // namespace deconvkit::cuda
