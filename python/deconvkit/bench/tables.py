"""Tables of a benchmark's rows: every provider for the terminal, the comparison with torch for README."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from deconvkit.bench.machine import Ceilings
from deconvkit.bench.results import Row, provider


class Case(NamedTuple):
    """What rows must share to be compared."""

    op: str
    layer: str
    mode: str
    memory: str
    dtype: str
    threads: str
    isa: str
    machine: str


def by_case(rows: Iterable[Row]) -> dict[Case, dict[str, Row]]:
    """The rows of each case, by provider."""
    cases: dict[Case, dict[str, Row]] = {}
    for row in rows:
        cases.setdefault(Case(*(row[name] for name in Case._fields)), {})[provider(row)] = row
    return cases


def _median(row: Row) -> float:
    return float(row["p50_ms"])


def best(
    rows: dict[str, Row], *libraries: str, layouts: Sequence[str] = ("contiguous", "channels_last")
) -> float:
    """The least median in ms among the libraries' rows of these layouts; infinity if there are none."""
    return min(
        (_median(row) for row in rows.values() if row["provider"] in libraries and row["layout"] in layouts),
        default=math.inf,
    )


def share_of_peak(row: Row) -> float:
    """The time that the direct algorithm takes at the ceilings of the same run, over the measured time."""
    ceilings = Ceilings(float(row["ceiling_gflops"]), float(row["ceiling_gbs"]))
    return 1e3 * ceilings.least_seconds(int(row["bytes"]), int(row["flops"])) / _median(row)


def _milliseconds(value: float) -> str:
    return f"{value:#.3g}".rstrip(".") if value < 100 else f"{value:.0f}"


def aligned(rows: Sequence[Sequence[str]], texts: int) -> str:
    """Columns of equal width, two spaces apart; the first ``texts`` of them to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.ljust(width) if i < texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


HEADS = (
    "pass",
    "memory",
    "provider",
    "p20 ms",
    "p50 ms",
    "p80 ms",
    "peak MB",
    "GF/s",
    "GB/s",
    "of peak",
    "faster",
)


def text(rows: Sequence[Row]) -> str:
    """Every provider of every layer; "faster" is the best of torch's two layouts over the provider."""
    runs: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = ("machine", "threads", "dtype", "isa", "versions", "commit")
        runs.setdefault(tuple(row[name] for name in key), []).append(row)
    return "\n\n".join(map(_text_of_run, runs.values()))


def _text_of_run(rows: Sequence[Row]) -> str:
    first = rows[0]
    lines = [
        f"{first['machine']}, {first['threads']} threads, {first['dtype']}, {first['isa']}; "
        f"{first['versions']}" + (f"; commit {first['commit']}" if first["commit"] else ""),
        f"ceilings in this run: {float(first['ceiling_gflops']):.0f} GF/s (torch.mm), "
        f"{float(first['ceiling_gbs']):.1f} GB/s (copy)",
    ]
    by_layer: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_layer.setdefault((row["op"], row["layer"]), []).append(row)
    table: list[tuple[str, ...]] = [HEADS]
    titles: list[str] = []
    places: list[int] = []
    for (op, layer), group in by_layer.items():
        titles.append(f"\n{op} {layer}: {group[0]['shape']}")
        places.append(len(table))
        for case, providers in by_case(group).items():
            torch = best(providers, "torch")
            for name, row in providers.items():
                table.append(
                    (
                        *(case.mode, case.memory, name),
                        *(_milliseconds(float(row[f"{quantile}_ms"])) for quantile in ("p20", "p50", "p80")),
                        f"{int(row['peak_bytes']) / 1e6:.1f}" if row["peak_bytes"] else "",
                        f"{int(row['flops']) / _median(row) / 1e6:.0f}" if row["flops"] != "0" else "",
                        f"{int(row['bytes']) / _median(row) / 1e6:.1f}",
                        f"{100 * share_of_peak(row):.0f} %",
                        f"{torch / _median(row):.2f}x" if torch < math.inf else "",
                    )
                )
    body = aligned(table, 3).split("\n")
    for title, start, end in zip(titles, places, [*places[1:], len(table)], strict=True):
        lines += [title, body[0], *body[start:end]]
    return "\n".join(lines)


# ---- README ----


class _Column(NamedTuple):
    """A ratio in README's tables: which cases it is taken from, and of what it is the ratio."""

    head: str
    memory: str
    dtype: str
    theirs: tuple[str, ...]
    ours: str
    layout: str


_FOLDED = ("torch", "torch_folded")
_RATIOS = (
    _Column("faster", "fresh", "float32", ("torch",), "deconvkit", "contiguous"),
    _Column("than torch.compile", "fresh", "float32", ("torch_compile",), "deconvkit", "contiguous"),
    _Column("than ONNX Runtime", "fresh", "float32", ("onnxruntime",), "deconvkit", "contiguous"),
    _Column("in channels_last", "fresh", "float32", ("torch",), "deconvkit", "channels_last"),
    _Column("memory kept", "reused", "float32", ("torch",), "deconvkit", "contiguous"),
    _Column("folded", "fresh", "float32", _FOLDED, "deconvkit_folded", "contiguous"),
    _Column("folded, memory kept", "reused", "float32", _FOLDED, "deconvkit_folded", "contiguous"),
    _Column("bfloat16", "fresh", "bfloat16", ("torch",), "deconvkit", "contiguous"),
)


def _ratio(column: _Column, rows: dict[str, Row]) -> float | None:
    # In channels_last the rival is torch's channels_last, else the better of its layouts.
    layouts = ("channels_last",) if column.layout == "channels_last" else ("contiguous", "channels_last")
    theirs = best(rows, *column.theirs, layouts=layouts)
    ours = best(rows, column.ours, layouts=(column.layout,))
    return theirs / ours if max(theirs, ours) < math.inf else None


def markdown(rows: Sequence[Row]) -> str:
    """README's tables: for each machine, instruction set and op, a line for each layer and pass.

    "torch" is the better of its two layouts, "deconvkit" is NCHW in and out, and the columns behind them
    say how many times faster deconvkit is; losses are below 1.
    """
    parts = []
    runs: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        runs.setdefault((row["machine"], row["threads"], row["isa"]), []).append(row)
    for (machine, threads, isa), of_run in runs.items():
        versions = "; ".join(sorted({row["versions"] for row in of_run}))
        commits = ", ".join(sorted({row["commit"] for row in of_run}))
        gflops = [float(row["ceiling_gflops"]) for row in of_run if row["dtype"] == "float32"]
        ceiling = f"; torch.mm {max(gflops):.0f} GF/s, copy " if gflops else "; copy "
        ceiling += f"{max(float(row['ceiling_gbs']) for row in of_run):.0f} GB/s"
        parts.append(f"**{machine}**, {threads} threads, {isa}; {versions}; commit {commits}{ceiling}.")
        by_op: dict[str, list[Row]] = {}
        for row in of_run:
            by_op.setdefault(row["op"], []).append(row)
        parts += [_op_table(op, of_op) for op, of_op in by_op.items()]
    return "\n\n".join(parts)


def _op_table(op: str, rows: Sequence[Row]) -> str:
    lines: dict[tuple[str, str], dict[tuple[str, str], dict[str, Row]]] = {}
    shapes = {row["layer"]: row["shape"] for row in rows}
    for case, providers in by_case(rows).items():
        lines.setdefault((case.layer, case.mode), {})[case.memory, case.dtype] = providers
    cells = []
    ratios: list[list[float | None]] = []
    for (layer, mode), states in lines.items():
        main = states.get(("fresh", "float32"), {})
        times = best(main, "torch"), best(main, "deconvkit", layouts=("contiguous",))
        cells.append([layer, shapes[layer], mode, *(_milliseconds(t) if t < math.inf else "" for t in times)])
        ratios.append([_ratio(column, states.get((column.memory, column.dtype), {})) for column in _RATIOS])
    shown = [i for i in range(len(_RATIOS)) if any(line[i] is not None for line in ratios)]
    heads = [f"`{op}`", "shape", "pass", "torch ms", "deconvkit ms", *(_RATIOS[i].head for i in shown)]
    table = [heads, ["---"] * 3 + ["---:"] * (2 + len(shown))]
    table += [
        [*cell, *("" if line[i] is None else f"{line[i]:.2f}×" for i in shown)]
        for cell, line in zip(cells, ratios, strict=True)
    ]
    for mode in dict.fromkeys(mode for _, mode in lines):
        chosen = [
            line
            for (layer, its_mode), line in zip(lines, ratios, strict=True)
            if its_mode == mode and layer != "tiny"
        ]
        if len(chosen) > 1:
            means = [_geometric_mean([line[i] for line in chosen]) for i in shown]
            table.append(["geometric mean", "", mode, "", "", *means])
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def _geometric_mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{math.exp(sum(map(math.log, known)) / len(known)):.2f}×" if known else ""
