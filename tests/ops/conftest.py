"""Fixtures of the operators' tests."""

from collections.abc import Iterator

import pytest
import torch

from deconvkit.ops import _algorithm, _convolution_op

_is_trained_by_torch = _algorithm.is_trained_by_torch


@pytest.fixture(autouse=True, scope="session")
def _recorded_by_our_own() -> Iterator[None]:
    """Tests' layers are small, and would be torch's wherever a gradient is wanted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_algorithm, "is_trained_by_torch", lambda problem: False)
        yield


@pytest.fixture
def small_layers_by_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As users have it."""
    monkeypatch.setattr(_algorithm, "is_trained_by_torch", _is_trained_by_torch)
    _convolution_op._CACHE.clear()
    yield
    _convolution_op._CACHE.clear()


@pytest.fixture
def nan_filled() -> Iterator[None]:
    """Outputs and workspaces hold NaN, or the largest integer, until a kernel writes them."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
