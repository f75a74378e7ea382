"""Transposed convolution in three dimensions: by torch, with our arguments and checks."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from deconvkit.ops import _arguments as arguments
from deconvkit.ops import _convolution as common

Triple = tuple[int, int, int]

ALGORITHMS = ("auto", "torch")


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Triple = 1,
    padding: int | Triple = 0,
    output_padding: int | Triple = 0,
    groups: int = 1,
    dilation: int | Triple = 1,
    *,
    activation: common.Activation = None,
    algorithm: str = "auto",
) -> Tensor:
    """Transposed convolution in three dimensions. Calls torch, and then the activation in place.

    Equivalent to::

        output = torch.nn.functional.conv_transpose3d(
            input, weight, bias, stride, padding, output_padding, groups, dilation
        )
        output = torch.nn.functional.relu(output)  # or what `activation` names

    Args:
        input: (N, C_in, D, H, W) or (C_in, D, H, W); float32, float64, bfloat16 or float16.
        weight: (C_in, C_out/groups, KD, KH, KW), of the input's dtype.
        bias: (C_out,), or None.
        stride: as in :func:`deconvkit.conv_transpose2d`, with three ints, as the next two and dilation.
        padding: as in :func:`deconvkit.conv_transpose2d`.
        output_padding: as in :func:`deconvkit.conv_transpose2d`.
        groups: as in :func:`deconvkit.conv_transpose2d`.
        dilation: as in :func:`deconvkit.conv_transpose2d`.
        activation: as in :func:`deconvkit.conv_transpose2d`.
        algorithm: "auto" or "torch", which are the same here.

    Returns:
        (N, C_out, D', H', W'), each D' = (D − 1)·stride − 2·padding + dilation·(KD − 1) + output_padding + 1.

    Raises:
        TypeError: a dtype that is not supported, or differs between the tensors.
        ValueError: any other argument that does not fit; the message names it.
    """
    op = "conv_transpose3d"
    common.check_algorithm(op, algorithm, ALGORITHMS)
    name, slope = common.activation_of(op, activation)
    input, weight, bias = common.check_tensors(op, 3, input, weight, bias, groups, transposed=True)
    strides = arguments.int_tuple(op, "stride", stride, 3, 1)
    pads = arguments.int_tuple(op, "padding", padding, 3, 0)
    extra = arguments.int_tuple(op, "output_padding", output_padding, 3, 0)
    dilations = arguments.int_tuple(op, "dilation", dilation, 3, 1)
    common.transposed_size(op, 3, input, weight, strides, pads, extra, groups, dilations)
    output = functional.conv_transpose3d(input, weight, bias, strides, pads, extra, groups, dilations)
    return common.activate_(output, name, slope)
