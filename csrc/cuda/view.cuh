// A 4-d tensor as kernels see it.
#pragma once
#include "geometry/conv_shape.h"
#include "geometry/host_device.h"
#include "tensor_ref.h"

namespace deconvkit::cuda {

template <class T>
struct View {
  T* data;
  int64_t n, c, h, w;  // strides

  View(T* data_, int64_t n_, int64_t c_, int64_t h_, int64_t w_) : data(data_), n(n_), c(c_), h(h_), w(w_) {}
  explicit View(const TensorRef& t)
      : data(t.as<T>()), n(t.stride[0]), c(t.stride[1]), h(t.stride[2]), w(t.stride[3]) {}
  template <class U>
  explicit View(const View<U>& v) : View(v.data, v.n, v.c, v.h, v.w) {}
  DECONVKIT_HD T* at(int64_t in, int64_t ic, int64_t ih, int64_t iw) const {
    return data + in * n + ic * c + ih * h + iw * w;
  }
};

// A convolution's weight by the sides of a gather: `in` is read, `out` made; channels are of a group.
template <class T>
struct WeightView {
  const T* data;
  int64_t group, in, out, h, w;  // strides

  WeightView(const TensorRef& t, const ConvShape& s, bool transposed)
      : data(t.as<const T>()),
        group(s.group_small() * t.stride[0]),
        in(t.stride[transposed ? 0 : 1]),
        out(t.stride[transposed ? 1 : 0]),
        h(t.stride[2]),
        w(t.stride[3]) {}
};

// Whether channels are innermost in memory.
inline bool channels_innermost(const TensorRef& t) { return t.size[1] > 1 && t.stride[1] < t.stride[3]; }

}  // namespace deconvkit::cuda
