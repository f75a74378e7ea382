"""What must hold of every op on CUDA, and the problems that its tests run."""

import itertools
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

cuda = pytest.mark.cuda
# Rows that make 2^16 elements each more than 2^31, and few on the CPU, so that bodies are tried.
large = pytest.mark.parametrize(
    ("device", "rows"), [("cpu", 6), pytest.param("cuda", 2**15 + 2, marks=cuda)], ids=["small", "large"]
)


def check_memory(device: str, gib: int) -> None:
    """Skip where the device has less left."""
    if device == "cuda" and torch.cuda.mem_get_info()[0] < gib << 30:
        pytest.skip(f"needs {gib} GiB of the device's memory")


def problems(cases: Mapping, dtypes, on_cpu: Callable[[str, torch.dtype], bool]):
    """(device, case, dtype): every case on CUDA; those of ``on_cpu`` there too, so that bodies are tried."""
    return pytest.mark.parametrize(
        ("device", "case", "dtype"),
        [
            pytest.param(
                device, case, dtype, id=f"{device}-{name}-{dtype}".replace("torch.", ""), marks=marks
            )
            for (name, case), dtype in itertools.product(cases.items(), dtypes)
            for device, marks in (("cpu", ()), ("cuda", cuda))
            if device == "cuda" or on_cpu(name, dtype)
        ],
    )


def check_capture_and_replay(everything: Callable[[Tensor], list[Tensor]], x: Tensor) -> None:
    """A graph computes what plain calls do, of numbers that changed too."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        everything(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = everything(x)
    for _ in range(2):
        x.copy_(torch.randn_like(x))
        graph.replay()
        for a, b in zip(captured, everything(x), strict=True):
            assert torch.equal(a, b)


def check_nothing_waits(everything: Callable[[Tensor], list[Tensor]], x: Tensor) -> None:
    """No call waits for the device."""
    everything(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        everything(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
