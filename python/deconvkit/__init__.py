"""Fast operators of generative networks for PyTorch: transposed convolution, switches, sparse KL."""

from deconvkit._version import __version__

__all__ = ["__version__"]
