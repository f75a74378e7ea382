#include "cuda/implicit_gemm.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"

namespace deconvkit::cuda {

int64_t conv_workspace_size(const TensorRef& input, const TensorRef& output, const ConvShape& shape,
                            const ConvOptions& options, bool transposed) {
  return is_implicit_gemm(options.algorithm) ? implicit_gemm_workspace_size(input, output, shape, transposed)
                                             : 0;
}

bool implicit_gemm(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                   const TensorRef& output, const ConvShape& shape, const ConvOptions& options,
                   bool transposed, const TensorRef& workspace, const Stream& stream) {
  return implicit_gemm(DeviceLauncher(stream), input, weight, bias, output, shape, options, transposed,
                       workspace.data);
}

}  // namespace deconvkit::cuda
