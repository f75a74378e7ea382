"""Timing alternatives against each other, fairly: in one process, in turns."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Seconds(NamedTuple):
    """The 20th, 50th and 80th percentile of a call's seconds."""

    p20: float
    p50: float
    p80: float


def interleaved(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 30,
    budget: float = math.inf,
    sample: float = 1e-3,
) -> dict[str, Seconds]:
    """Time each candidate once a round, so that a slow spell of the machine hits all of them.

    The first two calls of each, or the first if it is long, are a warm-up. A sample is as many calls in a
    row as take ``sample`` seconds, their results dropped at once; every other round goes through the
    candidates backwards.

    Args:
        candidates: what to call, by name.
        rounds: samples of each.
        budget: seconds after which no further round begins; five rounds are run in any case, or all if fewer.
        sample: least seconds a sample.

    Returns:
        The percentiles of the seconds per call, by name.
    """
    calls = {}
    for name, call in candidates.items():
        seconds = _seconds(call)
        if seconds < 20 * sample:
            seconds = _seconds(call)
        calls[name] = max(1, math.ceil(sample / max(seconds, 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    collecting = gc.isenabled()
    gc.disable()
    try:
        begin = time.perf_counter()
        for round_ in range(rounds):
            if round_ >= 5 and time.perf_counter() - begin > budget:
                break
            for name in candidates if round_ % 2 == 0 else reversed(list(candidates)):
                call, repeats = candidates[name], range(calls[name])
                start = time.perf_counter()
                for _ in repeats:
                    call()
                samples[name].append((time.perf_counter() - start) / len(repeats))
    finally:
        if collecting:
            gc.enable()
    return {name: Seconds(*map(float, np.quantile(s, (0.2, 0.5, 0.8)))) for name, s in samples.items()}


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
