"""The weight gradient of both convolutions: the third op of the family (``_convolution.py``). Internal.

``conv_weight_bias_grad`` makes the bias's gradient too: on tensor cores, by the same launch.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deconvkit.ops import _convolution as common
from deconvkit.ops import _convolution_op as convolution_op
from deconvkit.ops import _library as library
from deconvkit.ops import _torch_convolution, conv2d, conv_transpose2d
from deconvkit.ops._algorithm import resolve

Pair = tuple[int, int]


def _allocate(
    small: Tensor,
    large: Tensor,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    channels_last: bool,
    algorithm: str,
) -> Tensor:
    kernel = (kernel_size[1],) if small.dim() == 3 else (kernel_size[0], kernel_size[1])
    return common.empty(small, (small.shape[1], large.shape[1] // groups, *kernel), channels_last)


def _impl(
    small: Tensor,
    large: Tensor,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    channels_last: bool,
    algorithm: str,
) -> Tensor:
    if algorithm == "auto":
        shapes = small.shape, large.shape, kernel_size
        algorithm = resolve(
            "conv_weight_grad",
            small,
            common.makes_channels_last(small, large),
            *shapes,
            stride,
            dilation,
            groups,
        )
    if algorithm == "torch":
        with library.no_autocast(small):
            result = _torch_convolution.conv_weight_grad(
                small, large, kernel_size, stride, padding, dilation, groups, channels_last
            )
        return common.in_layout(result, channels_last)
    output = _allocate(small, large, kernel_size, stride, padding, dilation, groups, channels_last, algorithm)
    geometry = stride, padding, dilation, groups
    if not small.is_cpu:
        _on_cuda(small, large, output, None, False, geometry, algorithm)
        return output
    sides = library.ref(small), library.ref(large), library.ref(output)
    code = common.ALGORITHM_CODES[algorithm]
    library.native(small).conv_weight_grad(*sides, *geometry, code, library.lane(small))
    return output


def _on_cuda(
    small: Tensor,
    large: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor | None,
    bias_of_large: bool,
    geometry: tuple[Any, ...],
    algorithm: str,
) -> bool:
    """Compute grad_weight; return whether grad_bias was computed with it."""
    native = library.native(small)
    refs = library.ref(small), library.ref(large), library.ref(grad_weight), library.optional_ref(grad_bias)
    arguments = *refs, bias_of_large, *geometry, common.code_on_cuda(algorithm, small.dtype)
    workspace = library.scratch(small, native.conv_weight_grad_workspace_size(*arguments))
    return native.conv_weight_grad(*arguments, library.ref(workspace), library.lane(small))


def _vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
    return convolution_op.weight_grad_batching_rule(_op, info, in_dims, *args)


_op = library.register(
    "conv_weight_grad(Tensor small, Tensor large, SymInt[2] kernel_size, SymInt[2] stride, "
    "SymInt[2] padding, SymInt[2] dilation, SymInt groups, bool channels_last, str algorithm) -> Tensor",
    _impl,
    _allocate,
    _vmap,
)


def _allocate_both(
    small: Tensor,
    large: Tensor,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    channels_last: bool,
    bias_of_large: bool,
    algorithm: str,
) -> tuple[Tensor, Tensor]:
    made = large if bias_of_large else small
    grad_weight = _allocate(
        small, large, kernel_size, stride, padding, dilation, groups, channels_last, algorithm
    )
    return grad_weight, made.new_empty(made.shape[1])


def _impl_both(
    small: Tensor,
    large: Tensor,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    channels_last: bool,
    bias_of_large: bool,
    algorithm: str,
) -> tuple[Tensor, Tensor]:
    arguments = small, large, kernel_size, stride, padding, dilation, groups, channels_last
    made = large if bias_of_large else small
    if algorithm not in common.ON_TENSOR_CORES or small.is_cpu:
        return _impl(*arguments, algorithm), common.bias_grad(made)
    grad_weight, grad_bias = _allocate_both(*arguments, bias_of_large, algorithm)
    geometry = stride, padding, dilation, groups
    if not _on_cuda(small, large, grad_weight, grad_bias, bias_of_large, geometry, algorithm):
        grad_bias = common.bias_grad(made)
    return grad_weight, grad_bias


def _vmap_both(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
    return convolution_op.weight_grad_batching_rule(_op_both, info, in_dims, *args)


_op_both = library.register(
    "conv_weight_bias_grad(Tensor small, Tensor large, SymInt[2] kernel_size, SymInt[2] stride, "
    "SymInt[2] padding, SymInt[2] dilation, SymInt groups, bool channels_last, bool bias_of_large, "
    "str algorithm) -> (Tensor, Tensor)",
    _impl_both,
    _allocate_both,
    _vmap_both,
)


class ConvWeightGrad(library.Function):
    """d(sum of large · conv_transpose2d(small, weight)) / d weight, differentiable in both."""

    op = "conv_weight_grad"

    tensors = 2
    generate_vmap_rule = False  # as in _convolution_op.Function

    @staticmethod
    def forward(*args: Any) -> Any:
        """Run the op."""
        return _op(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep what the other two ops need."""
        small, large, kernel_size, *geometry, groups, channels_last, algorithm = inputs
        needs_small, needs_large = ctx.needs_input_grad[:2]
        ctx.save_for_backward(small if needs_large else None, large if needs_small else None)
        ctx.sizes = common.spatial(small.shape), common.spatial(large.shape)
        ctx.geometry, ctx.tail = geometry, (groups, "none", 0.0, algorithm)
        if library.may_have_tangents():
            ctx.save_for_forward(small, large)
            ctx.arguments = kernel_size, *geometry, groups, channels_last, algorithm

    @staticmethod
    def backward(ctx: Any, grad_weight: Tensor, *_: Tensor) -> Any:
        """To each side from the other."""
        return *_to_sides(ctx, grad_weight, None, None), *[None] * 7

    @staticmethod
    def jvp(ctx: Any, d_small: Tensor | None, d_large: Tensor | None, *_: Any) -> Any:
        """The product rule."""
        small, large = ctx.saved_tensors
        parts = []
        if d_small is not None:
            parts.append(ConvWeightGrad.call(d_small, large, *ctx.arguments))
        if d_large is not None:
            parts.append(ConvWeightGrad.call(small, d_large, *ctx.arguments))
        return sum(parts[1:], parts[0])

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
        """The op's rule."""
        return convolution_op.weight_grad_batching_rule(ConvWeightGrad.call, info, in_dims, *args)


class ConvWeightBiasGrad(ConvWeightGrad):
    """The same, and the sum over one side's pixels."""

    op = "conv_weight_bias_grad"

    @staticmethod
    def forward(*args: Any) -> Any:
        """Run the op."""
        return _op_both(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep what the other two ops need."""
        *rest, ctx.bias_of_large, algorithm = inputs
        ConvWeightGrad.setup_context(ctx, (*rest, algorithm), output)

    @staticmethod
    def backward(ctx: Any, grad_weight: Tensor, *rest: Tensor) -> Any:
        """To each side from the other; a sum's gradient is the same for all pixels, as a bias is."""
        (grad_bias,) = rest
        biases = (None, grad_bias) if ctx.bias_of_large else (grad_bias, None)
        return *_to_sides(ctx, grad_weight, *biases), *[None] * 8

    @staticmethod
    def jvp(ctx: Any, d_small: Tensor | None, d_large: Tensor | None, *_: Any) -> Any:
        """The product rule, and the sum itself."""
        made, tangent = ctx.saved_tensors[ctx.bias_of_large], d_large if ctx.bias_of_large else d_small
        d_bias = made.new_zeros(made.shape[1]) if tangent is None else common.bias_grad(tangent)
        return ConvWeightGrad.jvp(ctx, d_small, d_large), d_bias

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
        """The op's rule."""
        return convolution_op.weight_grad_batching_rule(ConvWeightBiasGrad.call, info, in_dims, *args)


def _to_sides(
    ctx: Any, grad_weight: Tensor, small_bias: Tensor | None, large_bias: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of both sides, each from the other, with a bias."""
    small, large = ctx.saved_tensors
    small_size, large_size = ctx.sizes
    grad_small = grad_large = None
    if ctx.needs_input_grad[0]:
        grad_small = conv2d.Conv2d.call(large, grad_weight, small_bias, *ctx.geometry, small_size, *ctx.tail)
    if ctx.needs_input_grad[1]:
        grad_large = conv_transpose2d.ConvTranspose2d.call(
            small, grad_weight, large_bias, *ctx.geometry, large_size, *ctx.tail
        )
    return grad_small, grad_large
