// deconvkit._C: a flat table of the native functions, no logic. python/deconvkit/_C.pyi is the same table,
// typed.
#include <pybind11/stl.h>

#include "cpu/isa.h"
#include "geometry/implicit_gemm.h"
#include "geometry/implicit_gemm_sm90.h"
#include "geometry/winograd.h"
#include "guard.h"
#include "tensor_ref_caster.h"

namespace py = pybind11;
using namespace deconvkit;

namespace {

using Pair = std::array<int64_t, 2>;

// A pooling op of the table: two tensors in, one out or one in, two out; `Big`, `Pooled` and `Switches` say
// which of the three is what.
template <Kernels::Pool Kernels::* Op, int Big, int Pooled, int Switches>
bool pool(const TensorRef& a, const TensorRef& b, const TensorRef& c, const Pair& kernel, const Pair& stride,
          const Pair& padding, const Pair& dilation, int threads) {
  const TensorRef* t[] = {&a, &b, &c};
  const int64_t *in = t[Big]->size + 2, *out = t[Pooled]->size + 2;
  const PoolShape shape = {{in[0], out[0], kernel[0], stride[0], padding[0], dilation[0]},
                           {in[1], out[1], kernel[1], stride[1], padding[1], dilation[1]}};
  guard::pooling(*t[Big], *t[Pooled], *t[Switches], shape);
  return (kernels().*Op)(a, b, c, shape, threads);
}

// Whether the implicit GEMM of CUDA's tensor cores serves a convolution, for elements of so many bytes; and
// whether Hopper's own kernel takes it, which has 16-bit elements.
py::tuple implicit_gemms(bool transposed, int element_bytes, int64_t batch, int64_t small_channels,
                         int64_t large_channels, const Pair& small, const Pair& large, const Pair& kernel,
                         const Pair& stride, const Pair& padding, const Pair& dilation, int64_t groups) {
  const ConvShape shape = {batch,
                           small_channels,
                           large_channels,
                           groups,
                           {small[0], large[0], kernel[0], stride[0], padding[0], dilation[0]},
                           {small[1], large[1], kernel[1], stride[1], padding[1], dilation[1]}};
  const bool any = element_bytes <= 4 && GemmTiles(shape, transposed, element_bytes, false).serves();
  const bool hoppers_own = element_bytes == Sm90Tiles::kElementBytes &&
                           Sm90Tiles(shape, transposed, false).serves() &&
                           !Sm90Tiles::has_few_tiles(shape, transposed);
  return py::make_tuple(any, hoppers_own);
}

// All that the transform of a weight depends on; both sides are of one pixel.
ConvShape weight_shape(const TensorRef& weight, const Pair& stride, const Pair& padding, const Pair& dilation,
                       int64_t groups) {
  const ConvShape shape = {1,
                           weight.size[0],
                           weight.size[1] * groups,
                           groups,
                           {1, 1, weight.size[2], stride[0], padding[0], dilation[0]},
                           {1, 1, weight.size[3], stride[1], padding[1], dilation[1]}};
  guard::transform(weight, shape);
  return shape;
}

// A convolution of the table; a 3-d tensor is one of height 1.
using Convolution = void (*Kernels::*)(const TensorRef&, const TensorRef&, const TensorRef&, const TensorRef&,
                                       const ConvShape&, const ConvOptions&, int);
template <Convolution Op, bool Transposed>
void convolution(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                 const TensorRef& output, const Pair& stride, const Pair& padding, const Pair& dilation,
                 int64_t groups, int activation, double slope, int algorithm, int threads,
                 const TensorRef& transformed) {
  const TensorRef in = of_height(input), w = of_height(weight), out = of_height(output);
  const ConvShape shape =
      guard::conv_shape(Transposed ? in : out, Transposed ? out : in, w, stride, padding, dilation, groups);
  guard::epilogue(bias, out, activation, algorithm);
  if (transformed) {
    guard::transformed(transformed, w.dtype, kernels().conv_transformed_size(Transposed, w.dtype, shape));
  }
  (kernels().*Op)(
      in, w, bias, out, shape,
      {static_cast<Activation>(activation), slope, static_cast<ConvAlgorithm>(algorithm), transformed.data},
      threads);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  const auto no_gil = py::call_guard<py::gil_scoped_release>();

  m.def("isa", [] { return kernels().isa; });
  m.def("vector_bytes", [] { return kernels().vector_bytes; });
  m.def("available_isas", &available_isas);
  m.def("select_isa", &select_isa, py::arg("name"));

  // Whether the algorithm serves a convolution, or leaves it to the direct one.
  m.def("has_winograd", [](bool transposed, const Pair& small, const Pair& large, const Pair& kernel,
                           const Pair& stride, const Pair& padding, const Pair& dilation) {
    WinogradAxis h, w;
    return make_winograd_axes({small[0], large[0], kernel[0], stride[0], padding[0], dilation[0]},
                              {small[1], large[1], kernel[1], stride[1], padding[1], dilation[1]}, transposed,
                              h, w);
  });

  m.def("implicit_gemms", &implicit_gemms);

  m.def("max_pool2d_with_switches", &pool<&Kernels::max_pool2d_with_switches, 0, 1, 2>, no_gil);
  m.def("max_pool2d_backward", &pool<&Kernels::max_pool2d_backward, 2, 0, 1>, no_gil);
  m.def("max_pool2d_gather", &pool<&Kernels::max_pool2d_gather, 0, 2, 1>, no_gil);
  m.def("max_unpool2d", &pool<&Kernels::max_unpool2d, 2, 0, 1>, no_gil);
  m.def("max_unpool2d_backward", &pool<&Kernels::max_unpool2d_backward, 0, 2, 1>, no_gil);

  m.def("conv_transpose2d", &convolution<&Kernels::conv_transpose2d, true>, no_gil);
  m.def("conv2d", &convolution<&Kernels::conv2d, false>, no_gil);
  m.def(
      "conv_transformed_size",
      [](bool transposed, const TensorRef& weight, const Pair& stride, const Pair& padding,
         const Pair& dilation, int64_t groups) {
        const TensorRef w = of_height(weight);
        const ConvShape shape = weight_shape(w, stride, padding, dilation, groups);
        return kernels().conv_transformed_size(transposed, w.dtype, shape);
      },
      no_gil);
  m.def(
      "conv_transform_weights",
      [](bool transposed, const TensorRef& weight, const TensorRef& transformed, const Pair& stride,
         const Pair& padding, const Pair& dilation, int64_t groups, int threads) {
        const TensorRef w = of_height(weight);
        const ConvShape shape = weight_shape(w, stride, padding, dilation, groups);
        guard::transformed(transformed, w.dtype, kernels().conv_transformed_size(transposed, w.dtype, shape));
        kernels().conv_transform_weights(transposed, w, transformed, shape, threads);
      },
      no_gil);
  m.def(
      "fingerprint",
      [](const TensorRef& tensor, int threads) { return kernels().fingerprint(tensor, threads); }, no_gil);
  m.def(
      "change_layout",
      [](const TensorRef& input, const TensorRef& output, int threads) {
        guard::copy(input, output);
        kernels().change_layout(input, output, threads);
      },
      no_gil);
  m.def(
      "channel_sums",
      [](const TensorRef& input, const TensorRef& output, int threads) {
        const TensorRef x = of_height(input);
        guard::channel_sums(x, output);
        kernels().channel_sums(x, output, threads);
      },
      no_gil);
  m.def(
      "conv_weight_grad",
      [](const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight, const Pair& stride,
         const Pair& padding, const Pair& dilation, int64_t groups, int algorithm, int threads) {
        const TensorRef s = of_height(small), l = of_height(large), w = of_height(grad_weight);
        const ConvShape shape = guard::conv_shape(s, l, w, stride, padding, dilation, groups);
        guard::epilogue({}, w, 0, algorithm);
        kernels().conv_weight_grad(s, l, w, shape, static_cast<ConvAlgorithm>(algorithm), threads);
      },
      no_gil);

  m.def(
      "sparse_sigmoid",
      [](const TensorRef& z, const TensorRef& activations, const TensorRef& sums, const TensorRef& penalty,
         const TensorRef& slope, double rho, double beta, int threads) {
        guard::activations(z, activations);
        guard::statistics(z, sums, penalty, slope);
        kernels().sparse_sigmoid(z, activations, sums, penalty, slope, rho, beta, threads);
      },
      no_gil);
  m.def(
      "sparse_kl",
      [](const TensorRef& activations, const TensorRef& sums, const TensorRef& penalty,
         const TensorRef& slope, double rho, double beta, int threads) {
        guard::activations(activations, activations);
        guard::statistics(activations, sums, penalty, slope);
        kernels().sparse_kl(activations, sums, penalty, slope, rho, beta, threads);
      },
      no_gil);
  m.def(
      "sparse_kl_from_sums",
      [](const TensorRef& sums, const TensorRef& penalty, const TensorRef& slope, double samples,
         double scale, double rho, double beta) {
        guard::from_sums(sums, penalty, slope);
        kernels().sparse_kl_from_sums(sums, penalty, slope, samples, scale, rho, beta);
      },
      no_gil);
  m.def(
      "sparse_sigmoid_backward",
      [](const TensorRef& grad_activations, const TensorRef& z, const TensorRef& slope,
         const TensorRef& grad_penalty, const TensorRef& grad_z, int threads) {
        guard::activations(z, grad_z);
        if (grad_activations) guard::activations(z, grad_activations);
        guard::gradients(z, slope, grad_penalty);
        kernels().sparse_sigmoid_backward(grad_activations, z, slope, grad_penalty, grad_z, threads);
      },
      no_gil);
}
