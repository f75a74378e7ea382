"""The two-layer sparse autoencoder of the lecture."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deconvkit.losses import SparseAutoencoderLoss, sparse_autoencoder_cost
from deconvkit.models._layers import require_sizes
from deconvkit.nn import SparseSigmoid


class SparseAutoencoderOutput(NamedTuple):
    """What a forward pass gives: of M samples of D values, with a code of N units."""

    reconstruction: Tensor  # (M, D), in (0, 1)
    code: Tensor  # (M, N), in (0, 1)
    penalty: Tensor  # (), β Σ_j KL(ρ‖ρ̂_j)


class SparseAutoencoder(nn.Module):
    """Two sigmoid layers, D → N → D, whose N code units are each asked to be on for a share ρ of the samples.

    With D = 64 pixels of an 8×8 patch and N = 25 it has 3,289 parameters.

    The reconstruction is a sigmoid: bring the data into [0, 1] first, better into [0.1, 0.9]. ρ̂ is the
    mean over the batch: train on the whole set at once (L-BFGS), or on batches well above 1/ρ samples.

    Args:
        in_features: D, the values of one sample.
        code_size: N, the units of the code.
        rho: ρ, the wanted mean activation of every code unit, in (0, 1).
        beta: β, the weight of the sparsity term.
        weight_decay: λ, the weight of the squared weights; biases do not decay.
        group: the torch.distributed process group over whose ranks ρ̂ is the mean; None: this process alone.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Raises:
        ValueError: a size below 1, ``rho`` outside (0, 1), ``beta`` negative or not finite,
            ``weight_decay`` negative.

    Example:
        >>> model = SparseAutoencoder(64, 25)
        >>> output = model(patches)  # (M, 64)
        >>> model.loss(output, patches).backward()

    Source: the lecture's "The Sparsity Parameter"; for recipe and initialisation Ng, "Sparse autoencoder"
    (CS294A notes, 2011).
    """

    def __init__(
        self,
        in_features: int,
        code_size: int,
        rho: float = 0.01,
        beta: float = 3.0,
        weight_decay: float = 1e-4,
        *,
        group: Any = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_sizes("SparseAutoencoder", in_features=in_features, code_size=code_size)
        if not weight_decay >= 0:
            raise ValueError(f"SparseAutoencoder: weight_decay: expected a number >= 0, got {weight_decay!r}")
        self.weight_decay = weight_decay
        self.encoder = nn.Linear(in_features, code_size, device=device, dtype=dtype)
        self.decoder = nn.Linear(code_size, in_features, device=device, dtype=dtype)
        self.sparse_sigmoid = SparseSigmoid(rho, beta, group=group)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights uniform in ±√6/√(D + N + 1), biases 0."""
        bound = math.sqrt(6 / (self.encoder.in_features + self.encoder.out_features + 1))
        for layer in (self.encoder, self.decoder):
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, but for ``group``."""
        return {
            "in_features": self.encoder.in_features,
            "code_size": self.encoder.out_features,
            "rho": self.sparse_sigmoid.rho,
            "beta": self.sparse_sigmoid.beta,
            "weight_decay": self.weight_decay,
        }

    def encode(self, input: Tensor) -> Tensor:
        """The code, σ(W1 x + b1): (M, D) → (M, N)."""
        return torch.sigmoid(self.encoder(input))

    def decode(self, code: Tensor) -> Tensor:
        """The reconstruction from a code, σ(W2 a + b2): (M, N) → (M, D)."""
        return torch.sigmoid(self.decoder(code))

    def forward(self, input: Tensor) -> SparseAutoencoderOutput:
        """Reconstruct a batch (M, D); the penalty belongs to the whole batch."""
        code, penalty = self.sparse_sigmoid(self.encoder(input))
        return SparseAutoencoderOutput(self.decode(code), code, penalty)

    def loss_terms(self, output: SparseAutoencoderOutput, target: Tensor) -> SparseAutoencoderLoss:
        """:func:`deconvkit.losses.sparse_autoencoder_cost` of a batch, term by term.

        Args:
            output: what the forward gave.
            target: (M, D), what to reconstruct: the input itself, or its clean version when denoising.

        Returns:
            Three scalars; ``.total`` is J.

        Raises:
            ValueError: ``target`` has another shape than the reconstruction.
        """
        weights = self.encoder.weight, self.decoder.weight
        return sparse_autoencoder_cost(
            output.reconstruction, target, output.penalty, weights, self.weight_decay
        )

    def loss(self, output: SparseAutoencoderOutput, target: Tensor) -> Tensor:
        """The total of :meth:`loss_terms`."""
        return self.loss_terms(output, target).total

    def extra_repr(self) -> str:
        """Describe what no layer describes."""
        return f"weight_decay={self.weight_decay}"
