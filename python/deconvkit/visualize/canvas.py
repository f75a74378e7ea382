"""What all pictures share: figures without pyplot's global state, images without ticks, whole files."""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

INK = "#222222"  # text
QUIET = "#666666"  # notes and axes
ACCENT = "#c4451c"  # what is asked for
GAP = "#c9d3df"  # between images that have white in them
BARS = "#3b6ea5"  # what was measured

LEGEND = 2.3  # inches for a legend beside the axes

_DPI = 130
_HEAD = 0.95  # inches kept for title, note and the titles of the first row
_MARGIN = 0.2
_LETTER = 0.073  # inches of a letter of the note, in the mean


def new_figure(
    width: float,
    height: float,
    title: str,
    note: str,
    *,
    left: float = _MARGIN,
    right: float = _MARGIN,
    bottom: float = _MARGIN,
) -> Figure:
    """An empty figure of width × height inches, titled at the top left, with a note, wrapped where long.

    The margins, in inches, are kept free of axes: ``left`` and ``bottom`` need room where axes have labels.
    """
    room = int((width - 2 * _MARGIN) / _LETTER)
    wrapped = "\n".join(textwrap.fill(line, room) for line in note.split("\n"))
    lines = wrapped.count("\n")
    height += 0.19 * (lines - note.count("\n"))
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(
        _MARGIN / width, 1 - 0.14 / height, title, va="top", fontsize=13, fontweight="bold", color=INK
    )
    figure.text(
        _MARGIN / width, 1 - 0.42 / height, wrapped, va="top", fontsize=9.5, color=QUIET, linespacing=1.35
    )
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        top=1 - (_HEAD + 0.19 * lines) / height,
        bottom=bottom / height,
    )
    return figure


def show_image(axes: Axes, image: Any, title: str = "", note: str = "", **options: Any) -> Any:
    """Draw an image in [0, 1] (or vmin … vmax) in grey, pixel by pixel; the note goes below it."""
    shown = axes.imshow(
        image, **{"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest", **options}
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title, fontsize=10, color=INK, pad=4)
    if note:
        axes.set_xlabel(note, fontsize=8.5, color=QUIET, labelpad=3)
    return shown


def legend(axes: Axes, entries: Sequence[tuple[str, Any]], most: int = 12) -> None:
    """List names and their colours to the right of the axes; of more than ``most``, how many more there are.

    The figure needs ``LEGEND`` inches of room there.
    """
    listed = [
        Patch(facecolor=colour, edgecolor=QUIET, linewidth=0.5, label=name) for name, colour in entries[:most]
    ]
    if len(entries) > most:
        listed.append(Patch(facecolor="none", edgecolor="none", label=f"and {len(entries) - most} more"))
    axes.legend(
        handles=listed,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        borderaxespad=0,
        frameon=False,
        fontsize=9,
    )


def short(name: str, most: int = 20) -> str:
    """A name of at most so many letters."""
    return name if len(name) <= most else name[: most - 1] + "…"


def plain_axes(axes: Axes, x: str, y: str) -> None:
    """Label the axes of a diagram and take its frame away at the top and the right."""
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)
    axes.tick_params(which="both", labelsize=8.5, colors=QUIET)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)


def save_png(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write the figure to ``path``; the file appears whole or not at all.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    target = Path(path)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
