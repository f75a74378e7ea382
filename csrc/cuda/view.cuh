// A 4-d tensor as kernels see it.
#pragma once
#include "geometry/host_device.h"
#include "tensor_ref.h"

namespace deconvkit::cuda {

template <class T>
struct View {
  T* data;
  int64_t n, c, h, w;  // strides

  explicit View(const TensorRef& t)
      : data(t.as<T>()), n(t.stride[0]), c(t.stride[1]), h(t.stride[2]), w(t.stride[3]) {}
  DECONVKIT_HD T* at(int64_t in, int64_t ic, int64_t ih, int64_t iw) const {
    return data + in * n + ic * c + ih * h + iw * w;
  }
};

// Whether channels are innermost in memory.
inline bool channels_innermost(const TensorRef& t) { return t.size[1] > 1 && t.stride[1] < t.stride[3]; }

}  // namespace deconvkit::cuda
