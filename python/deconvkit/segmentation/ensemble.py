"""Two networks' opinions joined."""

from __future__ import annotations

from torch import Tensor


def ensemble(first: Tensor, second: Tensor) -> Tensor:
    """The mean of two probability maps.

    Args:
        first: (..., C, H, W).
        second: of the same shape.

    Raises:
        ValueError: shapes that differ, or NaN or infinity.

    Source: Noh, Hong and Han 2015, section 4.3, with the map of a fully convolutional network.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"ensemble: second: expected the first's shape {tuple(first.shape)}, got {tuple(second.shape)}"
        )
    for name, values in (("first", first), ("second", second)):
        if not values.isfinite().all():
            raise ValueError(f"ensemble: {name}: expected finite numbers, got NaN or infinity among them")
    return (first + second) / 2
