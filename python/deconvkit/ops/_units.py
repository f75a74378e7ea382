"""What sparse_kl and sparse_sigmoid share: how tensors split into units and samples, formulas, checks.

The native kernels see a tensor as (batch, outer, units, inner); ``batch`` counts vmapped dimensions, each
with ρ̂ of its own. Below, ``unit_dim`` is never negative and counts the ``batch_dims`` leading, vmapped
dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deconvkit.ops import _arguments as arguments
from deconvkit.ops import _library as library

Sizes = tuple[int, int, int, int]


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype of penalty and slope."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


# ---- layout ----


def empty_like(tensor: Tensor, batch_dims: int) -> Tensor:
    """An empty tensor with the strides that torch.sigmoid would give; contiguous under vmap."""
    if batch_dims:
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)
    return torch.empty_like(tensor)


def aligned(tensor: Tensor, like: Tensor, unit_dim: int) -> Tensor:
    """``tensor``, copied unless its memory has the order of ``like``; a matrix's rows may lie apart."""
    if tensor.shape != like.shape:
        raise ValueError(
            f"deconvkit: expected tensors of one shape, got {tuple(tensor.shape)} and {tuple(like.shape)}"
        )
    strides, wanted = tensor.stride(), like.stride()
    if strides == wanted or (len(strides) == 2 and unit_dim == 1 and strides[1] == wanted[1] == 1):
        return tensor
    return torch.empty_like(like).copy_(tensor)


def view_sizes(tensor: Tensor, unit_dim: int, batch_dims: int) -> Sizes:
    """(batch, outer, units, inner) of a dense tensor, in the order of its memory."""
    sizes: Any = tensor.shape
    if len(sizes) == 2 and unit_dim == 1 and not batch_dims and tensor.stride()[1] == 1:
        return 1, sizes[0], sizes[1], 1
    if not 0 <= batch_dims <= unit_dim < len(sizes):
        raise ValueError(
            f"deconvkit: expected batch_dims <= unit_dim < {len(sizes)}, got {batch_dims} and {unit_dim}"
        )
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


def ref(tensor: Tensor, sizes: Sizes, unit_dim: int) -> library.Ref:
    """An aligned tensor as the kernels see it."""
    _, outer, units, inner = sizes
    strides = tensor.stride()
    row = strides[0] if len(strides) == 2 and unit_dim == 1 and strides[1] == 1 else units * inner
    return tensor.data_ptr(), library._DTYPES[tensor.dtype], sizes, (outer * row, row, inner, 1)


def workspace(tensor: Tensor, view: library.Ref) -> Tensor | None:
    """What the native forward passes need on CUDA; to be kept until they have launched their kernels."""
    if tensor.is_cpu:
        return None
    return library.scratch(tensor, library.native(tensor).sparse_workspace_size(view))


def lane(tensor: Tensor, workspace: Tensor | None) -> tuple[Any, ...]:
    """The last arguments of the native forward passes: a workspace, if there is one, and ``library.lane``."""
    if workspace is None:
        return (library.lane(tensor),)
    return library.ref(workspace), library.lane(tensor)


def front(tensor: Tensor | None, dim: int | None, size: int) -> Any:
    """A tensor with its vmapped dimension first."""
    if tensor is None:
        return None
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


# ---- results ----


def empty_results(tensor: Tensor, unit_dim: int, batch_dims: int) -> tuple[Tensor, Tensor]:
    """Empty penalty and slope."""
    dtype, sizes = compute_dtype(tensor), tensor.shape
    if not batch_dims:  # new_empty_strided takes half the time of new_empty
        return (
            tensor.new_empty_strided((), (), dtype=dtype),
            tensor.new_empty_strided((sizes[unit_dim],), (1,), dtype=dtype),
        )
    return (
        tensor.new_empty(sizes[:batch_dims], dtype=dtype),
        tensor.new_empty((*sizes[:batch_dims], sizes[unit_dim]), dtype=dtype),
    )


def empty_sums(tensor: Tensor, unit_dim: int) -> Tensor:
    """Empty Σσ and Σ(1 - σ) of each unit, and the number of samples."""
    return tensor.new_empty((2 * tensor.shape[unit_dim] + 1,), dtype=torch.float64)


# ---- formulas ----


def samples_of(tensor: Tensor, unit_dim: int, batch_dims: int) -> int:
    """M, how many samples each unit has."""
    return math.prod(tensor.shape[batch_dims:unit_dim]) * math.prod(tensor.shape[unit_dim + 1 :])


def unit_shape(tensor: Tensor, unit_dim: int, batch_dims: int) -> list[int]:
    """The shape in which (batch, units) broadcasts with the tensor; (batch) for a negative ``unit_dim``."""
    return [n if dim < batch_dims or dim == unit_dim else 1 for dim, n in enumerate(tensor.shape)]


def unit_mean(tensor: Tensor, unit_dim: int, batch_dims: int) -> Tensor:
    """Each unit's mean, in a shape that broadcasts."""
    others = [dim for dim in range(batch_dims, tensor.dim()) if dim != unit_dim]
    return tensor.mean(others, keepdim=True) if others else tensor


def total(tensor: Tensor, batch_dims: int) -> Tensor:
    """The sum over all but the batch."""
    return tensor.flatten(batch_dims).sum(-1)


def slope_and_curvature(
    on: Tensor, off: Tensor, rho: float, beta: float, unit_dim: int, batch_dims: int
) -> tuple[Tensor, Tensor]:
    """∂penalty/∂activation of each unit, and that one's derivative by another activation of the unit.

    Differentiable; ``off`` is 1 - ``on``. Shapes broadcast with the activations.
    """
    info, samples = torch.finfo(on.dtype), samples_of(on, unit_dim, batch_dims)
    on = unit_mean(on, unit_dim, batch_dims).clamp_min(info.tiny)
    off = unit_mean(off, unit_dim, batch_dims).clamp_min(info.tiny)
    slope = beta / samples * ((1 - rho) / off - rho / on)
    curvature = beta / samples**2 * (rho / on / on + (1 - rho) / off / off)
    return slope.clamp(info.min, info.max), curvature.clamp(info.min, info.max)


# ---- checks ----


def check_target(op: str, rho: Any, beta: Any) -> None:
    """Raise unless ``rho`` lies inside (0, 1) and ``beta`` is finite and not negative."""
    if type(rho) is type(beta) is float and 0 < rho < 1 and 0 <= beta < math.inf:
        return  # the usual case, quickly
    for name, value, wanted in (
        ("rho", rho, "a number inside (0, 1)"),
        ("beta", beta, "a finite number >= 0"),
    ):
        if isinstance(value, (Tensor, bool, str)) or not hasattr(value, "__float__"):
            raise TypeError(f"{op}: {name}: expected {wanted}, got {type(value).__name__}")
    if not 0 < rho < 1:
        raise ValueError(f"{op}: rho: expected a number inside (0, 1), got {rho!r}")
    if not 0 <= beta < math.inf:  # a negative one would reward what it is there to punish
        raise ValueError(f"{op}: beta: expected a finite number >= 0, got {beta!r}")


def check(op: str, name: str, tensor: Tensor, rho: float, beta: float, unit_dim: int, group: Any) -> int:
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
    elif not tensor.numel() and not samples_of(tensor, unit_dim, 0):
        raise ValueError(
            f"{op}: {name}: expected at least one sample a unit, got shape {tuple(tensor.shape)}"
        )
    return unit_dim
