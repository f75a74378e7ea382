"""ρ̂ over the samples of several processes: sums of each process, added up, to penalty and slope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deconvkit.ops import _library as library


def _from_sums_impl(
    sums: Tensor, rho: float, beta: float, scale: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    penalty, slope = _from_sums_fake(sums, rho, beta, scale, dtype)
    results = library.ref(penalty), library.ref(slope)
    if sums.is_cuda:  # the count stays there
        workspace = library.scratch(sums, slope.shape[0])
        target = scale, rho, beta, library.ref(workspace), library.lane(sums)
        library.native(sums).sparse_kl_from_sums(
            library.ref(sums[:-1]), library.ref(sums[-1:]), *results, *target
        )
    else:
        library.native(sums).sparse_kl_from_sums(
            library.ref(sums), *results, float(sums[-1]), scale, rho, beta
        )
    return penalty, slope


def _from_sums_fake(
    sums: Tensor, rho: float, beta: float, scale: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    return sums.new_empty((), dtype=dtype), sums.new_empty(((sums.shape[0] - 1) // 2,), dtype=dtype)


def no_vmap(op: str) -> Callable[..., Any]:
    """What stands in for a batching rule."""

    def rule(info: Any, in_dims: Any, *args: Any) -> Any:
        raise NotImplementedError(f"{op}: group: expected None under vmap, got a process group")

    return rule


_from_sums = library.register(
    "sparse_kl_from_sums(Tensor sums, float rho, float beta, float scale, ScalarType dtype) "
    "-> (Tensor penalty, Tensor slope)",
    _from_sums_impl,
    _from_sums_fake,
)


def over_group(
    sums: Tensor, samples: int, rho: float, beta: float, group: Any, dtype: torch.dtype, op: str
) -> tuple[Tensor, Tensor]:
    """Penalty and slope of the sums over all processes of a group, of which this one has so many samples.

    The slope is times the number of processes: DistributedDataParallel averages gradients over processes,
    and the average of these is the derivative of the one penalty that they share.
    """
    torch.distributed.all_reduce(sums, group=group)
    # Who has samples knows that there are some. Only who has none asks, and waits for a CUDA device.
    if not samples and not float(sums[-1]):
        raise ValueError(f"{op}: group: expected a sample on at least one of its processes, got none")
    return _from_sums(sums, rho, beta, float(torch.distributed.get_world_size(group)), dtype)


class OnceDifferentiable(library.Function):
    """A gradient, of which autograd knows that it depends on these tensors, but not how."""

    tensors = 4

    @staticmethod
    def forward(
        grad: Tensor, x: Tensor, grad_activations: Tensor | None, grad_penalty: Tensor | None, op: str
    ) -> Tensor:
        """Return the gradient."""
        return grad.view_as(grad)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep the name of the op."""
        ctx.op = inputs[-1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Raise."""
        raise NotImplementedError(
            f"{ctx.op}: group: expected None for a double backward, got a process group"
        )
