// deconvkit._C: a flat table of the native functions, no logic. python/deconvkit/_C.pyi is the same table,
// typed.
#include <pybind11/stl.h>

#include "cpu/isa.h"
#include "tensor_ref_caster.h"

namespace py = pybind11;
using namespace deconvkit;

namespace {

using Pair = std::array<int64_t, 2>;

PoolShape pool_shape(const TensorRef& input, const TensorRef& output, const Pair& kernel, const Pair& stride,
                     const Pair& padding, const Pair& dilation) {
  return {{input.size[2], output.size[2], kernel[0], stride[0], padding[0], dilation[0]},
          {input.size[3], output.size[3], kernel[1], stride[1], padding[1], dilation[1]}};
}

ConvShape conv_shape(const TensorRef& small, const TensorRef& large, const TensorRef& weight,
                     const Pair& stride, const Pair& padding, const Pair& dilation, int64_t groups) {
  return {small.size[0],
          small.size[1],
          large.size[1],
          groups,
          {small.size[2], large.size[2], weight.size[2], stride[0], padding[0], dilation[0]},
          {small.size[3], large.size[3], weight.size[3], stride[1], padding[1], dilation[1]}};
}

ConvOptions conv_options(int activation, double slope, int algorithm) {
  return {static_cast<Activation>(activation), slope, static_cast<ConvAlgorithm>(algorithm)};
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  const auto no_gil = py::call_guard<py::gil_scoped_release>();

  m.def("isa", [] { return kernels().isa; });
  m.def("vector_bytes", [] { return kernels().vector_bytes; });
  m.def("available_isas", &available_isas);
  m.def("select_isa", &select_isa, py::arg("name"));

  m.def(
      "max_pool2d_with_switches",
      [](const TensorRef& input, const TensorRef& output, const TensorRef& switches, const Pair& kernel_size,
         const Pair& stride, const Pair& padding, const Pair& dilation, int threads) {
        kernels().max_pool2d_with_switches(input, output, switches,
                                           pool_shape(input, output, kernel_size, stride, padding, dilation),
                                           threads);
      },
      no_gil);

  m.def(
      "conv_transpose2d",
      [](const TensorRef& input, const TensorRef& weight, const TensorRef& bias, const TensorRef& output,
         const Pair& stride, const Pair& padding, const Pair& dilation, int64_t groups, int activation,
         double slope, int algorithm, int threads) {
        kernels().conv_transpose2d(input, weight, bias, output,
                                   conv_shape(input, output, weight, stride, padding, dilation, groups),
                                   conv_options(activation, slope, algorithm), threads);
      },
      no_gil);
  m.def(
      "conv2d",
      [](const TensorRef& input, const TensorRef& weight, const TensorRef& bias, const TensorRef& output,
         const Pair& stride, const Pair& padding, const Pair& dilation, int64_t groups, int activation,
         double slope, int algorithm, int threads) {
        kernels().conv2d(input, weight, bias, output,
                         conv_shape(output, input, weight, stride, padding, dilation, groups),
                         conv_options(activation, slope, algorithm), threads);
      },
      no_gil);
  m.def(
      "conv_weight_grad",
      [](const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight, const Pair& stride,
         const Pair& padding, const Pair& dilation, int64_t groups, int algorithm, int threads) {
        kernels().conv_weight_grad(small, large, grad_weight,
                                   conv_shape(small, large, grad_weight, stride, padding, dilation, groups),
                                   static_cast<ConvAlgorithm>(algorithm), threads);
      },
      no_gil);
}
