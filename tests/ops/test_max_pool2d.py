from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import deconvkit
from deconvkit import _C, max_pool1d_with_switches, max_pool2d_with_switches
from tests import reference
from tests.ops.pooling import (
    DTYPES,
    LAYOUTS,
    SHAPES,
    Windows,
    examples,
    lay_out,
    random_switches,
    reference_switches,
    same,
    seeds,
    shapes,
    tied,
    windows,
    with_thread_counts,
)

OPS = torch.ops.deconvkit


def expected_pool(x: torch.Tensor, w: Windows) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and switches of the reference, in the input's dtype."""
    output, switches = reference.max_pool2d(x.double().numpy(), w.pooled, *w.geometry)
    none = 255 if w.dtype is torch.uint8 else 2**31 - 1
    numbers = torch.from_numpy(switches)
    return torch.from_numpy(output).to(x.dtype), numbers.masked_fill(numbers < 0, none).to(w.dtype)


# ---- forward ----


@shapes
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_matches_the_reference(isa: str, n: int, c: int, w: Windows, dtype: torch.dtype, layout: str) -> None:
    x = lay_out(tied((n, c, *w.size)).to(dtype), layout)
    output, switches = max_pool2d_with_switches(x, *w.geometry, w.ceil_mode)
    expected, expected_switches = expected_pool(x, w)
    assert same(output, expected)
    assert torch.equal(switches, expected_switches)


@examples
@given(windows(), st.integers(0, 2), st.integers(1, 9), seeds, st.sampled_from(LAYOUTS))
def test_matches_the_reference_for_any_windows(w: Windows, n: int, c: int, seed: int, layout: str) -> None:
    x = lay_out(tied((n, c, *w.size), seed), layout)
    output, switches = max_pool2d_with_switches(x, *w.geometry, w.ceil_mode)
    expected, expected_switches = expected_pool(x, w)
    assert same(output, expected)
    assert torch.equal(switches, expected_switches)


@examples
@given(
    windows(torch_padding=True),
    st.integers(0, 2),
    st.integers(1, 9),
    seeds,
    st.sampled_from(LAYOUTS),
    st.booleans(),
)
def test_matches_torch(w: Windows, n: int, c: int, seed: int, layout: str, special: bool) -> None:
    x = lay_out(tied((n, c, *w.size), seed, special), layout)
    output, switches = max_pool2d_with_switches(x, *w.geometry, w.ceil_mode)
    expected, indices = F.max_pool2d(x, *w.geometry, w.ceil_mode, return_indices=True)
    assert same(output, expected)
    assert output.stride() == expected.stride()
    assert switches.stride() == indices.stride()
    valid = reference_switches(switches) >= 0
    ours = deconvkit.switches_to_indices(switches, w.size, *w.geometry)
    assert torch.equal(ours[valid], indices[valid])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3, 17), (3, 17), (0, 3, 17)])
def test_one_dimension_matches_torch(isa: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = tied(shape).to(dtype)
    for k, s, p, d, ceil in itertools.product((2, 3, 5), (None, 1, 2, 3), (0, 1), (1, 2), (False, True)):
        output, switches = max_pool1d_with_switches(x, k, s, p, d, ceil)
        expected, indices = F.max_pool1d(x, k, s, p, d, ceil, return_indices=True)
        assert same(output, expected)
        assert torch.equal(deconvkit.switches_to_indices(switches, (17,), k, s, p, d), indices)


def test_unbatched_and_zero_batch() -> None:
    x = torch.randn(3, 8, 9)
    output, switches = max_pool2d_with_switches(x, 2)
    batched = max_pool2d_with_switches(x[None], 2)
    assert torch.equal(output, batched[0][0])
    assert torch.equal(switches, batched[1][0])
    assert output.stride() == F.max_pool2d(x, 2).stride()
    output, switches = max_pool2d_with_switches(torch.zeros(0, 3, 8, 9), 2)
    assert output.shape == switches.shape == (0, 3, 4, 4)


def test_a_large_plane_and_large_windows() -> None:
    x = torch.randn(1, 1, 700, 900)
    output, switches = max_pool2d_with_switches(x, (600, 700), 50)  # 420,000 cells
    expected, indices = F.max_pool2d(x, (600, 700), 50, return_indices=True)
    assert switches.dtype is torch.int32
    assert torch.equal(output, expected)
    assert torch.equal(deconvkit.switches_to_indices(switches, (700, 900), (600, 700), 50), indices)


# ---- gradients ----


@shapes
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_backward_and_gather_match_the_reference(
    isa: str, n: int, c: int, w: Windows, dtype: torch.dtype, layout: str
) -> None:
    switches = random_switches(w, n, c)
    numbers = reference_switches(switches)
    switches = lay_out(switches, layout)
    grad = lay_out(tied(switches.shape, special=False).to(dtype), layout)
    result = OPS.max_pool2d_backward(grad, switches, w.size, *w.geometry)
    expected = reference.max_pool2d_backward(grad.double().numpy(), numbers, w.size, *w.geometry)
    assert torch.equal(result.double(), torch.from_numpy(expected))

    x = lay_out(tied((n, c, *w.size)).to(dtype), layout)
    result = OPS.max_pool2d_gather(x, switches, *w.geometry)
    expected = reference.max_pool2d_gather(x.double().numpy(), numbers, *w.geometry)
    assert same(result, torch.from_numpy(expected).to(dtype))


@examples
@given(
    windows(), st.integers(0, 2), st.integers(1, 9), seeds, st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)
)
def test_backward_and_gather_match_the_reference_for_any_windows(
    w: Windows, n: int, c: int, seed: int, layout: str, switch_layout: str
) -> None:
    switches = random_switches(w, n, c, seed)
    if switch_layout != "expanded":
        switches = lay_out(switches, switch_layout)
    numbers = reference_switches(switches)
    grad = lay_out(tied(switches.shape, seed, special=False), layout)
    result = OPS.max_pool2d_backward(grad, switches, w.size, *w.geometry)
    expected = reference.max_pool2d_backward(grad.numpy(), numbers, w.size, *w.geometry)
    assert torch.equal(result, torch.from_numpy(expected))
    x = lay_out(tied((n, c, *w.size), seed), layout)
    result = OPS.max_pool2d_gather(x, switches, *w.geometry)
    assert same(result, torch.from_numpy(reference.max_pool2d_gather(x.numpy(), numbers, *w.geometry)))


@examples
@given(windows(torch_padding=True), seeds, st.sampled_from(LAYOUTS))
def test_gradients_match_torch(w: Windows, seed: int, layout: str) -> None:
    base = tied((2, 3, *w.size), seed, special=False)
    results = []
    for pool in (max_pool2d_with_switches, lambda *a: F.max_pool2d(*a, return_indices=True)):
        x = base.clone().requires_grad_()
        output = pool(lay_out(x, layout), *w.geometry, w.ceil_mode)[0]
        upstream = tied(output.shape, seed + 1, special=False).requires_grad_()
        finite = output.masked_fill(output.isinf(), 0)
        (grad,) = torch.autograd.grad((finite * upstream).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((grad * tied(grad.shape, seed + 2, special=False)).sum(), upstream)
        results.append((grad, second))
    assert torch.allclose(results[0][0], results[1][0])
    assert torch.allclose(results[0][1], results[1][1])


@pytest.mark.parametrize(
    "w",
    [
        Windows((6, 9), (2, 2), (2, 2), ceil_mode=True),
        Windows((7, 8), (3, 3), (1, 2), (1, 1)),
        Windows((7, 9), (3, 2), (2, 3), (2, 1), (2, 2)),
    ],
)
def test_gradcheck(w: Windows) -> None:
    x = torch.randperm(2 * 3 * w.size[0] * w.size[1]).double().view(2, 3, *w.size).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: max_pool2d_with_switches(x, *w.geometry, w.ceil_mode)[0], x)
    assert torch.autograd.gradgradcheck(lambda x: max_pool2d_with_switches(x, *w.geometry, w.ceil_mode)[0], x)


def test_gradient_of_a_half_precision_sum_is_accumulated_in_float32() -> None:
    x = torch.zeros(1, 1, 5, 5, dtype=torch.bfloat16)
    x[0, 0, 2, 2] = 1
    x.requires_grad_()
    output, _ = max_pool2d_with_switches(x, 3, 1)
    upstream = torch.full_like(output, 1 + 2**-7)
    (grad,) = torch.autograd.grad(output, x, upstream)
    assert grad[0, 0, 2, 2] == torch.tensor(9 * (1 + 2**-7)).bfloat16()


def test_switches_take_no_gradient() -> None:
    x = torch.randn(1, 2, 6, 6, requires_grad=True)
    output, switches = max_pool2d_with_switches(x, 2)
    assert output.requires_grad
    assert not switches.requires_grad
    with torch.no_grad():
        assert not max_pool2d_with_switches(x, 2)[0].requires_grad


# ---- torch.library, transforms, compile ----


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
@pytest.mark.parametrize("w", [Windows((6, 9), (2, 2), (2, 2)), Windows((7, 20), (3, 17), (1, 2), (1, 8))])
def test_opcheck(layout: str, w: Windows) -> None:
    x = lay_out(torch.randn(2, 3, *w.size), layout)
    torch.library.opcheck(OPS.max_pool2d_with_switches.default, (x, *w.geometry, w.ceil_mode))
    switches = lay_out(random_switches(w, 2, 3), layout)
    grad = lay_out(torch.randn(2, 3, *w.pooled), layout)
    torch.library.opcheck(OPS.max_pool2d_backward.default, (grad, switches, w.size, *w.geometry))
    torch.library.opcheck(OPS.max_pool2d_gather.default, (x, switches, *w.geometry))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_forward_and_backward(dynamic: bool) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        output, switches = max_pool2d_with_switches(x, 3, 2, 1)
        return (output * output).sum() + switches.to(torch.float32).sum()

    compiled = torch.compile(f, fullgraph=True, dynamic=dynamic)
    for shape in [(2, 3, 8, 9), (1, 3, 12, 7)]:
        x = torch.randn(shape, requires_grad=True)
        y = x.detach().clone().requires_grad_()
        f(x).backward()
        compiled(y).backward()
        assert torch.equal(x.grad, y.grad)  # type: ignore[arg-type]
    torch._dynamo.reset()


def test_export() -> None:
    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return max_pool2d_with_switches(x, 2)

    x = torch.randn(2, 3, 8, 8)
    exported = torch.export.export(
        Module(), (x,), dynamic_shapes={"x": {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=4)}}
    )
    y = torch.randn(5, 3, 10, 8)
    for a, b in zip(exported.module()(y), max_pool2d_with_switches(y, 2), strict=True):
        assert torch.equal(a, b)


def test_vmap_and_grad() -> None:
    x = torch.randn(4, 2, 3, 8, 9)
    for dim in (0, 1, 3):
        mapped = torch.func.vmap(lambda x: max_pool2d_with_switches(x, 3, 2, 1), in_dims=dim)(x)
        each = [max_pool2d_with_switches(y, 3, 2, 1) for y in x.unbind(dim)]
        for i in (0, 1):
            assert torch.equal(mapped[i], torch.stack([e[i] for e in each]))

    def f(x: torch.Tensor) -> torch.Tensor:
        return max_pool2d_with_switches(x, 3, 2, 1)[0].square().sum()

    one_by_one = torch.stack([torch.func.grad(f)(y) for y in x])
    assert torch.equal(torch.func.vmap(torch.func.grad(f))(x), one_by_one)
    compiled = torch.compile(lambda y: torch.func.grad(f)(y), fullgraph=True)
    assert torch.equal(compiled(x[0]), one_by_one[0])
    torch._dynamo.reset()
    second = torch.func.grad(lambda y: torch.func.grad(f)(y).square().sum())(x[0].double())
    y = x[0].double().requires_grad_()
    (grad,) = torch.autograd.grad(f(y), y, create_graph=True)
    (expected,) = torch.autograd.grad(grad.square().sum(), y)
    assert torch.allclose(second, expected)


def test_autocast_and_meta() -> None:
    x = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = max_pool2d_with_switches(x, 2)
        half, _ = max_pool2d_with_switches(x.bfloat16(), 2)
    assert (output.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    output, switches = max_pool2d_with_switches(x.to("meta"), 3, 2, 1)
    assert output.is_meta
    assert (output.shape, switches.dtype) == ((2, 3, 4, 4), torch.uint8)


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    def run(layout: str) -> tuple[torch.Tensor, ...]:
        x = lay_out(torch.arange(2 * 5 * 60 * 70).float().sin().view(2, 5, 60, 70), layout).requires_grad_()
        output, switches = max_pool2d_with_switches(x, 3, 2, 1)
        return output, switches, *torch.autograd.grad(output, x, output.cos())

    with_thread_counts(run)


# ---- errors ----

X = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (TypeError, "input: expected a torch.Tensor", lambda: max_pool2d_with_switches([1.0], 2)),
        (TypeError, "input: expected float32", lambda: max_pool2d_with_switches(X.to(torch.int64), 2)),
        (TypeError, "input: expected float32", lambda: max_pool2d_with_switches(X.to(torch.complex64), 2)),
        (ValueError, "input: expected shape", lambda: max_pool2d_with_switches(X[0, 0], 2)),
        (ValueError, "input: expected shape", lambda: max_pool2d_with_switches(X[None], 2)),
        (ValueError, "input: expected shape", lambda: max_pool1d_with_switches(X, 2)),
        (ValueError, "kernel_size: expected", lambda: max_pool2d_with_switches(X, 0)),
        (ValueError, "kernel_size: expected", lambda: max_pool2d_with_switches(X, (2, -1))),
        (ValueError, "kernel_size: expected", lambda: max_pool2d_with_switches(X, (2, 2, 2))),
        (TypeError, "kernel_size: expected", lambda: max_pool2d_with_switches(X, 2.0)),
        (ValueError, "kernel_size: expected", lambda: max_pool2d_with_switches(X, 2**40, 1, padding=2**39)),
        (ValueError, "kernel_size: expected", lambda: max_pool2d_with_switches(X, 2**20, padding=2**19)),
        (ValueError, "stride: expected", lambda: max_pool2d_with_switches(X, 2, 0)),
        (ValueError, "stride: expected", lambda: max_pool2d_with_switches(X, 2, (1, -2))),
        (ValueError, "stride: expected", lambda: max_pool2d_with_switches(X, 2, 2**63)),
        (ValueError, "padding: expected", lambda: max_pool2d_with_switches(X, 2, 2, -1)),
        (ValueError, "padding: expected at most half", lambda: max_pool2d_with_switches(X, 3, 2, 2)),
        (ValueError, "padding: expected at most half", lambda: max_pool2d_with_switches(X, 3, 2, (0, 3), 2)),
        (ValueError, "dilation: expected", lambda: max_pool2d_with_switches(X, 2, 2, 0, 0)),
        (ValueError, "dilation: expected", lambda: max_pool2d_with_switches(X, 2, 2, 0, -1)),
        (TypeError, "ceil_mode: expected", lambda: max_pool2d_with_switches(X, 2, 2, 0, 1, 1)),
        (ValueError, "input: expected .*room", lambda: max_pool2d_with_switches(X, 9)),
        (ValueError, "input: expected .*room", lambda: max_pool2d_with_switches(X, 3, 1, 0, 4)),
        (ValueError, "input: expected at least", lambda: max_pool2d_with_switches(X[:, :0], 2)),
        (ValueError, "input: expected at least", lambda: max_pool2d_with_switches(X[:, :, :0], 2, 2, 1)),
        (ValueError, "input: expected at least", lambda: max_pool1d_with_switches(X[0, :, :, :0], 2, 2, 1)),
    ],
)
def test_bad_arguments(error: type[Exception], words: str, call: Any) -> None:
    with pytest.raises(error, match=r"^max_pool[12]d_with_switches: " + words):
        call()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_switches_that_point_outside_raise(isa: str, layout: str) -> None:
    for n, c, w in SHAPES.values():
        good = random_switches(w, n, c)
        grad, x = torch.ones(good.shape), torch.ones(n, c, *w.size)
        cells = w.kernel[0] * w.kernel[1]
        bad = [cells, 254] if w.dtype is torch.uint8 else [cells, -1, 2**31 - 2, -(2**31)]
        last = tuple(i - 1 for i in good.shape)
        for at, value in itertools.product([(0, 0, 0, 0), last], bad):
            switches = good.clone()
            switches[at] = value
            switches = lay_out(switches, layout)
            with pytest.raises(ValueError, match=r"^max_pool2d_backward: switches: "):
                OPS.max_pool2d_backward(grad, switches, w.size, *w.geometry)
            with pytest.raises(ValueError, match=r"^max_pool2d_gather: switches: "):
                OPS.max_pool2d_gather(x, switches, *w.geometry)


def test_native_isas_are_all_tested() -> None:
    assert {"scalar"} <= set(_C.available_isas())
