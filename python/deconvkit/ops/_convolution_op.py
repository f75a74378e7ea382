"""How conv2d and conv_transpose2d run: registration, the short way of plain calls, autograd, batching rules.

The two take the same arguments and do the same with them, from opposite sides (``_convolution.py``); what
tells them apart is the flag ``transposed``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deconvkit.ops import _algorithm, _torch_convolution
from deconvkit.ops import _convolution as common
from deconvkit.ops import _library as library
from deconvkit.ops._kept_weights import KeptWeights

Pair = tuple[int, int]
Call = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(input, weight, bias) -> output, of one geometry and one pair of shapes."""


class Plan(NamedTuple):
    """What the arguments come down to: the call, and the one for inference, which may keep things."""

    algorithm: str
    call: Call
    inference: Call


class Planned(NamedTuple):
    """What is kept of a public call: the op's arguments after the tensors, and the plan."""

    geometry: tuple[Any, ...]
    plan: Plan
    gradients_are_torchs: bool
    short: Call | None
    """torch's call where that is all there is to do without a gradient."""
    trained: Call | None
    """torch's call where its own autograd is the shortest way to output and gradients."""


# ---------------------------------------------------------------------------------------------- registration


def register(transposed: bool) -> library.Op:
    """Register ``deconvkit::conv2d`` or ``conv_transpose2d``."""
    name = "conv_transpose2d" if transposed else "conv2d"

    def allocate(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        output_size: Pair,
        groups: int,
        *_: Any,
    ) -> Tensor:
        return common.allocate(input, weight, common.out_channels(weight, groups, transposed), output_size)

    def impl(input: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        with library.no_autocast(input):
            return known_plan(transposed, input, weight, geometry).call(input, weight, bias)

    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
        return batching_rule(op, info, in_dims, *args)

    op = library.register(
        f"{name}(Tensor input, Tensor weight, Tensor? bias, SymInt[2] stride, SymInt[2] padding, "
        "SymInt[2] dilation, SymInt[2] output_size, SymInt groups, str activation, float slope, "
        "str algorithm) -> Tensor",
        impl,
        allocate,
        vmap,
    )
    return op


_CACHE_SIZE = 1024

_PLANS: dict[Any, Plan] = {}
"""By shapes, strides, dtypes and the op's arguments."""


def known_plan(transposed: bool, input: Tensor, weight: Tensor, geometry: tuple[Any, ...]) -> Plan:
    """:func:`plan`, made once for arguments alike."""
    fixed = tuple([tuple(value) if type(value) is list else value for value in geometry])
    tensors = input.shape, input.stride(), input.dtype, input.device, weight.shape, weight.stride()
    key = transposed, tensors, fixed
    known = _PLANS.get(key)
    if known is None:
        known = plan(transposed, input, weight, fixed)
        _keep(_PLANS, key, known)
    return known


def _keep(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= _CACHE_SIZE:  # changing shapes must not make it grow without bound
        cache.clear()
    cache[key] = value


def plan(transposed: bool, input: Tensor, weight: Tensor, geometry: tuple[Any, ...]) -> Plan:
    """All that shapes, dtype and device decide, once: what remains to be done for each call."""
    stride, padding, dilation, size, groups, activation, slope, algorithm = geometry
    name = "conv_transpose2d" if transposed else "conv2d"
    if algorithm == "auto":
        algorithm = _algorithm.choose(_problem(transposed, input, weight, geometry)).algorithm
    if algorithm == "torch":
        by_torch = _torch_convolution.conv_transpose2d if transposed else _torch_convolution.conv2d
        torchs = by_torch(input, weight, stride, padding, dilation, size, groups, activation, slope)
        return Plan("torch", torchs, torchs)

    native = library.native(input)
    kernel = getattr(native, name)
    codes = common.ACTIVATION_CODES[activation], slope, common.ALGORITHM_CODES[algorithm]
    arguments = stride, padding, dilation, groups, *codes
    channels = common.out_channels(weight, groups, transposed)
    allocate, ref, lane = common.allocate, library.ref, library.lane

    def call(
        input: Tensor, weight: Tensor, bias: Tensor | None, transformed: library.Ref | None = None
    ) -> Tensor:
        output = allocate(input, weight, channels, size)
        kernel(
            ref(input),
            ref(weight),
            None if bias is None else ref(bias),
            ref(output),
            *arguments,
            lane(input),
            transformed,
        )
        return output

    if algorithm in common.ON_TENSOR_CORES and not input.is_cpu:

        def by_tensor_cores(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            output = allocate(input, weight, channels, size)
            code = common.code_on_cuda(algorithm, input.dtype)
            refs, geometry = (ref(input), ref(weight), ref(output)), (stride, padding, dilation, groups)
            # Named, so that it lives until the kernels are launched.
            workspace = library.scratch(input, native.conv_workspace_size(transposed, *refs, *geometry, code))
            kernel(
                *refs[:2],
                None if bias is None else ref(bias),
                refs[2],
                *geometry,
                *codes[:2],
                code,
                lane(input),
                ref(workspace),
            )
            return output

        return Plan(algorithm, by_tensor_cores, by_tensor_cores)
    if algorithm != "winograd" or not input.is_cpu:  # elsewhere each is the direct sum
        return Plan(algorithm, call, call)
    tiles, _ = _algorithm.winograd_tiles(_problem(transposed, input, weight, geometry))
    kept = KeptWeights(transposed, tiles, stride, padding, dilation, groups)

    def inference(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return call(input, weight, bias, library.optional_ref(kept.get(weight, lane(input))))

    return Plan(algorithm, call, inference)


def _problem(
    transposed: bool, input: Tensor, weight: Tensor, geometry: tuple[Any, ...]
) -> _algorithm.Problem:
    stride, _, dilation, size, groups, *_ = geometry
    name, layout = "conv_transpose2d" if transposed else "conv2d", common.makes_channels_last(input, weight)
    shapes = input.shape, weight.shape, size
    return _algorithm.problem(name, input, layout, *shapes, stride, dilation, groups)


# ------------------------------------------------------------------------------------------------------ call

_CACHE: dict[Any, Planned] = {}
"""What became of a call's shapes, strides, dtypes and arguments; made for plain tensors alone."""


def run(
    function: type[Function],
    prepare: Callable[..., tuple[Tensor, Tensor, Tensor | None, tuple[Any, ...]]],
    op: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *arguments: Any,
) -> Tensor:
    """Prepare a public function's arguments and run its op; shortly where the dispatcher has no part."""
    compiling = torch.compiler.is_compiling()
    key: Any = None
    planned: Planned | None = None
    if not compiling:
        library.refuse_tracing()
        try:
            key = (
                op,
                input.shape,
                input.stride(),
                input.dtype,
                input.is_cpu,
                weight.shape,
                weight.stride(),
                weight.dtype,
                weight.is_cpu,
                None if bias is None else (bias.shape, bias.dtype, bias.is_cpu),
                arguments,
                *map(type, arguments),  # 1 == 1.0 == True
            )
            planned = _CACHE.get(key)
        except (AttributeError, TypeError, RuntimeError):  # a list, something of the wrong type, no strides
            key = planned = None
        if (
            planned is not None
            and input.dim() == dims + 2
            and type(input) in library.PLAIN_TYPES
            and type(weight) in library.PLAIN_TYPES
            and (bias is None or type(bias) in library.PLAIN_TYPES)
            and not torch._C._is_any_autocast_enabled()
            and not library.is_observed()
        ):
            if not _wants_gradient(input, weight, bias):
                if planned.short is not None:
                    return planned.short(input, weight, bias)
            # Of a frozen weight torch would keep the input all the same.
            elif planned.trained is not None and weight.requires_grad:
                return planned.trained(input, weight, bias)
    if compiling or torch._C._is_any_autocast_enabled() or not library.is_plain((input, weight, bias)):
        input, weight, bias, geometry = prepare(op, dims, input, weight, bias, *arguments)
        if input.dim() == dims + 2:
            return function.call(input, weight, bias, *geometry)
        return function.call(input.unsqueeze(0), weight, bias, *geometry).squeeze(0)

    if planned is None:
        *_, geometry = prepare(op, dims, input, weight, bias, *arguments)
        batched = input if input.dim() == dims + 2 else input.unsqueeze(0)
        planned = _planned(function.transposed, batched, weight, geometry)
        if key is not None:
            _keep(_CACHE, key, planned)
    unbatched = input.dim() != dims + 2
    if unbatched:
        input = input.unsqueeze(0)
    if not _wants_gradient(input, weight, bias):
        output = planned.plan.inference(input, weight, bias)
    elif planned.trained is not None and weight.requires_grad:
        output = planned.trained(input, weight, bias)
    else:
        output = function.apply_plain(input, weight, bias, planned)
    return output.squeeze(0) if unbatched else output


def _wants_gradient(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    return torch.is_grad_enabled() and (
        input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    )


def _planned(transposed: bool, input: Tensor, weight: Tensor, geometry: tuple[Any, ...]) -> Planned:
    made = plan(transposed, input, weight, geometry)
    gradients_are_torchs = _gradients_are_torchs(transposed, input, weight, geometry)
    over_copies = _torch_convolution.wants_channels_last(input, weight, geometry[4])
    short = made.call if made.algorithm == "torch" and not over_copies else None
    trained = short if gradients_are_torchs else None
    problem = _problem(transposed, input, weight, geometry)
    if geometry[-1] == "auto" and _algorithm.is_trained_by_torch(problem):
        trained = plan(transposed, input, weight, (*geometry[:-1], "torch")).call
    return Planned(geometry, made, gradients_are_torchs, short, trained)


# ------------------------------------------------------------------------------------------------- autograd


class Function(library.Function):
    """What conv2d's and conv_transpose2d's Functions share; ``forward`` is the op."""

    tensors = 3
    generate_vmap_rule = False  # torch's own fails over jvp where an argument is a tuple
    transposed: bool
    apply_plain: Callable[..., Tensor]
    """apply() for tensors of which library.is_plain() holds: (input, weight, bias, planned)."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Keep what backward reads. Of an input that no gradient reads, that is the shape."""
        input, weight, _, *geometry = inputs
        _save(ctx, input, weight, output, geometry)
        ctx.gradients_are_torchs = None  # backward will see
        if library.may_have_tangents():
            ctx.save_for_forward(input, weight, output)


def backward(
    ctx: Any,
    grad_output: Tensor,
    adjoint: type[Function],
    weight_grad: type[library.Function],
    weight_bias_grad: type[library.Function],
) -> Any:
    """Each gradient by an op of the family: the input's by the other convolution."""
    input, weight, output = ctx.saved_tensors
    input_shape, (stride, padding, dilation, _, groups, activation, slope, algorithm) = ctx.arguments
    needs = ctx.needs_input_grad
    grad = common.activation_backward(grad_output, output, activation, slope)
    geometry = stride, padding, dilation
    grad_input = grad_weight = grad_bias = None
    # Not where they will be differentiated again, nor where the dispatcher has a part.
    is_plain = not torch.is_grad_enabled() and library.is_plain((grad, input, weight), or_cuda=True)
    if is_plain and all(needs[:2]):
        torchs = ctx.gradients_are_torchs
        if torchs is None:
            torchs = _gradients_are_torchs(not adjoint.transposed, input, weight, ctx.arguments[1])
        if torchs:  # in one call, which is faster than two
            both = _torch_convolution.backward(adjoint.transposed, grad, input, weight, *geometry, groups)
            grad_input, grad_weight = both or (None, None)
    if needs[0] and grad_input is None:
        size = common.spatial(input.shape if input_shape is None else input_shape)
        to_input = adjoint.forward if is_plain else adjoint.call
        grad_input = to_input(grad, weight, None, *geometry, size, groups, "none", 0.0, algorithm)
    if needs[1] and grad_weight is None:
        small, large = (grad, input) if adjoint.transposed else (input, grad)
        kernel, channels_last = common.spatial(weight.shape), common.is_channels_last(weight)
        arguments = small, large, kernel, *geometry, groups, channels_last
        if needs[2] and algorithm in common.ON_TENSOR_CORES:  # one launch makes both
            grad_weight, grad_bias = weight_bias_grad.call(*arguments, not adjoint.transposed, algorithm)
        else:
            to_weight = weight_grad.forward if is_plain else weight_grad.call
            grad_weight = to_weight(*arguments, algorithm)
    if needs[2] and grad_bias is None:
        grad_bias = common.bias_grad(grad, is_plain)
    return grad_input, grad_weight, grad_bias, None, None, None, None, None, None, None, None


def _gradients_are_torchs(transposed: bool, input: Tensor, weight: Tensor, geometry: Sequence[Any]) -> bool:
    """Whether torch computes the gradients of input and weight of a convolution with these arguments."""
    stride, _, dilation, output_size, groups, _, _, algorithm = geometry
    if algorithm != "auto":
        return algorithm == "torch"
    channels = common.out_channels(weight, groups, transposed)
    output = input.shape[0], channels, *output_size[4 - input.dim() :]
    adjoint = "conv2d" if transposed else "conv_transpose2d"
    small, large = (input.shape, output) if transposed else (output, input.shape)
    size, kernel, rest = common.spatial(input.shape), common.spatial(weight.shape), (stride, dilation, groups)
    layout = common.makes_channels_last(input, weight)
    return (
        _algorithm.resolve(adjoint, input, layout, output, weight.shape, size, *rest) == "torch"
        and _algorithm.resolve("conv_weight_grad", input, layout, small, large, kernel, *rest) == "torch"
    )


def jvp(function: type[Function], ctx: Any, *tangents: Any) -> Tensor:
    """The output's tangent: the product rule, and the activation's slope."""
    input, weight, output = ctx.saved_tensors
    *geometry, activation, slope, algorithm = ctx.arguments[1]
    d_input, d_weight, d_bias = tangents[:3]
    parts = []
    if d_input is not None:
        parts.append(function.call(d_input, weight, None, *geometry, "none", 0.0, algorithm))
    if d_weight is not None:
        parts.append(function.call(input, d_weight, None, *geometry, "none", 0.0, algorithm))
    if d_bias is not None:
        parts.append(d_bias.view(-1, *[1] * (output.dim() - 2)).expand_as(output))
    # Each activation's slope is a factor, so that it is its own transpose.
    return common.activation_backward(sum(parts[1:], parts[0]), output, activation, slope)


def _save(ctx: Any, input: Tensor, weight: Tensor, output: Tensor, geometry: Any) -> None:
    needs_weight = ctx.needs_input_grad[1]
    ctx.save_for_backward(input if needs_weight else None, weight, None if geometry[5] == "none" else output)
    ctx.arguments = None if needs_weight else input.shape, geometry


def shorten(function: type[Function]) -> None:
    """Give the Function its short way, apply_plain()."""

    # The same as forward and setup_context, in one function and with one argument for all that are no
    # tensors: each argument and each further call costs apply() time.
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, planned: Planned) -> Tensor:
        output = planned.plan.call(input, weight, bias)
        _save(ctx, input, weight, output, planned.geometry)
        ctx.gradients_are_torchs = planned.gradients_are_torchs
        return output

    names = {
        "forward": staticmethod(forward),
        "setup_context": torch.autograd.function._SingleLevelFunction.setup_context,  # none
        "op": None,
        "__module__": function.__module__,
    }
    function.apply_plain = type(function.__name__, (function,), names)._apply  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------------------------- vmap


def _fold_channels(tensor: Tensor, dim: int | None, size: int, at: int) -> Tensor:
    """Move a vmapped dimension (None: expand) in front of dimension ``at`` and fold it into that one."""
    moved = tensor.unsqueeze(at).expand(*tensor.shape[:at], size, *tensor.shape[at:])
    if dim is not None:
        moved = tensor.movedim(dim, at)
    return moved.flatten(at, at + 1)


def batching_rule(op: Callable[..., Tensor], info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
    """The batching rule of conv2d and conv_transpose2d.

    A batched input alone joins the batch; with a batched weight or bias each member is a group of its own.
    """
    input, weight, bias, *geometry, groups, activation, slope, algorithm = args
    size = info.batch_size
    if in_dims[1] is None and in_dims[2] is None:
        return library.unfold(op(library.fold(input, in_dims[0], size), *args[1:]), size), 0
    output = op(
        _fold_channels(input, in_dims[0], size, 1),
        _fold_channels(weight, in_dims[1], size, 0),
        None if bias is None else _fold_channels(bias, in_dims[2], size, 0),
        *geometry,
        groups * size,
        activation,
        slope,
        algorithm,
    )
    return output.unflatten(1, (size, -1)), 1


def weight_grad_batching_rule(op: Callable[..., Any], info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
    """The batching rule of conv_weight_grad and conv_weight_bias_grad: each member is a group of its own."""
    small, large, kernel_size, stride, padding, dilation, groups, *rest = args
    size = info.batch_size
    made = op(
        _fold_channels(small, in_dims[0], size, 1),
        _fold_channels(large, in_dims[1], size, 1),
        kernel_size,
        stride,
        padding,
        dilation,
        groups * size,
        *rest,
    )
    if isinstance(made, Tensor):
        return made.unflatten(0, (size, -1)), 0
    return tuple(grad.unflatten(0, (size, -1)) for grad in made), (0, 0)
