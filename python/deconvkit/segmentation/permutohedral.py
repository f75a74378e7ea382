"""Gaussian filtering in five or so dimensions, on the lattice of points near the data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[Any]


class PermutohedralLattice:
    """Sums over points weighted by exp(−½‖f_i − f_j‖²), nearly, in time linear in the number of points.

    Every point hands its values to the d + 1 corners of the simplex it lies in (splat), the corners are
    blurred along the lattice's d + 1 directions by (¼, ½, ¼), and the points read them back (slice). Only
    corners of simplices that hold points exist; what would be blurred through others is lost. The sums are
    those of the Gaussian up to a common factor, which a normalisation takes out.

    Args:
        features: (N, d), float64, in units of the Gaussian's standard deviation.
        dtype: of the values.

    Source: Adams, Baek and Davis 2010, section 3.
    """

    def __init__(self, features: Array, dtype: Any = np.float64) -> None:
        count, d = features.shape
        corners, weights = _simplices(features)
        # Corners are told apart by a random linear map to 64 bits: a direction is then one number to add, and
        # a million corners have a chance of 10⁻⁷ of any two falling together.
        factors = np.random.default_rng(0).integers(0, 2**64, d + 1, np.uint64) | np.uint64(1)
        names, places = np.unique(corners.astype(np.uint64) @ factors, return_inverse=True)
        rows = np.arange(0, (d + 1) * count + 1, d + 1)
        self._slice = sparse.csr_array(
            (weights.ravel().astype(dtype), places.ravel(), rows), shape=(count, len(names))
        )
        self._splat = self._slice.T.tocsr()
        directions = factors.sum() - np.uint64(d + 1) * factors  # 1 everywhere, but −d in one place
        self._blurs = [_blur(names, direction, dtype) for direction in directions]

    def __call__(self, values: Array) -> Array:
        """The weighted sums, (N, C), of values (N, C)."""
        at_corners = self._splat @ values
        for blur in self._blurs:
            at_corners = blur @ at_corners
        return self._slice @ at_corners


def _simplices(features: Array) -> tuple[Array, Array]:
    """The corners of each point's simplex, (N, d + 1, d + 1) int64, and its barycentric weights, (N, d + 1).

    The lattice lies in the plane of d + 1 coordinates with sum 0; those of corner k leave k when divided by
    d + 1.
    """
    d = features.shape[1]
    # An orthonormal basis of the plane, and the scale at which splat, blur and slice have variance 1.
    basis = np.tril(np.ones((d, d + 1)))
    basis[np.arange(d), np.arange(1, d + 1)] = -np.arange(1, d + 1)
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    points = features @ basis * ((d + 1) * np.sqrt(2 / 3))
    # Corner 0: the nearest multiples of d + 1. Where their sum is not 0, those that were rounded the furthest
    # go one further. Ranks: 0 for the coordinate that lies the highest above its corner.
    nearest = np.rint(points / (d + 1)).astype(np.int64)
    excess = nearest.sum(1, keepdims=True)
    ranks = np.argsort(np.argsort(nearest * (d + 1) - points, axis=1, kind="stable"), axis=1) + excess
    turns = (ranks > d).astype(np.int64) - (ranks < 0)
    ranks -= turns * (d + 1)
    origin = (nearest - turns) * (d + 1)
    height = np.empty_like(points)
    np.put_along_axis(height, ranks, (points - origin) / (d + 1), axis=1)
    weights = np.empty_like(points)
    weights[:, 1:] = (height[:, :-1] - height[:, 1:])[:, ::-1]
    weights[:, 0] = 1 - weights[:, 1:].sum(1)
    number = np.arange(d + 1)[:, None]
    corners = origin[:, None] + number - (d + 1) * (ranks[:, None] > d - number)
    return corners, weights


def _blur(names: Array, direction: np.uint64, dtype: Any) -> Any:
    """½ of each corner and ¼ of its neighbours on both sides, as far as they exist."""
    at = np.searchsorted(names, names + direction)
    at[at == len(names)] = 0
    here = np.flatnonzero(names[at] == names + direction)
    forward = sparse.csr_array(
        (np.full(len(here), 0.25, dtype), (here, at[here])), shape=(len(names), len(names))
    )
    return (sparse.eye_array(len(names), dtype=dtype) * dtype(0.5) + forward + forward.T).tocsr()
