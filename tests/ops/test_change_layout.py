"""Copies between NCHW and channels_last, and torch's convolutions over them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import deconvkit
from deconvkit import _C
from deconvkit.ops import _algorithm, _convolution_op
from deconvkit.ops import _library as library

SHAPES = [
    (2, 5, 3, 7),
    (1, 16, 1, 16),
    (3, 17, 9, 15),
    (2, 40, 23, 31),
    (1, 1, 1, 1),
    (0, 4, 3, 3),
    (4, 64, 4, 4),
]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def change(source: Tensor, target: Tensor) -> None:
    _C.change_layout(library.ref(source), library.ref(target), 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back(isa: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape).to(dtype)
    x.view(-1)[:1] = float("inf")
    there = torch.full_like(x, float("nan"), memory_format=torch.channels_last)
    back = torch.full_like(x, float("nan"))
    change(x, there)
    change(there, back)
    assert torch.equal(there, x)
    assert torch.equal(back, x)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_outside_is_touched(isa: str, shape: tuple[int, ...]) -> None:
    n, c, h, w = shape
    x = torch.randn(n, c, h, w + 3)[..., 1:-2]
    frame = torch.full((n, h, w + 2, c + 1), 7.0)
    change(x, frame[:, :, 1:-1, :-1].permute(0, 3, 1, 2))
    assert torch.equal(frame[:, :, 1:-1, :-1].permute(0, 3, 1, 2), x)
    frame[:, :, 1:-1, :-1] = 7
    assert bool((frame == 7).all())


def test_tensors_that_do_not_fit_are_refused() -> None:
    x = torch.zeros(2, 3, 4, 5)
    for other in (torch.zeros(2, 3, 4, 6), torch.zeros(2, 3, 20), x.double(), x.to("meta")):
        with pytest.raises(ValueError, match="do not fit"):
            change(x, other)


def forget() -> None:
    """What was decided for other processors."""
    _algorithm.choose.cache_clear()
    _convolution_op._CACHE.clear()
    _convolution_op._PLANS.clear()


@pytest.fixture
def matrix_unit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a processor with AMX."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    forget()
    yield
    forget()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    ("op", "weight", "arguments"),
    [
        ("conv2d", (24, 40, 3, 3), {"padding": 1}),
        ("conv2d", (24, 40, 4, 4), {"padding": "same"}),
        ("conv2d", (90, 40, 1, 1), {}),
        ("conv_transpose2d", (40, 24, 2, 2), {"stride": 2}),
        ("conv_transpose2d", (40, 3, 5, 5), {"stride": 2, "padding": 2, "output_padding": 1}),
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_matrix_unit_is_fed_in_channels_last(
    matrix_unit: None,
    monkeypatch: pytest.MonkeyPatch,
    layout: torch.memory_format,
    op: str,
    weight: tuple[int, ...],
    arguments: dict[str, Any],
) -> None:
    seen = []
    by_torch = getattr(torch, op)
    monkeypatch.setattr(
        torch, op, lambda x, *rest: seen.append(library.is_channels_last(x)) or by_torch(x, *rest)
    )
    x = torch.randn(4, 40, 31, 29).bfloat16().to(memory_format=layout).requires_grad_()
    w = torch.randn(weight).bfloat16().mul_(0.1).requires_grad_()
    y = getattr(deconvkit, op)(x, w, **arguments)
    assert seen == [True]
    xs, ws = (t.detach().float().requires_grad_() for t in (x, w))
    expected = getattr(F, op)(xs, ws, **arguments)
    assert y.is_contiguous(memory_format=layout)
    last = (t.detach().contiguous(memory_format=torch.channels_last) for t in (x, w))
    assert torch.equal(y, getattr(F, op)(*last, **arguments))
    # Where nothing multiplies bfloat16, oneDNN rounds the partial sums of transposed kernels too.
    if torch.cpu._is_avx512_bf16_supported() or (op, weight[2]) != ("conv_transpose2d", 5):
        torch.testing.assert_close(y.float(), expected, rtol=2e-2, atol=2e-2)
    grad = torch.randn_like(y)
    y.backward(grad)
    expected.backward(grad.float())
    torch.testing.assert_close(x.grad.float(), xs.grad, rtol=2e-2, atol=5e-2)
    torch.testing.assert_close(w.grad.float(), ws.grad, rtol=2e-2, atol=0.5)
    assert x.grad.is_contiguous(memory_format=layout)
