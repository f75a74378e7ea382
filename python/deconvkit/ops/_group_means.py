"""ρ̂ over the samples of several processes: sums of each process, added up, to penalty and slope."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deconvkit.ops import _library as library


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


def no_vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Any, Any]:
    """Stand in for a batching rule."""
    raise NotImplementedError(
        "sparse_kl, sparse_sigmoid: group: vmap over a mean across processes; pass None"
    )


_from_sums = library.register(
    "sparse_kl_from_sums(Tensor sums, float rho, float beta, float scale, ScalarType dtype) "
    "-> (Tensor penalty, Tensor slope)",
    _from_sums_impl,
    _from_sums_fake,
    no_vmap,
)


def over_group(
    sums: Tensor, rho: float, beta: float, group: Any, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Penalty and slope of the sums over all processes of a group.

    The slope is times the number of processes: DistributedDataParallel averages gradients over processes,
    and the average of these is the derivative of the one penalty that they share.
    """
    torch.distributed.all_reduce(sums, group=group)
    return _from_sums(sums, rho, beta, float(torch.distributed.get_world_size(group)), dtype)


class OnceDifferentiable(library.Function):
    """(result, inputs...) -> result, of which autograd knows that it depends on the inputs, but not how."""

    tensors = 5

    @staticmethod
    def forward(result: Tensor, *inputs: Tensor | None) -> Tensor:
        """Return the result."""
        return result.view_as(result)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Raise."""
        raise NotImplementedError(
            "sparse_kl, sparse_sigmoid: group: no double backward through a mean across processes; pass None"
        )
