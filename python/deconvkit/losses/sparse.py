"""The cost of a sparse autoencoder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from deconvkit.losses._shapes import require_shape


class SparseAutoencoderLoss(NamedTuple):
    """The three terms of the cost, each a scalar; :attr:`total` is what is minimised."""

    reconstruction: Tensor
    weight_decay: Tensor
    sparsity: Tensor

    @property
    def total(self) -> Tensor:
        """J, the sum of the three terms."""
        return self.reconstruction + self.weight_decay + self.sparsity


def sparse_autoencoder_cost(
    reconstruction: Tensor, target: Tensor, penalty: Tensor, weights: Iterable[Tensor], weight_decay: float
) -> SparseAutoencoderLoss:
    """J = (1/2M) Σ‖x̂ − x‖² + (λ/2) Σ‖W‖² + β Σ_j KL(ρ‖ρ̂_j), term by term.

    The first term is the sum over the values of a sample and the mean over the samples; the second has no
    biases; in the third ρ̂_j is the mean of unit j over the batch.

    Args:
        reconstruction: x̂, (M, D).
        target: x, (M, D): the input itself, or its clean version when denoising.
        penalty: β Σ_j KL(ρ‖ρ̂_j), a scalar, of :func:`deconvkit.sparse_sigmoid` or ``sparse_kl``.
        weights: the weight matrices.
        weight_decay: λ.

    Returns:
        Three scalars; ``.total`` is J.

    Raises:
        ValueError: ``target`` has another shape than the reconstruction.

    Source: the lecture's "autoencoder cost function", with the mean and the weight decay of Ng's notes.
    """
    require_shape("sparse_autoencoder_cost", "target", target, tuple(reconstruction.shape))
    squares = torch.stack([weight.square().sum() for weight in weights]).sum()
    error = (reconstruction - target).square().sum() / (2 * target.shape[0])
    return SparseAutoencoderLoss(error, weight_decay / 2 * squares, penalty)
