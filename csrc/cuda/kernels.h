// The CUDA kernels' entries: those of cpu/kernels.h with a stream in the place of the thread count. Tensors
// lie in the memory of the stream's device. Nothing is allocated and nothing waited for: workspaces come from
// the caller. A switch that points outside its window is skipped.
#pragma once
#include "cuda/device.h"
#include "geometry/pool_shape.h"
#include "tensor_ref.h"

namespace deconvkit::cuda {

// input, output, switches
void max_pool2d_with_switches(const TensorRef&, const TensorRef&, const TensorRef&, const PoolShape&,
                              const Stream&);

}  // namespace deconvkit::cuda
