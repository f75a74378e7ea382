#include "cuda/conv_gather.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"

namespace deconvkit::cuda {

void conv2d(const TensorRef& input, const TensorRef& weight, const TensorRef& bias, const TensorRef& output,
            const ConvShape& shape, const ConvOptions& options, const Stream& stream) {
  conv2d(DeviceLauncher(stream), input, weight, bias, output, shape, options);
}

void conv_transpose2d(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                      const TensorRef& output, const ConvShape& shape, const ConvOptions& options,
                      const Stream& stream) {
  conv_transpose2d(DeviceLauncher(stream), input, weight, bias, output, shape, options);
}

}  // namespace deconvkit::cuda
