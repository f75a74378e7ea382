"""Networks built from the operators: nn.Modules only, no training loops."""

from deconvkit.models.sparse_autoencoder import (
    SparseAutoencoder,
    SparseAutoencoderLoss,
    SparseAutoencoderOutput,
)

__all__ = ["SparseAutoencoder", "SparseAutoencoderLoss", "SparseAutoencoderOutput"]
