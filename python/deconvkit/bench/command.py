"""What ``deconvkit bench`` does with its arguments."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from deconvkit import _C
from deconvkit.bench import cases, machine, results, tables
from deconvkit.bench.layers import LAYERS, Layer, named
from deconvkit.bench.measure import Run, available, measure
from deconvkit.bench.results import Row
from deconvkit.memory import keep_freed_memory


class UsageError(ValueError):
    """Arguments that do not fit together or name nothing, in one line."""


_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


def run(
    op: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    providers: Sequence[str] | None = None,
    modes: Sequence[str] | None = None,
    memory: Sequence[str] | None = None,
    dtype: str = "float32",
    threads: int | None = None,
    isa: str | None = None,
    rounds: int = 15,
    budget: float = 5.0,
    csv: str | None = None,
    plot: str | None = None,
    results_folder: str | None = None,
    machine_name: str | None = None,
    from_results: str | None = None,
    markdown: bool = False,
) -> None:
    """Measure (or read rows), write the files that are asked for, and print the table.

    Raises:
        UsageError: an argument that names nothing, or a file that cannot be written.
        AssertionError: deconvkit and torch disagree.
    """
    ops = _known("--op", op, LAYERS) or list(LAYERS)
    chosen = _layers(ops, layers, quick=not op and not layers and not from_results)
    modes = _known("--modes", modes, results.MODES)
    memory = _known("--memory", memory, results.MEMORY)
    asked = _known("--providers", providers, cases.PROVIDERS)
    work = [(name, layer) for name in ops for layer in chosen[name] if cases.providers(name, asked or None)]
    if not work:
        raise UsageError(f"--providers: none of {', '.join(asked)} has {', '.join(ops)}")
    for option, file in (("--csv", csv), ("--plot", plot)):
        _check_file(option, file)
    if plot is not None:
        _check_plot(plot)
    if from_results is not None:
        rows = _read(from_results, {(name, layer.name) for name, layer in work}, asked, modes, memory)
    else:
        if results_folder is not None:
            _check_folder("--results", results_folder)
        if isa is not None:
            _select_isa(isa)
        if threads is not None:
            torch.set_num_threads(threads)
        modes, memory = modes or ["forward", "backward"], memory or ["fresh"]
        rows = _measure(work, asked, modes, memory, dtype, rounds, budget, machine_name or machine.name())
        if results_folder is not None:
            for path in results.keep(Path(results_folder), rows):
                print(f"rows in {path}", file=sys.stderr)
    if csv is not None:
        results.write(Path(csv), rows)
    if plot is not None:
        from deconvkit.bench import chart

        chart.save(chart.draw(rows), Path(plot))
    print(tables.markdown(rows) if markdown else tables.text(rows), flush=True)


def _measure(
    work: Sequence[tuple[str, Layer]],
    asked: Sequence[str],
    modes: Sequence[str],
    memory: Sequence[str],
    dtype: str,
    rounds: int,
    budget: float,
    machine_name: str,
) -> list[Row]:
    kind = getattr(torch, dtype)
    run = Run(kind, rounds, budget, machine.ceilings(kind), machine_name)
    rows: list[Row] = []
    total = len(work) * len(modes) * len(memory)
    with tqdm(total=total, unit="table", mininterval=0.1 if sys.stderr.isatty() else 5.0) as bar:
        # glibc's setting cannot be taken back, so fresh outputs come first.
        for run.memory in sorted(memory, key=results.MEMORY.index):
            if run.memory == "reused":
                keep_freed_memory()
            for op, layer in work:
                bar.set_description(f"{op} {layer.name}, {run.memory}")
                names = available(cases.providers(op, asked or None), run.left_out)
                for new in measure(op, layer, modes, names, run):
                    rows += new
                    bar.update()
    for provider, why in run.left_out.items():
        print(f"{provider} is left out: {why}", file=sys.stderr)
    return rows


# ---- arguments ----


def _split(values: Iterable[str] | None) -> list[str]:
    """Names separated by commas, by spaces, or both."""
    return [name for value in values or () for name in value.split(",") if name]


def _known(option: str, values: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    names, known = _split(values), list(known)
    for name in names:
        if name not in known:
            raise UsageError(f"{option}: expected {', '.join(known)}; got {name!r}")
    return [name for name in known if name in names]


def _layers(ops: Sequence[str], values: Sequence[str] | None, quick: bool) -> dict[str, list[Layer]]:
    names = _split(values)
    every = {op: list(LAYERS[op]) for op in ops}
    if not names:
        return {op: [layer for layer in layers if layer.quick or not quick] for op, layers in every.items()}
    for name in names:
        if not any(named([name], layers) for layers in every.values()):
            known = dict.fromkeys(layer.name for layers in every.values() for layer in layers)
            raise UsageError(
                f"--layers: expected names, or what they begin with, of {', '.join(known)}; got {name!r}"
            )
    return {op: named(names, layers) for op, layers in every.items()}


def _check_file(option: str, file: str | None) -> None:
    """See that the file can be written before any work is done, and leave nothing behind."""
    if file is None:
        return
    path = Path(file)
    if path.is_dir():
        raise UsageError(f"{option}: {file} is a folder, not a file")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(f"{option}: {file} cannot be written ({error.strerror})") from None


def _check_plot(file: str) -> None:
    from deconvkit.bench import chart

    if Path(file).suffix not in chart.FORMATS:
        raise UsageError(f"--plot: expected a file that ends in {', '.join(chart.FORMATS)}; got {file!r}")


def _check_folder(option: str, folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{option}: {folder} cannot be written ({error.strerror})") from None


def _read(
    place: str,
    work: set[tuple[str, str]],
    asked: Sequence[str],
    modes: Sequence[str],
    memory: Sequence[str],
) -> list[Row]:
    try:
        rows = results.read(Path(place))
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text"
        raise UsageError(f"--from-results: {place} cannot be read ({why})") from None
    except ValueError as error:
        raise UsageError(f"--from-results: {error}") from None
    rows = [
        row
        for row in results.merge([], rows)
        if (row["op"], row["layer"]) in work
        and (not asked or results.provider(row) in asked)
        and (not modes or row["mode"] in modes)
        and (not memory or row["memory"] in memory)
    ]
    if not rows:
        raise UsageError(f"--from-results: no such rows in {place}")
    return rows


def _select_isa(isa: str) -> None:
    """Force an instruction set on deconvkit; avx2 on torch as well, which must not have computed yet."""
    known = _C.available_isas()
    if isa not in known:
        raise UsageError(f"--isa: expected {', '.join(known)}; got {isa!r}")
    _C.select_isa(isa)
    if isa == "avx2":
        os.environ.update(_AVX2)
        if torch.backends.cpu.get_cpu_capability() != "AVX2":
            settings = " ".join(f"{name}={value}" for name, value in _AVX2.items())
            raise UsageError(f"--isa: torch has chosen its instructions already; start with {settings}")
