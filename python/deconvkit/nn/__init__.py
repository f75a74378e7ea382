"""Modules with torch's constructor arguments and state dicts that run deconvkit's operators."""

from deconvkit.nn.convolution import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from deconvkit.nn.fusion import fuse
from deconvkit.nn.pooling import MaxPool1d, MaxPool2d, MaxUnpool1d, MaxUnpool2d
from deconvkit.nn.sparsity import SparseKL, SparseSigmoid

__all__ = [
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "SparseKL",
    "SparseSigmoid",
    "fuse",
]
