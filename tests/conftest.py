"""Fixtures shared by all tests."""

from collections.abc import Iterator

import pytest
import torch

import deconvkit.ops._library  # noqa: F401  (torch and its libgomp before _C)
from deconvkit import _C


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
