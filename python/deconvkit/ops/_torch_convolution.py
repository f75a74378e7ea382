"""The convolution family by torch's kernels: what algorithm="torch" runs, with the ops' own geometry.

torch pads both ends alike and takes output_padding; our ops take the leading padding and the sizes. Where the
two do not meet ("same" with an even kernel, a backward that must return an exact size) the operand is padded
or cropped.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor
from torch.nn import functional

from deconvkit.ops import _convolution as common

Pair = tuple[int, int]


def _no_autocast(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """The operands are cast already; a backward inside an autocast region keeps the dtype of its forward."""
    device = tensor.device.type
    return (
        torch.autocast(device, enabled=False)
        if torch.is_autocast_enabled(device)
        else contextlib.nullcontext()
    )


def _fit_large(
    large: Tensor, small: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[Tensor, Pair]:
    """The large side, padded or cropped until torch's symmetric padding fits the small side; that padding."""
    trailing = [
        (small[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 - large.shape[2 + i] - padding[i]
        for i in (0, 1)
    ]
    if all(padding[i] - stride[i] < trailing[i] <= padding[i] for i in (0, 1)):
        return large, padding
    return functional.pad(large, (padding[1], trailing[1], padding[0], trailing[0])), (0, 0)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    output_size: Pair,
    groups: int,
    activation: str,
    slope: float,
) -> Tensor:
    """``deconvkit::conv2d`` by torch."""
    if input.dim() == 3:
        input, weight = input.unsqueeze(2), weight.unsqueeze(2)
        return conv2d(
            input, weight, bias, stride, padding, dilation, output_size, groups, activation, slope
        ).squeeze(2)
    with _no_autocast(input):
        kernel = (weight.shape[2], weight.shape[3])
        input, pads = _fit_large(input, output_size, kernel, stride, padding, dilation)
        output = functional.conv2d(input, weight, bias, stride, pads, dilation, groups)
        return common.activate_(output, activation, slope)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    output_size: Pair,
    groups: int,
    activation: str,
    slope: float,
) -> Tensor:
    """``deconvkit::conv_transpose2d`` by torch."""
    if input.dim() == 3:
        input, weight = input.unsqueeze(2), weight.unsqueeze(2)
        return conv_transpose2d(
            input, weight, bias, stride, padding, dilation, output_size, groups, activation, slope
        ).squeeze(2)
    full = [
        (input.shape[2 + i] - 1) * stride[i] + dilation[i] * (weight.shape[2 + i] - 1) + 1 for i in (0, 1)
    ]
    extra = [output_size[i] + 2 * padding[i] - full[i] for i in (0, 1)]
    with _no_autocast(input):
        if all(0 <= extra[i] < max(stride[i], dilation[i]) for i in (0, 1)):
            output = functional.conv_transpose2d(
                input, weight, bias, stride, padding, (extra[0], extra[1]), groups, dilation
            )
        else:
            output = functional.conv_transpose2d(input, weight, None, stride, 0, 0, groups, dilation)
            trailing = [padding[i] + output_size[i] - full[i] for i in (0, 1)]
            output = functional.pad(output, (-padding[1], trailing[1], -padding[0], trailing[0]))
            if bias is not None:
                output += bias[:, None, None]
        return common.activate_(output, activation, slope)


def conv_weight_grad(
    small: Tensor, large: Tensor, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """``deconvkit::conv_weight_grad`` by torch."""
    if small.dim() == 3:
        small, large = small.unsqueeze(2), large.unsqueeze(2)
        return conv_weight_grad(small, large, kernel_size, stride, padding, dilation, groups).squeeze(2)
    weight = small.new_empty((small.shape[1], large.shape[1] // groups, *kernel_size))
    size = (small.shape[2], small.shape[3])
    with _no_autocast(small):
        large, pads = _fit_large(large, size, kernel_size, stride, padding, dilation)
        return torch.ops.aten.convolution_backward(
            small, large, weight, None, stride, pads, dilation, False, (0, 0), groups, (False, True, False)
        )[1]
