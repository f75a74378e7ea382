"""Max-pooling that records switches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deconvkit.ops import _arguments as arguments
from deconvkit.ops import _library as library

Pair = tuple[int, int]


def switch_dtype(kernel_size: Pair) -> torch.dtype:
    """uint8 where a window's cells and the sentinel fit, else uint16."""
    return torch.uint8 if kernel_size[0] * kernel_size[1] <= 255 else torch.uint16


def pooled_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """torch's output size of one axis: ceil_mode's last window still starts inside input or left padding."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    out = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (out - 1) * stride >= size + padding:
        out -= 1
    return out


def _output_shape(
    input: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil: bool
) -> tuple[int, ...]:
    h, w = (
        pooled_size(input.shape[2 + i], kernel[i], stride[i], padding[i], dilation[i], ceil) for i in (0, 1)
    )
    return input.shape[0], input.shape[1], h, w


def _allocate(
    input: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    shape = _output_shape(input, kernel, stride, padding, dilation, ceil_mode)
    memory_format = library.memory_format(input)
    output = torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=memory_format)
    switches = torch.empty(
        shape, dtype=switch_dtype(kernel), device=input.device, memory_format=memory_format
    )
    return output, switches


def _impl(
    input: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    output, switches = _allocate(input, kernel, stride, padding, dilation, ceil_mode)
    library.native(input).max_pool2d_with_switches(
        library.ref(input),
        library.ref(output),
        library.ref(switches),
        kernel,
        stride,
        padding,
        dilation,
        torch.get_num_threads(),
    )
    return output, switches


def _vmap(info: Any, in_dims: Any, input: Tensor, *geometry: Any) -> tuple[Any, Any]:
    output, switches = _with_switches(library.fold(input, in_dims[0], info.batch_size), *geometry)
    return (library.unfold(output, info.batch_size), library.unfold(switches, info.batch_size)), (0, 0)


_with_switches = library.register(
    "max_pool2d_with_switches(Tensor input, int[2] kernel_size, int[2] stride, int[2] padding, "
    "int[2] dilation, bool ceil_mode) -> (Tensor output, Tensor switches)",
    _impl,
    _allocate,
    _vmap,
)


class _MaxPool2d(library.Function):
    @staticmethod
    def forward(
        input: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
    ) -> Any:
        return _with_switches(input, kernel, stride, padding, dilation, ceil_mode)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.geometry = inputs[1:5]
        ctx.input_size = inputs[0].shape[2:]

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, _: Any) -> Any:
        raise NotImplementedError


def max_pool2d_with_switches(
    input: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """Max-pool and record switches."""
    op = "max_pool2d_with_switches"
    arguments.check_float(op, "input", input)
    arguments.check_rank(op, "input", input, 3, "(N, C, H, W) or (C, H, W)")
    kernel = arguments.int_tuple(op, "kernel_size", kernel_size, 2, 1)
    strides = kernel if stride is None else arguments.int_tuple(op, "stride", stride, 2, 1)
    pads = arguments.int_tuple(op, "padding", padding, 2, 0)
    dilations = arguments.int_tuple(op, "dilation", dilation, 2, 1)
    if input.dim() == 3:
        output, switches = _MaxPool2d.call(input.unsqueeze(0), kernel, strides, pads, dilations, ceil_mode)
        return output.squeeze(0), switches.squeeze(0)
    return _MaxPool2d.call(input, kernel, strides, pads, dilations, ceil_mode)
