"""The one check of the losses: shapes that must agree."""

from __future__ import annotations

from torch import Tensor


def require_shape(name: str, argument: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    """Raise ValueError unless the tensor has the expected shape."""
    if tuple(tensor.shape) != tuple(expected):
        raise ValueError(f"{name}: {argument}: expected shape {tuple(expected)}, got {tuple(tensor.shape)}")
