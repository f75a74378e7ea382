"""Everything that is to be faster on a GPU than torch, cuDNN and torch.compile, measured in one run.

    python -m benchmarks.gpu                       # all GROUPS, into benchmarks/results/gpu/<card>.csv
    python -m benchmarks.gpu pooling-float32       # one of them, added to that file
    python -m benchmarks.gpu --device cpu          # where there is no GPU, tiny: to see that it runs

A row for each case and provider. Each time is the median of a CUDA graph's replays, on random data, the
providers in turn, over buffers beyond the L2 cache. `ratio` is how many times as long the provider takes as
the fastest of deconvkit, and `goal` what that is to reach for the fastest of its library. Each group is a
process of its own, and a row is written as soon as it is known: what fails costs nothing but itself.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

import deconvkit
from benchmarks.gpu import convolutions, dcgan, memory_bound
from benchmarks.gpu.contest import Case, Contest, library_of
from benchmarks.gpu.timing import medians, reported

ROUNDS = 40
RESULTS = Path(__file__).parents[1] / "results" / "gpu"
MACHINE = "card driver torch cuda deconvkit"
FIELDS = f"op case dtype bytes flops provider us gb_s tflop_s ratio goal how {MACHINE}".split()
# What a run has no time for is lost from the end.
GROUPS: dict[str, Callable[[], list[Case]]] = {
    "layers-bfloat16": partial(convolutions.layers, "bfloat16"),
    "pooling-float32": partial(memory_bound.pooling, "float32"),
    "sparse-float32": partial(memory_bound.sparse, "float32"),
    "layers-float32": partial(convolutions.layers, "float32"),
    "batches-bfloat16": partial(convolutions.small_batches, "bfloat16"),
    "dcgan-bfloat16": partial(dcgan.models, "bfloat16"),
    "pooling-bfloat16": partial(memory_bound.pooling, "bfloat16"),
    "sparse-bfloat16": partial(memory_bound.sparse, "bfloat16"),
    "algorithms-bfloat16": partial(convolutions.algorithms, "bfloat16"),
    "algorithms-float32": partial(convolutions.algorithms, "float32"),
}

# ---- rows ----


def rows_of(case: Case, contest: Contest, measured: dict[str, tuple[float, str]]) -> Iterator[dict[str, str]]:
    """A row for each provider."""
    own = min((us for name, (us, _) in measured.items() if library_of(name) == "deconvkit"), default=None)
    for provider, (us, how) in measured.items():
        library = library_of(provider)
        goal = case.goals.get(library)
        yield {
            **dict(zip(("op", "case", "dtype"), case.name, strict=True)),
            "bytes": str(contest.bytes),
            "flops": str(contest.flops or ""),
            "provider": provider,
            "us": f"{us:.2f}",
            "gb_s": f"{contest.bytes / us / 1000:.1f}",
            "tflop_s": f"{contest.flops / us / 1e6:.2f}" if contest.flops else "",
            "ratio": f"{us / own:.3f}" if own and library != "deconvkit" else "",
            "goal": f"{goal:g}" if goal else "",
            "how": how,
        }


def measure(group: str, device: str, rounds: int, path: Path, where: dict[str, str]) -> None:
    """One group's rows, written and printed as they come."""
    for case in GROUPS[group]():
        # Without the search cuDNN takes what its rules of thumb say, which may be far from its best.
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = case.dtype == "tf32"
        with reported(" ".join(case.name)):
            contest = case.build(device)
            for row in rows_of(case, contest, medians(contest, device, rounds)):
                write(path, row | where)
                print(*(row[field] for field in FIELDS if row.get(field)), flush=True)
            del contest  # its memory, before the next one's is taken
        if "compile" in case.goals:  # else it would import the compiler first
            torch.compiler.reset()


def write(path: Path, row: dict[str, str]) -> None:
    """Add a row to the file, under a first line of names."""
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if not file.tell():
            writer.writeheader()
        writer.writerow(row)


def report(path: Path) -> tuple[list[str], int]:
    """A line for each figure that has a goal, and how many of them were not measured."""
    found: dict[tuple[str, ...], list[float]] = {}
    for row in csv.DictReader(path.read_text().splitlines() if path.exists() else []):
        if row["ratio"]:
            key = row["op"], row["case"], row["dtype"], library_of(row["provider"])
            found.setdefault(key, []).append(float(row["ratio"]))
    lines, missing = [], 0
    for case in (case for cases in GROUPS.values() for case in cases()):
        for library, goal in case.goals.items():
            ratios = found.get((*case.name, library))
            state = "not measured"
            if ratios is None:
                missing += 1
            else:
                ratio = min(ratios)  # against the fastest of its ways
                state = f"{ratio:.3f} {'reached' if ratio >= goal else 'NOT reached'}"
            lines.append(f"{' '.join(case.name)}: against {library}: goal {goal:g}, {state}")
    return lines, missing


# ---- the command ----


def machine(device: str) -> dict[str, str]:
    """The card, its driver and the versions."""
    driver = "unknown"
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            driver = subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()
    return {
        "card": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "driver": driver,
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "deconvkit": deconvkit.__version__,
    }


def in_processes(arguments: list[str], seconds: float) -> list[str]:
    """Run each group by a process of its own; returns the groups that failed or found no time."""
    end, failed = time.monotonic() + seconds, []
    # One process compiles, and no worker of it outlives a group that was stopped.
    environment = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    for number, group in enumerate(GROUPS):
        print(f"-- {group}", flush=True)
        command = [sys.executable, "-m", "benchmarks.gpu", group, *arguments]
        left = max(1, end - time.monotonic())
        try:
            # Twice its share, so that one that hangs leaves time for the others.
            done = subprocess.run(
                command, env=environment, timeout=min(left, 2 * left / (len(GROUPS) - number))
            )
        except subprocess.TimeoutExpired:
            print(f"{group}: stopped, its time is over", flush=True)
            failed.append(group)
        else:
            failed += [group] * bool(done.returncode)
    return failed


def main(arguments: list[str]) -> int:
    """Measure, print and write; 1 where a figure is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("group", nargs="?", choices=GROUPS, help="all of them, each by a process, if none")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=300, help="for all groups together")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks.gpu: expected a CUDA device, found none")
        return 1
    where = machine(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{re.sub('[^a-z0-9]+', '-', where['card'].lower()).strip('-')}.csv"
    if options.group is None:
        path.unlink(missing_ok=True)
        failed = in_processes(arguments, options.seconds)
        lines, missing = report(path)
        print(*lines, path, sep="\n")
        if failed or missing:
            print(f"not measured: {missing} figures; failed: {', '.join(failed) or 'nothing'}")
        return 1 if failed or missing else 0
    torch.manual_seed(0)
    # A stream of its own: backward runs on the stream of its forward, which a capture must know.
    with torch.cuda.stream(torch.cuda.Stream()) if options.device == "cuda" else contextlib.nullcontext():
        measure(options.group, options.device, options.rounds, path, where)
    return 0
