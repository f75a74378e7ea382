"""Photographs that need no download, and patches cut out of photographs.

Images are float64 arrays (H, W) or (H, W, 3) with values in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Rec. 601 luma of red, green and blue.
_LUMA = np.array([0.299, 0.587, 0.114])


def sample_photographs() -> dict[str, Array]:
    """scikit-learn's two photographs in grey, "china" and "flower", each (427, 640) in [0, 1]."""
    from sklearn.datasets import load_sample_image

    return {name: grey(load_sample_image(f"{name}.jpg") / 255.0) for name in ("china", "flower")}


def grey(image: NDArray[Any]) -> Array:
    """Luma of a colour image: (H, W, 3) → (H, W)."""
    return np.asarray(image @ _LUMA, dtype=np.float64)


class PatchScale(NamedTuple):
    """How a value of a patch without its mean becomes one in [0.1, 0.9], and back.

    Values are clipped at ±``limit``, three standard deviations, and −limit … limit is mapped to 0.1 … 0.9,
    where a sigmoid can follow.
    """

    limit: float

    @classmethod
    def of(cls, centred: Array) -> PatchScale:
        """The scale for these patches.

        Raises:
            ValueError: every patch is of one colour.
        """
        limit = 3 * float(centred.std())
        if limit == 0:
            raise ValueError("PatchScale: centred: expected patches that vary, got none but of one colour")
        return cls(limit)

    def apply(self, centred: Array) -> Array:
        """Patch values without their mean → [0.1, 0.9]."""
        return 0.5 + 0.4 / self.limit * np.clip(centred, -self.limit, self.limit)

    def undo(self, scaled: Array) -> Array:
        """[0.1, 0.9] → patch values without their mean."""
        return (scaled - 0.5) * (self.limit / 0.4)


def random_patches(images: Sequence[Array], count: int, size: int, generator: np.random.Generator) -> Array:
    """``count`` size×size patches from random places of the images, without their means: (count, size²).

    Each image gives as many.

    Raises:
        ValueError: no image, or one smaller than a patch.
    """
    if not images:
        raise ValueError("random_patches: images: expected at least one image, got none")
    shares = np.full(len(images), count // len(images))
    shares[: count % len(images)] += 1
    chosen = []
    for image, share in zip(images, shares, strict=True):
        if min(image.shape) < size:
            raise ValueError(
                f"random_patches: images: expected at least {size}x{size} pixels, got {image.shape}"
            )
        windows = np.lib.stride_tricks.sliding_window_view(image, (size, size))
        rows = generator.integers(0, windows.shape[0], share)
        columns = generator.integers(0, windows.shape[1], share)
        chosen.append(windows[rows, columns].reshape(-1, size * size))
    patches = np.concatenate(chosen)
    return patches - patches.mean(axis=1, keepdims=True)


def tile(image: Array, size: int) -> Array:
    """Cut an image into size×size tiles, row by row; edges that fill no tile are left out: (tiles, size²)."""
    rows, columns = image.shape[0] // size, image.shape[1] // size
    cut = image[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return cut.transpose(0, 2, 1, 3).reshape(rows * columns, size * size)


def untile(tiles: Array, height: int, width: int, size: int) -> Array:
    """Undo :func:`tile` for an image of height × width: (tiles, size²) → (rows·size, columns·size)."""
    rows, columns = height // size, width // size
    grid = tiles.reshape(rows, columns, size, size)
    return grid.transpose(0, 2, 1, 3).reshape(rows * size, columns * size)
