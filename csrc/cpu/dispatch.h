// From a dtype at run time to a type at compile time. Included by per-ISA kernel files only.
#pragma once
#include "cpu/simd.h"
#include "tensor_ref.h"

namespace deconvkit::DECONVKIT_ISA_NAMESPACE {

template <class T>
struct Type {
  using type = T;
};

// Calls f(Type<T>{}) with the storage type of a floating dtype. The ops layer admits no other dtype.
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

}  // namespace deconvkit::DECONVKIT_ISA_NAMESPACE
