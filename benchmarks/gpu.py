"""The memory-bound ops on a GPU, against torch eager, torch.compile and a copy of the same bytes.

python -m benchmarks.gpu [--quick]: a row for each op, layout, dtype and provider into
benchmarks/results/gpu_<card>.csv, with the card, its driver and the versions. Each time is of a CUDA graph's
replay, on random data, the providers in turn, buffers rotated beyond the L2 cache; medians.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import deconvkit

ROUNDS = 15
Run = Callable[[int], Any]


def captured(run: Callable[[], Any]) -> torch.cuda.CUDAGraph:
    """A graph of one call, after calls that warm everything up."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def medians(runs: dict[str, Run], buffers: int) -> dict[str, float]:
    """Microseconds of each provider's call, one after the other in each round."""
    graphs = {
        name: [captured(lambda i=i, run=run: run(i)) for i in range(buffers)] for name, run in runs.items()
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round in range(ROUNDS + 2):
        for name, own in graphs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            own[round % buffers].replay()
            end.record()
            end.synchronize()
            if round >= 2:
                times[name].append(1000 * start.elapsed_time(end))
    return {name: statistics.median(t) for name, t in times.items()}


def pooling(x: list[Tensor]) -> dict[str, tuple[int, dict[str, Run]]]:
    """Bytes that must move, and the providers' calls, of pooling and unpooling."""

    def run_torch(t: Tensor) -> Any:
        return F.max_pool2d(t, 2, return_indices=True)

    theirs = [run_torch(t) for t in x]
    ours = [deconvkit.max_pool2d_with_switches(t, 2) for t in x]
    grads = [torch.randn_like(values) for values, _ in ours]
    big, small = x[0].nbytes, ours[0][0].nbytes + ours[0][1].nbytes
    leaves = [t.detach().requires_grad_() for t in x]
    with_torch = [F.max_pool2d(t, 2, return_indices=True)[0] for t in leaves]
    with_ours = [deconvkit.max_pool2d_with_switches(t, 2)[0] for t in leaves]

    def backward(outputs: list[Tensor]) -> Run:
        return lambda i: torch.autograd.grad(outputs[i], leaves[i], grads[i], retain_graph=True)

    def both(pool: Callable[[Tensor], Tensor]) -> Run:
        return lambda i: torch.autograd.grad(pool(leaves[i]), leaves[i], grads[i])

    compiled = torch.compile(lambda t: F.max_pool2d(t, 2))
    return {
        "max_pool2d": (
            big + small,
            {
                "torch": lambda i: run_torch(x[i]),
                "deconvkit": lambda i: deconvkit.max_pool2d_with_switches(x[i], 2),
            },
        ),
        "max_pool2d_backward": (
            big + small,
            {"torch": backward(with_torch), "deconvkit": backward(with_ours)},
        ),
        "max_pool2d_both": (
            2 * (big + small),
            {
                "torch": both(lambda t: F.max_pool2d(t, 2)),
                "compile": both(compiled),
                "deconvkit": both(lambda t: deconvkit.max_pool2d_with_switches(t, 2)[0]),
            },
        ),
        "max_unpool2d": (
            big + small,
            {
                "torch": lambda i: F.max_unpool2d(*theirs[i], 2),
                "deconvkit": lambda i: deconvkit.max_unpool2d(*ours[i], 2),
            },
        ),
    }


def eager_sparse_sigmoid(z: Tensor) -> tuple[Tensor, Tensor]:
    """What sparse_sigmoid is equivalent to."""
    activations = torch.sigmoid(z)
    rho, rho_hat = 0.05, activations.float().mean(0)
    kl = rho * (rho / rho_hat).log() + (1 - rho) * ((1 - rho) / (1 - rho_hat)).log()
    return activations, kl.sum()


def sparse(z: list[Tensor]) -> dict[str, tuple[int, dict[str, Run]]]:
    """Forward and backward of the fused sigmoid: five passes over z."""
    leaves = [t.detach().requires_grad_() for t in z]
    grads = [torch.randn_like(t) for t in z]
    one = torch.ones((), device="cuda")

    def both(op: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Run:
        return lambda i: torch.autograd.grad(op(leaves[i]), leaves[i], (grads[i], one))

    runs = {
        "torch": both(eager_sparse_sigmoid),
        "compile": both(torch.compile(eager_sparse_sigmoid)),
        "deconvkit": both(lambda t: deconvkit.sparse_sigmoid(t, 0.05)),
    }
    return {"sparse_sigmoid_both": (5 * z[0].nbytes, runs)}


def copies(nbytes: int) -> float:
    """Bytes a second, read and written, that a copy of so many bytes in all moves."""
    pairs = [torch.empty(2, nbytes // 2, dtype=torch.uint8, device="cuda") for _ in range(2)]
    time = medians({"copy": lambda i: pairs[i][0].copy_(pairs[i][1])}, 2)["copy"]
    return nbytes / time * 1e6


def machine() -> dict[str, str]:
    """The card, its driver and the versions."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "--id=0"]
    card, driver = (
        subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip().split(", ")
    )
    return {
        "card": card,
        "driver": driver,
        "torch": torch.__version__,
        "deconvkit": deconvkit.__version__,
        "cuda": str(torch.version.cuda),
    }


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--quick", action="store_true", help="tensors of 16 MB: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.gpu: expected a CUDA device, found none")
        return 1
    where, rows = machine(), []
    megabytes = 16 if options.quick else 512
    bandwidth = copies(megabytes << 20)
    for dtype in (torch.float32, torch.bfloat16):
        elements = (megabytes << 20) // dtype.itemsize
        for layout in (torch.contiguous_format, torch.channels_last):
            shape = elements // (64 * 128 * 128), 64, 128, 128
            x = [torch.randn(shape, device="cuda", dtype=dtype) for _ in range(2)]
            x = [t.contiguous(memory_format=layout) for t in x]
            rows += measured(pooling(x), str(layout).removeprefix("torch."), dtype, bandwidth)
            torch._dynamo.reset()
        z = [torch.randn(elements // 1024, 1024, device="cuda", dtype=dtype) for _ in range(2)]
        rows += measured(sparse(z), "rows", dtype, bandwidth)
    name = re.sub(r"[^a-z0-9]+", "-", where["card"].lower()).strip("-")
    path = options.out / f"gpu_{name}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *where])
        writer.writeheader()
        writer.writerows(row | where for row in rows)
    print(path)
    return 0


def measured(
    ops: dict[str, tuple[int, dict[str, Run]]], layout: str, dtype: torch.dtype, bandwidth: float
) -> list[dict[str, str]]:
    """A row for each op and provider; printed as they come."""
    rows = []
    for op, (nbytes, runs) in ops.items():
        for provider, time in medians(runs, 2).items():
            row = {
                "op": op,
                "layout": layout,
                "dtype": str(dtype).removeprefix("torch."),
                "provider": provider,
                "us": f"{time:.1f}",
                "bytes": str(nbytes),
                "of_copy": f"{nbytes / time * 1e6 / bandwidth:.3f}",
            }
            print(*row.values(), flush=True)
            rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
