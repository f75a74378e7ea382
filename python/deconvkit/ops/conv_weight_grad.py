"""The weight gradient of both convolutions: the third op of the family (``_convolution.py``). Internal."""

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
        algorithm = resolve("conv_weight_grad", small, channels_last, *shapes, stride, dilation, groups)
    if algorithm == "torch":
        with library.no_autocast(small):
            result = _torch_convolution.conv_weight_grad(
                small, large, kernel_size, stride, padding, dilation, groups
            )
        if result.is_contiguous() and not channels_last:  # quickly
            return result
        blank = _allocate(
            small.to("meta"),
            large,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            channels_last,
            algorithm,
        )
        return common.in_layout_of(blank, result)
    output = _allocate(small, large, kernel_size, stride, padding, dilation, groups, channels_last, algorithm)
    native, geometry = library.native(small), (stride, padding, dilation, groups)
    sides = library.ref(small), library.ref(large), library.ref(output)
    arguments = *sides, *geometry, common.ALGORITHM_CODES[algorithm]
    if small.is_cpu:
        native.conv_weight_grad(*arguments, library.lane(small))
        return output
    workspace = library.scratch(small, native.conv_weight_grad_workspace_size(*sides, *geometry))
    native.conv_weight_grad(*arguments, library.ref(workspace), library.lane(small))
    return output


def _vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
    return convolution_op.weight_grad_batching_rule(_op, info, in_dims, *args)


_op = library.register(
    "conv_weight_grad(Tensor small, Tensor large, SymInt[2] kernel_size, SymInt[2] stride, "
    "SymInt[2] padding, SymInt[2] dilation, SymInt groups, bool channels_last, str algorithm) -> Tensor",
    _impl,
    _allocate,
    _vmap,
)


class ConvWeightGrad(library.Function):
    """d(sum of large · conv_transpose2d(small, weight)) / d weight, differentiable in both."""

    op = "conv_weight_grad"

    tensors = 2
    generate_vmap_rule = False  # as in _convolution_op.Function

    @staticmethod
    def forward(
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
        """Run the op."""
        return _op(small, large, kernel_size, stride, padding, dilation, groups, channels_last, algorithm)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Keep what the other two ops need."""
        small, large, _, *geometry, groups, _, algorithm = inputs
        needs_small, needs_large = ctx.needs_input_grad[:2]
        ctx.save_for_backward(small if needs_large else None, large if needs_small else None)
        ctx.sizes = common.spatial(small.shape), common.spatial(large.shape)
        ctx.geometry, ctx.tail = geometry, (groups, "none", 0.0, algorithm)
        if library.may_have_tangents():
            ctx.save_for_forward(small, large)
            ctx.arguments = inputs[2:]

    @staticmethod
    def backward(ctx: Any, grad_weight: Tensor) -> Any:
        """To each side from the other."""
        small, large = ctx.saved_tensors
        small_size, large_size = ctx.sizes
        grad_small = grad_large = None
        if ctx.needs_input_grad[0]:
            grad_small = conv2d.Conv2d.call(large, grad_weight, None, *ctx.geometry, small_size, *ctx.tail)
        if ctx.needs_input_grad[1]:
            grad_large = conv_transpose2d.ConvTranspose2d.call(
                small, grad_weight, None, *ctx.geometry, large_size, *ctx.tail
            )
        return grad_small, grad_large, None, None, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, d_small: Tensor | None, d_large: Tensor | None, *_: Any) -> Tensor:
        """The product rule."""
        small, large = ctx.saved_tensors
        parts = []
        if d_small is not None:
            parts.append(ConvWeightGrad.call(d_small, large, *ctx.arguments))
        if d_large is not None:
            parts.append(ConvWeightGrad.call(small, d_large, *ctx.arguments))
        return sum(parts[1:], parts[0])

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
        """The op's rule."""
        return convolution_op.weight_grad_batching_rule(ConvWeightGrad.call, info, in_dims, *args)
