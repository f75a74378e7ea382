#include "cuda/conv_gather.cuh"
#include "cuda/conv_per_channel.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"

namespace deconvkit::cuda {
namespace {

void convolution(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                 const TensorRef& output, const ConvShape& shape, const ConvOptions& options, bool transposed,
                 const TensorRef& workspace, const Stream& stream) {
  if (is_implicit_gemm(options.algorithm) &&
      implicit_gemm(input, weight, bias, output, shape, options, transposed, workspace, stream)) {
    return;
  }
  const auto run =
      is_per_channel(shape, transposed) ? conv_per_channel<DeviceLauncher> : conv_gather<DeviceLauncher>;
  run(DeviceLauncher(stream), input, weight, bias, output, shape, options, transposed);
}

}  // namespace

void conv2d(const TensorRef& input, const TensorRef& weight, const TensorRef& bias, const TensorRef& output,
            const ConvShape& shape, const ConvOptions& options, const TensorRef& workspace,
            const Stream& stream) {
  convolution(input, weight, bias, output, shape, options, false, workspace, stream);
}

void conv_transpose2d(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                      const TensorRef& output, const ConvShape& shape, const ConvOptions& options,
                      const TensorRef& workspace, const Stream& stream) {
  convolution(input, weight, bias, output, shape, options, true, workspace, stream);
}

}  // namespace deconvkit::cuda
