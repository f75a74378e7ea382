// Turns what deconvkit/ops/_library.py calls a "ref", the tuple (data_ptr, dtype, sizes, strides), or None,
// into a TensorRef.
#pragma once
#include <pybind11/pybind11.h>

#include <array>

#include "tensor_ref.h"

namespace pybind11::detail {

template <>
struct type_caster<deconvkit::TensorRef> {
  PYBIND11_TYPE_CASTER(deconvkit::TensorRef,
                       const_name("tuple[int, int, tuple[int, ...], tuple[int, ...]] | None"));

  bool load(handle source, bool /*convert*/) {
    if (source.is_none()) return true;
    PyObject* t = source.ptr();
    if (!PyTuple_Check(t) || PyTuple_GET_SIZE(t) != 4) return false;
    PyObject* sizes = PyTuple_GET_ITEM(t, 2);
    PyObject* strides = PyTuple_GET_ITEM(t, 3);
    if (!PyTuple_Check(sizes) || !PyTuple_Check(strides)) return false;
    const Py_ssize_t rank = PyTuple_GET_SIZE(sizes);
    if (rank > deconvkit::kMaxRank || PyTuple_GET_SIZE(strides) != rank) return false;
    value.data = PyLong_AsVoidPtr(PyTuple_GET_ITEM(t, 0));
    value.dtype = static_cast<deconvkit::DType>(PyLong_AsLong(PyTuple_GET_ITEM(t, 1)));
    value.rank = static_cast<int32_t>(rank);
    for (Py_ssize_t i = 0; i < rank; ++i) {
      value.size[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(sizes, i));
      value.stride[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(strides, i));
    }
    if (PyErr_Occurred()) {
      PyErr_Clear();
      return false;
    }
    return true;
  }
};

// (height, width) of a geometry argument: any tuple or list of two integers.
template <>
struct type_caster<std::array<int64_t, 2>> {
  using Pair = std::array<int64_t, 2>;
  PYBIND11_TYPE_CASTER(Pair, const_name("tuple[int, int]"));

  bool load(handle source, bool /*convert*/) {
    PyObject* s = source.ptr();
    if (!PyTuple_Check(s) && !PyList_Check(s)) return false;
    if (PySequence_Fast_GET_SIZE(s) != 2) return false;
    for (int i = 0; i < 2; ++i) value[i] = PyLong_AsLongLong(PySequence_Fast_GET_ITEM(s, i));
    if (PyErr_Occurred()) {
      PyErr_Clear();
      return false;
    }
    return true;
  }
};

}  // namespace pybind11::detail
