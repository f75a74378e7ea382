"""The choice of a convolution's algorithm: one description of all three ops, made when they run."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import deconvkit
from deconvkit.ops import _algorithm, _convolution_op, _torch_convolution
from deconvkit.ops._algorithm import Choice, Problem

OPS = ["conv2d", "conv_transpose2d", "conv_weight_grad"]


def problem(op: str, **changes: Any) -> Problem:
    """One and the same convolution, of which ``op`` makes a part."""
    first, second, made = {
        "conv2d": ((2, 6, 8, 9), (10, 3, 4, 5), (5, 4)),
        "conv_transpose2d": ((2, 10, 5, 4), (10, 3, 4, 5), (8, 9)),
        "conv_weight_grad": ((2, 10, 5, 4), (2, 6, 8, 9), (4, 5)),
    }[op]
    return Problem(op, True, torch.float32, False, first, second, made, (1, 1), (1, 1), 2)._replace(**changes)


@pytest.mark.parametrize("op", OPS)
def test_a_problem_has_one_description_for_all_three(op: str) -> None:
    p = problem(op)
    assert (p.batch, p.small_channels, p.large_channels, p.groups) == (2, 10, 6, 2)
    assert (tuple(p.small), tuple(p.large), tuple(p.kernel)) == ((5, 4), (8, 9), (4, 5))


@pytest.mark.parametrize("op", OPS)
def test_other_devices_compute_by_torch(op: str) -> None:
    assert _algorithm.choose(problem(op)).algorithm in ("direct", "winograd", "torch")
    choice = _algorithm.choose(problem(op, on_cpu=False))
    assert choice.algorithm == "torch"
    assert "not measured on this device" in choice.reason


@pytest.mark.parametrize(
    ("algorithm", "op", "shapes", "arguments"),
    [
        # 5x5 s2 and 3x3 over many channels; 2x2 s2 saves nothing.
        ("winograd", "conv_transpose2d", ((8, 256, 16, 16), (256, 128, 5, 5)), {"stride": 2, "padding": 2}),
        ("winograd", "conv2d", ((1, 24, 57, 57), (48, 24, 3, 3)), {"padding": 1}),
        ("direct", "conv_transpose2d", ((4, 256, 64, 64), (256, 128, 2, 2)), {"stride": 2}),
        # Pieces of longer kernels at stride 1.
        ("winograd", "conv2d", ((8, 64, 28, 28), (64, 64, 5, 5)), {"padding": 2}),
        ("winograd", "conv_transpose2d", ((8, 64, 28, 28), (64, 64, 9, 9)), {"padding": 4}),
        ("winograd", "conv1d", ((8, 64, 2000), (64, 64, 7)), {"padding": 3}),
        ("direct", "conv_transpose2d", ((8, 64, 28, 28), (64, 64, 5, 5)), {"padding": 2, "stride": (1, 2)}),
        # Long sums that nothing shortens, but of large outputs.
        ("torch", "conv2d", ((8, 64, 28, 28), (64, 64, 10, 10)), {"padding": 4}),
        ("torch", "conv2d", ((4, 64, 57, 57), (64, 64, 3, 3)), {"padding": 2, "dilation": 2}),
        ("direct", "conv2d", ((32, 64, 57, 57), (64, 64, 3, 3)), {"padding": 2, "dilation": 2}),
        ("torch", "conv_transpose2d", ((8, 64, 28, 28), (64, 64, 3, 3)), {"padding": 2, "dilation": 2}),
        ("direct", "conv_transpose2d", ((8, 16, 28, 28), (16, 64, 3, 3)), {"padding": 2, "dilation": 2}),
        ("torch", "conv2d", ((8, 128, 28, 28), (64, 128, 3, 3)), {"padding": 1, "stride": 2}),
        ("direct", "conv2d", ((8, 128, 56, 56), (64, 128, 3, 3)), {"padding": 1, "stride": 2}),
        # Few tiles; few channels.
        ("direct", "conv2d", ((1, 64, 4, 4), (64, 64, 3, 3)), {"padding": 1}),
        ("direct", "conv_transpose2d", ((64, 128, 32, 32), (128, 3, 5, 5)), {"stride": 2, "padding": 2}),
        ("direct", "conv2d", ((8, 24, 57, 57), (8, 24, 3, 3)), {"padding": 1}),
        # First layers and depthwise ones are torch's, unless the output is large or the layer tiny.
        ("torch", "conv2d", ((1, 3, 224, 224), (64, 3, 3, 3)), {"padding": 1}),
        ("torch", "conv2d", ((32, 8, 57, 57), (8, 8, 3, 3)), {"padding": 1}),
        ("torch", "conv2d", ((8, 16, 57, 57), (8, 16, 3, 3)), {"padding": 1}),
        # Plain matrix products.
        ("direct", "conv2d", ((1, 8, 57, 57), (64, 8, 1, 1)), {}),
        ("torch", "conv2d", ((1, 8, 3, 3), (64, 8, 1, 1)), {}),
        ("torch", "conv2d", ((4, 256, 57, 57), (256, 256, 1, 1)), {"stride": 2}),
        ("direct", "conv_transpose2d", ((4, 64, 57, 57), (64, 8, 1, 1)), {}),
        ("direct", "conv2d", ((16, 64, 57, 57), (64, 64, 1, 1)), {}),
        ("direct", "conv2d", ((4, 64, 113, 113), (256, 64, 1, 1)), {}),
        ("torch", "conv2d", ((1, 32, 113, 113), (8, 32, 5, 5)), {"padding": 4, "dilation": 2}),
        ("direct", "conv2d", ((4, 3, 224, 224), (64, 3, 3, 3)), {"padding": 1}),
        ("direct", "conv2d", ((1, 3, 13, 13), (16, 3, 3, 3)), {"padding": 1}),
        # Sub-grids of the stride multiply few channels.
        ("winograd", "conv2d", ((64, 3, 64, 64), (128, 3, 5, 5)), {"stride": 2, "padding": 2}),
        ("winograd", "conv2d", ((64, 3, 64, 64), (128, 3, 4, 4)), {"stride": 2, "padding": 1}),
        ("direct", "conv2d", ((256, 3, 64, 64), (128, 3, 3, 3)), {"stride": 2, "padding": 1}),
        ("torch", "conv2d", ((8, 64, 57, 57), (64, 1, 3, 3)), {"groups": 64}),
        # Few pixels for the weights.
        ("direct", "conv2d", ((1, 64, 13, 13), (256, 64, 1, 1)), {}),
        ("torch", "conv2d", ((1, 512, 7, 7), (256, 512, 5, 5)), {"stride": 2, "padding": 2}),
        ("direct", "conv2d", ((1, 128, 7, 7), (256, 128, 3, 3)), {"padding": 1}),
        ("direct", "conv_transpose2d", ((1, 512, 7, 7), (512, 256, 5, 5)), {"stride": 2, "padding": 2}),
        # Channels in a group.
        ("direct", "conv2d", ((8, 64, 57, 57), (64, 16, 3, 3)), {"groups": 4, "stride": 2}),
        ("torch", "conv2d", ((8, 64, 57, 57), (64, 8, 3, 3)), {"groups": 8, "stride": 2}),
        ("direct", "conv2d", ((8, 64, 57, 57), (64, 16, 3, 3)), {"groups": 4, "padding": 1}),
        ("winograd", "conv2d", ((8, 64, 57, 57), (64, 32, 3, 3)), {"groups": 2, "padding": 1}),
    ],
)
def test_auto(
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    op: str,
    shapes: tuple[tuple[int, ...], ...],
    arguments: dict[str, Any],
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: True)
    _algorithm.choose.cache_clear()
    assert deconvkit.plan(op, *shapes, **arguments).algorithm == algorithm
    _algorithm.choose.cache_clear()


@pytest.mark.parametrize(
    ("wide", "narrow", "first", "second", "made", "changes"),
    [
        # Weight gradients of one cell: (small, large).
        ("direct", "torch", (8, 64, 7, 7), (8, 32, 7, 7), (1, 1), {}),
        ("direct", "direct", (8, 64, 7, 7), (8, 32, 14, 14), (1, 1), {"stride": (2, 2)}),
        ("torch", "direct", (8, 64, 57, 57), (8, 32, 114, 114), (1, 1), {"stride": (2, 2)}),
        ("direct", "direct", (8, 64, 7, 7), (8, 32, 7, 7), (1, 1), {"dtype": torch.bfloat16}),
        ("direct", "direct", (8, 64, 7, 7), (8, 32, 7, 7), (1, 1), {"dtype": torch.float64}),
        ("direct", "direct", (8, 64, 7, 7), (8, 32, 7, 7), (1, 1), {"groups": 2}),
        # Convolutions: (large, weight).
        ("direct", "torch", (1, 12, 57, 57), (32, 12, 3, 3), (55, 55), {"op": "conv2d"}),
        ("torch", "torch", (8, 12, 57, 57), (32, 12, 3, 3), (55, 55), {"op": "conv2d"}),
        ("direct", "direct", (8, 32, 57, 57), (3, 32, 3, 3), (55, 55), {"op": "conv2d"}),
        ("direct", "torch", (8, 32, 57, 57), (8, 32, 5, 5), (53, 53), {"op": "conv2d"}),
        ("direct", "direct", (8, 32, 57, 57), (7, 32, 5, 5), (53, 53), {"op": "conv2d"}),
        ("direct", "torch", (1, 32, 57, 57), (16, 32, 2, 2), (56, 56), {"op": "conv2d"}),
        ("direct", "direct", (1, 32, 57, 57), (17, 32, 2, 2), (56, 56), {"op": "conv2d"}),
        ("winograd", "winograd", (8, 16, 57, 57), (32, 16, 3, 3), (55, 55), {"op": "conv2d"}),
        (
            "direct",
            "direct",
            (8, 12, 57, 57),
            (32, 12, 3, 3),
            (55, 55),
            {"op": "conv2d", "dtype": torch.float64},
        ),
        ("direct", "direct", (8, 32, 57, 57), (32, 16, 5, 5), (53, 53), {"op": "conv2d", "groups": 2}),
        # Transposed: (small, weight).
        ("torch", "torch", (2, 8, 57, 57), (8, 16, 3, 3), (59, 59), {"op": "conv_transpose2d"}),
        ("direct", "direct", (2, 8, 57, 57), (8, 16, 2, 2), (31, 31), {"op": "conv_transpose2d"}),
        ("torch", "torch", (1, 8, 57, 57), (8, 40, 3, 3), (59, 59), {"op": "conv_transpose2d"}),
        ("torch", "torch", (2, 16, 57, 57), (16, 8, 3, 3), (59, 59), {"op": "conv_transpose2d"}),
        ("direct", "direct", (2, 17, 57, 57), (17, 8, 3, 3), (59, 59), {"op": "conv_transpose2d"}),
        ("direct", "direct", (1, 9, 57, 57), (9, 16, 5, 5), (61, 61), {"op": "conv_transpose2d"}),
        # Long sums that nothing shortens.
        ("torch", "direct", (4, 9, 57, 57), (9, 16, 7, 7), (63, 63), {"op": "conv_transpose2d"}),
        ("torch", "direct", (4, 64, 57, 57), (32, 64, 3, 3), (28, 28), {"op": "conv2d", "stride": (2, 2)}),
    ],
)
@pytest.mark.parametrize("bits", [512, 256])
def test_auto_by_the_width_of_vectors(
    monkeypatch: pytest.MonkeyPatch,
    bits: int,
    wide: str,
    narrow: str,
    first: tuple[int, ...],
    second: tuple[int, ...],
    made: tuple[int, ...],
    changes: dict[str, Any],
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: bits == 512)
    p = problem("conv_weight_grad", first=first, second=second, made=made, groups=1, channels_last=True)
    p = p._replace(**changes)
    _algorithm.choose.cache_clear()
    assert _algorithm.choose(p).algorithm == (wide if bits == 512 else narrow)
    _algorithm.choose.cache_clear()


@pytest.mark.parametrize("multiplies", [True, False])
@pytest.mark.parametrize(
    ("algorithm", "with_amx", "op", "shapes", "arguments"),
    [
        ("winograd", "torch", "conv2d", ((4, 256, 56, 56), (256, 256, 3, 3)), {"padding": 1}),
        (
            "winograd",
            "winograd",  # maps that do not fill the matrix unit
            "conv_transpose2d",
            ((64, 1024, 4, 4), (1024, 512, 5, 5)),
            {"stride": 2, "padding": 2, "output_padding": 1},
        ),
        ("direct", "torch", "conv_transpose2d", ((4, 256, 64, 64), (256, 128, 2, 2)), {"stride": 2}),
        ("direct", "torch", "conv_transpose2d", ((64, 9, 32, 32), (9, 3, 5, 5)), {"stride": 2, "padding": 2}),
        ("direct", "direct", "conv2d", ((1, 32, 13, 13), (32, 32, 3, 3)), {"padding": 1}),
    ],
)
@pytest.mark.parametrize("amx", [True, False])
def test_auto_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
    amx: bool,
    multiplies: bool,
    algorithm: str,
    with_amx: str,
    op: str,
    shapes: tuple[tuple[int, ...], ...],
    arguments: dict[str, Any],
) -> None:
    # Whether the processor multiplies bfloat16.
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: multiplies)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    _algorithm.choose.cache_clear()
    expected = with_amx if amx else algorithm
    assert deconvkit.plan(op, *shapes, dtype=torch.bfloat16, **arguments).algorithm == expected
    _algorithm.choose.cache_clear()


@pytest.mark.parametrize(
    ("algorithm", "op", "shapes", "arguments"),
    [
        # Few tiles at stride 1, and strided convolutions; cells of one product are the direct kernels'.
        ("torch", "conv2d", ((4, 512, 14, 14), (512, 512, 3, 3)), {"padding": 1}),
        ("torch", "conv_transpose2d", ((4, 512, 14, 14), (512, 512, 3, 3)), {"padding": 1}),
        ("torch", "conv2d", ((8, 128, 32, 32), (256, 128, 5, 5)), {"stride": 2, "padding": 2}),
        ("direct", "conv2d", ((4, 256, 28, 28), (512, 256, 1, 1)), {}),
    ],
)
def test_classes_of_torchs_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    op: str,
    shapes: tuple[tuple[int, ...], ...],
    arguments: dict[str, Any],
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    _algorithm.choose.cache_clear()
    assert deconvkit.plan(op, *shapes, dtype=torch.bfloat16, **arguments).algorithm == algorithm
    _algorithm.choose.cache_clear()


@pytest.mark.parametrize(("algorithm", "kernel"), [("winograd", (5, 5)), ("torch", (4, 4))])
def test_weight_gradients_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, kernel: tuple[int, int]
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    _algorithm.choose.cache_clear()
    shapes = (8, 256, 16, 16), (8, 128, 32, 32)
    changes = {"dtype": torch.bfloat16, "groups": 1, "stride": (2, 2), "made": kernel}
    p = problem("conv_weight_grad", first=shapes[0], second=shapes[1], **changes)
    assert _algorithm.choose(p).algorithm == algorithm
    _algorithm.choose.cache_clear()


@pytest.mark.parametrize("op", ["conv2d", "conv_transpose2d"])
@pytest.mark.parametrize(
    ("algorithm", "layout"), [("direct", "contiguous_format"), ("torch", "channels_last")]
)
def test_dilated_convolutions_are_torchs_in_channels_last(op: str, algorithm: str, layout: str) -> None:
    x = torch.empty(1, 24, 33, 33, device="meta").to(memory_format=getattr(torch, layout))
    weight = torch.empty(24, 24, 3, 3)
    assert deconvkit.plan(op, x, weight, padding=2, dilation=2).algorithm == algorithm


def test_a_call_sees_the_layout_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    choose = _algorithm.choose
    monkeypatch.setattr(
        _algorithm, "choose", lambda p: (p.op == "conv2d" and seen.append(p.channels_last)) or choose(p)
    )
    _convolution_op._CACHE.clear()
    x, weight = torch.randn(2, 9, 11, 11), torch.randn(9, 9, 3, 3)
    for _ in range(2):  # the second time from what was kept
        for layout in (torch.contiguous_format, torch.channels_last):
            deconvkit.conv2d(x.to(memory_format=layout), weight, dilation=2)
    assert seen == [False, True]


@pytest.mark.parametrize(
    ("op", "weight"),
    [("conv2d", (10, 3, 3, 3)), ("conv_transpose2d", (6, 5, 3, 3))],
    ids=["conv2d", "transposed"],
)
@pytest.mark.parametrize("algorithm", ["auto", "torch"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_all_torchs_is_differentiated_by_torch(
    op: str, weight: tuple[int, ...], algorithm: str, layout: torch.memory_format
) -> None:
    # Three channels in a group: output and gradients are torch's.
    x = torch.randn(2, 6, 9, 8, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    w = torch.randn(weight, dtype=torch.float64, requires_grad=True)
    b = torch.randn(10, dtype=torch.float64, requires_grad=True)
    y = getattr(deconvkit, op)(x, w, b, stride=2, padding=1, groups=2, activation="tanh", algorithm=algorithm)
    assert y.grad_fn.next_functions[0][0].name() == "ConvolutionBackward0"
    expected = torch.tanh(getattr(F, op)(x, w, b, stride=2, padding=1, groups=2))
    torch.testing.assert_close(y, expected)
    assert y.stride() == expected.stride()
    wanted = torch.autograd.grad(expected.square().sum(), (x, w, b))
    for found, value in zip(torch.autograd.grad(y.square().sum(), (x, w, b)), wanted, strict=True):
        torch.testing.assert_close(found, value)


@pytest.mark.parametrize(
    ("op", "weight"),
    [("conv2d", (10, 6, 3, 3)), ("conv_transpose2d", (6, 10, 3, 3))],
    ids=["conv2d", "transposed"],
)
def test_small_layers_are_trained_by_torch(
    small_layers_by_torch: None, op: str, weight: tuple[int, ...]
) -> None:
    ours = getattr(deconvkit, op)
    x, w = torch.randn(1, 6, 9, 8, requires_grad=True), torch.randn(weight, requires_grad=True)
    b = torch.randn(10, requires_grad=True)
    others = torch.randn(2, 6, 9, 8), torch.randn(1, 6, 90, 91)

    def recorded(*tensors: torch.Tensor, **arguments: Any) -> str:
        return ours(*tensors, **arguments).grad_fn.name()

    for _ in range(2):  # the second time from what was kept
        assert recorded(x, w, b) == "ConvolutionBackward0"
        assert recorded(x, w.detach(), b) != "ConvolutionBackward0"  # torch would keep the input
        assert recorded(x, w, b, algorithm="direct") != "ConvolutionBackward0"
        assert all(recorded(other, w) != "ConvolutionBackward0" for other in others)
        assert recorded(x, torch.randn(6, 6, 4, 4, requires_grad=True)) != "ConvolutionBackward0"
        assert recorded(others[1], torch.randn(6, 6, 1, 1, requires_grad=True)) == "ConvolutionBackward0"
    y = ours(x[0], w, b, activation="tanh")
    expected = torch.tanh(getattr(F, op)(x[0], w, b))
    torch.testing.assert_close(y, expected)
    assert deconvkit.plan(op, x, w, b).algorithm == "torch"
    assert "autograd" in deconvkit.plan(op, x, w, b).reason
    with torch.no_grad():
        assert deconvkit.plan(op, x, w, b).algorithm == "direct"
        torch.testing.assert_close(ours(x[0], w, b, activation="tanh"), expected)
    wanted = torch.autograd.grad(expected.square().sum(), (x, w, b))
    for found, value in zip(torch.autograd.grad(y.square().sum(), (x, w, b)), wanted, strict=True):
        torch.testing.assert_close(found, value)


@pytest.mark.parametrize(
    ("op", "weight"),
    [("conv2d", (8, 16, 1, 1)), ("conv_transpose2d", (16, 8, 1, 1))],
    ids=["conv2d", "transposed"],
)
def test_small_layers_over_copies_are_recorded(
    small_layers_by_torch: None, monkeypatch: pytest.MonkeyPatch, op: str, weight: tuple[int, ...]
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    _algorithm.choose.cache_clear()
    x = torch.randn(1, 16, 32, 32, dtype=torch.bfloat16, requires_grad=True)
    w = torch.randn(weight, dtype=torch.bfloat16, requires_grad=True)
    y = getattr(deconvkit, op)(x, w)
    found = torch.autograd.grad(y, (x, w), torch.ones_like(y))
    expected = torch.autograd.grad(getattr(F, op)(x, w), (x, w), torch.ones_like(y))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)
    _algorithm.choose.cache_clear()


def test_what_was_kept_does_not_serve_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = torch.randn(2, 12, 9, 9), torch.randn(12, 1, 3, 3)
    deconvkit.conv2d(x, w, groups=12)
    seen: list[torch.dtype] = []
    by_torch = torch.conv2d
    monkeypatch.setattr(torch, "conv2d", lambda x, *rest: seen.append(x.dtype) or by_torch(x, *rest))
    _convolution_op._PLANS.clear()
    with torch.autocast("cpu", torch.bfloat16):
        assert deconvkit.conv2d(x, w, groups=12).dtype == torch.bfloat16
    assert seen == [torch.bfloat16]


@pytest.mark.parametrize("algorithm", ["auto", "torch"])
def test_a_frozen_layer_keeps_no_input(algorithm: str) -> None:
    x = torch.randn(2, 6, 9, 8, requires_grad=True) * 1
    kept = weakref.ref(x)
    y = deconvkit.conv2d(x, torch.randn(6, 1, 3, 3), groups=6, algorithm=algorithm)
    del x
    assert kept() is None
    y.sum().backward()


def test_a_compiled_graph_decides_when_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Problem] = []

    def is_watched(p: Problem) -> bool:
        asked.append(p)
        return p.first[-1] > 8

    compiled = torch.compile(deconvkit.conv2d, fullgraph=True, dynamic=True, backend="aot_eager")
    w = torch.randn(3, 2, 3, 3)
    compiled(torch.randn(1, 2, 6, 7), w)
    rule = (is_watched, Choice("torch", "the test says so"))
    monkeypatch.setattr(_algorithm, "_RULES", (rule, *_algorithm._RULES))
    x = torch.randn(1, 2, 6, 8)
    torch.testing.assert_close(compiled(x, w), torch.nn.functional.conv2d(x, w))
    assert asked
    assert deconvkit.plan("conv2d", (1, 2, 6, 9), (3, 2, 3, 3)).reason == "the test says so"
    assert deconvkit.plan("conv2d", (1, 2, 6, 8), (3, 2, 3, 3)).reason != "the test says so"
    torch._dynamo.reset()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("algorithm", ["auto", "torch"])
@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_that_are_both_torchs_come_from_one_call(
    transposed: bool, algorithm: str, memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Depthwise, with a stride that leaves a remainder: torch's very numbers and strides."""
    theirs = F.conv_transpose2d if transposed else F.conv2d
    ours = deconvkit.conv_transpose2d if transposed else deconvkit.conv2d
    operands = [torch.randn(2, 12, 9, 8), torch.randn(12, 1, 3, 3)]
    x, weight = (t.to(memory_format=memory_format).requires_grad_() for t in operands)
    rest = {"stride": 2, "padding": 1, "groups": 12} | ({"output_padding": 1} if transposed else {})
    expected = theirs(x, weight, **rest)
    grad = torch.randn_like(expected)
    one_by_one: list[Any] = []
    monkeypatch.setattr(_torch_convolution, "conv_weight_grad", one_by_one.append)
    found = torch.autograd.grad(ours(x, weight, algorithm=algorithm, **rest), (x, weight), grad)
    assert not one_by_one
    for one, other in zip(found, torch.autograd.grad(expected, (x, weight), grad), strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()


def test_gradients_where_torchs_padding_does_not_fit() -> None:
    """An even kernel with "same": the larger half of the padding lies behind."""
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    ours = deconvkit.conv2d(x, weight, padding="same", groups=4, algorithm="torch")
    theirs = F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, groups=4)
    for one, other in zip(
        *(torch.autograd.grad(y.square().sum(), (x, weight)) for y in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(one, other)
