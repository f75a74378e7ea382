"""Max-unpooling by switches and its backward, which are each other's adjoints."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deconvkit.ops import _arguments as arguments
from deconvkit.ops import _library as library
from deconvkit.ops._windows import (
    Geometry,
    Pair,
    check_geometry,
    check_switches,
    check_unpooled_size,
    run_by_switches,
)

_GEOMETRY = "int[2] kernel_size, int[2] stride, int[2] padding, int[2] dilation"


# ---- max_unpool2d: (N, C, H, W) -> (N, C, OH, OW) and max_unpool2d_backward ----


def _empty_unpooled(input: Tensor, switches: Tensor, output_size: Pair, *_: Any) -> Tensor:
    n, c = input.shape[:2]
    return library.empty(input, (n, c, *output_size), library.is_channels_last(input))


def _unpool_impl(
    input: Tensor,
    switches: Tensor,
    output_size: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    output = _empty_unpooled(input, switches, output_size)
    run_by_switches("max_unpool2d", input, switches, output, kernel, stride, padding, dilation)
    return output


def _empty_repooled(grad_output: Tensor, switches: Tensor, *_: Any) -> Tensor:
    return library.empty(grad_output, tuple(switches.shape), library.is_channels_last(switches))


def _backward_impl(
    grad_output: Tensor, switches: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    grad_input = _empty_repooled(grad_output, switches)
    run_by_switches(
        "max_unpool2d_backward", grad_output, switches, grad_input, kernel, stride, padding, dilation
    )
    return grad_input


_unpool = library.register(
    f"max_unpool2d(Tensor input, Tensor switches, SymInt[2] output_size, {_GEOMETRY}) -> Tensor",
    _unpool_impl,
    _empty_unpooled,
    2,
)
_backward = library.register(
    f"max_unpool2d_backward(Tensor grad_output, Tensor switches, {_GEOMETRY}) -> Tensor",
    _backward_impl,
    _empty_repooled,
    2,
)


# ---- autograd ----


class _MaxUnpool2d(library.Function):
    op = "max_unpool2d"

    @staticmethod
    def forward(
        input: Tensor,
        switches: Tensor,
        output_size: Pair,
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
    ) -> Tensor:
        return _unpool(input, switches, output_size, kernel, stride, padding, dilation)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.geometry = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        grad = _MaxUnpool2dBackward.call(grad_output, ctx.saved_tensors[0], *ctx.geometry)
        return grad, None, None, None, None, None, None


class _MaxUnpool2dBackward(library.Function):
    op = "max_unpool2d_backward"

    @staticmethod
    def forward(
        grad_output: Tensor, switches: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
    ) -> Tensor:
        return _backward(grad_output, switches, kernel, stride, padding, dilation)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.arguments = inputs[0].shape[2:], *inputs[2:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        grad = _MaxUnpool2d.call(grad, ctx.saved_tensors[0], *ctx.arguments)
        return grad, None, None, None, None, None


# ---- public ----


def _output_size(op: str, input: Tensor, geometry: Geometry, output_size: Any, dims: int) -> Pair:
    """Height and width of the output, for a 4-d ``input``; ``output_size`` as the caller gave it."""
    if output_size is not None:
        size = (output_size,) if isinstance(output_size, int) and dims == 1 else output_size
        if not isinstance(size, (tuple, list)):
            raise TypeError(f"{op}: output_size: expected ints, got {arguments.shown(output_size)}")
        if len(size) not in (dims, dims + 1, dims + 2):
            raise ValueError(
                f"{op}: output_size: expected the spatial size or the full shape of the output, "
                f"got {arguments.shown(output_size)}"
            )
        output_size = arguments.int_tuple(op, "output_size", tuple(size[-dims:]), dims, 1)
        if dims == 1:
            output_size = (1, *output_size)
    n, c, *pooled = input.shape
    if not (c and pooled[0] and pooled[1]):
        raise ValueError(
            f"{op}: input: expected at least one channel and one cell, "
            f"got channels, height and width {(c, *pooled)}"
        )
    h, w = size = check_unpooled_size(op, (pooled[0], pooled[1]), geometry, output_size)
    if n * c * h * w >= 2**60:
        raise ValueError(
            f"{op}: output_size: expected fewer than 2**60 cells in all, got shape {(n, c, h, w)}"
        )
    return size


def max_unpool2d(
    input: Tensor,
    switches: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    output_size: Any = None,
    *,
    dilation: int | Pair = 1,
) -> Tensor:
    """Put every value back to the cell that its switch names; zero elsewhere.

    The inverse of :func:`max_pool2d_with_switches` on the maxima. Where windows overlap and two switches name
    the same cell, the last value in row-major order wins, always, and it alone gets the gradient. Values and
    zeros are written in one pass.

    Equivalent to::

        indices = deconvkit.switches_to_indices(
            switches, output_size, kernel_size, stride, padding, dilation)
        torch.nn.functional.max_unpool2d(input, indices, kernel_size, stride, padding, output_size)

    Source: the unpooling of Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2014),
    section 2.1, and of Noh, Hong and Han, "Learning deconvolution network for semantic segmentation" (2015).

    Args:
        input: (N, C, H, W) or (C, H, W); float32, float64, bfloat16 or float16, any strides; N may be 0.
        switches: Offsets inside the windows, of the same shape: uint8 for windows of up to 255 cells, else
            int32.
        kernel_size: Window size (height, width) in cells, as in the pooling.
        stride: Distance of neighbouring windows; None means ``kernel_size``.
        padding: Cells that the pooling added on each side.
        output_size: (OH, OW), or the output's full shape of which the last two count. None means
            (H - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + 1. Every size pooled from fits:
            less than one stride from that.
        dilation: Distance of neighbouring cells of a window.

    Returns:
        (N, C, OH, OW) or (C, OH, OW), channels_last where ``input`` is.

    Raises:
        ValueError: A size, a rank or a shape is wrong, or, on the CPU, a switch points outside its window or
            the output. On CUDA, where asking would wait for the device, such a value is left out.
        TypeError: ``input`` is not floating, or ``switches`` are not switches: torch's indices must go
            through :func:`indices_to_switches`.
    """
    op = "max_unpool2d"
    arguments.check_float(op, "input", input)
    arguments.check_rank(op, "input", input, 3, "(N, C, H, W) or (C, H, W)")
    geometry = check_geometry(op, 2, kernel_size, stride, padding, dilation)
    check_switches(op, switches, geometry[0], input)
    if input.dim() == 4:
        size = _output_size(op, input, geometry, output_size, 2)
        return _MaxUnpool2d.call(input, switches, size, *geometry)
    input = input.unsqueeze(0)
    size = _output_size(op, input, geometry, output_size, 2)
    return _MaxUnpool2d.call(input, switches.unsqueeze(0), size, *geometry).squeeze(0)


def max_unpool1d(
    input: Tensor,
    switches: Tensor,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: int | tuple[int] = 0,
    output_size: Any = None,
    *,
    dilation: int | tuple[int] = 1,
) -> Tensor:
    """Put every value back to the cell that its switch names, along the last dimension; zero elsewhere.

    :func:`max_unpool2d` at height 1.

    Equivalent to::

        indices = deconvkit.switches_to_indices(
            switches, output_size, kernel_size, stride, padding, dilation)
        torch.nn.functional.max_unpool1d(input, indices, kernel_size, stride, padding, output_size)

    Args:
        input: (N, C, L) or (C, L); float32, float64, bfloat16 or float16, any strides; N may be 0.
        switches: Offsets inside the windows, of the same shape: uint8 for windows of up to 255 cells, else
            int32.
        kernel_size: Window size in cells, as in the pooling.
        stride: Distance of neighbouring windows; None means ``kernel_size``.
        padding: Cells that the pooling added on each side.
        output_size: OL, or the output's full shape of which the last counts. None means
            (L - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + 1.
        dilation: Distance of neighbouring cells of a window.

    Returns:
        (N, C, OL) or (C, OL).

    Raises:
        ValueError: A size, a rank or a shape is wrong, or, on the CPU, a switch points outside its window or
            the output. On CUDA, where asking would wait for the device, such a value is left out.
        TypeError: ``input`` is not floating, or ``switches`` are not switches: torch's indices must go
            through :func:`indices_to_switches`.
    """
    op = "max_unpool1d"
    arguments.check_float(op, "input", input)
    arguments.check_rank(op, "input", input, 2, "(N, C, L) or (C, L)")
    geometry = check_geometry(op, 1, kernel_size, stride, padding, dilation)
    check_switches(op, switches, geometry[0], input)
    input, switches = input.unsqueeze(-2), switches.unsqueeze(-2)
    if input.dim() == 4:
        size = _output_size(op, input, geometry, output_size, 1)
        return _MaxUnpool2d.call(input, switches, size, *geometry).squeeze(-2)
    input = input.unsqueeze(0)
    size = _output_size(op, input, geometry, output_size, 1)
    return _MaxUnpool2d.call(input, switches.unsqueeze(0), size, *geometry).squeeze(0).squeeze(-2)
