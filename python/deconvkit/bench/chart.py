"""A chart of a benchmark's rows: how many times faster than torch, layer by layer."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from deconvkit.bench.results import Row
from deconvkit.bench.tables import Case, best, by_case
from deconvkit.visualize import canvas

FORMATS = (".png", ".svg", ".pdf")

_COLOURS = {
    "deconvkit": "#3b6ea5",
    "deconvkit_channels_last": "#8fb3d9",
    "torch": "#c9c9c9",
    "torch_channels_last": "#9a9a9a",
    "onnxruntime": "#c4451c",
    "torch_compile": "#e3a06b",
}
_OTHERS = ("#6a8f4e", "#a7c08e", "#7d5ba6", "#b8a1d1", "#2f8f8f", "#8cc6c6", "#b5a642", "#d8cf8f")
_BAR = 0.17  # inches


def draw(rows: Sequence[Row]) -> Figure:
    """Bars of torch's best median over each provider's median, for every case, on a logarithmic axis."""
    cases = {
        case: providers for case, providers in by_case(rows).items() if best(providers, "torch") < math.inf
    }
    names = list(dict.fromkeys(name for providers in cases.values() for name in providers))
    others = iter(_OTHERS * len(names))
    colours = {name: _COLOURS.get(name) or next(others) for name in names}
    slots = sum(len(providers) + 1 for providers in cases.values())
    first = rows[0]
    figure = canvas.new_figure(
        9.0,
        2.1 + _BAR * max(slots, 4),
        "How many times faster than torch",
        "Medians, against the better of torch's two layouts; beyond the line is faster.\n"
        f"{first['machine']}, {first['threads']} threads, {first['dtype']}, {first['isa']}; "
        f"{first['versions']}",
        left=2.9,
        bottom=1.15,
    )
    axes = figure.add_subplot()
    place, ticks, labels = 0, [], []
    drawn: set[str] = set()
    for case, providers in cases.items():
        torch = best(providers, "torch")
        for i, (name, row) in enumerate(providers.items()):
            factor = torch / float(row["p50_ms"])
            label = None if name in drawn else name.replace("_", " ")
            drawn.add(name)
            axes.barh(place + i, factor - 1, 0.82, left=1, color=colours[name], label=label)
            axes.annotate(
                f"{factor:.2f}" if factor < 10 else f"{factor:.0f}",
                (factor, place + i),
                xytext=(3 if factor >= 1 else -3, 0),
                textcoords="offset points",
                va="center",
                ha="left" if factor >= 1 else "right",
                fontsize=6.5,
                color=canvas.QUIET,
            )
        ticks.append(place + (len(providers) - 1) / 2)
        labels.append(_label(case, rows))
        place += len(providers) + 1
    axes.set_ylim(place - 1, -1)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5) / 1.15, max(high, 2) * 1.15)
    marks = [m for m in (0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100) if low / 1.2 <= m <= high * 1.2]
    axes.set_xticks(marks or [0.5, 1, 2], [f"{mark:g}×" for mark in marks or [0.5, 1, 2]])
    axes.minorticks_off()
    axes.set_yticks(ticks, labels)
    axes.axvline(1, color=canvas.INK, linewidth=0.8)
    canvas.plain_axes(axes, "times faster than torch", "")
    axes.tick_params(axis="y", length=0, colors=canvas.INK)
    if names:
        figure.legend(loc="lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def _label(case: Case, rows: Sequence[Row]) -> str:
    parts = [f"{case.op} {case.layer}", case.mode]
    for column in ("memory", "dtype", "isa"):
        if len({row[column] for row in rows}) > 1:
            parts.append(getattr(case, column))
    return ", ".join(parts)


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format that the path's ending names; the file appears whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:])
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
