"""A fully connected conditional random field over pixels, by mean field (Krähenbühl and Koltun 2011)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
Filter = Callable[[Array], Array]

FILTERS = ("auto", "exact", "lattice")

_EXACT = 64 * 64  # pixels up to which "auto" sums over all pairs, and the weights of pairs are kept
_BLOCK = 1 << 22  # pairs at a time
_FLOOR = 1e-5  # no class is impossible, or nothing could ever change a pixel's mind


def dense_crf(
    probabilities: Tensor,
    image: Tensor,
    *,
    iterations: int = 10,
    gaussian_sigma: float = 3.0,
    gaussian_weight: float = 3.0,
    bilateral_xy: float = 20.0,
    bilateral_rgb: float = 3.0,
    bilateral_weight: float = 5.0,
    filtering: str = "auto",
) -> Tensor:
    """Labels made to agree with those of near pixels, the more so the more alike the colours are.

    Pixels i and j of different labels cost Σ_m w_m k̃_m(i, j), with

        k_1 = exp(−‖p_i − p_j‖² / 2σ²),  k_2 = exp(−‖p_i − p_j‖² / 2 xy² − ‖I_i − I_j‖² / 2 rgb²),
        k̃(i, j) = k(i, j) / √(Σ_l k(i, l) · Σ_l k(j, l)),

    and the mean field starts from the given probabilities P and repeats, for all pixels at once,

        Q_i ← softmax(ln P_i + Σ_m w_m Σ_j k̃_m(i, j) Q_j).

    The sums go over all j, i itself among them, as in the authors' program. k_1 is applied exactly, by rows
    and columns. For k_2 "exact" sums over all pairs, in O(N²) time and at most 200 MB; "lattice" takes a
    permutohedral lattice, in O(N) time. Its sums differ from the exact ones by 4 to 5 % in the mean; on three
    photographs of 64×64 and 96×96 pixels, two labels and a tenth of them wrong, Q differed by .005 to .008 in
    the mean and 99.2 to 99.6 % of the pixels got the same label.

    Args:
        probabilities: (C, H, W), of the classes of each pixel; values below 1e-5 are taken as that.
        image: (3, H, W), red, green and blue of 0 to 255.
        iterations: of the mean field; 0 gives the probabilities back, but for the floor.
        gaussian_sigma: σ, in pixels.
        gaussian_weight: w_1.
        bilateral_xy: in pixels.
        bilateral_rgb: in steps of colour.
        bilateral_weight: w_2.
        filtering: "exact", "lattice" or "auto": exact up to 64×64 pixels.

    Returns:
        Q, (C, H, W), with the dtype and on the device of ``probabilities``.

    Raises:
        TypeError: probabilities that are not floats.
        ValueError: another shape, values that are no probabilities, NaN, or parameters out of range.

    Source: Krähenbühl and Koltun 2011, algorithm 1; parameters of Noh, Hong and Han 2015, section 5.
    """
    _check(probabilities, image, filtering)
    for name, value, positive in (
        ("gaussian_sigma", gaussian_sigma, True),
        ("gaussian_weight", gaussian_weight, False),
        ("bilateral_xy", bilateral_xy, True),
        ("bilateral_rgb", bilateral_rgb, True),
        ("bilateral_weight", bilateral_weight, False),
    ):
        if not (0 < value < math.inf or (value == 0 and not positive)):
            least = "a number above 0" if positive else "a number of at least 0"
            raise ValueError(f"dense_crf: {name}: expected {least}, got {value!r}")
    if iterations < 0:
        raise ValueError(f"dense_crf: iterations: expected at least 0, got {iterations!r}")
    classes, height, width = probabilities.shape
    given = _by_pixel(probabilities if probabilities.dtype == torch.float64 else probabilities.float())
    dtype = given.dtype.type
    kernels = []
    if gaussian_weight and iterations:
        kernels.append((dtype(gaussian_weight), _gaussian(height, width, gaussian_sigma, dtype)))
    if bilateral_weight and iterations:
        where = np.indices((height, width)).reshape(2, -1).T / bilateral_xy
        features = np.concatenate([where, _by_pixel(image.double()) / bilateral_rgb], 1)
        exact = filtering == "exact" or (filtering == "auto" and len(features) <= _EXACT)
        kernels.append((dtype(bilateral_weight), _bilateral(features, exact, dtype)))
    unary = np.log(np.maximum(given, dtype(_FLOOR)))
    found = _softmax(unary)
    for _ in range(iterations):
        found = _softmax(unary + sum(weight * kernel(found) for weight, kernel in kernels))
    return (
        torch.from_numpy(found).view(height, width, classes).permute(2, 0, 1).to(probabilities).contiguous()
    )


def _check(probabilities: Tensor, image: Tensor, filtering: str) -> None:
    if not probabilities.is_floating_point():
        raise TypeError(f"dense_crf: probabilities: expected floats, got {probabilities.dtype}")
    if probabilities.dim() != 3 or not probabilities.numel():
        raise ValueError(
            f"dense_crf: probabilities: expected shape (C, H, W), got {tuple(probabilities.shape)}"
        )
    expected = (3, *probabilities.shape[1:])
    if tuple(image.shape) != expected:
        raise ValueError(f"dense_crf: image: expected shape {expected}, got {tuple(image.shape)}")
    for name, values in (("probabilities", probabilities), ("image", image)):
        if not values.isfinite().all():
            raise ValueError(f"dense_crf: {name}: expected finite numbers, got NaN or infinity among them")
    total = probabilities.sum(0, dtype=torch.float64)
    if probabilities.min() < 0 or (total - 1).abs().max() > 0.02:
        raise ValueError(
            "dense_crf: probabilities: expected numbers of at least 0 that add up to 1 over the classes "
            f"(a softmax makes them of scores), got a least of {probabilities.min().item():.3g} and sums of "
            f"{total.min().item():.3g} to {total.max().item():.3g}"
        )
    if filtering not in FILTERS:
        raise ValueError(f"dense_crf: filtering: expected one of {', '.join(FILTERS)}, got {filtering!r}")


def _by_pixel(maps: Tensor) -> Array:
    """(C, H, W) as (H · W, C): a pixel's values lie together."""
    return maps.detach().cpu().permute(1, 2, 0).reshape(-1, len(maps)).numpy()


def _gaussian(height: int, width: int, sigma: float, dtype: Any) -> Filter:
    """k̃_1, of rows and columns one after the other: its normaliser is a product as well."""

    def along(size: int) -> Array:
        kernel = np.exp(-0.5 * ((np.arange(size)[:, None] - np.arange(size)) / sigma) ** 2)
        norm = kernel.sum(0) ** -0.5
        return (norm[:, None] * kernel * norm).astype(dtype)

    rows, columns = along(height), along(width)

    def apply(values: Array) -> Array:
        down = (rows @ values.reshape(height, -1)).reshape(height, width, -1).transpose(1, 0, 2)
        across = (columns @ down.reshape(width, -1)).reshape(width, height, -1).transpose(1, 0, 2)
        return across.reshape(values.shape)

    return apply


def _bilateral(features: Array, exact: bool, dtype: Any) -> Filter:
    """k̃_2, by pairs or by a lattice."""
    kernel: Filter
    if exact:
        kernel = _Pairs(features, dtype)
    else:
        from deconvkit.segmentation.permutohedral import PermutohedralLattice

        kernel = PermutohedralLattice(features, dtype)
    norm = kernel(np.ones((len(features), 1), dtype)) ** -0.5
    return lambda values: norm * kernel(norm * values)


class _Pairs:
    """Sums over all points weighted by exp(−½‖f_i − f_j‖²); the weights of few points are kept."""

    def __init__(self, features: Array, dtype: Any) -> None:
        # Around their middle, and in float64: differences of squares lose digits.
        self._features = features - features.mean(0)
        self._squares = 0.5 * (self._features**2).sum(1)
        self._dtype = dtype
        count = len(features)
        rows = max(1, _BLOCK // count)
        parts = [slice(start, start + rows) for start in range(0, count, rows)]
        self._parts = [self._weights(part) for part in parts] if count <= _EXACT else parts

    def _weights(self, part: slice) -> Array:
        kernel = self._features[part] @ self._features.T
        kernel -= self._squares[part, None]
        kernel -= self._squares
        return np.exp(kernel, out=kernel).astype(self._dtype)

    def __call__(self, values: Array) -> Array:
        return np.concatenate(
            [(self._weights(part) if isinstance(part, slice) else part) @ values for part in self._parts]
        )


def _softmax(scores: Array) -> Array:
    chances = np.exp(scores - scores.max(1, keepdims=True))
    return chances / chances.sum(1, keepdims=True)
