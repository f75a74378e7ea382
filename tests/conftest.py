"""Fixtures shared by all tests."""

from collections.abc import Iterator

import pytest
import torch

import deconvkit.ops._library  # noqa: F401  (torch and its libgomp before _C)
from deconvkit import _C


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs a CUDA device where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(params=_C.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once with each instruction set that this processor has."""
    _C.select_isa(request.param)
    assert _C.isa() == request.param
    yield request.param
    _C.select_isa("")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
