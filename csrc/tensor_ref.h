// A non-owning view of a strided tensor: all that the core knows of PyTorch's tensors.
#pragma once
#include <cstdint>

namespace deconvkit {

enum class DType : int32_t { kFloat32, kFloat64, kBFloat16, kFloat16, kUInt8, kUInt16, kInt32, kInt64 };

constexpr int kMaxRank = 5;

struct TensorRef {
  void* data = nullptr;  // nullptr: no tensor (an absent bias)
  DType dtype = DType::kFloat32;
  int32_t rank = 0;
  int64_t size[kMaxRank] = {};
  int64_t stride[kMaxRank] = {};  // in elements

  explicit operator bool() const { return data != nullptr; }
  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= size[i];
    return n;
  }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// A 3-d tensor as one of height 1; others as they are.
inline TensorRef of_height(TensorRef t) {
  if (t.rank != 3) return t;
  t.rank = 4;
  t.size[3] = t.size[2];
  t.stride[3] = t.stride[2];
  t.size[2] = 1;
  return t;
}

}  // namespace deconvkit
