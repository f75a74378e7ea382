"""Rows of small images with a name each: samples, reconstructions, analogies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deconvkit.visualize import canvas

Array = NDArray[Any]

_NAME = 30  # letters of a row's name, at most


def sheet(images: Array, columns: int, gap: int = 1) -> Array:
    """Images (N, h, w) or (N, h, w, 3) in [0, 1] side by side in as many rows as they need."""
    count, height, width = images.shape[:3]
    rows = -(-count // columns)
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap, *images.shape[3:])
    whole = np.ones(size, dtype=np.float64)
    for i, image in enumerate(images):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        whole[y : y + height, x : x + width] = image
    return whole


def image_rows(
    rows: Sequence[tuple[str, Array]], title: str, note: str, legend: Sequence[tuple[str, Any]] = ()
) -> Figure:
    """Named rows of as many images each, (N, h, w) or (N, h, w, 3) in [0, 1].

    The legend, if any, is of names and their colours, and goes to the right of the rows.
    """
    count = max(len(images) for _, images in rows)
    side = min(0.8, 9.0 / count, 200 / len(rows))
    left = max(1.2, 0.25 + 0.072 * max(len(canvas.short(name, _NAME)) for name, _ in rows))
    right = canvas.LEGEND if legend else 0.3
    figure = canvas.new_figure(
        max(7.5, left + count * side + right),
        1.3 + side * 1.08 * len(rows),
        title,
        note,
        left=left,
        right=right,
    )
    grid = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (name, images) in zip(grid, rows, strict=True):
        gap = max(1, images.shape[2] // 12)
        canvas.show_image(axes, np.clip(sheet(images, len(images), gap), 0, 1))
        axes.set_ylabel(
            canvas.short(name, _NAME), fontsize=9, color=canvas.QUIET, rotation=0, ha="right", va="center"
        )
    if legend:
        canvas.legend(grid[0], legend)
    return figure


def image_sheet(images: Array, columns: int, title: str, note: str) -> Figure:
    """One sheet of images, (N, h, w) or (N, h, w, 3) in [0, 1]."""
    rows = -(-len(images) // columns)
    side = min(1.0, 10.0 / columns)
    figure = canvas.new_figure(max(6.5, columns * side + 0.4), 1.2 + rows * side, title, note)
    canvas.show_image(figure.subplots(), np.clip(sheet(images, columns, max(1, images.shape[2] // 16)), 0, 1))
    return figure
