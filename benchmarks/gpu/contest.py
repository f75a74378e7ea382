"""What is timed side by side, and what its figures are to reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

Run = Callable[[int], Any]
"""A provider's call on one of the buffers."""

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}
"""By the names of the rows; tf32 is float32 where convolutions may round their operands."""


class Contest(NamedTuple):
    """Calls that compute the same.

    A provider is called after its library ("deconvkit", "cudnn", ...) and, behind underscores, the way it is
    used. Of a library's ways the fastest counts.
    """

    runs: dict[str, Run]
    bytes: int  # that one call must move
    flops: int = 0
    buffers: int = 2  # the operands of so many calls lie in memory of their own


class Case(NamedTuple):
    """The name of a contest, and how many times as long as deconvkit each library is to take."""

    op: str
    case: str
    dtype: str
    goals: dict[str, float]
    build: Callable[[str], Contest]  # on this device; on the CPU of tiny tensors

    @property
    def name(self) -> tuple[str, str, str]:
        """The first columns of its rows."""
        return self.op, self.case, self.dtype


def library_of(provider: str) -> str:
    """Whose goal a provider's time is held against."""
    return provider.partition("_")[0]


def is_tiny(device: str) -> bool:
    """On the CPU one sees that everything runs, of a few numbers each."""
    return device == "cpu"
