"""Receptive fields: the weights into each unit, drawn as images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deconvkit.visualize import canvas

Array = NDArray[np.float64]


def orientation_index(fields: Array) -> Array:
    """How far each field varies along one direction only: 1 for a bar or a grating, near .15 for noise.

    The coherence of the gradient structure tensor summed over the field, (λ1 − λ2)/(λ1 + λ2) with its
    eigenvalues λ1 ≥ λ2 (Bigün and Granlund, 1987): (N, height, width) → (N,). A constant field has 0.
    """
    down, across = np.gradient(fields, axis=(1, 2))
    xx, yy, xy = ((a * b).sum((1, 2)) for a, b in ((across, across), (down, down), (across, down)))
    return np.hypot(xx - yy, 2 * xy) / np.maximum(xx + yy, np.finfo(np.float64).tiny)


def mosaic(fields: Array, columns: int, gap: int = 1) -> Array:
    """Lay fields out in rows on a grid, each scaled by its own largest weight to [−1, 1]; gaps are NaN.

    (N, height, width) → (rows·(height + gap) − gap, columns·(width + gap) − gap).
    """
    count, height, width = fields.shape
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    largest = np.abs(fields).max((1, 2))
    for i in range(count):
        y, x = divmod(i, columns)
        y, x = y * (height + gap), x * (width + gap)
        sheet[y : y + height, x : x + width] = fields[i] / (largest[i] or 1.0)
    return sheet


def receptive_fields(learned: Array, untrained: Array, title: str, note: str) -> Figure:
    """Learned receptive fields beside those before training, (N, height, width) both.

    Each field is scaled by its own largest weight: grey is 0, white that weight. Both are sorted by
    orientation index.
    """
    columns = math.ceil(math.sqrt(len(learned)))
    figure = canvas.new_figure(9.2, 5.75, title, note, bottom=0.85)
    grid = figure.add_gridspec(1, 2, wspace=0.06)
    shown: Any = None
    for i, (name, fields) in enumerate((("after training", learned), ("before training", untrained))):
        index = orientation_index(fields)
        ordered = fields[np.argsort(-index)]
        axes = figure.add_subplot(grid[i])
        axes.set_facecolor(canvas.GAP)
        shown = canvas.show_image(
            axes,
            mosaic(ordered, columns),
            f"{name}: mean orientation index {index.mean():.2f}",
            vmin=-1,
            vmax=1,
        )
    scale = figure.add_axes((0.36, 0.42 / 5.75, 0.28, 0.11 / 5.75))
    bar = figure.colorbar(shown, cax=scale, orientation="horizontal", ticks=[-1, 0, 1])
    bar.set_ticklabels(["−largest", "0", "largest weight of the field"])
    bar.ax.tick_params(labelsize=8.5, colors=canvas.QUIET, length=2)
    bar.outline.set_visible(False)
    return figure


def fields_sheet(fields: Array, title: str, note: str) -> Figure:
    """Receptive fields alone, (N, height, width), in the order given and scaled as above."""
    columns = math.ceil(math.sqrt(len(fields)))
    sheet = mosaic(fields, columns)
    figure = canvas.new_figure(6.5, 1.2 + 6.1 * sheet.shape[0] / sheet.shape[1], title, note)
    axes = figure.subplots()
    axes.set_facecolor(canvas.GAP)
    canvas.show_image(axes, sheet, vmin=-1, vmax=1)
    return figure
