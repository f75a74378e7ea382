"""The sparsity penalty β Σ_j KL(ρ‖ρ̂_j), alone and fused with the sigmoid before it.

Forward returns, beside the penalty, each unit's slope β KL'(ρ̂_j) / M, all that backward needs of ρ̂. The
native kernels see a tensor as (batch, outer, units, inner); ``batch`` counts vmapped dimensions, each with
ρ̂ of its own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deconvkit.ops import _arguments as arguments
from deconvkit.ops import _library as library

Sizes = tuple[int, int, int, int]


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype of penalty and slope."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


# ---- layout ----


def _like(tensor: Tensor, batch_dims: int) -> Tensor:
    """An empty tensor with the strides that torch.sigmoid would give; contiguous under vmap."""
    if batch_dims:
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)
    return torch.empty_like(tensor)


def _aligned(tensor: Tensor, like: Tensor, unit_dim: int) -> Tensor:
    """``tensor``, copied unless its memory has the order of ``like``; a matrix's rows may lie apart."""
    strides, wanted = tensor.stride(), like.stride()
    if strides == wanted or (len(strides) == 2 and unit_dim == 1 and strides[1] == wanted[1] == 1):
        return tensor
    return torch.empty_like(like).copy_(tensor)


def _sizes(tensor: Tensor, unit_dim: int, batch_dims: int) -> Sizes:
    """(batch, outer, units, inner) of a dense tensor, in the order of its memory."""
    sizes = tensor.shape
    if len(sizes) == 2 and unit_dim == 1 and not batch_dims and tensor.stride()[1] == 1:
        return 1, sizes[0], sizes[1], 1
    if not tensor.is_contiguous():
        strides = tensor.stride()
        order = sorted(range(tensor.dim()), key=lambda dim: -strides[dim])
        sizes, unit_dim = tensor.permute(order).shape, order.index(unit_dim)
    prod = math.prod
    return (
        prod(sizes[:batch_dims]),
        prod(sizes[batch_dims:unit_dim]),
        sizes[unit_dim],
        prod(sizes[unit_dim + 1 :]),
    )


def _ref(tensor: Tensor, sizes: Sizes, unit_dim: int) -> library.Ref:
    """An aligned tensor as the kernels see it."""
    _, outer, units, inner = sizes
    strides = tensor.stride()
    row = strides[0] if len(strides) == 2 and unit_dim == 1 and strides[1] == 1 else units * inner
    return tensor.data_ptr(), library._DTYPES[tensor.dtype], sizes, (outer * row, row, inner, 1)


# ---- the ops; unit_dim is never negative and counts the batch_dims leading, vmapped dimensions ----


def _results(tensor: Tensor, unit_dim: int, batch_dims: int) -> tuple[Tensor, Tensor]:
    """Empty penalty and slope."""
    dtype, sizes = _compute_dtype(tensor), tensor.shape
    return (
        tensor.new_empty(sizes[:batch_dims], dtype=dtype),
        tensor.new_empty((*sizes[:batch_dims], sizes[unit_dim]), dtype=dtype),
    )


def _empty_sums(tensor: Tensor, unit_dim: int) -> Tensor:
    """Empty Σσ and Σ(1 - σ) of each unit, and the number of samples."""
    return tensor.new_empty((2 * tensor.shape[unit_dim] + 1,), dtype=torch.float64)


def _run_sigmoid(z: Tensor, unit_dim: int, batch_dims: int, *results: Any) -> Tensor:
    activations = _like(z, batch_dims)
    z = _aligned(z, activations, unit_dim)
    sizes = _sizes(activations, unit_dim, batch_dims)
    library.native(z).sparse_sigmoid(
        _ref(z, sizes, unit_dim), _ref(activations, sizes, unit_dim), *results, torch.get_num_threads()
    )
    return activations


def _run_kl(activations: Tensor, unit_dim: int, batch_dims: int, *results: Any) -> None:
    like = activations if activations.is_contiguous() else _like(activations, batch_dims)
    activations = _aligned(activations, like, unit_dim)
    sizes = _sizes(like, unit_dim, batch_dims)
    library.native(activations).sparse_kl(
        _ref(activations, sizes, unit_dim), *results, torch.get_num_threads()
    )


def _sigmoid_impl(
    z: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Tensor, Tensor, Tensor]:
    penalty, slope = _results(z, unit_dim, batch_dims)
    results = None, library.ref(penalty), library.ref(slope), rho, beta
    return _run_sigmoid(z, unit_dim, batch_dims, *results), penalty, slope


def _sigmoid_fake(
    z: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(z, batch_dims), *_results(z, unit_dim, batch_dims)


def _sigmoid_vmap(
    info: Any, in_dims: Any, z: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Any, Any]:
    return _sigmoid(_front(z, in_dims[0], info.batch_size), rho, beta, unit_dim + 1, batch_dims + 1), (
        0,
        0,
        0,
    )


def _kl_impl(
    activations: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Tensor, Tensor]:
    penalty, slope = _results(activations, unit_dim, batch_dims)
    results = None, library.ref(penalty), library.ref(slope), rho, beta
    _run_kl(activations, unit_dim, batch_dims, *results)
    return penalty, slope


def _kl_fake(
    activations: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Tensor, Tensor]:
    return _results(activations, unit_dim, batch_dims)


def _kl_vmap(
    info: Any, in_dims: Any, activations: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Any, Any]:
    moved = _front(activations, in_dims[0], info.batch_size)
    return _kl(moved, rho, beta, unit_dim + 1, batch_dims + 1), (0, 0)


def _backward_impl(
    z: Tensor,
    slope: Tensor,
    grad_activations: Tensor | None,
    grad_penalty: Tensor | None,
    unit_dim: int,
    batch_dims: int,
) -> Tensor:
    grad_z = _like(z, batch_dims)
    z = _aligned(z, grad_z, unit_dim)
    sizes = _sizes(grad_z, unit_dim, batch_dims)
    if grad_activations is not None:
        grad_activations = _aligned(grad_activations, grad_z, unit_dim)
    if batch_dims:
        slope = slope.contiguous()
        grad_penalty = None if grad_penalty is None else grad_penalty.contiguous()
    library.native(z).sparse_sigmoid_backward(
        None if grad_activations is None else _ref(grad_activations, sizes, unit_dim),
        _ref(z, sizes, unit_dim),
        library.ref(slope),
        library.optional_ref(grad_penalty),
        _ref(grad_z, sizes, unit_dim),
        torch.get_num_threads(),
    )
    return grad_z


def _backward_fake(
    z: Tensor,
    slope: Tensor,
    grad_activations: Tensor | None,
    grad_penalty: Tensor | None,
    unit_dim: int,
    batch_dims: int,
) -> Tensor:
    return _like(z, batch_dims)


def _backward_vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
    tensors = (_front(args[i], in_dims[i], info.batch_size) for i in range(4))
    return _sigmoid_backward(*tensors, args[4] + 1, args[5] + 1), 0


def _front(tensor: Tensor | None, dim: int | None, size: int) -> Any:
    """A tensor with its vmapped dimension first."""
    if tensor is None:
        return None
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _sigmoid_sums_impl(z: Tensor, unit_dim: int) -> tuple[Tensor, Tensor]:
    sums = _empty_sums(z, unit_dim)
    activations = _run_sigmoid(z, unit_dim, 0, library.ref(sums), None, None, 0.0, 0.0)
    sums[-1] = _samples(z, unit_dim)
    return activations, sums


def _sigmoid_sums_fake(z: Tensor, unit_dim: int) -> tuple[Tensor, Tensor]:
    return _like(z, 0), _empty_sums(z, unit_dim)


def _kl_sums_impl(activations: Tensor, unit_dim: int) -> Tensor:
    sums = _empty_sums(activations, unit_dim)
    _run_kl(activations, unit_dim, 0, library.ref(sums), None, None, 0.0, 0.0)
    sums[-1] = _samples(activations, unit_dim)
    return sums


def _from_sums_impl(
    sums: Tensor, rho: float, beta: float, scale: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    samples = float(sums[-1])
    if not samples:
        raise ValueError("sparse_kl: group: expected a sample on at least one of its processes, got none")
    penalty, slope = _from_sums_fake(sums, rho, beta, scale, dtype)
    library.native(sums).sparse_kl_from_sums(
        library.ref(sums), library.ref(penalty), library.ref(slope), samples, scale, rho, beta
    )
    return penalty, slope


def _from_sums_fake(
    sums: Tensor, rho: float, beta: float, scale: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    return sums.new_empty((), dtype=dtype), sums.new_empty(((sums.shape[0] - 1) // 2,), dtype=dtype)


def _grouped_vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
    raise NotImplementedError(
        "sparse_kl, sparse_sigmoid: group: vmap over a mean across processes; pass None"
    )


_sigmoid = library.register(
    "sparse_sigmoid(Tensor z, float rho, float beta, int unit_dim, int batch_dims) "
    "-> (Tensor activations, Tensor penalty, Tensor slope)",
    _sigmoid_impl,
    _sigmoid_fake,
    _sigmoid_vmap,
)
_sigmoid_backward = library.register(
    "sparse_sigmoid_backward(Tensor z, Tensor slope, Tensor? grad_activations, Tensor? grad_penalty, "
    "int unit_dim, int batch_dims) -> Tensor",
    _backward_impl,
    _backward_fake,
    _backward_vmap,
)
_kl = library.register(
    "sparse_kl(Tensor activations, float rho, float beta, int unit_dim, int batch_dims) "
    "-> (Tensor penalty, Tensor slope)",
    _kl_impl,
    _kl_fake,
    _kl_vmap,
)
_sigmoid_sums = library.register(
    "sparse_sigmoid_sums(Tensor z, int unit_dim) -> (Tensor activations, Tensor sums)",
    _sigmoid_sums_impl,
    _sigmoid_sums_fake,
    _grouped_vmap,
)
_kl_sums = library.register(
    "sparse_kl_sums(Tensor activations, int unit_dim) -> Tensor", _kl_sums_impl, _empty_sums, _grouped_vmap
)
_from_sums = library.register(
    "sparse_kl_from_sums(Tensor sums, float rho, float beta, float scale, ScalarType dtype) "
    "-> (Tensor penalty, Tensor slope)",
    _from_sums_impl,
    _from_sums_fake,
    _grouped_vmap,
)


# ---- autograd ----


def _samples(tensor: Tensor, unit_dim: int) -> int:
    """M, how many samples each unit has."""
    return math.prod(tensor.shape[:unit_dim]) * math.prod(tensor.shape[unit_dim + 1 :])


def _over_group(
    sums: Tensor, rho: float, beta: float, group: Any, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Penalty and slope of the sums over all processes of a group.

    The slope is times the number of processes: DistributedDataParallel averages gradients over processes,
    and the average of these is the derivative of the one penalty that they share.
    """
    torch.distributed.all_reduce(sums, group=group)
    return _from_sums(sums, rho, beta, float(torch.distributed.get_world_size(group)), dtype)


def _mean(tensor: Tensor, unit_dim: int) -> Tensor:
    """Each unit's mean, in a shape that broadcasts."""
    others = [dim for dim in range(tensor.dim()) if dim != unit_dim]
    return tensor.mean(others, keepdim=True) if others else tensor


def _slope_and_curvature(
    on: Tensor, off: Tensor, rho: float, beta: float, unit_dim: int
) -> tuple[Tensor, Tensor]:
    """∂penalty/∂activation of each unit, and that one's derivative by another activation of the unit.

    Differentiable; ``off`` is 1 - ``on``. Shapes broadcast with the activations.
    """
    info, samples = torch.finfo(on.dtype), _samples(on, unit_dim)
    on, off = _mean(on, unit_dim).clamp_min(info.tiny), _mean(off, unit_dim).clamp_min(info.tiny)
    slope = beta / samples * ((1 - rho) / off - rho / on)
    curvature = beta / samples**2 * (rho / on / on + (1 - rho) / off / off)
    return slope.clamp(info.min, info.max), curvature.clamp(info.min, info.max)


_NO_DOUBLE = "{}: group: no double backward through a mean across processes; pass None"


class _SparseSigmoid(library.Function):
    """(z) -> (activations, penalty, slope)."""

    @staticmethod
    def forward(z: Tensor, rho: float, beta: float, unit_dim: int, group: Any) -> Any:
        if group is None:
            return _sigmoid(z, rho, beta, unit_dim, 0)
        activations, sums = _sigmoid_sums(z, unit_dim)
        return activations, *_over_group(sums, rho, beta, group, _compute_dtype(z))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        slope = output[2]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(slope)
        ctx.save_for_backward(inputs[0], slope)
        ctx.options = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad_activations: Tensor | None, grad_penalty: Tensor | None, _: Any) -> Any:
        if grad_activations is None and grad_penalty is None:
            return None, None, None, None, None
        z, slope = ctx.saved_tensors
        rho, beta, unit_dim, group = ctx.options
        grad_z = _SparseSigmoidBackward.call(
            z, slope, grad_activations, grad_penalty, rho, beta, unit_dim, group is not None
        )
        return grad_z, None, None, None, None


class _SparseSigmoidBackward(library.Function):
    """(z, slope, grad_activations, grad_penalty) -> grad_z; the slope counts as a function of z."""

    tensors = 4

    @staticmethod
    def forward(
        z: Tensor,
        slope: Tensor,
        grad_activations: Tensor | None,
        grad_penalty: Tensor | None,
        rho: float,
        beta: float,
        unit_dim: int,
        grouped: bool,
    ) -> Any:
        return _sigmoid_backward(z, slope, grad_activations, grad_penalty, unit_dim, 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0], inputs[2], inputs[3])
        ctx.options = inputs[4:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        z, grad_activations, grad_penalty = ctx.saved_tensors
        rho, beta, unit_dim, grouped = ctx.options
        if grouped:
            raise NotImplementedError(_NO_DOUBLE.format("sparse_sigmoid"))
        x, v = z.to(_compute_dtype(z)), grad.to(_compute_dtype(z))
        on, off = torch.sigmoid(x), torch.sigmoid(-x)
        slope, curvature = _slope_and_curvature(on, off, rho, beta, unit_dim)
        derivative = on * off
        weighted = v * derivative
        upstream: Any = 0 if grad_activations is None else grad_activations.to(x.dtype)
        grad_z = weighted * (off - on)
        grad_grad_activations = grad_grad_penalty = None
        if grad_activations is not None:
            grad_grad_activations = weighted.to(grad_activations.dtype)
        if grad_penalty is not None:
            grad_grad_penalty = (weighted * slope).sum()
            upstream = upstream + grad_penalty * slope
            total = _mean(weighted, unit_dim) * _samples(z, unit_dim)
            grad_z = grad_z * upstream + grad_penalty * curvature * total * derivative
        else:
            grad_z = grad_z * upstream
        return grad_z.to(z.dtype), None, grad_grad_activations, grad_grad_penalty, None, None, None, None


class _SparseKL(library.Function):
    """(activations) -> (penalty, slope)."""

    @staticmethod
    def forward(activations: Tensor, rho: float, beta: float, unit_dim: int, group: Any) -> Any:
        if group is None:
            return _kl(activations, rho, beta, unit_dim, 0)
        return _over_group(_kl_sums(activations, unit_dim), rho, beta, group, _compute_dtype(activations))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])
        ctx.options = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad_penalty: Tensor, _: Any) -> Any:
        activations, slope = ctx.saved_tensors
        rho, beta, unit_dim, group = ctx.options
        unit_grad = _SparseKLBackward.call(
            activations, slope, grad_penalty, rho, beta, unit_dim, group is not None
        )
        # All samples of a unit have the same gradient: a view, nothing is written.
        for _ in range(activations.dim() - 1 - unit_dim):
            unit_grad = unit_grad.unsqueeze(-1)
        return unit_grad.expand(activations.shape), None, None, None, None


class _SparseKLBackward(library.Function):
    """(activations, slope, grad_penalty) -> the gradient of each unit's activations."""

    tensors = 3

    @staticmethod
    def forward(
        activations: Tensor,
        slope: Tensor,
        grad_penalty: Tensor,
        rho: float,
        beta: float,
        unit_dim: int,
        grouped: bool,
    ) -> Any:
        most = torch.finfo(activations.dtype).max
        return (grad_penalty * slope).clamp(-most, most).to(activations.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0], inputs[2])
        ctx.options = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        activations, grad_penalty = ctx.saved_tensors
        rho, beta, unit_dim, grouped = ctx.options
        if grouped:
            raise NotImplementedError(_NO_DOUBLE.format("sparse_kl"))
        on = activations.to(_compute_dtype(activations))
        slope, curvature = _slope_and_curvature(on, 1 - on, rho, beta, unit_dim)
        weighted = grad.to(on.dtype).view([-1 if dim == unit_dim else 1 for dim in range(on.dim())])
        grad_activations = (grad_penalty * curvature * weighted).expand(on.shape)
        return grad_activations.to(activations.dtype), None, (weighted * slope).sum(), None, None, None, None


# ---- the public functions ----


def check_target(op: str, rho: Any, beta: Any) -> None:
    """Raise unless ``rho`` lies inside (0, 1) and ``beta`` is finite."""
    if type(rho) is type(beta) is float and 0 < rho < 1 and -math.inf < beta < math.inf:
        return  # the usual case, quickly
    for name, value, wanted in (("rho", rho, "a number inside (0, 1)"), ("beta", beta, "a finite number")):
        if isinstance(value, (Tensor, bool, str)) or not hasattr(value, "__float__"):
            raise TypeError(f"{op}: {name}: expected {wanted}, got {type(value).__name__}")
    if not 0 < rho < 1:
        raise ValueError(f"{op}: rho: expected a number inside (0, 1), got {rho!r}")
    if not -math.inf < beta < math.inf:
        raise ValueError(f"{op}: beta: expected a finite number, got {beta!r}")


def _check(op: str, name: str, tensor: Tensor, rho: float, beta: float, unit_dim: int, group: Any) -> int:
    """Check everything; return ``unit_dim`` from the front."""
    arguments.check_float(op, name, tensor)
    check_target(op, rho, beta)
    rank = tensor.dim()
    if type(unit_dim) is not int:
        raise TypeError(f"{op}: unit_dim: expected an int, got {type(unit_dim).__name__}")
    if not -rank <= unit_dim < rank:
        wanted = f"an int in [{-rank}, {rank - 1}]" if rank else f"{name} of at least one dimension"
        raise ValueError(f"{op}: unit_dim: expected {wanted} for shape {tuple(tensor.shape)}, got {unit_dim}")
    if unit_dim < 0:
        unit_dim += rank
    if group is not None:
        if not torch.distributed.is_available() or not isinstance(group, torch.distributed.ProcessGroup):
            raise TypeError(
                f"{op}: group: expected a torch.distributed.ProcessGroup or None, got {type(group).__name__}"
            )
    elif not tensor.numel() and not _samples(tensor, unit_dim):
        raise ValueError(
            f"{op}: {name}: expected at least one sample a unit, got shape {tuple(tensor.shape)}"
        )
    return unit_dim


def sparse_kl(
    activations: Tensor,
    rho: float,
    beta: float = 1.0,
    *,
    unit_dim: int = 1,
    group: Any = None,
) -> Tensor:
    r"""The sparsity penalty :math:`\beta \sum_j KL(\rho \| \hat\rho_j)` of activations.

    :math:`\hat\rho_j` is the mean of unit j over every dimension but ``unit_dim``: the batch and, for
    feature maps, the positions. It is the mean of the batch, not of each sample: batches should hold several
    times 1/ρ samples.

    Equivalent to::

        rho_hat = activations.mean([d for d in range(activations.dim()) if d != unit_dim])
        beta * (rho * (rho / rho_hat).log() + (1 - rho) * ((1 - rho) / (1 - rho_hat)).log()).sum()

    Penalty and gradient are finite for units that are always or never on: ρ̂ and 1 - ρ̂ are kept above the
    smallest normal number inside the logarithms and divisions, and only there. So are those of activations
    outside [0, 1], for which the penalty has no meaning. After a sigmoid use :func:`sparse_sigmoid`, which
    is faster and more
    accurate: a unit whose activations round to 1 has no 1 - ρ̂ left here.

    Args:
        activations: Any shape of at least one dimension, float32, float64, bfloat16 or float16, in [0, 1].
        rho: The wanted mean activation ρ, inside (0, 1).
        beta: The weight β. Any finite number.
        unit_dim: The dimension of the units, as torch counts dimensions. A single vector of units (one
            sample) has ``unit_dim=0``.
        group: A ``torch.distributed`` process group. ρ̂ is then the mean over the samples of all its
            processes (their batches may differ in size, and some may be empty), and every process gets the
            same penalty. See :func:`sparse_sigmoid` for the scale of the gradient.

    Returns:
        A scalar: float64 for float64 activations, else float32 (sums are float32 in runs of 64, beyond
        float64).

    Raises:
        TypeError: ``activations`` is no floating tensor, or ``rho``, ``beta``, ``unit_dim`` or ``group`` is
            of the wrong type.
        ValueError: ``rho`` outside (0, 1), ``beta`` not finite, ``unit_dim`` out of range, or no sample.
        NotImplementedError: vmap or double backward with a ``group``.

    Source: A. Ng, CS294A Lecture notes, Sparse autoencoder (2011), section 3; J. Crowley, Generative
    networks, GRIA lesson 11 (2020), "The sparsity parameter".
    """
    unit_dim = _check("sparse_kl", "activations", activations, rho, beta, unit_dim, group)
    return _SparseKL.call(activations, rho, beta, unit_dim, group)[0]


def sparse_sigmoid(
    z: Tensor,
    rho: float,
    beta: float = 1.0,
    *,
    unit_dim: int = 1,
    group: Any = None,
) -> tuple[Tensor, Tensor]:
    r"""The sigmoid of ``z`` and the sparsity penalty of the activations, each pass over memory made once.

    Equivalent to::

        activations = torch.sigmoid(z)
        penalty = sparse_kl(activations, rho, beta, unit_dim=unit_dim, group=group)

    Backward is the lecture's :math:`\delta = f'(z) (upstream + \beta (-\rho/\hat\rho +
    (1-\rho)/(1-\hat\rho)) / M)` with M samples a unit, in one pass. Neither 1 - ρ̂ nor f' = σ(1 - σ) is
    computed by subtraction, and backward reads ``z``, in bfloat16 and float16 too: a unit that is on for
    every sample (σ rounds to 1) keeps a useful gradient. For this ``z`` is kept until backward; it must not
    be changed in place.

    With a ``group`` the gradient is that of the common penalty times the number of processes W, so that the
    *average* over processes, which is what ``DistributedDataParallel`` computes, is the gradient of the
    penalty that one process would get from all samples, batches of different sizes included. (Whoever sums
    gradients divides by W.) For the rest of the loss that is up to the caller: an average of local means is
    the mean over all samples only where all batches have the same size; else scale each local sum by W and
    divide by the number of all samples. Forward sums 2 J + 1 numbers over the processes; backward
    communicates nothing, and relies on every process giving the penalty the same weight in its loss.

    Args:
        z: Any shape of at least one dimension, float32, float64, bfloat16 or float16.
        rho: The wanted mean activation ρ, inside (0, 1).
        beta: The weight β. Any finite number.
        unit_dim: The dimension of the units, as torch counts dimensions. A single vector of units (one
            sample) has ``unit_dim=0``.
        group: A ``torch.distributed`` process group over whose samples ρ̂ is the mean; their batches may
            differ in size, and some may be empty. Every process must call, with the same number of units.

    Returns:
        ``activations``, of ``z``'s shape, dtype and strides (as ``torch.sigmoid``), and the scalar
        ``penalty``: float64 for float64 input, else float32.

    Raises:
        TypeError: ``z`` is no floating tensor, or ``rho``, ``beta``, ``unit_dim`` or ``group`` is of the
            wrong type.
        ValueError: ``rho`` outside (0, 1), ``beta`` not finite, ``unit_dim`` out of range, or no sample.
        NotImplementedError: vmap or double backward with a ``group``.

    Source: as :func:`sparse_kl`.
    """
    unit_dim = _check("sparse_sigmoid", "z", z, rho, beta, unit_dim, group)
    activations, penalty, _ = _SparseSigmoid.call(z, rho, beta, unit_dim, group)
    return activations, penalty
