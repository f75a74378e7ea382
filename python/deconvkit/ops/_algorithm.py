"""Which algorithm computes a convolution: the one place that decides, for the ops at run time and for plan().

The ops resolve "auto" when they run, not when they are traced, so a compiled graph decides by the shapes it
meets. To send a class of shapes elsewhere, name it with a predicate and add it to ``_RULES``; the first that
holds decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Problem(NamedTuple):
    """One call of the convolution family; the names are those of its bilinear form (``_convolution.py``)."""

    op: str  # conv2d, conv_transpose2d or conv_weight_grad
    on_cpu: bool
    dtype: torch.dtype
    first: Sequence[int]  # the operands' shapes: (large, weight), (small, weight) or (small, large)
    second: Sequence[int]
    made: Sequence[int]  # the (H, W) of what the op makes: small, large or the kernel
    stride: Sequence[int]
    dilation: Sequence[int]
    groups: int

    @property
    def batch(self) -> int:
        """N."""
        return self.first[0]

    @property
    def small_channels(self) -> int:
        """Channels of the low-resolution side: a convolution's output, a transposed convolution's input."""
        return self.second[0] if self.op == "conv2d" else self.first[1]

    @property
    def large_channels(self) -> int:
        """Channels of the high-resolution side."""
        if self.op == "conv2d":
            return self.first[1]
        return self.second[1] * (self.groups if self.op == "conv_transpose2d" else 1)

    @property
    def small(self) -> Sequence[int]:
        """(H, W) of the low-resolution side."""
        return self.made if self.op == "conv2d" else _spatial(self.first)

    @property
    def large(self) -> Sequence[int]:
        """(H, W) of the high-resolution side."""
        if self.op == "conv_transpose2d":
            return self.made
        return _spatial(self.first if self.op == "conv2d" else self.second)

    @property
    def kernel(self) -> Sequence[int]:
        """(KH, KW)."""
        return self.made if self.op == "conv_weight_grad" else _spatial(self.second)


def _spatial(shape: Sequence[int]) -> Sequence[int]:
    return (1, *shape[2:])[-2:]


class Choice(NamedTuple):
    """An algorithm and why."""

    algorithm: str
    reason: str


def is_on_another_device(p: Problem) -> bool:
    """The native kernels compute on the CPU."""
    return not p.on_cpu


_RULES: tuple[tuple[Callable[[Problem], bool], Choice], ...] = (
    (is_on_another_device, Choice("torch", "deconvkit's convolutions compute on the CPU only")),
)
_OTHERWISE = Choice("direct", "no rule sends this shape elsewhere")


def choose(problem: Problem) -> Choice:
    """What "auto" means for this problem, and why."""
    for holds, choice in _RULES:
        if holds(problem):
            return choice
    return _OTHERWISE


def resolve(
    op: str,
    first: Tensor,
    second: Tensor,
    made: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> str:
    """What "auto" means for this call."""
    if len(_RULES) == 1 and first.is_cpu:
        return "direct"
    return choose(
        Problem(op, first.is_cpu, first.dtype, first.shape, second.shape, made, stride, dilation, groups)
    ).algorithm
