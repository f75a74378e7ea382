#include "cuda/by_switches.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"
#include "cuda/max_pool2d.cuh"

namespace deconvkit::cuda {

void max_pool2d_with_switches(const TensorRef& input, const TensorRef& output, const TensorRef& switches,
                              const PoolShape& shape, const Stream& stream) {
  max_pool2d_with_switches(DeviceLauncher(stream), input, output, switches, shape);
}

void max_pool2d_backward(const TensorRef& grad_output, const TensorRef& switches, const TensorRef& grad_input,
                         const PoolShape& shape, const Stream& stream) {
  spread<true>(DeviceLauncher(stream), grad_output, switches, grad_input, shape);
}

void max_pool2d_gather(const TensorRef& input, const TensorRef& switches, const TensorRef& output,
                       const PoolShape& shape, const Stream& stream) {
  collect<false>(DeviceLauncher(stream), input, switches, output, shape);
}

}  // namespace deconvkit::cuda
