// deconvkit._C_cuda: a flat table of the native functions for CUDA tensors, no logic.
// python/deconvkit/_C_cuda.pyi is the same table, typed. Entries are those of _C with (device, stream) in the
// place of the thread count.
#include <pybind11/stl.h>

#include "cuda/kernels.h"
#include "guard.h"
#include "tensor_ref_caster.h"

namespace py = pybind11;
using namespace deconvkit;

namespace pybind11::detail {

// (device index, stream as an integer).
template <>
struct type_caster<cuda::Stream> {
  PYBIND11_TYPE_CASTER(cuda::Stream, const_name("tuple[int, int]"));

  bool load(handle source, bool /*convert*/) {
    PyObject* t = source.ptr();
    if (!PyTuple_Check(t) || PyTuple_GET_SIZE(t) != 2) return false;
    value.device = static_cast<int>(PyLong_AsLong(PyTuple_GET_ITEM(t, 0)));
    value.handle = PyLong_AsVoidPtr(PyTuple_GET_ITEM(t, 1));
    if (!PyErr_Occurred()) return true;
    PyErr_Clear();
    return false;
  }
};

}  // namespace pybind11::detail

namespace {

using Pair = std::array<int64_t, 2>;

// As pool() of bindings.cpp. Always true: a switch that points outside is skipped.
template <cuda::Pool* Op, int Big, int Pooled, int Switches>
bool pool(const TensorRef& a, const TensorRef& b, const TensorRef& c, const Pair& kernel, const Pair& stride,
          const Pair& padding, const Pair& dilation, const cuda::Stream& stream) {
  const TensorRef* t[] = {&a, &b, &c};
  const int64_t *in = t[Big]->size + 2, *out = t[Pooled]->size + 2;
  const PoolShape shape = {{in[0], out[0], kernel[0], stride[0], padding[0], dilation[0]},
                           {in[1], out[1], kernel[1], stride[1], padding[1], dilation[1]}};
  guard::pooling(*t[Big], *t[Pooled], *t[Switches], shape);
  Op(a, b, c, shape, stream);
  return true;
}

// As convolution() of bindings.cpp.
using Convolution = void (*)(const TensorRef&, const TensorRef&, const TensorRef&, const TensorRef&,
                             const ConvShape&, const ConvOptions&, const TensorRef&, const cuda::Stream&);
template <Convolution Op, bool Transposed>
void convolution(const TensorRef& input, const TensorRef& weight, const TensorRef& bias,
                 const TensorRef& output, const Pair& stride, const Pair& padding, const Pair& dilation,
                 int64_t groups, int activation, double slope, int algorithm, const cuda::Stream& stream,
                 const TensorRef& workspace) {
  const TensorRef in = of_height(input), w = of_height(weight), out = of_height(output);
  const ConvShape shape =
      guard::conv_shape(Transposed ? in : out, Transposed ? out : in, w, stride, padding, dilation, groups);
  guard::epilogue(bias, out, activation, algorithm);
  const ConvOptions options = {static_cast<Activation>(activation), slope,
                               static_cast<ConvAlgorithm>(algorithm)};
  const int64_t doubles = cuda::conv_workspace_size(in, out, shape, options, Transposed);
  guard::require(doubles == 0 || guard::are_numbers(workspace, doubles, true),
                 "a workspace of as many float64 as conv_workspace_size says");
  Op(in, w, bias, out, shape, options, workspace, stream);
}

// The shape and the side of a bias, which is that of the sums of the large side's pixels, or of the small.
std::pair<ConvShape, BiasSide> weight_grad(const TensorRef& small, const TensorRef& large,
                                           const TensorRef& weight, const TensorRef& bias, bool of_large,
                                           const Pair& stride, const Pair& padding, const Pair& dilation,
                                           int64_t groups, int algorithm) {
  const ConvShape shape = guard::conv_shape(small, large, weight, stride, padding, dilation, groups);
  guard::epilogue(bias, of_large ? large : small, 0, algorithm);
  return {shape, !bias ? BiasSide::kNone : of_large ? BiasSide::kLarge : BiasSide::kSmall};
}

}  // namespace

PYBIND11_MODULE(_C_cuda, m) {
  const auto no_gil = py::call_guard<py::gil_scoped_release>();

  // (runtime, driver) as the CUDA runtime counts; driver 0: none.
  m.def("versions", [] {
    const cuda::Versions v = cuda::versions();
    return std::array<int, 2>{v.runtime, v.driver};
  });
  m.attr("architectures") = DECONVKIT_CUDA_ARCHS;  // compute capabilities, PTX of the last too
  m.def("registered_kernels", &cuda::registered_kernels);
  m.def("prepare", &cuda::prepare, py::arg("device"), no_gil);

  m.def("conv_transpose2d", &convolution<cuda::conv_transpose2d, true>, no_gil);
  m.def("conv2d", &convolution<cuda::conv2d, false>, no_gil);
  m.def(
      "conv_workspace_size",
      [](bool transposed, const TensorRef& input, const TensorRef& weight, const TensorRef& output,
         const Pair& stride, const Pair& padding, const Pair& dilation, int64_t groups, int algorithm) {
        const TensorRef in = of_height(input), w = of_height(weight), out = of_height(output);
        const ConvShape shape = guard::conv_shape(transposed ? in : out, transposed ? out : in, w, stride,
                                                  padding, dilation, groups);
        guard::epilogue({}, out, 0, algorithm);
        ConvOptions options;
        options.algorithm = static_cast<ConvAlgorithm>(algorithm);
        return cuda::conv_workspace_size(in, out, shape, options, transposed);
      },
      no_gil);
  m.def(
      "conv_weight_grad_workspace_size",
      [](const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
         const TensorRef& grad_bias, bool of_large, const Pair& stride, const Pair& padding,
         const Pair& dilation, int64_t groups, int algorithm) {
        const TensorRef s = of_height(small), l = of_height(large), w = of_height(grad_weight);
        const auto [shape, side] =
            weight_grad(s, l, w, grad_bias, of_large, stride, padding, dilation, groups, algorithm);
        return cuda::conv_weight_grad_workspace_size(s, l, w, side, shape,
                                                     static_cast<ConvAlgorithm>(algorithm));
      },
      no_gil);
  // Whether grad_bias was computed too: the sums of the large side's pixels, or of the small one's.
  m.def(
      "conv_weight_grad",
      [](const TensorRef& small, const TensorRef& large, const TensorRef& grad_weight,
         const TensorRef& grad_bias, bool of_large, const Pair& stride, const Pair& padding,
         const Pair& dilation, int64_t groups, int algorithm, const TensorRef& workspace,
         const cuda::Stream& stream) {
        const TensorRef s = of_height(small), l = of_height(large), w = of_height(grad_weight);
        const auto [shape, side] =
            weight_grad(s, l, w, grad_bias, of_large, stride, padding, dilation, groups, algorithm);
        const auto code = static_cast<ConvAlgorithm>(algorithm);
        const int64_t doubles = cuda::conv_weight_grad_workspace_size(s, l, w, side, shape, code);
        guard::require(doubles == 0 || guard::are_numbers(workspace, doubles, true),
                       "a workspace of as many float64 as conv_weight_grad_workspace_size says");
        return cuda::conv_weight_grad(s, l, w, grad_bias, side, shape, code, workspace, stream);
      },
      no_gil);

  m.def("max_pool2d_with_switches", &pool<cuda::max_pool2d_with_switches, 0, 1, 2>, no_gil);
  m.def("max_pool2d_backward", &pool<cuda::max_pool2d_backward, 2, 0, 1>, no_gil);
  m.def("max_pool2d_gather", &pool<cuda::max_pool2d_gather, 0, 2, 1>, no_gil);
  m.def("max_unpool2d", &pool<cuda::max_unpool2d, 2, 0, 1>, no_gil);
  m.def("max_unpool2d_backward", &pool<cuda::max_unpool2d_backward, 0, 2, 1>, no_gil);

  // Doubles of workspace that the next two take for activations of this shape.
  m.def("sparse_workspace_size", &cuda::sparse_workspace_size);
  m.def(
      "sparse_sigmoid",
      [](const TensorRef& z, const TensorRef& activations, const TensorRef& sums, const TensorRef& penalty,
         const TensorRef& slope, double rho, double beta, const TensorRef& workspace,
         const cuda::Stream& stream) {
        guard::activations(z, activations);
        guard::statistics(z, sums, penalty, slope);
        guard::workspace(workspace, cuda::sparse_workspace_size(z));
        cuda::sparse_sigmoid(z, activations, sums, penalty, slope, rho, beta, workspace, stream);
      },
      no_gil);
  m.def(
      "sparse_kl",
      [](const TensorRef& activations, const TensorRef& sums, const TensorRef& penalty,
         const TensorRef& slope, double rho, double beta, const TensorRef& workspace,
         const cuda::Stream& stream) {
        guard::activations(activations, activations);
        guard::statistics(activations, sums, penalty, slope);
        guard::workspace(workspace, cuda::sparse_workspace_size(activations));
        cuda::sparse_kl(activations, sums, penalty, slope, rho, beta, workspace, stream);
      },
      no_gil);
  m.def(
      "sparse_kl_from_sums",
      [](const TensorRef& sums, const TensorRef& samples, const TensorRef& penalty, const TensorRef& slope,
         double scale, double rho, double beta, const TensorRef& workspace, const cuda::Stream& stream) {
        guard::from_sums(sums, penalty, slope);
        guard::workspace(samples, 1);
        guard::workspace(workspace, slope.size[0]);
        cuda::sparse_kl_from_sums(sums, samples, penalty, slope, scale, rho, beta, workspace, stream);
      },
      no_gil);
  m.def(
      "sparse_sigmoid_backward",
      [](const TensorRef& grad_activations, const TensorRef& z, const TensorRef& slope,
         const TensorRef& grad_penalty, const TensorRef& grad_z, const cuda::Stream& stream) {
        guard::activations(z, grad_z);
        if (grad_activations) guard::activations(z, grad_activations);
        guard::gradients(z, slope, grad_penalty);
        cuda::sparse_sigmoid_backward(grad_activations, z, slope, grad_penalty, grad_z, stream);
      },
      no_gil);
}
