"""Compare providers on the layers of layers.py: interleaved medians in one process, as CSV and as a table.

    python -m benchmarks.compare --op max_pool2d
    python -m benchmarks.compare --op conv2d --layers vgg56 vgg14 --modes forward --rounds 15
    python -m benchmarks.compare --op max_pool2d --from-results --markdown

In every round each provider is timed in turn. ``memory`` says where outputs lie: "fresh" is glibc as it
comes, which maps blocks of 32 MB and more anew for every output; "reused" is glibc told to keep freed memory,
whoever the provider. Rows are kept in results/<op>_<machine>.csv; a new run replaces its own rows and leaves
the others.
"""

from __future__ import annotations

import csv
import ctypes
import io
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser, DefaultHelpFormatter
from tqdm import tqdm

import deconvkit
from benchmarks import cases
from benchmarks.layers import LAYERS, Layer
from deconvkit import _C, timing

RESULTS = Path(__file__).parent / "results"
DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.bfloat16, torch.float16)
}
MEMORY = ("fresh", "reused")

COLUMNS = (
    *("op", "layer", "shape", "dtype", "layout", "device", "provider", "mode", "memory", "threads"),
    *("p20_ms", "p50_ms", "p80_ms", "bytes", "flops", "versions", "commit", "machine"),
)
KEY = ("op", "layer", "dtype", "layout", "device", "provider", "mode", "memory", "threads", "machine")

Row = dict[str, str]


def processor() -> str:
    """The processor's name as the kernel gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1].strip() if found else platform.processor() or platform.machine()


def machine_name() -> str:
    """A short name for files: the processor without its decorations, and the processors we may use."""
    name = re.sub(r"\(\w+\)|@.*|\b(cpu|processor|\d+-core)\b", " ", processor().lower())
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-") + f"-{cpus}cpu"


def commit() -> str:
    """The commit that is measured, with "+" where files differ from it."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(("git", *arguments), cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git(
        "status", "--porcelain", "--untracked-files=no", "--", ".", ":!results", "../csrc", "../python"
    )
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def versions() -> str:
    """The versions that decide the figures."""
    libc = " ".join(platform.libc_ver())
    return f"deconvkit {deconvkit.__version__} ({_C.isa()}); torch {torch.__version__}; {libc}"


def keep_freed_memory() -> None:
    """Tell glibc to hand freed blocks out again, whatever their size, not back to the system."""
    m_trim_threshold, m_mmap_threshold = -1, -3
    libc = ctypes.CDLL(None)
    for option in (m_mmap_threshold, m_trim_threshold):
        if not libc.mallopt(option, 2**30):
            raise RuntimeError("glibc refused mallopt; only --memory fresh can be measured here")


def measure(
    op: str,
    layer: Layer,
    dtype: torch.dtype,
    modes: Sequence[str],
    providers: Sequence[str],
    rounds: int,
    budget: float,
    common: Row,
) -> list[Row]:
    """Rows for one layer: every provider in every mode."""
    setups = {
        layout: cases.setup(op, layer, dtype, layout, compiled="torch_compile" in libraries)
        for layout in ("contiguous", "channels_last")
        if (libraries := {cases.PROVIDERS[p][0] for p in providers if cases.PROVIDERS[p][1] == layout})
    }
    for made in setups.values():
        cases.check(made, dtype)
    rows = []
    item = dtype.itemsize
    for mode in modes:
        calls = {}
        for provider in providers:
            library, layout = cases.PROVIDERS[provider]
            calls[provider] = cases.call(setups[layout], library, mode)
        work = {
            "forward": layer.forward_work(item),
            "backward": layer.backward_work(item),
            "both": layer.forward_work(item) + layer.backward_work(item),
        }[mode]
        for provider, seconds in timing.interleaved(calls, rounds=rounds, budget=budget).items():
            library, layout = cases.PROVIDERS[provider]
            quantiles = {f"{name}_ms": f"{1e3 * value:.5g}" for name, value in seconds._asdict().items()}
            rows.append(
                {
                    **{"op": op, "layer": layer.name, "shape": layer.shape},
                    **{"layout": layout, "provider": library, "mode": mode},
                    **{"bytes": str(work.bytes), "flops": str(work.flops)},
                    **quantiles,
                    **common,
                }
            )
    return rows


def read(path: Path) -> list[Row]:
    """The rows of a results file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def merge(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """New rows in the place of old ones with the same key, in the order of the table of layers."""
    rows = {tuple(row[column] for column in KEY): row for row in (*old, *new)}
    order = {
        (op, layer.name): i
        for i, (op, layer) in enumerate((op, la) for op, las in LAYERS.items() for la in las)
    }
    places = {
        "mode": cases.MODES,
        "memory": MEMORY,
        "dtype": tuple(DTYPES),
    }

    def place(row: Row) -> tuple[int, ...]:
        return (
            order.get((row["op"], row["layer"]), len(order)),
            *(values.index(row[column]) for column, values in places.items()),
        )

    return sorted(rows.values(), key=place)


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write a results file, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text.getvalue())
    temporary.replace(path)


def _provider(row: Row) -> str:
    return row["provider"] + ("_channels_last" if row["layout"] == "channels_last" else "")


def _milliseconds(text: str | None) -> str:
    return "" if text is None else f"{float(text):.3g}" if float(text) < 100 else f"{float(text):.0f}"


def markdown(rows: Sequence[Row]) -> str:
    """A table of medians in ms: a row for each layer, mode and state of memory, a column for each provider.

    The last column is the best of the others over the best of ours: above 1 ours is faster.
    """
    shown = [name for name in cases.PROVIDERS if any(_provider(row) == name for row in rows)]
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        dtype = "" if row["dtype"] == "float32" else f" {row['dtype']}"
        key = (row["op"], f"{row['layer']}{dtype}", row["shape"], row["mode"], row["memory"])
        lines.setdefault(key, {})[_provider(row)] = row["p50_ms"]
    heads = ["op", "layer", "shape", "pass", "memory", *(name.replace("_", " ") for name in shown), "faster"]
    table = [heads, ["---"] * 5 + ["---:"] * (len(shown) + 1)]
    for key, medians in lines.items():
        ours = [float(ms) for name, ms in medians.items() if name.startswith("deconvkit")]
        theirs = [float(ms) for name, ms in medians.items() if not name.startswith("deconvkit")]
        factor = f"{min(theirs) / min(ours):.2f}×" if ours and theirs else ""
        table.append([*key, *(_milliseconds(medians.get(name)) for name in shown), factor])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _parser() -> ArgumentParser:
    from argparse import RawDescriptionHelpFormatter

    class Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
        pass

    parser = ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__, formatter_class=Formatter
    )
    add = parser.add_argument
    add(
        "--op",
        nargs="+",
        choices=tuple(LAYERS),
        default=list(LAYERS),
        help="operators; all of them unless given",
    )
    add(
        "--layers",
        nargs="+",
        type=str,
        default=[],
        help="names of layers; all but those without unless given",
    )
    add("--modes", nargs="+", choices=cases.MODES, default=["forward", "both"], help="passes")
    add(
        "--providers",
        nargs="+",
        choices=tuple(cases.PROVIDERS),
        default=list(cases.PROVIDERS),
        help="providers",
    )
    add("--memory", nargs="+", choices=MEMORY, default=list(MEMORY), help="where outputs lie, see above")
    add("--dtype", choices=tuple(DTYPES), default="float32", help="of all tensors")
    add("--rounds", type=int, default=25, help="samples a provider")
    add("--budget", type=float, default=8.0, help="seconds a layer and mode, after which no round begins")
    add("--threads", type=int, default=torch.get_num_threads(), help="torch's threads, and ours")
    add("--machine", type=str, default=machine_name(), help="name of this machine in file names and rows")
    add("--results", type=str, default=str(RESULTS), help="folder of the CSV files")
    add("--from-results", action="store_true", help="measure nothing, read the CSV files")
    add("--markdown", action="store_true", help="print a Markdown table in the end")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, keep the rows, and print."""
    asked = _parser().parse_args(argv)
    files = {op: Path(asked.results) / f"{op}_{asked.machine}.csv" for op in asked.op}
    layers = {
        op: [layer for layer in LAYERS[op] if not asked.layers or layer.name in asked.layers]
        for op in asked.op
    }
    if not any(layers.values()):
        print(
            f"compare: --layers: none of {asked.layers} is a layer of {', '.join(asked.op)}", file=sys.stderr
        )
        return 2
    if not asked.from_results:
        torch.set_num_threads(asked.threads)
        common = {
            **{"dtype": asked.dtype, "device": "cpu", "threads": str(asked.threads)},
            **{"versions": versions(), "commit": commit(), "machine": asked.machine},
        }
        # glibc's setting cannot be taken back, so fresh outputs come first.
        for memory in (m for m in MEMORY if m in asked.memory):
            if memory == "reused":
                keep_freed_memory()
            work = [(op, layer) for op in asked.op for layer in layers[op]]
            for op, layer in tqdm(work, desc=memory, unit="layer"):
                rows = measure(
                    op,
                    layer,
                    DTYPES[asked.dtype],
                    asked.modes,
                    cases.providers(op, asked.providers),
                    asked.rounds,
                    asked.budget,
                    common | {"memory": memory},
                )
                write(files[op], merge(read(files[op]), rows))
    for op, path in files.items():
        names = {layer.name for layer in layers[op]}
        wanted = [
            row
            for row in read(path)
            if row["layer"] in names
            and row["mode"] in asked.modes
            and row["memory"] in asked.memory
            and row["dtype"] == asked.dtype
            and _provider(row) in asked.providers
        ]
        if asked.markdown:
            print(markdown(wanted), end="\n\n")
        else:
            for row in wanted:
                name = f"{op} {row['layer']} {row['mode']} {row['memory']}"
                print(f"{name:<48} {_provider(row):<28} {_milliseconds(row['p50_ms']):>8} ms")
        if not asked.from_results:
            print(f"rows in {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
