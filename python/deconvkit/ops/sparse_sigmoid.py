"""The sigmoid fused with the sparsity penalty of its activations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deconvkit.ops import _group_means as group_means
from deconvkit.ops import _library as library
from deconvkit.ops import _units as units

# ---- the ops: as those of sparse_kl ----


def _run(z: Tensor, unit_dim: int, batch_dims: int, *results: Any) -> Tensor:
    activations = units.empty_like(z, batch_dims)
    z = units.aligned(z, activations, unit_dim)
    sizes = units.view_sizes(activations, unit_dim, batch_dims)
    view = units.ref(z, sizes, unit_dim)
    workspace = units.workspace(z, view)
    library.native(z).sparse_sigmoid(
        view, units.ref(activations, sizes, unit_dim), *results, *units.lane(z, workspace)
    )
    return activations


def _impl(
    z: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Tensor, Tensor, Tensor]:
    penalty, slope = units.empty_results(z, unit_dim, batch_dims)
    results = None, library.ref(penalty), library.ref(slope), rho, beta
    return _run(z, unit_dim, batch_dims, *results), penalty, slope


def _fake(
    z: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Tensor, Tensor, Tensor]:
    return units.empty_like(z, batch_dims), *units.empty_results(z, unit_dim, batch_dims)


def _vmap(
    info: Any, in_dims: Any, z: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Any, Any]:
    return _sigmoid(units.front(z, in_dims[0], info.batch_size), rho, beta, unit_dim + 1, batch_dims + 1), (
        0,
        0,
        0,
    )


def _backward_impl(
    z: Tensor,
    slope: Tensor,
    grad_activations: Tensor | None,
    grad_penalty: Tensor | None,
    rho: float,
    beta: float,
    unit_dim: int,
    batch_dims: int,
) -> Tensor:
    grad_z = units.empty_like(z, batch_dims)
    z = units.aligned(z, grad_z, unit_dim)
    sizes = units.view_sizes(grad_z, unit_dim, batch_dims)
    if grad_activations is not None:
        grad_activations = units.aligned(grad_activations, grad_z, unit_dim)
    if batch_dims:
        slope = slope.contiguous()
        grad_penalty = None if grad_penalty is None else grad_penalty.contiguous()
    library.native(z).sparse_sigmoid_backward(
        None if grad_activations is None else units.ref(grad_activations, sizes, unit_dim),
        units.ref(z, sizes, unit_dim),
        library.ref(slope),
        library.optional_ref(grad_penalty),
        units.ref(grad_z, sizes, unit_dim),
        library.lane(z),
    )
    return grad_z


def _backward_fake(
    z: Tensor,
    slope: Tensor,
    grad_activations: Tensor | None,
    grad_penalty: Tensor | None,
    rho: float,
    beta: float,
    unit_dim: int,
    batch_dims: int,
) -> Tensor:
    return units.empty_like(z, batch_dims)


def _backward_vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
    tensors = (units.front(args[i], in_dims[i], info.batch_size) for i in range(4))
    rho, beta, unit_dim, batch_dims = args[4:]
    return _backward(*tensors, rho, beta, unit_dim + 1, batch_dims + 1), 0


def _sums_impl(z: Tensor, unit_dim: int) -> tuple[Tensor, Tensor]:
    sums = units.empty_sums(z, unit_dim)
    activations = _run(z, unit_dim, 0, library.ref(sums), None, None, 0.0, 0.0)
    sums[-1] = units.samples_of(z, unit_dim, 0)
    return activations, sums


def _sums_fake(z: Tensor, unit_dim: int) -> tuple[Tensor, Tensor]:
    return units.empty_like(z, 0), units.empty_sums(z, unit_dim)


_sigmoid = library.register(
    "sparse_sigmoid(Tensor z, float rho, float beta, int unit_dim, int batch_dims) "
    "-> (Tensor activations, Tensor penalty, Tensor slope)",
    _impl,
    _fake,
    _vmap,
)
# rho and beta serve the derivatives of the backward ops.
_backward = library.register(
    "sparse_sigmoid_backward(Tensor z, Tensor slope, Tensor? grad_activations, Tensor? grad_penalty, "
    "float rho, float beta, int unit_dim, int batch_dims) -> Tensor",
    _backward_impl,
    _backward_fake,
    _backward_vmap,
)
_sums = library.register(
    "sparse_sigmoid_sums(Tensor z, int unit_dim) -> (Tensor activations, Tensor sums)",
    _sums_impl,
    _sums_fake,
    group_means.no_vmap("sparse_sigmoid"),
)


# ---- autograd ----


class _SparseSigmoid(library.Function):
    op = "sparse_sigmoid"

    @staticmethod
    def forward(z: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int) -> Any:
        return _sigmoid(z, rho, beta, unit_dim, batch_dims)

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
        grad_z = _SparseSigmoidBackward.call(*ctx.saved_tensors, grad_activations, grad_penalty, *ctx.options)
        return grad_z, None, None, None, None


class _SparseSigmoidBackward(library.Function):
    """Differentiable by all but the slope, which counts as a function of z."""

    op = "sparse_sigmoid_backward"
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
        batch_dims: int,
    ) -> Any:
        return _backward(z, slope, grad_activations, grad_penalty, rho, beta, unit_dim, batch_dims)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0], inputs[2], inputs[3])
        ctx.options = inputs[4:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        z, grad_activations, grad_penalty = ctx.saved_tensors
        unit_dim, batch_dims = ctx.options[2:]
        x, v = z.to(units.compute_dtype(z)), grad.to(units.compute_dtype(z))
        on, off = torch.sigmoid(x), torch.sigmoid(-x)
        slope, curvature = units.slope_and_curvature(on, off, *ctx.options)
        derivative = on * off
        weighted = v * derivative
        grad_z: Any = 0
        grad_grad_activations = grad_grad_penalty = None
        if grad_activations is not None:
            grad_grad_activations = weighted.to(grad_activations.dtype)
            grad_z = weighted * (off - on) * grad_activations.to(x.dtype)
        if grad_penalty is not None:
            grad_grad_penalty = units.total(weighted * slope, batch_dims)
            total = units.unit_mean(weighted, unit_dim, batch_dims) * units.samples_of(
                z, unit_dim, batch_dims
            )
            by_penalty = weighted * (off - on) * slope + curvature * total * derivative
            grad_z = grad_z + grad_penalty.view(units.unit_shape(z, -1, batch_dims)) * by_penalty
        return grad_z.to(z.dtype), None, grad_grad_activations, grad_grad_penalty, None, None, None, None


class _GroupedSigmoid(library.Function):
    """(z) -> (activations, penalty, slope)."""

    @staticmethod
    def forward(z: Tensor, rho: float, beta: float, unit_dim: int, group: Any) -> Any:
        activations, sums = _sums(z, unit_dim)
        samples, dtype = units.samples_of(z, unit_dim, 0), units.compute_dtype(z)
        return activations, *group_means.over_group(sums, samples, rho, beta, group, dtype, "sparse_sigmoid")

    setup_context = _SparseSigmoid.setup_context

    @staticmethod
    def backward(ctx: Any, grad_activations: Tensor | None, grad_penalty: Tensor | None, _: Any) -> Any:
        if grad_activations is None and grad_penalty is None:
            return None, None, None, None, None
        z, slope = ctx.saved_tensors
        with torch.no_grad():
            grad_z = _backward(z, slope, grad_activations, grad_penalty, 0.0, 0.0, ctx.options[2], 0)
        grad_z = group_means.OnceDifferentiable.call(
            grad_z, z, grad_activations, grad_penalty, "sparse_sigmoid"
        )
        return grad_z, None, None, None, None


# The compiler would lose the gradient of a collective inside a Function: it leaves its graph here.
_over_group = library.not_compiled(_GroupedSigmoid.call)

# ---- public ----


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
        beta: The weight β, finite and at least 0.
        unit_dim: The dimension of the units, as torch counts dimensions. A single vector of units (one
            sample) has ``unit_dim=0``.
        group: A ``torch.distributed`` process group over whose samples ρ̂ is the mean; their batches may
            differ in size, and some may be empty. Every process must call, with the same number of units.
            torch.compile breaks its graph there.

    Returns:
        ``activations``, of ``z``'s shape, dtype and strides (as ``torch.sigmoid``), and the scalar
        ``penalty``: float64 for float64 input, else float32.

    Raises:
        TypeError: ``z`` is no floating tensor, or ``rho``, ``beta``, ``unit_dim`` or ``group`` is of the
            wrong type.
        ValueError: ``rho`` outside (0, 1), ``beta`` negative or not finite, ``unit_dim`` out of range, or
            no sample.
        NotImplementedError: vmap or double backward with a ``group``.

    Source: as :func:`sparse_kl`.
    """
    unit_dim = units.check("sparse_sigmoid", "z", z, rho, beta, unit_dim, group)
    if group is None:
        activations, penalty, _ = _SparseSigmoid.call(z, rho, beta, unit_dim, 0)
    else:
        activations, penalty, _ = _over_group(z, rho, beta, unit_dim, group)
    return activations, penalty
