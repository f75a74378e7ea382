"""Winograd's loop orders: shapes of several rounds of tiles and blocks of channels, in odd sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import deconvkit

# (op, input, weight, arguments)
CASES = [
    pytest.param("conv2d", (2, 21, 57, 49), (35, 21, 3, 3), {"padding": 1}, id="weights_once"),
    pytest.param("conv2d", (3, 130, 13, 11), (70, 130, 3, 3), {"padding": 1}, id="streamed"),
    pytest.param("conv2d", (3, 37, 31, 65), (131, 37, 5, 5), {"stride": 2, "padding": 2}, id="conv_k5"),
    pytest.param("conv2d", (7, 3, 61, 97), (70, 3, 5, 5), {"stride": 2, "padding": 2}, id="folded_k5"),
    pytest.param("conv2d", (7, 4, 62, 96), (64, 4, 4, 4), {"stride": 2, "padding": 1}, id="folded_k4"),
    pytest.param("conv2d", (7, 1, 65, 97), (35, 1, 7, 5), {"stride": (3, 2), "padding": 2}, id="folded_k75"),
    pytest.param(
        "conv_transpose2d", (35, 67, 9, 7), (67, 49, 4, 4), {"stride": 2, "padding": 1}, id="transposed_k4"
    ),
    pytest.param(
        "conv_transpose2d",
        (5, 140, 4, 4),
        (140, 33, 5, 5),
        {"stride": 2, "padding": 2, "output_padding": 1},
        id="transposed_k5",
    ),
    # Kernels in pieces, at stride 1: of 2 + 3, 2 + 2 and 2 + 2 + 3 cells, and 3 + 3 + 3.
    pytest.param("conv2d", (2, 21, 47, 39), (35, 21, 5, 5), {"padding": 2}, id="pieces_once"),
    pytest.param("conv2d", (3, 130, 13, 11), (70, 130, 7, 4), {"padding": 3}, id="pieces_streamed"),
    pytest.param(
        "conv2d", (3, 37, 31, 33), (49, 37, 5, 6), {"stride": (2, 1), "padding": 2}, id="pieces_k5_k6"
    ),
    pytest.param("conv_transpose2d", (5, 37, 29, 21), (37, 49, 5, 3), {"padding": 1}, id="transposed_pieces"),
    pytest.param("conv_transpose2d", (2, 70, 9, 7), (70, 33, 9, 8), {}, id="transposed_k9_k8"),
    pytest.param("conv2d", (2, 16, 1, 2003), (32, 16, 1, 9), {"padding": (0, 4)}, id="row_of_pieces"),
    pytest.param(
        "conv_transpose2d", (2, 16, 1, 4001), (16, 32, 1, 16), {"stride": (1, 8), "padding": (0, 4)}, id="row"
    ),
]


def relative_rms(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).norm() / expected.norm()).item()


def gradients(library: Any, op: str, tensors: list[Tensor], grad: Tensor, **arguments: Any) -> list[Tensor]:
    tensors = [t.detach().requires_grad_() for t in tensors]
    output = getattr(library, op)(*tensors, **arguments)
    return [output, *torch.autograd.grad(output, tensors, grad)]


@pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"]
)
@pytest.mark.parametrize(("op", "input", "weight", "arguments"), CASES)
def test_rounds(
    op: str,
    input: tuple[int, ...],
    weight: tuple[int, ...],
    arguments: dict[str, Any],
    layout: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(input), torch.randn(weight)
    grad = torch.randn(getattr(F, op)(x, w, **arguments).shape)
    expected = gradients(F, op, [x.double(), w.double()], grad.double(), **arguments)
    tensors = [t.contiguous(memory_format=layout) for t in (x, w)]
    grad = grad.contiguous(memory_format=layout)
    threads = torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(gradients(deconvkit, op, tensors, grad, algorithm="winograd", **arguments))
    finally:
        torch.set_num_threads(threads)
    for got, exact, bound in zip(results[0], expected, (4e-6, 4e-6, 6e-6), strict=True):
        assert relative_rms(got.double(), exact) < bound
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_weight_gradient_whose_sums_are_kept_in_lots() -> None:
    small, large = torch.randn(5, 1088, 17, 14), torch.randn(5, 992, 17, 14)
    geometry = (3, 3), (1, 1), (1, 1), (1, 1), 1, False
    winograd, direct = (
        torch.ops.deconvkit.conv_weight_grad(small, large, *geometry, algorithm)
        for algorithm in ("winograd", "direct")
    )
    error = (winograd - direct).norm() / direct.norm()
    assert error < 1e-5
