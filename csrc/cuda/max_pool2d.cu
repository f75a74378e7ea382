#include "cuda/kernels.h"
#include "cuda/launch.cuh"
#include "cuda/max_pool2d.cuh"

namespace deconvkit::cuda {

void max_pool2d_with_switches(const TensorRef& input, const TensorRef& output, const TensorRef& switches,
                              const PoolShape& shape, const Stream& stream) {
  max_pool2d_with_switches(DeviceLauncher(stream), input, output, switches, shape);
}

}  // namespace deconvkit::cuda
