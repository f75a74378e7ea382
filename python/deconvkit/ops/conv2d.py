"""Convolution in one and two dimensions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deconvkit.ops import _arguments as arguments
from deconvkit.ops import _convolution as common
from deconvkit.ops import _convolution_op as convolution_op
from deconvkit.ops import conv_transpose2d, conv_weight_grad

Pair = tuple[int, int]


_op = convolution_op.register(transposed=False)


class Conv2d(convolution_op.Function):
    """The op with its gradients: conv_transpose2d and conv_weight_grad."""

    op, transposed = "conv2d", False

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
            conv_transpose2d.ConvTranspose2d,
            conv_weight_grad.ConvWeightGrad,
            conv_weight_grad.ConvWeightBiasGrad,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        """By the op itself, twice."""
        return convolution_op.jvp(Conv2d, ctx, *tangents)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
        """The op's rule."""
        return convolution_op.batching_rule(Conv2d.call, info, in_dims, *args)


convolution_op.shorten(Conv2d)


def prepare(
    op: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    activation: common.Activation,
    algorithm: str,
) -> tuple[Tensor, Tensor, Tensor | None, tuple[Any, ...]]:
    """Check the arguments of conv1d or conv2d and turn them into those of the op."""
    input, weight, bias = common.check_tensors(op, dims, input, weight, bias, groups, transposed=False)
    kernel = weight.shape[2:]
    strides = arguments.int_tuple(op, "stride", stride, dims, 1)
    dilations = arguments.int_tuple(op, "dilation", dilation, dims, 1)
    if isinstance(padding, str):
        pads, size = _named_padding(op, padding, input.shape[-dims:], kernel, strides, dilations)
    else:
        pads = arguments.int_tuple(op, "padding", padding, dims, 0)
        size = tuple(
            [
                (n + 2 * p - d * (k - 1) - 1) // s + 1
                for n, k, s, p, d in zip(input.shape[-dims:], kernel, strides, pads, dilations, strict=True)
            ]
        )
    common.check_output(
        op, input, weight, weight.shape[0], size, stride=strides, padding=pads, dilation=dilations
    )
    name, slope = common.activation_of(op, activation)
    if algorithm != "auto":
        common.check_algorithm(op, algorithm)
    geometry = *common.pairs(dims, strides, pads, dilations, size), groups, name, slope, algorithm
    return input, weight, bias, geometry


def _named_padding(
    op: str, padding: str, sizes: Any, kernel: Any, stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The leading padding and the output size of "same" and "valid"."""
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if padding == "valid":
        size = [(n - r - 1) // s + 1 for n, r, s in zip(sizes, reach, stride, strict=True)]
        return (0,) * len(reach), tuple(size)
    if padding != "same":
        raise ValueError(f'{op}: padding: expected ints, "same" or "valid", got {arguments.shown(padding)}')
    if any(s != 1 for s in stride):
        raise ValueError(f'{op}: padding: "same" expects a stride of 1, got stride {stride}')
    return tuple([r // 2 for r in reach]), tuple(sizes)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    *,
    activation: common.Activation = None,
    algorithm: str = "auto",
) -> Tensor:
    """Convolve, add the bias and apply the activation, in one pass.

    Equivalent to::

        output = torch.nn.functional.conv2d(input, weight, bias, stride, padding, dilation, groups)
        output = torch.nn.functional.relu(output)  # or what `activation` names

    Args:
        input: (N, C_in, H, W) or (C_in, H, W); float32, float64, bfloat16 or float16.
        weight: (C_out, C_in/groups, KH, KW), of the input's dtype.
        bias: (C_out,), or None.
        stride: cells between windows; an int or (vertical, horizontal), as the next two.
        padding: zeros around the input, "valid" for none, or "same" for an output of the input's size (stride
            1; of an odd total the larger half goes behind, as in torch).
        dilation: cells between the kernel's taps.
        groups: the number of groups into which input and output channels are split.
        activation: None, "relu", "leaky_relu" (slope 0.2), ("leaky_relu", slope >= 0), "tanh" or "sigmoid".
        algorithm: "auto" (see :func:`deconvkit.plan`), "direct" (the plain sum, every shape), "winograd" (on
            the CPU), "implicit_gemm" (on CUDA's tensor cores), "implicit_gemm_mma" (the same without the
            kernel that Hopper has of its own, to compare the two) or "torch"; else "direct". Winograd
            multiplies less where the kernel has at most 2·stride + 1 cells an axis (9 at stride 1) and no
            dilation, else it is "direct". Its rounding error is two to five times the plain sum's, and an Inf
            or NaN in the input spreads over the output tiles of 4x4 (times stride) that read it, one in the
            weight over all of its channel: take "direct" where either matters. The tensor cores multiply
            float32 as TF32 where torch.backends.cudnn allows it, else by three products of TF32, whose error
            is 2^-20 of the products' magnitudes.

    Returns:
        (N, C_out, H', W') with H' = floor((H + 2·padding − dilation·(KH − 1) − 1) / stride) + 1;
        channels_last where input or weight is. bfloat16 and float16 accumulate in float32.

    Raises:
        TypeError: a dtype that is not supported, or differs between the tensors.
        ValueError: any other argument that does not fit; the message names it.
    """
    return convolution_op.run(
        Conv2d,
        prepare,
        "conv2d",
        2,
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        activation,
        algorithm,
    )


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int] | str = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
    *,
    activation: common.Activation = None,
    algorithm: str = "auto",
) -> Tensor:
    """Convolve in one dimension, add the bias and apply the activation, in one pass.

    Equivalent to::

        output = torch.nn.functional.conv1d(input, weight, bias, stride, padding, dilation, groups)
        output = torch.nn.functional.relu(output)  # or what `activation` names

    Args:
        input: (N, C_in, L) or (C_in, L); float32, float64, bfloat16 or float16.
        weight: (C_out, C_in/groups, K), of the input's dtype.
        bias: (C_out,), or None.
        stride: as in :func:`conv2d`, with one int, as the next two.
        padding: as in :func:`conv2d`.
        dilation: as in :func:`conv2d`.
        groups: as in :func:`conv2d`.
        activation: as in :func:`conv2d`.
        algorithm: as in :func:`conv2d`.

    Returns:
        (N, C_out, L') with L' = floor((L + 2·padding − dilation·(K − 1) − 1) / stride) + 1.

    Raises:
        TypeError: a dtype that is not supported, or differs between the tensors.
        ValueError: any other argument that does not fit; the message names it.
    """
    return convolution_op.run(
        Conv2d,
        prepare,
        "conv1d",
        1,
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        activation,
        algorithm,
    )
