"""ONNX Runtime as a provider: models of one node, run on torch's memory. Needs onnx and onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvkit.bench.layers import Conv, Pool

_OPSET = 13  # what every version since 2020 reads


def missing() -> str:
    """Which of its two packages is not installed; empty if both are."""
    return next((name for name in ("onnx", "onnxruntime") if find_spec(name) is None), "")


def tensors(answer: Any) -> list[Tensor]:
    """The outputs of a run."""
    return [torch.from_numpy(value.numpy().copy()) for value in answer]


def convolution(layer: Conv, weight: Tensor, bias: Tensor) -> Callable[..., Any]:
    """The convolution with weight and bias as constants, which ONNX Runtime may prepare in advance.

    They are taken as arguments, like the other providers' functions take them, and not looked at.
    """
    axes = len(layer.size)
    attributes = {"output_padding": [layer.output_padding] * axes} if layer.transposed else {}
    return _session(
        "ConvTranspose" if layer.transposed else "Conv",
        layer.input_shape,
        [layer.output_shape],
        {"weight": weight, "bias": bias},
        kernel_shape=[layer.kernel] * axes,
        strides=[layer.stride] * axes,
        pads=[layer.padding] * 2 * axes,
        group=layer.groups,
        **attributes,
    )


def max_pool(layer: Pool) -> Callable[..., Any]:
    """Max-pooling that returns indices."""
    return _session(
        "MaxPool", layer.map_shape, [layer.pooled_shape, layer.pooled_shape], {}, **_window(layer)
    )


def max_unpool(layer: Pool, indices: Tensor) -> Callable[..., Any]:
    """Unpooling; ``indices`` are torch's, inside one map, and become ONNX's, inside the whole tensor."""
    maps = layer.batch * layer.channels
    cells = layer.size[0] * layer.size[1]
    whole = indices + cells * torch.arange(maps).view(layer.batch, layer.channels, 1, 1)
    shape = torch.tensor(layer.map_shape)
    constants = {"indices": whole, "shape": shape}
    return _session("MaxUnpool", layer.pooled_shape, [layer.map_shape], constants, **_window(layer))


def _window(layer: Pool) -> dict[str, list[int]]:
    return {
        "kernel_shape": [layer.kernel] * 2,
        "strides": [layer.stride] * 2,
        "pads": [layer.padding] * 4,
    }


def _session(
    op: str,
    input_shape: Sequence[int],
    output_shapes: Sequence[Sequence[int]],
    constants: dict[str, Tensor],
    **attributes: Any,
) -> Callable[..., Any]:
    """A function of the input (further arguments are left unread) that returns the outputs as OrtValues."""
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64)
    outputs = [
        helper.make_tensor_value_info(f"output{i}", kind, shape)
        for i, (kind, shape) in enumerate(zip(kinds, output_shapes, strict=False))
    ]
    graph = helper.make_graph(
        [helper.make_node(op, ["input", *constants], [each.name for each in outputs], **attributes)],
        op,
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, input_shape)],
        outputs,
        [
            numpy_helper.from_array(value.detach().contiguous().numpy(), name)
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Its threads would otherwise go on spinning while the next provider is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def run(input: Tensor, *_: Tensor) -> Any:
        binding = session.io_binding()
        binding.bind_input("input", "cpu", 0, np.float32, tuple(input.shape), input.data_ptr())
        for each in outputs:
            binding.bind_output(each.name, "cpu")
        session.run_with_iobinding(binding)
        return binding.get_outputs()

    return run
