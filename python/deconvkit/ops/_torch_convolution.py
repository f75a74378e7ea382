"""The convolution family by torch's kernels: what algorithm="torch" runs, with the ops' own geometry.

torch pads both ends alike and takes output_padding; our ops take the leading padding and the sizes. Where the
two do not meet ("same" with an even kernel, a backward that must return an exact size) the operand is padded
or cropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deconvkit.ops import _convolution as common
from deconvkit.ops import _library as library

Pair = tuple[int, int]
Call = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def _padding(
    large: Pair, small: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[int, int, int, int] | None:
    """What functional.pad() does to the large side where torch's symmetric padding does not fit the small."""
    trailing = [
        (small[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 - large[i] - padding[i] for i in (0, 1)
    ]
    if all(padding[i] - stride[i] < trailing[i] <= padding[i] for i in (0, 1)):
        return None
    return padding[1], trailing[1], padding[0], trailing[0]


def _output_padding(
    large: Pair, small: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[int, int]:
    """torch's output_padding of a transposed convolution that makes the large side."""
    height, width = (
        large[i] + 2 * padding[i] - (small[i] - 1) * stride[i] - dilation[i] * (kernel[i] - 1) - 1
        for i in (0, 1)
    )
    return height, width


def wants_channels_last(input: Tensor, weight: Tensor, groups: int) -> bool:
    """Whether torch is faster over copies in channels_last; not for weight gradients.

    oneDNN feeds a processor's matrix unit (AMX) in that layout alone: in NCHW its bfloat16 takes up to ten
    times as long, several times what two copies take.
    """
    return (
        input.dtype == torch.bfloat16
        and input.is_cpu
        and input.dim() == 4
        and groups == 1
        and input.numel() >= 2**14
        and not common.makes_channels_last(input, weight)
        and torch.cpu._is_amx_tile_supported()
    )


def _through_channels_last(call: Call, groups: int) -> Call:
    def through(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not wants_channels_last(input, weight, groups):
            return call(input, weight, bias)
        return library.in_layout(call(library.in_layout(input, True), weight, bias), False)

    return through


def conv2d(
    input: Tensor,
    weight: Tensor,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    output_size: Pair,
    groups: int,
    activation: str,
    slope: float,
) -> Call:
    """``deconvkit::conv2d`` by torch."""
    kernel, size = common.spatial(weight.shape), common.spatial(input.shape)
    pads = _padding(size, output_size, kernel, stride, padding, dilation)
    dims = input.dim() - 2
    function = torch.conv2d if dims == 2 else torch.conv1d
    strides, dilations = stride[-dims:], dilation[-dims:]

    def call(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if pads is None:
            output = function(input, weight, bias, strides, padding[-dims:], dilations, groups)
        else:
            padded = functional.pad(input, pads[: 2 * dims])
            output = function(padded, weight, bias, strides, 0, dilations, groups)
        return finish(output, input, weight)

    finish = _finish(weight.shape[0], output_size, activation, slope)
    return _through_channels_last(call, groups)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    output_size: Pair,
    groups: int,
    activation: str,
    slope: float,
) -> Call:
    """``deconvkit::conv_transpose2d`` by torch."""
    kernel, size = common.spatial(weight.shape), common.spatial(input.shape)
    extra = _output_padding(output_size, size, kernel, stride, padding, dilation)
    fits = all(0 <= extra[i] < max(stride[i], dilation[i]) for i in (0, 1))
    trailing = [extra[i] - padding[i] for i in (0, 1)]
    pads = (-padding[1], trailing[1], -padding[0], trailing[0])
    dims = input.dim() - 2
    function = torch.conv_transpose2d if dims == 2 else torch.conv_transpose1d
    strides, dilations = stride[-dims:], dilation[-dims:]

    def call(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if fits:
            output = function(input, weight, bias, strides, padding[-dims:], extra[-dims:], groups, dilations)
        else:
            output = function(input, weight, None, strides, 0, 0, groups, dilations)
            output = functional.pad(output, pads[: 2 * dims])
            if bias is not None:
                output += bias.view(-1, *[1] * dims)
        return finish(output, input, weight)

    finish = _finish(weight.shape[1] * groups, output_size, activation, slope)
    return _through_channels_last(call, groups)


def _finish(channels: int, size: Pair, activation: str, slope: float) -> Callable[..., Tensor]:
    """(output, input, weight) -> output with the activation, in the strides that the op promises."""
    promised: dict[Any, Tensor] = {}  # what allocate() would give, by all that it looks at

    def finish(output: Tensor, input: Tensor, weight: Tensor) -> Tensor:
        if activation != "none":
            common.activate_(output, activation, slope)
        if common.is_usual(input, weight) and output.is_contiguous():  # quickly
            return output
        key = input.shape, input.stride(), weight.stride(), input.dtype
        blank = promised.get(key)
        if blank is None:
            if len(promised) >= 16:  # changing strides must not make it grow without bound
                promised.clear()
            blank = common.allocate(input.to("meta"), weight, channels, size)
            promised[key] = blank
        return common.in_layout_of(blank, output)

    return finish


def backward(
    adjoint_transposed: bool,
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> tuple[Tensor, Tensor] | None:
    """The gradients of input and weight in one call.

    None where torch's geometry is not the ops', or the input's alone is made over channels_last.
    """
    if wants_channels_last(grad, weight, groups):
        return None
    kernel, size, made = (common.spatial(t.shape) for t in (weight, input, grad))
    large, small = (size, made) if adjoint_transposed else (made, size)
    shapes = large, small, kernel, stride, padding, dilation
    if _padding(*shapes) is not None:
        return None
    extra = (0, 0) if adjoint_transposed else _output_padding(*shapes)
    dims = input.dim() - 2
    found = torch.ops.aten.convolution_backward(
        grad,
        input,
        weight,
        None,
        stride[-dims:],
        padding[-dims:],
        dilation[-dims:],
        not adjoint_transposed,
        extra[-dims:],
        groups,
        (True, True, False),
    )
    return found[0], found[1]


def conv_weight_grad(
    small: Tensor, large: Tensor, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """``deconvkit::conv_weight_grad`` by torch."""
    if small.dim() == 3:
        small, large = small.unsqueeze(2), large.unsqueeze(2)
        return conv_weight_grad(small, large, kernel_size, stride, padding, dilation, groups).squeeze(2)
    weight = small.new_empty((small.shape[1], large.shape[1] // groups, *kernel_size))
    size = (small.shape[2], small.shape[3])
    pads = _padding(common.spatial(large.shape), size, kernel_size, stride, padding, dilation)
    if pads is not None:
        large, padding = functional.pad(large, pads), (0, 0)
    return torch.ops.aten.convolution_backward(
        small, large, weight, None, stride, padding, dilation, False, (0, 0), groups, (False, True, False)
    )[1]
