"""Transposed convolution in one and two dimensions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deconvkit.ops import _arguments as arguments
from deconvkit.ops import _convolution as common
from deconvkit.ops import _convolution_op as convolution_op
from deconvkit.ops import conv2d, conv_weight_grad

Pair = tuple[int, int]


_op = convolution_op.register(transposed=True)


class ConvTranspose2d(convolution_op.Function):
    """The op with its gradients: conv2d and conv_weight_grad."""

    op, transposed = "conv_transpose2d", True

    @staticmethod
    def forward(*args: Any) -> Tensor:
        """Run the op."""
        return _op(*args)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        """By the other two ops."""
        return convolution_op.backward(
            ctx,
            grad_output,
            conv2d.Conv2d,
            conv_weight_grad.ConvWeightGrad,
            conv_weight_grad.ConvWeightBiasGrad,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        """By the op itself, twice."""
        return convolution_op.jvp(ConvTranspose2d, ctx, *tangents)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
        """The op's rule."""
        return convolution_op.batching_rule(ConvTranspose2d.call, info, in_dims, *args)


convolution_op.shorten(ConvTranspose2d)


def prepare(
    op: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    activation: common.Activation,
    algorithm: str,
) -> tuple[Tensor, Tensor, Tensor | None, tuple[Any, ...]]:
    """Check the arguments of conv_transpose1d or conv_transpose2d and turn them into those of the op."""
    input, weight, bias = common.check_tensors(op, dims, input, weight, bias, groups, transposed=True)
    strides = arguments.int_tuple(op, "stride", stride, dims, 1)
    pads = arguments.int_tuple(op, "padding", padding, dims, 0)
    dilations = arguments.int_tuple(op, "dilation", dilation, dims, 1)
    size = common.transposed_size(op, dims, input, weight, strides, pads, output_padding, groups, dilations)
    name, slope = common.activation_of(op, activation)
    if algorithm != "auto":
        common.check_algorithm(op, algorithm)
    geometry = *common.pairs(dims, strides, pads, dilations, size), groups, name, slope, algorithm
    return input, weight, bias, geometry


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
    *,
    activation: common.Activation = None,
    algorithm: str = "auto",
) -> Tensor:
    """Apply the transpose of a strided convolution, the bias and the activation, in one pass.

    Equivalent to::

        output = torch.nn.functional.conv_transpose2d(
            input, weight, bias, stride, padding, output_padding, groups, dilation
        )
        output = torch.nn.functional.relu(output)  # or what `activation` names

    Args:
        input: (N, C_in, H, W) or (C_in, H, W); float32, float64, bfloat16 or float16.
        weight: (C_in, C_out/groups, KH, KW), of the input's dtype.
        bias: (C_out,), or None.
        stride: output cells between input cells; an int or (vertical, horizontal), as the next three.
        padding: cells cut off on every side.
        output_padding: cells added behind; less than stride or less than dilation. Of the output sizes that a
            convolution maps to the same input size it picks one.
        groups: the number of groups into which input and output channels are split.
        dilation: cells between the kernel's taps.
        activation: None, "relu", "leaky_relu" (slope 0.2), ("leaky_relu", slope >= 0), "tanh" or "sigmoid".
        algorithm: "auto" (see :func:`deconvkit.plan`), "direct" (the plain sum, every shape), "winograd" (on
            the CPU), "implicit_gemm" (on CUDA's tensor cores), "implicit_gemm_mma" (the same without the
            kernel that Hopper has of its own, to compare the two) or "torch"; else "direct". Winograd
            multiplies less where the kernel has at most 2·stride + 1 cells an axis (9 at stride 1) and no
            dilation, else it is "direct". Its rounding error is two to five times the plain sum's, and an Inf
            or NaN in the input spreads over the output tiles of 4x4 (times stride) that read it, one in the
            weight over all of its channel: take "direct" where either matters. There an input index outside
            the input reads as zero, so that an Inf in the weight gives NaN along the output's border; torch
            adds nothing there. The tensor cores multiply float32 as TF32 where torch.backends.cudnn allows
            it, else by three products of TF32, whose error is 2^-20 of the products' magnitudes.

    Returns:
        (N, C_out, H', W') with H' = (H − 1)·stride − 2·padding + dilation·(KH − 1) + output_padding + 1;
        channels_last where input or weight is. bfloat16 and float16 accumulate in float32.

    Raises:
        TypeError: a dtype that is not supported, or differs between the tensors.
        ValueError: any other argument that does not fit; the message names it.

    Source: Zeiler et al., "Deconvolutional networks" (2010); Dumoulin and Visin, arXiv 1603.07285, section 4.
    """
    return convolution_op.run(
        ConvTranspose2d,
        prepare,
        "conv_transpose2d",
        2,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        activation,
        algorithm,
    )


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int] = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
    *,
    activation: common.Activation = None,
    algorithm: str = "auto",
) -> Tensor:
    """Transposed convolution in one dimension, with bias and activation in one pass.

    Equivalent to::

        output = torch.nn.functional.conv_transpose1d(
            input, weight, bias, stride, padding, output_padding, groups, dilation
        )
        output = torch.nn.functional.relu(output)  # or what `activation` names

    Args:
        input: (N, C_in, L) or (C_in, L); float32, float64, bfloat16 or float16.
        weight: (C_in, C_out/groups, K), of the input's dtype.
        bias: (C_out,), or None.
        stride: as in :func:`conv_transpose2d`, with one int, as the next two and dilation.
        padding: as in :func:`conv_transpose2d`.
        output_padding: as in :func:`conv_transpose2d`.
        groups: as in :func:`conv_transpose2d`.
        dilation: as in :func:`conv_transpose2d`.
        activation: as in :func:`conv_transpose2d`.
        algorithm: as in :func:`conv_transpose2d`.

    Returns:
        (N, C_out, L') with L' = (L − 1)·stride − 2·padding + dilation·(K − 1) + output_padding + 1.

    Raises:
        TypeError: a dtype that is not supported, or differs between the tensors.
        ValueError: any other argument that does not fit; the message names it.
    """
    return convolution_op.run(
        ConvTranspose2d,
        prepare,
        "conv_transpose1d",
        1,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        activation,
        algorithm,
    )
