"""What a call costs beyond its kernel, in microseconds, on tensors so small that little else is left.

    python -m benchmarks.overhead

The kernel is the native function (or torch's, where that computes) called with the arguments that the op
would hand it, its output allocated once. Forward calls alone: with gradient, one tensor requires it.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import deconvkit
from deconvkit import _C
from deconvkit.ops import _library as library

ROUNDS, CALLS = 40, 200


def microseconds(candidates: dict[str, Callable[[], Any]]) -> dict[str, tuple[float, float]]:
    """Least and median over the rounds of the mean over the calls; the candidates take turns."""
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for call in candidates.values():
        for _ in range(CALLS):
            call()
    gc.disable()
    for _ in range(ROUNDS):
        for name, call in candidates.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            samples[name].append((time.perf_counter() - start) / CALLS * 1e6)
    gc.enable()
    return {name: (min(s), statistics.median(s)) for name, s in samples.items()}


def convolution(name: str, algorithm: str) -> dict[str, Callable[[], Any]]:
    """The kernel, the op without gradient, and with it."""
    transposed, flat = "transpose" in name, name.endswith("1d")
    x, w, b = torch.randn(1, 4, 1, 8), torch.randn(4, 4, 1, 3), torch.randn(4)
    y = torch.empty(1, 4, 1, 10 if transposed else 6)
    native = _C.conv_transpose2d if transposed else _C.conv2d
    refs = library.ref(x), library.ref(w), library.ref(b), library.ref(y)
    geometry = (1, 1), (0, 0), (1, 1), 1, 0, 0.0, 0, torch.get_num_threads(), None
    if flat:
        x, w, y = x.squeeze(2), w.squeeze(2), y.squeeze(2)
    trained = w.clone().requires_grad_()
    op, torchs = getattr(deconvkit, name), getattr(functional, name)

    def kernel() -> Tensor:  # a call as its alternatives are, so that the tensors live as long
        native(*refs, *geometry)
        return y

    return {
        "kernel": kernel if algorithm == "direct" else lambda: torchs(x, w, b),
        "plain": lambda: op(x, w, b, algorithm=algorithm),
        "trained": lambda: op(x, trained, b, algorithm=algorithm),
        "tanh": lambda: op(x, trained, b, activation="tanh", algorithm=algorithm),
    }


def main() -> None:
    """Print a line an op."""
    print("microseconds over the kernel: least, median", "", sep="\n")
    print(f"{'':32}  kernel alone   no gradient   with gradient  and tanh")
    for name in ("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"):
        for algorithm in ("direct", "torch", "auto"):
            times = microseconds(convolution(name, algorithm))
            kernel = times.pop("kernel")
            print(f"{name:20} {algorithm:10}", end="")
            for least, median in (kernel, *((a - kernel[0], b - kernel[1]) for a, b in times.values())):
                print(f"   {least:5.1f} {median:5.1f}", end="")
            print()


if __name__ == "__main__":
    main()
