// Numbers as they are stored, and from a dtype at run time to a type at compile time; for CPU and CUDA.
#pragma once
#include <cstdint>

#include "tensor_ref.h"

namespace deconvkit {

// Storage types of the half-width floats.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// The type in which a storage type is computed.
template <class T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<BFloat16> {
  using type = float;
};
template <>
struct ComputeOf<Float16> {
  using type = float;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

template <class T>
struct Type {
  using type = T;
};

// Calls f(Type<T>{}) with the storage type of a floating dtype. The ops layer admits no other dtype. (Emitted
// under the name of the caller's lambda, so that instruction sets do not share it.)
template <class F>
inline void for_float_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat64:
      return f(Type<double>{});
    case DType::kBFloat16:
      return f(Type<BFloat16>{});
    case DType::kFloat16:
      return f(Type<Float16>{});
    default:
      return f(Type<float>{});
  }
}

// The same for the types that store switches.
template <class F>
inline void for_switch_dtype(DType dtype, F&& f) {
  if (dtype == DType::kUInt8) return f(Type<uint8_t>{});
  return f(Type<int32_t>{});
}

}  // namespace deconvkit
