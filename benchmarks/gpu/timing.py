"""Medians of calls that take turns, each by the replays of a CUDA graph where one can be captured."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.gpu.contest import Contest, Run

Clock = Callable[[], float]
"""Microseconds of a call, measured once."""

SECONDS, LEAST_ROUNDS = 0.5, 3
"""A contest ends after so long, but not before so many rounds."""


def clock_of(run: Run, buffers: int) -> tuple[Clock, str]:
    """A clock of calls on a GPU, and what it times: a graph's replay, or the calls where none is captured."""
    stream = torch.cuda.current_stream()

    def calls() -> list[Any]:
        return [run(i) for i in range(buffers)]  # all results live, each in memory of its own

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
        return 1000 * start.elapsed_time(end) / buffers

    return clock, how


def host_clock_of(run: Run, buffers: int) -> tuple[Clock, str]:
    """The same on the CPU."""

    def clock() -> float:
        begin = time.perf_counter()
        for i in range(buffers):
            run(i)
        return 1e6 * (time.perf_counter() - begin) / buffers

    return clock, "calls"


def medians(contest: Contest, device: str, rounds: int) -> dict[str, tuple[float, str]]:
    """Microseconds of each provider's call, one after the other in each round, and how they were timed.

    A provider that fails is left out.
    """
    clocks: dict[str, tuple[Clock, str]] = {}
    times: dict[str, list[float]] = {name: [] for name in contest.runs}
    for name, run in contest.runs.items():
        with reported(name):
            clocks[name] = (clock_of if device == "cuda" else host_clock_of)(run, contest.buffers)
    end = time.monotonic() + SECONDS
    for number in range(rounds):
        if number >= LEAST_ROUNDS and time.monotonic() > end:
            break
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
