"""Networks built from the operators: nn.Modules only, no training loops."""

from deconvkit.models.dcgan import DCGANGenerator
from deconvkit.models.sparse_autoencoder import (
    SparseAutoencoder,
    SparseAutoencoderLoss,
    SparseAutoencoderOutput,
)

__all__ = ["DCGANGenerator", "SparseAutoencoder", "SparseAutoencoderLoss", "SparseAutoencoderOutput"]
