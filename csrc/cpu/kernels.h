// The table of CPU kernels: one entry an op, filled in once per instruction set (kernels.cpp).
// Every kernel takes tensors that the ops layer has checked and allocated, and a thread count; results do not
// depend on the latter. A kernel that must distrust its data (switches, indices) returns false when it met a
// value that it could not use; it has then written nothing outside its output.
#pragma once
#include <cstdint>

#include "geometry/pool_shape.h"
#include "tensor_ref.h"

namespace deconvkit {

struct Kernels {
  const char* isa;
  int vector_bytes;

  // input (N, C, H, W) -> output (N, C, OH, OW), switches (N, C, OH, OW); any strides.
  void (*max_pool2d_with_switches)(const TensorRef& input, const TensorRef& output, const TensorRef& switches,
                                   const PoolShape& shape, int threads);
};

}  // namespace deconvkit
