"""Fixtures of the operators' tests."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def nan_filled() -> Iterator[None]:
    """Outputs and workspaces hold NaN, or the largest integer, until a kernel writes them."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
