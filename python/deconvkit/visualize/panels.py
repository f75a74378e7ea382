"""A picture and what a network makes of it, panel by panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deconvkit.visualize import canvas

Array = NDArray[Any]


class Panel(NamedTuple):
    """An image (H, W), (H, W, 3) in [0, 1], and what it shows."""

    image: Array
    name: str
    colours: str = "gray"  # matplotlib's map for an image (H, W)


def panels(shown: Sequence[Panel], columns: int, title: str, note: str, widest: float = 3.2) -> Figure:
    """Panels in rows, each as wide as the others, at most ``widest`` inches."""
    rows = -(-len(shown) // columns)
    height, width = shown[0].image.shape[:2]
    side = min(widest, 12.6 / columns)
    row = side * min(height / width, 1.5) + 0.38
    figure = canvas.new_figure(
        max(7.0, columns * side + 0.4), 0.95 + 0.2 + rows * row + 0.19 * note.count("\n"), title, note
    )
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.38 / row})
    for axes, panel in zip(grid.flat, shown, strict=False):
        canvas.show_image(axes, panel.image, canvas.short(panel.name, int(side / 0.088)), cmap=panel.colours)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    return figure


def label_map(
    picture: Array, labels: Array, names: Sequence[str], colours: Array, title: str, note: str
) -> Figure:
    """A picture (H, W, 3) in [0, 1] beside itself under its labels (H, W), with a legend of those it has.

    White lines are drawn where labels meet.

    Args:
        picture: in [0, 1].
        labels: numbers of classes; 0, the background, is left clear.
        names: of the classes.
        colours: (classes, 3), in [0, 1].
        title: of the figure.
        note: below it.
    """
    height, width = labels.shape
    side = 4.6
    tall = side * min(height / width, 1.5)
    figure = canvas.new_figure(
        2 * side + canvas.LEGEND + 0.4, max(tall, 2.2) + 1.15, title, note, right=canvas.LEGEND
    )
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.03})
    canvas.show_image(left, picture)
    cover = np.where(labels[..., None] > 0, 0.6, 0.0)
    times = max(1, 480 // max(height, width))  # small pictures are enlarged, for the lines to be thin
    covered, large = (
        np.repeat(np.repeat(image, times, 0), times, 1)
        for image in ((1 - cover) * picture + cover * colours[labels], labels)
    )
    covered[:-1][large[1:] != large[:-1]] = 1
    covered[:, :-1][large[:, 1:] != large[:, :-1]] = 1
    canvas.show_image(right, covered)
    counts = np.bincount(labels.ravel(), minlength=len(names))
    present = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    shares = [f"{canvas.short(names[i])}  {_percent(counts[i] / labels.size)}" for i in present]
    seen = [colours[i] if i else "white" for i in present]
    canvas.legend(right, list(zip(shares, seen, strict=True)))
    return figure


def label_colours(classes: int) -> Array:
    """VOC's colours: bits of the class's number, the lowest first, become the highest of red, green, blue."""
    colours = np.zeros((classes, 3), np.uint8)
    for label in range(classes):
        rest = label
        for shift in range(7, -1, -1):
            for channel in range(3):
                colours[label, channel] |= ((rest >> channel) & 1) << shift
            rest >>= 3
    return colours / 255


def predictions(
    pictures: Sequence[tuple[str, Array]],
    probabilities: Array,
    names: Sequence[str],
    title: str,
    note: str,
) -> Figure:
    """Images, (h, w) or (h, w, 3) in [0, 1], with bars of their likeliest classes; (N, C) probabilities.

    At most five, and none that is nearly impossible.
    """
    rows = -(-len(pictures) // 2)
    tall = 1.45
    figure = canvas.new_figure(9.6, 1.15 + rows * tall, title, note)
    grid = figure.add_gridspec(rows, 2, wspace=0.12, hspace=0.32)
    for i, ((name, picture), chances) in enumerate(zip(pictures, probabilities, strict=True)):
        # Between image and bars the names of the classes.
        cell = grid[i // 2, i % 2].subgridspec(1, 3, width_ratios=(1.15, 1.15, 1.6), wspace=0)
        canvas.show_image(figure.add_subplot(cell[0]), picture, canvas.short(name))
        bars = figure.add_subplot(cell[2])
        order = np.argsort(-chances, kind="stable")[:5]
        order = order[: max(1, int((chances[order] >= min(0.005, chances.max() / 2)).sum()))]
        shown = range(len(order))
        colours = [canvas.ACCENT, *[canvas.BARS] * (len(order) - 1)]
        bars.barh(shown, chances[order], color=colours, height=0.62)
        for y, chance in zip(shown, chances[order], strict=True):
            bars.text(chance + 0.02, y, _percent(chance), va="center", fontsize=8, color=canvas.QUIET)
        bars.set_yticks(shown, [canvas.short(names[index], 18) for index in order])
        bars.tick_params(axis="y", labelsize=8.5, colors=canvas.INK, length=0)
        bars.set_xticks([])
        bars.set_xlim(0, 1.2)
        bars.set_ylim(4.6, -0.6)
        bars.spines[:].set_visible(False)
    return figure


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 else "<1%"
