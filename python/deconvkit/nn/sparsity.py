"""The sparsity penalty as modules, without parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deconvkit.ops._units import check_target
from deconvkit.ops.sparse_kl import sparse_kl
from deconvkit.ops.sparse_sigmoid import sparse_sigmoid


class _Sparsity(torch.nn.Module):
    def __init__(self, rho: float, beta: float = 1.0, *, unit_dim: int = 1, group: Any = None) -> None:
        super().__init__()
        check_target(type(self).__name__, rho, beta)
        self.rho, self.beta, self.unit_dim, self.group = rho, beta, unit_dim, group

    def extra_repr(self) -> str:
        """Describe the target."""
        grouped = "" if self.group is None else ", group=..."
        return f"rho={self.rho}, beta={self.beta}, unit_dim={self.unit_dim}{grouped}"


class SparseKL(_Sparsity):
    """The penalty β Σ_j KL(ρ‖ρ̂_j) of activations: :func:`deconvkit.sparse_kl` with its arguments kept.

    Args:
        rho: The wanted mean activation ρ, inside (0, 1).
        beta: The weight β, at least 0.
        unit_dim: The dimension of the units.
        group: A ``torch.distributed`` process group over whose samples ρ̂ is the mean.
    """

    def forward(self, activations: Tensor) -> Tensor:
        """Activations of any shape to the scalar penalty."""
        return sparse_kl(activations, self.rho, self.beta, unit_dim=self.unit_dim, group=self.group)


class SparseSigmoid(_Sparsity):
    """Sigmoid and the penalty of its activations: :func:`deconvkit.sparse_sigmoid` with its arguments kept.

    Args:
        rho: The wanted mean activation ρ, inside (0, 1).
        beta: The weight β, at least 0.
        unit_dim: The dimension of the units.
        group: A ``torch.distributed`` process group over whose samples ρ̂ is the mean.
    """

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``z`` of any shape to (activations of that shape, the scalar penalty)."""
        return sparse_sigmoid(z, self.rho, self.beta, unit_dim=self.unit_dim, group=self.group)
