"""The memory-bound ops on a GPU, against torch eager, torch.compile and a copy of as many bytes.

    python -m benchmarks.gpu                       # all GROUPS, into benchmarks/results/gpu/<card>.csv
    python -m benchmarks.gpu pooling-float32       # one of them, added to that file
    python -m benchmarks.gpu --device cpu --megabytes 4     # where there is no GPU: to see that it runs

A row for each op, layout, dtype and provider. Each time is the median of a CUDA graph's replays, on random
data, the providers in turn, over buffers beyond the L2 cache. `ratio` is how many times as long the provider
takes as deconvkit, and `goal` what that is to reach. Each group is a process of its own, and a row is written
as soon as it is known: what fails costs nothing but itself.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import deconvkit

ROUNDS = 40
BUFFERS = 2
COLUMNS = "op layout dtype bytes provider us gb_s ratio goal how", "card driver torch cuda deconvkit"
FIELDS = [name for part in COLUMNS for name in part.split()]
# What each provider's time over deconvkit's is to reach: the bytes that must move at 85 % of a copy's speed.
GOALS = {
    "max_pool2d": {"copy": 0.85, "torch": 1.3},
    "max_pool2d_backward": {"copy": 0.85, "torch": 2.0},
    "max_pool2d_both": {"compile": 1.0},
    "max_unpool2d": {"copy": 0.85, "torch": 2.0},
    "max_unpool2d_backward": {"copy": 0.85},
    "sparse_kl": {"copy": 0.85},
    "sparse_sigmoid": {"copy": 0.85},
    "sparse_sigmoid_backward": {"copy": 0.85},
    "sparse_sigmoid_both": {"torch": 2.0, "compile": 1.2},
}

Run = Callable[[int], Any]  # a provider's call on one of the buffers
Clock = Callable[[], float]  # microseconds of a call, measured once


class Contest(NamedTuple):
    """What is timed side by side, and the bytes that one call must move."""

    bytes: int
    runs: dict[str, Run]


def goal_of(op: str, layout: str, provider: str) -> float:
    """What the ratio is to reach, 0 for nothing; torch makes channels_last contiguous before it unpools."""
    if (op, layout, provider) == ("max_unpool2d", "channels_last", "torch"):
        return 4.0
    return GOALS[op].get(provider, 0)


# ---- what is timed ----


def gradient(outputs: list[Any], leaves: list[Tensor], grads: list[Any]) -> Run:
    """A backward pass alone."""
    return lambda i: torch.autograd.grad(outputs[i], leaves[i], grads[i], retain_graph=True)


def both(op: Callable[[Tensor], Any], leaves: list[Tensor], grads: list[Any]) -> Run:
    """Forward and backward."""
    return lambda i: torch.autograd.grad(op(leaves[i]), leaves[i], grads[i])


def pool_by_torch(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and indices."""
    return F.max_pool2d(x, 2, return_indices=True)


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and switches."""
    return deconvkit.max_pool2d_with_switches(x, 2)


def pooled_bytes(x: Tensor) -> int:
    """Of x, and of values and switches of its windows."""
    return x.nbytes + x.numel() // 4 * (x.itemsize + 1)


def max_pool2d(x: list[Tensor]) -> Contest:
    runs: dict[str, Run] = {"torch": lambda i: pool_by_torch(x[i]), "deconvkit": lambda i: pool(x[i])}
    return Contest(pooled_bytes(x[0]), runs)


def max_unpool2d(x: list[Tensor]) -> Contest:
    theirs, ours = [pool_by_torch(t) for t in x], [pool(t) for t in x]
    runs: dict[str, Run] = {
        "torch": lambda i: F.max_unpool2d(*theirs[i], 2),
        "deconvkit": lambda i: deconvkit.max_unpool2d(*ours[i], 2),
    }
    return Contest(pooled_bytes(x[0]), runs)


def max_pool2d_backward(x: list[Tensor]) -> Contest:
    leaves = [t.detach().requires_grad_() for t in x]
    theirs, ours = [pool_by_torch(t)[0] for t in leaves], [pool(t)[0] for t in leaves]
    grads = [torch.randn_like(values) for values in ours]
    runs = {"torch": gradient(theirs, leaves, grads), "deconvkit": gradient(ours, leaves, grads)}
    return Contest(pooled_bytes(x[0]), runs)


def max_unpool2d_backward(x: list[Tensor]) -> Contest:
    theirs, ours = [pool_by_torch(t) for t in x], [pool(t) for t in x]
    leaves = [values.detach().requires_grad_() for values, _ in ours]
    runs = {
        "torch": gradient([F.max_unpool2d(leaves[i], at, 2) for i, (_, at) in enumerate(theirs)], leaves, x),
        "deconvkit": gradient(
            [deconvkit.max_unpool2d(leaves[i], at, 2) for i, (_, at) in enumerate(ours)], leaves, x
        ),
    }
    return Contest(pooled_bytes(x[0]), runs)


def max_pool2d_both(x: list[Tensor]) -> Contest:
    leaves = [t.detach().requires_grad_() for t in x]
    grads = [torch.randn_like(pool(t)[0]) for t in x]
    runs = {
        "torch": both(lambda t: F.max_pool2d(t, 2), leaves, grads),
        "compile": both(torch.compile(lambda t: F.max_pool2d(t, 2)), leaves, grads),
        "deconvkit": both(lambda t: pool(t)[0], leaves, grads),
    }
    return Contest(2 * pooled_bytes(x[0]), runs)


def kl_by_torch(activations: Tensor) -> Tensor:
    """What sparse_kl is equivalent to, where no unit is always on or off."""
    others = [dim for dim in range(activations.dim()) if dim != 1]
    rho, rho_hat = 0.05, activations.mean(others, dtype=torch.float32)
    return (rho * (rho / rho_hat).log() + (1 - rho) * ((1 - rho) / (1 - rho_hat)).log()).sum()


def sigmoid_by_torch(z: Tensor) -> tuple[Tensor, Tensor]:
    """What sparse_sigmoid is equivalent to."""
    activations = torch.sigmoid(z)
    return activations, kl_by_torch(activations)


def sigmoid(z: Tensor) -> tuple[Tensor, Tensor]:
    """Activations and penalty."""
    return deconvkit.sparse_sigmoid(z, 0.05)


def upstream(z: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Gradients of the activations and of the penalty."""
    return [(torch.randn_like(t), torch.ones((), device=t.device)) for t in z]


def sparse_kl(z: list[Tensor]) -> Contest:
    on = [torch.sigmoid(t) for t in z]
    runs: dict[str, Run] = {
        "torch": lambda i: kl_by_torch(on[i]),
        "deconvkit": lambda i: deconvkit.sparse_kl(on[i], 0.05),
    }
    return Contest(z[0].nbytes, runs)


def sparse_sigmoid(z: list[Tensor]) -> Contest:
    runs: dict[str, Run] = {"torch": lambda i: sigmoid_by_torch(z[i]), "deconvkit": lambda i: sigmoid(z[i])}
    return Contest(2 * z[0].nbytes, runs)


def sparse_sigmoid_backward(z: list[Tensor]) -> Contest:
    leaves, grads = [t.detach().requires_grad_() for t in z], upstream(z)
    theirs, ours = [sigmoid_by_torch(t) for t in leaves], [sigmoid(t) for t in leaves]
    runs = {"torch": gradient(theirs, leaves, grads), "deconvkit": gradient(ours, leaves, grads)}
    return Contest(3 * z[0].nbytes, runs)


def sparse_sigmoid_both(z: list[Tensor]) -> Contest:
    leaves, grads = [t.detach().requires_grad_() for t in z], upstream(z)
    runs = {
        "torch": both(sigmoid_by_torch, leaves, grads),
        "compile": both(torch.compile(sigmoid_by_torch), leaves, grads),
        "deconvkit": both(sigmoid, leaves, grads),
    }
    return Contest(5 * z[0].nbytes, runs)


FAMILIES: dict[str, tuple[tuple[str, ...], tuple[Callable[[list[Tensor]], Contest], ...]]] = {
    "pooling": (
        ("contiguous", "channels_last"),
        (max_pool2d, max_unpool2d, max_pool2d_backward, max_unpool2d_backward, max_pool2d_both),
    ),
    "sparse": (
        ("contiguous", "channels_last", "matrix"),
        (sparse_kl, sparse_sigmoid, sparse_sigmoid_backward, sparse_sigmoid_both),
    ),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
GROUPS = tuple(f"{family}-{dtype}" for dtype, family in itertools.product(DTYPES, FAMILIES))


def tensors(layout: str, dtype: torch.dtype, device: str, nbytes: int) -> list[Tensor]:
    """Random numbers, about so many bytes in each buffer."""
    side = 1024 if layout == "matrix" else 64 * 128 * 128
    rows = max(1, nbytes // dtype.itemsize // side)
    shape = (rows, side) if layout == "matrix" else (rows, 64, 128, 128)
    x = [torch.randn(shape, device=device, dtype=dtype) for _ in range(BUFFERS)]
    return [t.contiguous(memory_format=torch.channels_last) for t in x] if layout == "channels_last" else x


def copy(nbytes: int, device: str) -> Run:
    """A copy that moves so many bytes, read and written."""
    pairs = [
        [torch.empty(nbytes // 2, dtype=torch.uint8, device=device).random_() for _ in range(2)]
        for _ in range(BUFFERS)
    ]
    return lambda i: pairs[i][0].copy_(pairs[i][1])


# ---- timing ----


def clock_of(run: Run) -> tuple[Clock, str]:
    """A clock of calls on a GPU, and what it times: a graph's replay, or the calls where none is captured."""
    stream = torch.cuda.current_stream()

    def calls() -> list[Any]:
        return [run(i) for i in range(BUFFERS)]  # all results live, each in memory of its own

    for _ in range(3):
        calls()
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            captured = calls()
    except Exception as error:
        print(f"no graph: {error}".splitlines()[0], flush=True)
        torch.cuda.synchronize()
        once, how = calls, "calls"
    else:
        once, how = lambda: (graph.replay(), captured), "graph"
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def clock() -> float:
        once()  # the device is busy with it while the rest is queued
        start.record()
        once()
        end.record()
        end.synchronize()
        return 1000 * start.elapsed_time(end) / BUFFERS

    return clock, how


def host_clock_of(run: Run) -> tuple[Clock, str]:
    """The same on the CPU."""

    def clock() -> float:
        begin = time.perf_counter()
        for i in range(BUFFERS):
            run(i)
        return 1e6 * (time.perf_counter() - begin) / BUFFERS

    return clock, "calls"


def medians(runs: dict[str, Run], device: str, rounds: int) -> dict[str, tuple[float, str]]:
    """Microseconds of each provider's call, one after the other in each round, and how they were timed.

    A provider that fails is left out.
    """
    clocks: dict[str, tuple[Clock, str]] = {}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name, run in runs.items():
        with reported(name):
            clocks[name] = (clock_of if device == "cuda" else host_clock_of)(run)
    for _ in range(rounds):
        for name, (clock, _) in clocks.items():
            with reported(name):
                times[name].append(clock())
    return {name: (statistics.median(times[name]), clocks[name][1]) for name in clocks if times[name]}


@contextlib.contextmanager
def reported(name: str) -> Iterator[None]:
    """Print what fails inside, and go on."""
    try:
        yield
    except Exception as error:
        print(f"{name} failed: {type(error).__name__}: {error}", flush=True)


# ---- rows ----


def rows_of(
    op: str, layout: str, dtype: str, nbytes: int, measured: dict[str, tuple[float, str]]
) -> Iterator[dict[str, str]]:
    """A row for each provider."""
    own, _ = measured.get("deconvkit", (None, ""))
    for provider, (us, how) in measured.items():
        rival = provider != "deconvkit" and own is not None
        goal = goal_of(op, layout, provider)
        yield {
            "op": op,
            "layout": layout,
            "dtype": dtype,
            "bytes": str(nbytes),
            "provider": provider,
            "us": f"{us:.2f}",
            "gb_s": f"{nbytes / us / 1000:.1f}",
            "ratio": f"{us / own:.3f}" if rival and own else "",
            "goal": f"{goal:g}" if goal else "",
            "how": how,
        }


def measure(group: str, options: argparse.Namespace, path: Path, where: dict[str, str]) -> None:
    """One group's rows, written and printed as they come."""
    family, dtype = group.split("-")
    layouts, builders = FAMILIES[family]
    for layout in layouts:
        x = tensors(layout, DTYPES[dtype], options.device, int(options.megabytes * 2**20))
        for build in builders:
            op = build.__name__
            with reported(f"{op} {layout} {dtype}"):
                nbytes, runs = build(x)
                if "copy" in GOALS[op]:
                    runs = {"copy": copy(nbytes, options.device)} | runs
                for row in rows_of(op, layout, dtype, nbytes, medians(runs, options.device, options.rounds)):
                    write(path, row | where)
                    print(*(row[field] for field in FIELDS if row.get(field)), flush=True)
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
    rows = csv.DictReader(path.read_text().splitlines() if path.exists() else [])
    found = {(r["op"], r["layout"], r["dtype"], r["provider"]): r for r in rows if r["ratio"]}
    lines, missing = [], 0
    for (layouts, builders), dtype in itertools.product(FAMILIES.values(), DTYPES):
        for build, layout in itertools.product(builders, layouts):
            op = build.__name__
            for provider in GOALS[op]:
                goal, row = goal_of(op, layout, provider), found.get((op, layout, dtype, provider))
                state = "not measured"
                if row is None:
                    missing += 1
                else:
                    reached = "reached" if float(row["ratio"]) >= goal else "NOT reached"
                    state = f"{row['ratio']} {reached}"
                lines.append(f"{op:24} {layout:13} {dtype:8} against {provider:7} goal {goal:<4g} {state}")
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
    parser.add_argument("--megabytes", type=float, default=512, help="of the larger side, at least 4")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=300, help="for all groups together")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu")
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
        measure(options.group, options, path, where)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
