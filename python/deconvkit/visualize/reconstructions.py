"""Originals beside what a network makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deconvkit.visualize import canvas

Array = NDArray[np.float64]


def psnr(image: Array, reference: Array) -> float:
    """Peak signal-to-noise ratio in dB of images with values in [0, 1]."""
    return float(-10 * np.log10(np.mean((image - reference) ** 2)))


def reconstructions(
    images: Sequence[tuple[str, Array]], patches: Array, restored: Array, title: str, note: str
) -> Figure:
    """A row of named images (H, W), and below it patches (N, h, w) over their reconstructions (N, h, w).

    The patches have values in [0, 1].
    """
    count = len(patches)
    figure = canvas.new_figure(12.6, 6.35, title, note, left=0.42)
    rows = figure.add_gridspec(2, 1, height_ratios=(2.65, 1.55), hspace=0.1)
    top = rows[0].subgridspec(1, len(images), wspace=0.03)
    for i, (name, image) in enumerate(images):
        canvas.show_image(figure.add_subplot(top[i]), image, name)
    bottom = rows[1].subgridspec(2, count, wspace=0.08, hspace=0.08)
    for row, (name, sheet) in enumerate((("original", patches), ("restored", restored))):
        for i in range(count):
            axes = figure.add_subplot(bottom[row, i])
            canvas.show_image(axes, sheet[i])
            if i == 0:
                axes.set_ylabel(name, fontsize=9, color=canvas.QUIET)
    return figure
