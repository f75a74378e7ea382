"""Options and parameters of ``pytest benchmarks``."""

import math
import time
from collections.abc import Callable

import pytest
import torch

from deconvkit.bench import cases
from deconvkit.bench.layers import LAYERS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-layers", action="store_true", help="run every layer, not the quick ones alone")


_PROVIDERS = ("torch", "torch_channels_last", "deconvkit", "deconvkit_channels_last")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every layer, provider and mode of the op that names the file, bench_<op>.py."""
    if "run_case" not in metafunc.fixturenames:
        return
    op = metafunc.module.__name__.rpartition("bench_")[2]
    parameters = [
        pytest.param((op, layer, provider, mode), id=f"{layer.name}-{mode}-{provider}")
        for layer in LAYERS[op]
        if layer.quick or metafunc.config.getoption("--all-layers")
        for mode in ("forward", "both")
        for provider in cases.providers(op, _PROVIDERS)
    ]
    metafunc.parametrize("run_case", parameters, indirect=True)


@pytest.fixture
def run_case(request: pytest.FixtureRequest, benchmark) -> Callable[[], None]:
    """Check the case against torch, then time it; tables are grouped by layer and mode."""
    op, layer, provider, mode = request.param
    library, layout = cases.PROVIDERS[provider]

    def run() -> None:
        made = cases.setup(op, layer, torch.float32, layout)
        if library == "deconvkit":
            cases.check(made, torch.float32)
        call = cases.call(made, library, mode)
        call()
        start = time.perf_counter()
        call()
        calls = max(1, math.ceil(1e-3 / (time.perf_counter() - start)))
        benchmark.group = f"{op} {layer.name}, {mode}"
        benchmark.pedantic(call, rounds=7, iterations=calls)

    return run
