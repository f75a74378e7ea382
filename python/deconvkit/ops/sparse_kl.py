"""The sparsity penalty β Σ_j KL(ρ‖ρ̂_j).

Forward returns, beside the penalty, each unit's slope β KL'(ρ̂_j) / M, all that backward needs of ρ̂.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deconvkit.ops import _group_means as group_means
from deconvkit.ops import _library as library
from deconvkit.ops import _units as units

# ---- the ops ----


def _run_kl(activations: Tensor, unit_dim: int, batch_dims: int, *results: Any) -> None:
    like = activations if activations.is_contiguous() else units.empty_like(activations, batch_dims)
    activations = units.aligned(activations, like, unit_dim)
    sizes = units.view_sizes(like, unit_dim, batch_dims)
    view = units.ref(activations, sizes, unit_dim)
    workspace = units.workspace(activations, view)
    library.native(activations).sparse_kl(view, *results, *units.lane(activations, workspace))


def _kl_impl(
    activations: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Tensor, Tensor]:
    penalty, slope = units.empty_results(activations, unit_dim, batch_dims)
    results = None, library.ref(penalty), library.ref(slope), rho, beta
    _run_kl(activations, unit_dim, batch_dims, *results)
    return penalty, slope


def _kl_fake(
    activations: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Tensor, Tensor]:
    return units.empty_results(activations, unit_dim, batch_dims)


def _kl_vmap(
    info: Any, in_dims: Any, activations: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Any, Any]:
    moved = units.front(activations, in_dims[0], info.batch_size)
    return _kl(moved, rho, beta, unit_dim + 1, batch_dims + 1), (0, 0)


def _kl_backward_impl(
    activations: Tensor,
    slope: Tensor,
    grad_penalty: Tensor,
    rho: float,
    beta: float,
    unit_dim: int,
    batch_dims: int,
) -> Tensor:
    most = torch.finfo(activations.dtype).max
    return (grad_penalty.unsqueeze(-1) * slope).clamp_(-most, most).to(activations.dtype)


def _kl_backward_vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
    tensors = (units.front(args[i], in_dims[i], info.batch_size) for i in range(3))
    rho, beta, unit_dim, batch_dims = args[3:]
    return _kl_backward(*tensors, rho, beta, unit_dim + 1, batch_dims + 1), 0


def _kl_sums_impl(activations: Tensor, unit_dim: int) -> Tensor:
    sums = units.empty_sums(activations, unit_dim)
    _run_kl(activations, unit_dim, 0, library.ref(sums), None, None, 0.0, 0.0)
    sums[-1] = units.samples_of(activations, unit_dim, 0)
    return sums


_kl = library.register(
    "sparse_kl(Tensor activations, float rho, float beta, int unit_dim, int batch_dims) "
    "-> (Tensor penalty, Tensor slope)",
    _kl_impl,
    _kl_fake,
    _kl_vmap,
)
_kl_backward = library.register(
    "sparse_kl_backward(Tensor activations, Tensor slope, Tensor grad_penalty, "
    "float rho, float beta, int unit_dim, int batch_dims) -> Tensor",
    _kl_backward_impl,
    _kl_backward_impl,
    _kl_backward_vmap,
)
_kl_sums = library.register(
    "sparse_kl_sums(Tensor activations, int unit_dim) -> Tensor",
    _kl_sums_impl,
    units.empty_sums,
    group_means.no_vmap("sparse_kl"),
)
# ---- autograd ----


class _SparseKL(library.Function):
    op = "sparse_kl"

    @staticmethod
    def forward(activations: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int) -> Any:
        return _kl(activations, rho, beta, unit_dim, batch_dims)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])
        ctx.options = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad_penalty: Tensor, _: Any) -> Any:
        activations, slope = ctx.saved_tensors
        unit_dim, batch_dims = ctx.options[2:]
        unit_grad = _SparseKLBackward.call(activations, slope, grad_penalty, *ctx.options)
        # All samples of a unit have the same gradient: a view, nothing is written.
        shape = units.unit_shape(activations, unit_dim, batch_dims)
        return unit_grad.view(shape).expand(activations.shape), None, None, None, None


class _SparseKLBackward(library.Function):
    """To the gradient (batch, units) of each unit's activations."""

    op = "sparse_kl_backward"
    tensors = 3

    @staticmethod
    def forward(
        activations: Tensor,
        slope: Tensor,
        grad_penalty: Tensor,
        rho: float,
        beta: float,
        unit_dim: int,
        batch_dims: int,
    ) -> Any:
        return _kl_backward(activations, slope, grad_penalty, rho, beta, unit_dim, batch_dims)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0], inputs[2])
        ctx.options = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        activations, grad_penalty = ctx.saved_tensors
        unit_dim, batch_dims = ctx.options[2:]
        on = activations.to(units.compute_dtype(activations))
        slope, curvature = units.slope_and_curvature(on, 1 - on, *ctx.options)
        weight = grad.to(on.dtype).view(units.unit_shape(on, unit_dim, batch_dims))
        grad_activations = grad_penalty.view(units.unit_shape(on, -1, batch_dims)) * curvature * weight
        return (
            grad_activations.to(activations.dtype).expand(on.shape),
            None,
            units.total(weight * slope, batch_dims),
            None,
            None,
            None,
            None,
        )


class _GroupedKL(library.Function):
    """(activations) -> (penalty, slope)."""

    @staticmethod
    def forward(activations: Tensor, rho: float, beta: float, unit_dim: int, group: Any) -> Any:
        sums, samples = _kl_sums(activations, unit_dim), units.samples_of(activations, unit_dim, 0)
        dtype = units.compute_dtype(activations)
        return group_means.over_group(sums, samples, rho, beta, group, dtype, "sparse_kl")

    setup_context = _SparseKL.setup_context

    @staticmethod
    def backward(ctx: Any, grad_penalty: Tensor, _: Any) -> Any:
        activations, slope = ctx.saved_tensors
        unit_dim = ctx.options[2]
        with torch.no_grad():
            unit_grad = _kl_backward(activations, slope, grad_penalty, 0.0, 0.0, unit_dim, 0)
        unit_grad = group_means.OnceDifferentiable.call(
            unit_grad, activations, None, grad_penalty, "sparse_kl"
        )
        shape = units.unit_shape(activations, unit_dim, 0)
        return unit_grad.view(shape).expand(activations.shape), None, None, None, None


# The compiler would lose the gradient of a collective inside a Function: it leaves its graph here.
_over_group = library.not_compiled(_GroupedKL.call)

# ---- public ----


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
        beta: The weight β, finite and at least 0.
        unit_dim: The dimension of the units, as torch counts dimensions. A single vector of units (one
            sample) has ``unit_dim=0``.
        group: A ``torch.distributed`` process group. ρ̂ is then the mean over the samples of all its
            processes (their batches may differ in size, and some may be empty), and every process gets the
            same penalty. See :func:`sparse_sigmoid` for the scale of the gradient. torch.compile breaks its
            graph there.

    Returns:
        A scalar: float64 for float64 activations, else float32 (sums are float32 in runs of 64, beyond
        float64).

    Raises:
        TypeError: ``activations`` is no floating tensor, or ``rho``, ``beta``, ``unit_dim`` or ``group`` is
            of the wrong type.
        ValueError: ``rho`` outside (0, 1), ``beta`` negative or not finite, ``unit_dim`` out of range, or
            no sample.
        NotImplementedError: vmap or double backward with a ``group``.

    Source: A. Ng, CS294A Lecture notes, Sparse autoencoder (2011), section 3; J. Crowley, Generative
    networks, GRIA lesson 11 (2020), "The sparsity parameter".
    """
    unit_dim = units.check("sparse_kl", "activations", activations, rho, beta, unit_dim, group)
    if group is None:
        return _SparseKL.call(activations, rho, beta, unit_dim, 0)[0]
    return _over_group(activations, rho, beta, unit_dim, group)[0]
