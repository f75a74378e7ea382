"""What switches are worth: a picture pooled and unpooled with them and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deconvkit.visualize import canvas

Array = NDArray[np.float64]


class UnpooledPicture(NamedTuple):
    """One row: a picture (H, W), its pooled version (h, w), and that unpooled to (H, W) in both ways."""

    name: str
    original: Array
    pooled: Array
    with_switches: Array
    without: Array
    as_dots: bool  # draw the unpooled values as dots on black, not spread over the picture


def spread(unpooled: Array, sigma: float = 2.0) -> Array:
    """Fill the zeros between values with the mean of those near, by a Gaussian weight of ``sigma`` pixels."""
    rows, columns = (
        np.exp(-0.5 * ((np.arange(n)[:, None] - np.arange(n)) / sigma) ** 2) for n in unpooled.shape
    )
    weight = rows @ (unpooled != 0).astype(np.float64) @ columns
    return rows @ unpooled @ columns / np.maximum(weight, np.finfo(np.float64).tiny)


def dots(unpooled: Array) -> Array:
    """Draw each value as a dot of 3×3 pixels; the larger one wins where dots meet."""
    height, width = unpooled.shape
    padded = np.pad(unpooled, 1)
    views = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.max(views, axis=0)


def in_place(unpooled: Array, original: Array) -> float:
    """The share of the unpooled values that lie on a pixel of that value in the original."""
    values = unpooled != 0
    return float((unpooled == original)[values].mean()) if values.any() else 0.0


def unpooling(
    pictures: Sequence[UnpooledPicture], window: tuple[slice, slice], title: str, note: str
) -> Figure:
    """A row a picture: original, pooled, unpooled with switches and without; inside ``window``."""
    height, width = (w.stop - w.start for w in window)
    row = 3.1 * height / width + 0.42
    figure = canvas.new_figure(4 * 3.2 + 0.4, 1.05 + row * len(pictures), title, note)
    axes = figure.subplots(len(pictures), 4, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.2})
    for (original, pooled, left, right), picture in zip(axes, pictures, strict=True):
        factor = picture.original.shape[0] // picture.pooled.shape[0]
        small = tuple(slice(w.start // factor, w.stop // factor) for w in window)
        canvas.show_image(original, picture.original[window], picture.name)
        canvas.show_image(pooled, picture.pooled[small], f"pooled: one value for {factor}×{factor} pixels")
        draw = dots if picture.as_dots else spread
        for place, unpooled, name in (
            (left, picture.with_switches, "unpooled with switches"),
            (right, picture.without, "without, to the corner"),
        ):
            share = in_place(unpooled, picture.original)
            canvas.show_image(place, draw(unpooled)[window], f"{name}: {share:.0%} in place")
    return figure
