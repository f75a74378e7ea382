"""Rows of a benchmark: a tidy CSV file, one row for a layer, provider, pass and state of memory."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from deconvkit.bench.layers import LAYERS

DTYPES = ("float32", "bfloat16", "float16", "float64")
MODES = ("forward", "backward", "both")
MEMORY = ("fresh", "reused")

COLUMNS = (
    *("op", "layer", "shape", "dtype", "layout", "device", "provider", "mode", "memory", "threads", "isa"),
    *("p20_ms", "p50_ms", "p80_ms", "peak_bytes", "bytes", "flops", "ceiling_gflops", "ceiling_gbs"),
    *("versions", "commit", "machine"),
)
KEY = (
    *("op", "layer", "dtype", "layout", "device", "provider"),
    *("mode", "memory", "threads", "isa", "machine"),
)

Row = dict[str, str]


def provider(row: Row) -> str:
    """The provider as it is asked for: the library, and its layout where that is channels_last."""
    return row["provider"] + ("_channels_last" if row["layout"] == "channels_last" else "")


def read(path: Path) -> list[Row]:
    """The rows of a CSV file, or of all in a folder.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file.
    """
    if path.is_dir():
        return [row for file in sorted(path.glob("*.csv")) for row in read(file)]
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path}: expected the columns of deconvkit bench --csv")
        return list(reader)


def merge(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """New rows in the place of old ones with the same key, in the order of the table of layers."""
    rows = {tuple(row[column] for column in KEY): row for row in (*old, *new)}
    order = {
        (op, layer.name): i
        for i, (op, layer) in enumerate((op, la) for op, las in LAYERS.items() for la in las)
    }
    places = (("mode", MODES), ("memory", MEMORY), ("dtype", DTYPES))

    def place(row: Row) -> tuple[int, ...]:
        return (
            order.get((row["op"], row["layer"]), len(order)),
            *(values.index(row[column]) for column, values in places),
        )

    return sorted(rows.values(), key=place)


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV file, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text.getvalue())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def keep(folder: Path, rows: Iterable[Row]) -> list[Path]:
    """Merge the rows into <op>_<machine>.csv in the folder, which is made if missing; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    by_file: dict[Path, list[Row]] = {}
    for row in rows:
        by_file.setdefault(folder / f"{row['op']}_{row['machine']}.csv", []).append(row)
    for path, new in by_file.items():
        write(path, merge(read(path) if path.exists() else [], new))
    return list(by_file)
