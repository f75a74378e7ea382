"""What the tests of the convolution family share: cases, tolerances and the two operators under one name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

import deconvkit
from deconvkit import _C
from tests import reference

Pair = tuple[int, int]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
ALGORITHMS = ["direct", "winograd", "torch"]
ACTIVATIONS = [None, "relu", "leaky_relu", ("leaky_relu", 0.01), "tanh", "sigmoid"]
LAYOUTS = ["contiguous", "channels_last", "cropped", "strided", "expanded", "offset", "transposed"]
# Of the largest value; sums of up to a few hundred products of standard normals.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 3e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}

examples = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)
algorithms = pytest.mark.parametrize("algorithm", ALGORITHMS)
_NATIVE = [(isa, algorithm) for isa in _C.available_isas() for algorithm in ("direct", "winograd")]
native_variants = pytest.mark.parametrize(("isa", "algorithm"), _NATIVE, indirect=["isa"])
# Every algorithm with every instruction set; torch has its own.
variants = pytest.mark.parametrize(
    ("isa", "algorithm"), [*_NATIVE, (_C.available_isas()[0], "torch")], indirect=["isa"]
)


def randn(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normals in float64 that every dtype holds exactly."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.bfloat16().double().round(decimals=2).bfloat16().double()


@dataclasses.dataclass(frozen=True)
class Case:
    """A convolution or, by the same numbers, a transposed one: `size` is the input's."""

    batch: int
    channels: Pair  # in and out, of each group
    size: Pair
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    output_padding: Pair = (0, 0)  # of the transposed one
    dilation: Pair = (1, 1)
    groups: int = 1

    def arguments(self, transposed: bool) -> dict[str, Any]:
        """The keyword arguments of ours and of torch's function."""
        names = ["stride", "padding", "dilation", "groups"] + ["output_padding"] * transposed
        return {name: getattr(self, name) for name in names}

    def output_size(self, transposed: bool) -> Pair:
        """Of the output."""

        def axis(i: int) -> int:
            reach = self.dilation[i] * (self.kernel[i] - 1) + 1
            if transposed:
                full = (self.size[i] - 1) * self.stride[i] + reach
                return full - 2 * self.padding[i] + self.output_padding[i]
            return (self.size[i] + 2 * self.padding[i] - reach) // self.stride[i] + 1

        return axis(0), axis(1)

    def shapes(self, transposed: bool) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Of input, weight and bias."""
        c_in, c_out = (c * self.groups for c in self.channels)
        first = (c_in, self.channels[1]) if transposed else (c_out, self.channels[0])
        return (self.batch, c_in, *self.size), (*first, *self.kernel), (c_out,)

    def tensors(self, transposed: bool, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """Input, weight and bias."""
        return [randn(shape, seed + i).to(dtype) for i, shape in enumerate(self.shapes(transposed))]


# Every way through the kernels: phases, whole and partial vectors of channels and pixels, few channels, 1x1,
# Winograd's window (3x3 s1, 4x4 and 5x5 s2) and what lies outside it, groups, depthwise, dilation.
CASES = {
    "1x1": Case(3, (5, 9), (4, 7), (1, 1)),
    "3x3": Case(2, (17, 20), (6, 9), (3, 3), padding=(1, 1)),
    "3x3 few": Case(1, (3, 2), (5, 18), (3, 3), padding=(1, 0)),
    "2x2 s2": Case(3, (6, 5), (4, 6), (2, 2), (2, 2)),
    "4x4 s2": Case(1, (10, 3), (5, 8), (4, 4), (2, 2), (1, 1)),
    "5x5 s2": Case(2, (9, 8), (4, 5), (5, 5), (2, 2), (2, 2), (1, 1)),
    "uneven": Case(1, (4, 3), (6, 7), (3, 2), (2, 3), (1, 0), (1, 0)),
    "dilated": Case(2, (3, 4), (7, 9), (3, 2), (1, 2), (2, 1), (0, 1), (2, 3)),
    "gaps": Case(1, (2, 3), (5, 5), (2, 1), (3, 2), (0, 0), (2, 1)),
    "groups": Case(2, (3, 4), (5, 6), (3, 3), (2, 1), (1, 1), groups=3),
    "depthwise": Case(1, (1, 2), (6, 8), (3, 3), padding=(1, 1), groups=9),
    "8x8 s4": Case(1, (2, 2), (9, 8), (8, 8), (4, 4), (2, 2), groups=2),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())

# Several blocks of every loop: channels beyond 128, beyond 256 of Winograd's tiles, or both.
WIDE = {
    "channels 3x3": Case(2, (150, 140), (6, 9), (3, 3), padding=(1, 1)),
    "channels 5x5 s2": Case(2, (131, 137), (5, 6), (5, 5), (2, 2), (2, 2), (1, 1)),
    "channels 1x1": Case(2, (200, 133), (3, 5), (1, 1)),
    "channels in groups": Case(1, (67, 70), (5, 6), (3, 3), padding=(1, 1), groups=2),
    "channels of vocoders": Case(2, (130, 70), (1, 40), (1, 16), (1, 8), (0, 4)),
    "tiles 3x3": Case(5, (5, 6), (33, 31), (3, 3), padding=(1, 1)),
    "tiles 4x4 s2": Case(3, (6, 5), (41, 37), (4, 4), (2, 2), (1, 1)),
    "tiles of vocoders": Case(1, (20, 17), (1, 1400), (1, 4), (1, 2), (0, 1)),
    "phases merged": Case(1, (21, 21), (9, 8), (16, 16), (8, 8), (4, 4)),
    "phases merged unevenly": Case(3, (35, 18), (6, 11), (4, 6), (2, 3), (0, 0), (1, 2)),
    "pointwise, many pixels": Case(1, (3, 5), (31, 33), (1, 1)),
    "pointwise 2x2 s2": Case(3, (300, 26), (9, 8), (2, 2), (2, 2)),
    "pointwise, deep": Case(1, (1300, 5), (9, 8), (1, 1)),
    "pointwise in groups": Case(2, (10, 7), (13, 11), (2, 3), (2, 3), groups=2),
    "both, many in": Case(2, (130, 20), (50, 47), (3, 3), padding=(1, 1)),
    "both, many out": Case(2, (18, 140), (46, 51), (3, 3), padding=(1, 1)),
}
wide = pytest.mark.parametrize("case", WIDE.values(), ids=WIDE.keys())


@st.composite
def any_case(draw: st.DrawFn) -> Case:
    def axis() -> tuple[int, ...]:
        kernel, stride, dilation = (draw(st.integers(1, n)) for n in (5, 4, 3))
        reach = dilation * (kernel - 1) + 1
        padding = draw(st.integers(0, min(3, (reach + 1) // 2)))
        size = draw(st.integers(max(1, reach - 2 * padding), max(7, reach)))
        extra = draw(st.integers(0, max(stride, dilation) - 1))
        while (size - 1) * stride - 2 * padding + reach + extra < 1:
            size += 1
        return size, kernel, stride, padding, extra, dilation

    h, w = axis(), axis()
    channels = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    return Case(draw(st.integers(0, 3)), channels, *zip(h, w, strict=True), groups=draw(st.integers(1, 3)))


@functools.cache
def expected_of(case: Case, transposed: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Output before bias and activation, a gradient of it, the gradients of input, weight and bias."""
    x, w, _ = (t.numpy() for t in case.tensors(transposed))
    geometry = case.stride, case.padding, case.dilation, case.groups
    size = case.output_size(transposed)
    forward, back = reference.conv2d, reference.conv_transpose2d
    if transposed:
        forward, back = back, forward
    output = forward(x, w, size, *geometry)
    g = randn(output.shape, 9).numpy()
    small, large = (x, g) if transposed else (g, x)
    results = (
        output,
        g,
        back(g, w, case.size, *geometry),
        reference.conv_weight_grad(small, large, case.kernel, *geometry),
        g.sum((0, 2, 3)),
    )
    return tuple(torch.from_numpy(r) for r in results)  # type: ignore[return-value]


def near(actual: Tensor, expected: Tensor, dtype: torch.dtype | None = None, factor: float = 1) -> None:
    """Assert that two tensors agree to the dtype's tolerance of the largest value."""
    assert actual.shape == expected.shape
    if actual.numel():
        tolerance = factor * TOLERANCE[dtype or actual.dtype] * max(expected.abs().max().item(), 1)
        torch.testing.assert_close(actual.double(), expected.double(), rtol=0, atol=tolerance)


def same_layout(a: Tensor, b: Tensor) -> bool:
    """Whether the strides that matter agree: an empty tensor has none, nor has a dimension of size 1."""
    strides = zip(a.stride(), b.stride(), b.shape, strict=True)
    return not b.numel() or all(i == j for i, j, size in strides if size > 1)


def apply_by_torch(output: Tensor, activation: Any) -> Tensor:
    """The activation, by torch."""
    name, slope = activation if isinstance(activation, tuple) else (activation, 0.2)
    if name == "leaky_relu":
        return F.leaky_relu(output, slope)
    return output if name is None else getattr(torch, name)(output)


class Convolution:
    """What the tests that both operators pass have in common; a subclass names the operator."""

    transposed: bool

    @property
    def op(self) -> Callable[..., Tensor]:
        return deconvkit.conv_transpose2d if self.transposed else deconvkit.conv2d

    @property
    def op_1d(self) -> Callable[..., Tensor]:
        return deconvkit.conv_transpose1d if self.transposed else deconvkit.conv1d

    @property
    def registered(self) -> Any:
        ops = torch.ops.deconvkit
        return (ops.conv_transpose2d if self.transposed else ops.conv2d).default

    def torchs(self, *args: Any, activation: Any = None, **kwargs: Any) -> Tensor:
        """torch's own, with the activation."""
        one = args[1].dim() == 3
        function = (
            (F.conv_transpose1d if one else F.conv_transpose2d)
            if self.transposed
            else (F.conv1d if one else F.conv2d)
        )
        return apply_by_torch(function(*args, **kwargs), activation)

    def raw(self, case: Case, algorithm: str = "auto", activation: str = "none") -> tuple[Any, ...]:
        """The registered op's arguments after the tensors."""
        size = case.output_size(self.transposed)
        return case.stride, case.padding, case.dilation, size, case.groups, activation, 0.0, algorithm
