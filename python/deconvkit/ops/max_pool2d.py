"""Max-pooling that records switches, its backward and that backward's adjoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deconvkit.ops import _arguments as arguments
from deconvkit.ops import _library as library
from deconvkit.ops._windows import Pair, check_geometry, pooled_size, run_by_switches, switch_dtype

_GEOMETRY = "int[2] kernel_size, int[2] stride, int[2] padding, int[2] dilation"


# ---- max_pool2d_with_switches: (N, C, H, W) -> (N, C, OH, OW) twice ----


def _empty_pooled(
    input: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    n, c, h, w = input.shape
    h = pooled_size(h, kernel[0], stride[0], padding[0], dilation[0], ceil_mode)
    w = pooled_size(w, kernel[1], stride[1], padding[1], dilation[1], ceil_mode)
    output = library.empty(input, (n, c, h, w), library.is_channels_last(input))
    return output, torch.empty_like(output, dtype=switch_dtype(kernel))


def _pool_impl(
    input: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    output, switches = _empty_pooled(input, kernel, stride, padding, dilation, ceil_mode)
    input = library.dense(input, library.is_channels_last(input))
    library.native(input).max_pool2d_with_switches(
        library.ref(input),
        library.ref(output),
        library.ref(switches),
        kernel,
        stride,
        padding,
        dilation,
        library.lane(input),
    )
    return output, switches


def _pool_vmap(info: Any, in_dims: Any, input: Tensor, *geometry: Any) -> tuple[Any, Any]:
    output, switches = _pool(library.fold(input, in_dims[0], info.batch_size), *geometry)
    return (library.unfold(output, info.batch_size), library.unfold(switches, info.batch_size)), (0, 0)


_pool = library.register(
    f"max_pool2d_with_switches(Tensor input, {_GEOMETRY}, bool ceil_mode) "
    "-> (Tensor output, Tensor switches)",
    _pool_impl,
    _empty_pooled,
    _pool_vmap,
)


# ---- max_pool2d_backward: (N, C, OH, OW) -> (N, C, H, W) and its adjoint max_pool2d_gather ----


def _empty_spread(grad_output: Tensor, switches: Tensor, input_size: Pair, *_: Any) -> Tensor:
    n, c = grad_output.shape[:2]
    return library.empty(grad_output, (n, c, *input_size), library.is_channels_last(switches))


def _backward_impl(
    grad_output: Tensor,
    switches: Tensor,
    input_size: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    grad_input = _empty_spread(grad_output, switches, input_size)
    run_by_switches(
        "max_pool2d_backward", grad_output, switches, grad_input, kernel, stride, padding, dilation
    )
    return grad_input


def _empty_gathered(input: Tensor, switches: Tensor, *_: Any) -> Tensor:
    return library.empty(input, tuple(switches.shape), library.is_channels_last(switches))


def _gather_impl(
    input: Tensor, switches: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    output = _empty_gathered(input, switches)
    run_by_switches("max_pool2d_gather", input, switches, output, kernel, stride, padding, dilation)
    return output


_backward = library.register(
    f"max_pool2d_backward(Tensor grad_output, Tensor switches, SymInt[2] input_size, {_GEOMETRY}) -> Tensor",
    _backward_impl,
    _empty_spread,
    2,
)
_gather = library.register(
    f"max_pool2d_gather(Tensor input, Tensor switches, {_GEOMETRY}) -> Tensor",
    _gather_impl,
    _empty_gathered,
    2,
)


# ---- autograd ----


class _MaxPool2d(library.Function):
    op = "max_pool2d_with_switches"

    @staticmethod
    def forward(
        input: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
    ) -> Any:
        return _pool(input, kernel, stride, padding, dilation, ceil_mode)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        switches = output[1]
        ctx.mark_non_differentiable(switches)
        ctx.save_for_backward(switches)
        ctx.arguments = inputs[0].shape[2:], *inputs[1:5]

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, _: Any) -> Any:
        grad = _MaxPool2dBackward.call(grad_output, ctx.saved_tensors[0], *ctx.arguments)
        return grad, None, None, None, None, None


class _MaxPool2dBackward(library.Function):
    op = "max_pool2d_backward"

    @staticmethod
    def forward(
        grad_output: Tensor,
        switches: Tensor,
        input_size: Pair,
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
    ) -> Tensor:
        return _backward(grad_output, switches, input_size, kernel, stride, padding, dilation)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.geometry = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        grad = _MaxPool2dGather.call(grad, ctx.saved_tensors[0], *ctx.geometry)
        return grad, None, None, None, None, None, None


class _MaxPool2dGather(library.Function):
    op = "max_pool2d_gather"

    @staticmethod
    def forward(
        input: Tensor, switches: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
    ) -> Tensor:
        return _gather(input, switches, kernel, stride, padding, dilation)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.arguments = inputs[0].shape[2:], *inputs[2:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        grad = _MaxPool2dBackward.call(grad, ctx.saved_tensors[0], *ctx.arguments)
        return grad, None, None, None, None, None


# ---- public ----


def _check_input(op: str, input: Tensor, geometry: Any, ceil_mode: Any) -> None:
    """Raise for a 4-d ``input`` that these windows cannot pool."""
    if ceil_mode is not True and ceil_mode is not False:
        raise TypeError(f"{op}: ceil_mode: expected a bool, got {arguments.shown(ceil_mode)}")
    kernel, _, padding, dilation = geometry
    _, c, h, w = input.shape
    if (
        not (c and h and w)
        or h + 2 * padding[0] <= dilation[0] * (kernel[0] - 1)
        or w + 2 * padding[1] <= dilation[1] * (kernel[1] - 1)
    ):
        raise ValueError(
            f"{op}: input: expected at least one channel and, with padding {padding}, room for one window of "
            f"{kernel} cells at dilation {dilation}, got channels, height and width {(c, h, w)}"
        )


def max_pool2d_with_switches(
    input: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """Max-pool and record where each maximum was found.

    A switch is the offset kh * KW + kw of the maximum inside its window, before the window is clipped at the
    border: uint8 for windows of up to 255 cells, int32 above; the largest value says that the window has no
    valid cell, and the output is then -inf. As in torch, ties keep the first cell in row-major order, the
    last NaN wins and padding is never the maximum. Saves the switches for backward, not the input.

    Equivalent to::

        output, indices = torch.nn.functional.max_pool2d(
            input, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)
        switches = deconvkit.indices_to_switches(
            indices, input.shape[-2:], kernel_size, stride, padding, dilation)

    Source: the switches of Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2014),
    section 2.1.

    Args:
        input: (N, C, H, W) or (C, H, W); float32, float64, bfloat16 or float16, any strides; N may be 0.
        kernel_size: Window size (height, width) in cells; an int stands for both.
        stride: Distance of neighbouring windows in cells; None means ``kernel_size``.
        padding: Cells added on each side, at most half of the effective kernel size
            dilation * (kernel_size - 1) + 1. (torch.max_pool2d: half of ``kernel_size``.)
        dilation: Distance of neighbouring cells of a window.
        ceil_mode: Also pool a last window that begins inside the input but does not fit.

    Returns:
        output and switches, both (N, C, OH, OW) or (C, OH, OW), channels_last where ``input`` is.
        OH = floor or ceil((H + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1.

    Raises:
        ValueError: A size, a rank, the padding or an empty output is wrong.
        TypeError: ``input`` is not a floating tensor, or an argument has another type.
    """
    op = "max_pool2d_with_switches"
    arguments.check_float(op, "input", input)
    arguments.check_rank(op, "input", input, 3, "(N, C, H, W) or (C, H, W)")
    geometry = check_geometry(op, 2, kernel_size, stride, padding, dilation)
    if input.dim() == 4:
        _check_input(op, input, geometry, ceil_mode)
        return _MaxPool2d.call(input, *geometry, ceil_mode)
    input = input.unsqueeze(0)
    _check_input(op, input, geometry, ceil_mode)
    output, switches = _MaxPool2d.call(input, *geometry, ceil_mode)
    return output.squeeze(0), switches.squeeze(0)


def max_pool1d_with_switches(
    input: Tensor,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: int | tuple[int] = 0,
    dilation: int | tuple[int] = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """Max-pool along the last dimension and record where each maximum was found.

    :func:`max_pool2d_with_switches` at height 1; a switch is the offset kw inside its window.

    Equivalent to::

        output, indices = torch.nn.functional.max_pool1d(
            input, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)
        switches = deconvkit.indices_to_switches(
            indices, input.shape[-1], kernel_size, stride, padding, dilation)

    Args:
        input: (N, C, L) or (C, L); float32, float64, bfloat16 or float16, any strides; N may be 0.
        kernel_size: Window size in cells.
        stride: Distance of neighbouring windows in cells; None means ``kernel_size``.
        padding: Cells added on each side, at most half of the effective kernel size
            dilation * (kernel_size - 1) + 1.
        dilation: Distance of neighbouring cells of a window.
        ceil_mode: Also pool a last window that begins inside the input but does not fit.

    Returns:
        output and switches, both (N, C, OL) or (C, OL).

    Raises:
        ValueError: A size, a rank, the padding or an empty output is wrong.
        TypeError: ``input`` is not a floating tensor, or an argument has another type.
    """
    op = "max_pool1d_with_switches"
    arguments.check_float(op, "input", input)
    arguments.check_rank(op, "input", input, 2, "(N, C, L) or (C, L)")
    geometry = check_geometry(op, 1, kernel_size, stride, padding, dilation)
    batched = input.dim() == 3
    input = input.unsqueeze(-2) if batched else input.unsqueeze(-2).unsqueeze(0)
    _check_input(op, input, geometry, ceil_mode)
    output, switches = _MaxPool2d.call(input, *geometry, ceil_mode)
    if batched:
        return output.squeeze(-2), switches.squeeze(-2)
    return output.squeeze(0).squeeze(-2), switches.squeeze(0).squeeze(-2)
