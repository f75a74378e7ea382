// The CUDA kernels' entries: those of cpu/kernels.h with a stream in the place of the thread count. Tensors
// lie in the memory of the stream's device. Nothing is allocated and nothing waited for: workspaces come from
// the caller. A switch that points outside its window is skipped.
#pragma once
#include "cuda/device.h"
#include "geometry/pool_shape.h"
#include "tensor_ref.h"

namespace deconvkit::cuda {

// Pooling: contracts as in cpu/kernels.h.
using Pool = void(const TensorRef&, const TensorRef&, const TensorRef&, const PoolShape&, const Stream&);
Pool max_pool2d_with_switches;  // input, output, switches
Pool max_pool2d_backward;       // grad_output, switches, grad_input
Pool max_pool2d_gather;         // input, switches, output
Pool max_unpool2d;              // input, switches, output
Pool max_unpool2d_backward;     // grad_output, switches, grad_input

}  // namespace deconvkit::cuda
