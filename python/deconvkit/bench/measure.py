"""Time the providers of a layer in turn, and make rows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from deconvkit import _C, timing
from deconvkit.bench import cases, machine, onnx_runtime
from deconvkit.bench.layers import Layer
from deconvkit.bench.machine import Ceilings
from deconvkit.bench.results import Row


@dataclass
class Run:
    """What all rows of a run have in common."""

    dtype: torch.dtype
    rounds: int
    budget: float
    ceilings: Ceilings
    machine: str
    memory: str = "fresh"
    checked: set[tuple[str, str]] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)  # provider: why

    def common(self) -> Row:
        """The columns that do not depend on the layer."""
        return {
            **{"dtype": str(self.dtype).removeprefix("torch."), "device": "cpu", "memory": self.memory},
            **{"threads": str(torch.get_num_threads()), "isa": _C.isa(), "machine": self.machine},
            "ceiling_gflops": f"{self.ceilings.gflops:.4g}",
            "ceiling_gbs": f"{self.ceilings.copy_gbs:.4g}",
            **{"versions": machine.versions(), "commit": machine.commit()},
        }


def available(names: Sequence[str], left_out: dict[str, str]) -> list[str]:
    """The providers that can be used in this installation; the others are put into ``left_out``."""
    missing = onnx_runtime.missing() if "onnxruntime" in names else ""
    if missing:
        left_out["onnxruntime"] = f"{missing} is not installed; pip install 'deconvkit[bench]' brings it"
    return [name for name in names if name not in left_out]


def measure(
    op: str, layer: Layer, modes: Sequence[str], names: Sequence[str], run: Run
) -> Iterator[list[Row]]:
    """Rows of one layer, a list for each mode: every provider's. First it is checked that they agree."""
    setups = {}
    for layout in ("contiguous", "channels_last"):
        libraries = {p.library for p in map(cases.PROVIDERS.__getitem__, names) if p.layout == layout}
        if libraries:
            setups[layout] = cases.setup(op, layer, run.dtype, layout, libraries)
            if "torch_compile" in libraries:
                _try_compiler(setups[layout], run)
    if (op, layer.name) not in run.checked:
        differentiated = tuple(mode for mode in modes if mode != "forward")[:1]
        for made in setups.values():
            cases.check(made, run.dtype, ("forward", *differentiated))
        run.checked.add((op, layer.name))
    for mode in modes:
        yield list(_rows(op, layer, mode, names, setups, run))


def _try_compiler(made: cases.Setup, run: Run) -> None:
    """Leave torch.compile out where it does not work: it needs a C++ compiler."""
    try:
        made.functions["torch_compile"](*made.inputs)
    except Exception as error:
        lines = str(error).strip().splitlines()
        run.left_out["torch_compile"] = lines[0] if lines else type(error).__name__
        del made.functions["torch_compile"]


def _rows(
    op: str, layer: Layer, mode: str, names: Sequence[str], setups: dict[str, cases.Setup], run: Run
) -> Iterator[Row]:
    calls: dict[str, Callable[[], object]] = {}
    for name in names:
        library, layout = cases.PROVIDERS[name]
        if library in setups[layout].functions and cases.has_mode(library, mode, run.dtype):
            calls[name] = cases.call(setups[layout], library, mode)
    if not calls:
        return
    item = run.dtype.itemsize
    work = {
        "forward": layer.forward_work(item),
        "backward": layer.backward_work(item),
        "both": layer.forward_work(item) + layer.backward_work(item),
    }[mode]
    common = run.common()
    for name, seconds in timing.interleaved(calls, rounds=run.rounds, budget=run.budget).items():
        library, layout = cases.PROVIDERS[name]
        # Memory that is kept between calls, as ONNX Runtime keeps its own, tells nothing about one of them.
        told = run.memory == "fresh" and library != "onnxruntime"
        peak = machine.peak_memory(calls[name]) if told else None
        yield {
            **{"op": op, "layer": layer.name, "shape": layer.shape},
            **{"layout": layout, "provider": library, "mode": mode},
            **{f"{key}_ms": f"{1e3 * value:.5g}" for key, value in seconds._asdict().items()},
            **{"peak_bytes": "" if peak is None else str(peak)},
            **{"bytes": str(work.bytes), "flops": str(work.flops)},
            **common,
        }
