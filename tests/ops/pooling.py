"""What the tests of pooling, unpooling and switches share: windows, tensors, layouts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from tests import reference

Pair = tuple[int, int]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
LAYOUTS = ["contiguous", "channels_last", "cropped", "strided", "expanded", "offset", "transposed"]


@dataclasses.dataclass(frozen=True)
class Windows:
    """Geometry of a pooling together with the size it pools."""

    size: Pair
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False

    @property
    def geometry(self) -> tuple[Pair, Pair, Pair, Pair]:
        return self.kernel, self.stride, self.padding, self.dilation

    @property
    def pooled(self) -> Pair:
        def axis(i: int) -> int:
            span = self.size[i] + 2 * self.padding[i] - self.dilation[i] * (self.kernel[i] - 1) - 1
            out = (math.ceil if self.ceil_mode else math.floor)(span / self.stride[i]) + 1
            if self.ceil_mode and (out - 1) * self.stride[i] >= self.size[i] + self.padding[i]:
                out -= 1
            return out

        return axis(0), axis(1)

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8 if self.kernel[0] * self.kernel[1] <= 255 else torch.int32

    @property
    def overlap(self) -> bool:
        return any(self.dilation[i] * (self.kernel[i] - 1) >= self.stride[i] for i in (0, 1))


examples = settings(deadline=None, derandomize=True, max_examples=80)
seeds = st.integers(0, 10_000)

# Shapes with every way through the kernels: full vectors and remainders, 2x2, overlap, dilation, padding,
# ceil_mode, windows without a valid cell, many cells.
SHAPES = {
    "2x2": (2, 5, Windows((12, 70), (2, 2), (2, 2))),
    "2x2 odd": (1, 3, Windows((9, 37), (2, 2), (2, 2), ceil_mode=True)),
    "2x2 small": (3, 40, Windows((6, 6), (2, 2), (2, 2))),
    "3x3 s2 p1": (2, 3, Windows((15, 67), (3, 3), (2, 2), (1, 1))),
    "3x3 s1": (1, 19, Windows((9, 40), (3, 3), (1, 1), (1, 1))),
    "3x2 s3,1 d2": (1, 2, Windows((11, 33), (3, 2), (3, 1), (1, 1), (2, 2))),
    "s4": (1, 33, Windows((13, 70), (3, 3), (4, 4), (1, 0), ceil_mode=True)),
    "empty windows": (1, 17, Windows((2, 2), (2, 2), (1, 1), (2, 2), (4, 4))),
    "many cells": (1, 9, Windows((20, 37), (16, 17), (2, 3), (3, 5))),
    "global": (2, 35, Windows((7, 7), (7, 7), (1, 1))),
}
shapes = pytest.mark.parametrize(("n", "c", "w"), SHAPES.values(), ids=SHAPES.keys())


@st.composite
def axes(draw: st.DrawFn, largest: int, torch_padding: bool) -> tuple[int, int, int, int, int]:
    kernel, stride, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    reach = (kernel - 1) * dilation + 1
    padding = draw(st.integers(0, kernel // 2 if torch_padding else reach // 2))
    size = draw(st.integers(max(1, reach - 2 * padding), max(reach, largest)))
    return size, kernel, stride, padding, dilation


@st.composite
def windows(draw: st.DrawFn, largest: Pair = (9, 40), torch_padding: bool = False) -> Windows:
    """Any windows, the usual 2x2 as often as not; ``torch_padding``: no more padding than torch takes."""
    ceil_mode = draw(st.booleans())
    if draw(st.booleans()):
        size = draw(st.integers(2, largest[0])), draw(st.integers(2, largest[1]))
        return Windows(size, (2, 2), (2, 2), ceil_mode=ceil_mode)
    h, w = draw(axes(largest[0], torch_padding)), draw(axes(largest[1], torch_padding))
    return Windows(*zip(h, w, strict=True), ceil_mode=ceil_mode)  # type: ignore[arg-type]


def lay_out(x: Tensor, layout: str) -> Tensor:
    """The same values of a 4-d tensor in another layout ("expanded" repeats the first channel)."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "cropped":
        return torch.nn.functional.pad(x, (1, 2, 3, 1), value=7)[:, :, 3:-1, 1:-2]
    if layout == "strided":
        return x.repeat_interleave(2, -1)[..., ::2]
    if layout == "expanded":
        return x[:, :1].contiguous().expand(x.shape)
    if layout == "offset":
        return torch.cat([x.new_full((1,), 7), x.flatten()])[1:].view(x.shape)
    if layout == "transposed":
        return x.transpose(2, 3).contiguous().transpose(2, 3)
    return x.contiguous()


def tied(shape: tuple[int, ...], seed: int = 0, special: bool = True) -> Tensor:
    """Small float64 integers, so that ties abound, with some NaN, infinities and zeros of both signs."""
    random = np.random.default_rng(seed)
    x = random.integers(-3, 4, shape).astype(np.float64)
    if special:
        for value in (math.nan, math.inf, -math.inf, -math.inf, -0.0):
            x[random.random(shape) < 0.08] = value
    return torch.from_numpy(x)


def random_switches(w: Windows, n: int, c: int, seed: int = 0) -> Tensor:
    """Valid switches drawn at random, a few of them "no valid cell"."""
    random = np.random.default_rng(seed)
    none = 255 if w.dtype is torch.uint8 else 2**31 - 1
    switches = np.full((n, c, *w.pooled), none)
    for index in np.ndindex(*switches.shape):
        cells = [at for at, _, _ in reference.window(*index[2:], w.size, *w.geometry)]
        if cells and random.random() < 0.95:
            switches[index] = random.choice(cells)
    return torch.from_numpy(switches).to(w.dtype)


def reference_switches(switches: Tensor) -> np.ndarray:
    """Switches as tests/reference.py has them."""
    numbers = switches.to(torch.int64)
    return numbers.masked_fill(numbers == (255 if switches.dtype is torch.uint8 else 2**31 - 1), -1).numpy()


def same(a: Tensor, b: Tensor) -> bool:
    """Equal to the bit, any NaN being any other; zeros of either sign differ."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    nan = a.isnan()
    return (
        torch.equal(nan, b.isnan())
        and torch.equal(a[~nan], b[~nan])
        and torch.equal(a[~nan].signbit(), b[~nan].signbit())
    )


def with_thread_counts(run: Callable[[str], tuple[Tensor, ...]]) -> None:
    """Hold run(layout) to the same bits for 1, 2 and 3 threads and both layouts."""
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results += [run(layout) for layout in ("contiguous", "channels_last")]
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)
