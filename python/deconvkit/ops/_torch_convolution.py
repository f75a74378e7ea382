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

    def padded(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return function(
            functional.pad(input, (pads or ())[: 2 * dims]), weight, bias, strides, 0, dilations, groups
        )

    call = (function, strides, padding[-dims:], dilations, groups) if pads is None else (padded,)
    return _finished(input, weight, weight.shape[0], output_size, groups, activation, slope, *call)


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

    def cropped(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        output = function(input, weight, None, strides, 0, 0, groups, dilations)
        output = functional.pad(output, pads[: 2 * dims])
        return output if bias is None else output.add_(bias.view(-1, *[1] * dims))

    call = (function, strides, padding[-dims:], extra[-dims:], groups, dilations) if fits else (cropped,)
    channels = weight.shape[1] * groups
    return _finished(input, weight, channels, output_size, groups, activation, slope, *call)


def _finished(
    input: Tensor,
    weight: Tensor,
    channels: int,
    size: Pair,
    groups: int,
    activation: str,
    slope: float,
    function: Callable[..., Tensor],
    *arguments: Any,
) -> Call:
    """The function with the activation, its output in the strides that the op promises for such tensors."""
    if wants_channels_last(input, weight, groups):

        def through_channels_last(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            output = function(library.copied_to_layout(input, True), weight, bias, *arguments)
            return library.copied_to_layout(common.activate_(output, activation, slope), False)

        return through_channels_last

    blank = common.allocate(input.to("meta"), weight, channels, size)
    promised = blank.stride()

    def finished(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        output = function(input, weight, bias, *arguments)
        if activation != "none":
            common.activate_(output, activation, slope)
        return output if output.stride() == promised else common.in_layout_of(blank, output)

    return finished


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
    small: Tensor,
    large: Tensor,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    channels_last: bool,
) -> Tensor:
    """``deconvkit::conv_weight_grad`` by torch."""
    if small.dim() == 3:
        sides = small.unsqueeze(2), large.unsqueeze(2)
        return conv_weight_grad(
            *sides, kernel_size, stride, padding, dilation, groups, channels_last
        ).squeeze(2)
    # torch looks at its layout and shape alone.
    shape = small.shape[1], large.shape[1] // groups, *kernel_size
    weight = common.empty(small, shape, channels_last)
    size = (small.shape[2], small.shape[3])
    pads = _padding(common.spatial(large.shape), size, kernel_size, stride, padding, dilation)
    if pads is not None:
        large, padding = functional.pad(large, pads), (0, 0)
    return torch.ops.aten.convolution_backward(
        small, large, weight, None, stride, padding, dilation, False, (0, 0), groups, (False, True, False)
    )[1]
