// Max-unpooling, the backward of pooling, and the adjoint of each: the same kernels, compiled once.
#include "cuda/by_switches.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"

namespace deconvkit::cuda {

void max_pool2d_backward(const TensorRef& grad_output, const TensorRef& switches, const TensorRef& grad_input,
                         const PoolShape& shape, const Stream& stream) {
  spread<true>(DeviceLauncher(stream), grad_output, switches, grad_input, shape);
}

void max_pool2d_gather(const TensorRef& input, const TensorRef& switches, const TensorRef& output,
                       const PoolShape& shape, const Stream& stream) {
  collect<false>(DeviceLauncher(stream), input, switches, output, shape);
}

void max_unpool2d(const TensorRef& input, const TensorRef& switches, const TensorRef& output,
                  const PoolShape& shape, const Stream& stream) {
  spread<false>(DeviceLauncher(stream), input, switches, output, shape);
}

void max_unpool2d_backward(const TensorRef& grad_output, const TensorRef& switches,
                           const TensorRef& grad_input, const PoolShape& shape, const Stream& stream) {
  collect<true>(DeviceLauncher(stream), grad_output, switches, grad_input, shape);
}

}  // namespace deconvkit::cuda
