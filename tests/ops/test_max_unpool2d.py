from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import deconvkit
from deconvkit import max_pool2d_with_switches, max_unpool1d, max_unpool2d
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


def unpool(x: torch.Tensor, switches: torch.Tensor, w: Windows) -> torch.Tensor:
    return max_unpool2d(x, switches, *w.geometry[:3], w.size, dilation=w.dilation)


def as_reference(function: Any, dtype: torch.dtype, x: torch.Tensor, *args: Any) -> torch.Tensor:
    return torch.from_numpy(function(x.double().numpy(), *args)).to(dtype)


# ---- forward ----


@shapes
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_matches_the_reference_forward_and_backward(
    isa: str, n: int, c: int, w: Windows, dtype: torch.dtype, layout: str
) -> None:
    switches = random_switches(w, n, c)
    numbers = reference_switches(switches)
    switches = lay_out(switches, layout)
    x = lay_out(tied(switches.shape).to(dtype), layout)
    expected = as_reference(reference.max_unpool2d, dtype, x, numbers, w.size, *w.geometry)
    assert same(unpool(x, switches, w), expected)
    grad = lay_out(tied((n, c, *w.size)).to(dtype), layout)
    expected = as_reference(reference.max_unpool2d_backward, dtype, grad, numbers, *w.geometry)
    assert same(OPS.max_unpool2d_backward(grad, switches, *w.geometry), expected)


@examples
@given(
    windows(), st.integers(0, 2), st.integers(1, 9), seeds, st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)
)
def test_matches_the_reference_for_any_windows(
    w: Windows, n: int, c: int, seed: int, layout: str, switch_layout: str
) -> None:
    switches = random_switches(w, n, c, seed)
    if switch_layout != "expanded":  # would be other switches
        switches = lay_out(switches, switch_layout)
    numbers = reference_switches(switches)
    x = lay_out(tied(switches.shape, seed), layout)
    expected = as_reference(reference.max_unpool2d, x.dtype, x, numbers, w.size, *w.geometry)
    output = unpool(x, switches, w)
    assert same(output, expected)
    assert output.is_contiguous(memory_format=deconvkit.ops._library.memory_format(x))
    grad = lay_out(tied((n, c, *w.size), seed), layout)
    expected = as_reference(reference.max_unpool2d_backward, x.dtype, grad, numbers, *w.geometry)
    assert same(OPS.max_unpool2d_backward(grad, switches, *w.geometry), expected)


def torch_unpool(x: torch.Tensor, indices: torch.Tensor, w: Windows) -> torch.Tensor:
    return F.max_unpool2d(x, indices, w.kernel, w.stride, w.padding, w.size)


@examples
@given(windows(torch_padding=True), st.integers(1, 9), seeds, st.sampled_from(LAYOUTS))
def test_matches_torch_where_windows_do_not_overlap(w: Windows, c: int, seed: int, layout: str) -> None:
    """Value, gradient and its gradient; torch's size check knows no dilation, so that stays 1."""
    stride = tuple(max(w.stride[i], w.kernel[i]) for i in (0, 1))
    w = Windows(w.size, w.kernel, stride, w.padding, ceil_mode=w.ceil_mode)  # type: ignore[arg-type]
    x = tied((2, c, *w.size), seed, special=False)
    if min(w.pooled) < 1 or any(w.size[i] + 2 * w.padding[i] < w.kernel[i] for i in (0, 1)):
        return
    pooled, switches = max_pool2d_with_switches(x, *w.geometry, w.ceil_mode)
    indices = deconvkit.switches_to_indices(switches, w.size, *w.geometry)
    results = []
    for call, where in ((unpool, switches), (torch_unpool, indices)):
        leaf = lay_out(pooled, layout).detach().requires_grad_()
        output = call(leaf, where, w)
        upstream = tied(output.shape, seed + 1, special=False).requires_grad_()
        (grad,) = torch.autograd.grad((output * output * upstream).sum(), leaf, create_graph=True)
        second = torch.autograd.grad(grad.square().sum(), (leaf, upstream))
        results.append((output, grad, *second))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_of_overlapping_windows_the_last_wins_and_gets_the_gradient(isa: str) -> None:
    """torch gives the gradient to every window that names the cell, also to those it overwrote."""
    for layout in ("contiguous", "channels_last"):
        x = lay_out(torch.tensor([1.0, 2, 3]).expand(1, 5, 1, 3).clone(), layout).requires_grad_()
        switches = lay_out(torch.tensor([2, 1, 0], dtype=torch.uint8).expand(1, 5, 1, 3).clone(), layout)
        output = max_unpool2d(x, switches, (1, 3), 1)  # all three name column 2
        assert torch.equal(output, torch.tensor([0.0, 0, 3, 0, 0]).expand(1, 5, 1, 5))
        (grad,) = torch.autograd.grad(output, x, torch.full_like(output, 7))
        assert torch.equal(grad, torch.tensor([0.0, 0, 7]).expand(1, 5, 1, 3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3, 17), (3, 17), (0, 3, 17)])
def test_one_dimension(isa: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = tied(shape).to(dtype)
    for k, s, p, ceil in itertools.product((2, 3), (3, 4), (0, 1), (False, True)):
        pooled, switches = deconvkit.max_pool1d_with_switches(x, k, s, p, 1, ceil)
        _, indices = F.max_pool1d(x, k, s, p, 1, ceil, return_indices=True)
        ours = max_unpool1d(pooled, switches, k, s, p, 17)
        assert same(ours, F.max_unpool1d(pooled, indices, k, s, p, (17,)))
        for size in ((17,), [17], torch.Size(shape)):
            assert same(max_unpool1d(pooled, switches, k, s, p, size), ours)


def test_unbatched_and_zero_batch() -> None:
    x = torch.randn(3, 8, 9)
    pooled, switches = max_pool2d_with_switches(x, 2)
    output = max_unpool2d(pooled, switches, 2, output_size=(8, 9))
    assert torch.equal(output, max_unpool2d(pooled[None], switches[None], 2, output_size=(8, 9))[0])
    empty = torch.zeros(0, 3, 4, 4, requires_grad=True)
    output = max_unpool2d(empty, torch.zeros(0, 3, 4, 4, dtype=torch.uint8), 2)
    assert output.shape == (0, 3, 8, 8)
    assert torch.autograd.grad(output.sum(), empty)[0].shape == empty.shape


def test_output_size() -> None:
    x, switches = torch.ones(2, 3, 4, 5), torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    assert max_unpool2d(x, switches, 2).shape == (2, 3, 8, 10)
    assert max_unpool2d(x, switches + 4, 3, 2, 1).shape == (2, 3, 7, 9)
    assert max_unpool2d(x, switches, 2, dilation=3, stride=2).shape == (2, 3, 10, 12)
    for size in ((9, 11), [9, 11], torch.Size((2, 3, 9, 11)), (3, 9, 11)):
        assert max_unpool2d(x, switches, 2, output_size=size).shape == (2, 3, 9, 11)


def test_a_plane_that_is_streamed_past_the_caches(isa: str) -> None:
    for shape, layout in (
        ((1, 1, 3001, 3001), "contiguous"),
        ((1, 3, 2001, 1501), "contiguous"),
        ((1, 16, 801, 801), "channels_last"),
        ((1, 3, 1801, 1801), "channels_last"),
    ):
        x = lay_out(torch.arange(math.prod(shape)).float().sin().view(shape), layout)
        pooled, switches = max_pool2d_with_switches(x, 2)
        indices = deconvkit.switches_to_indices(switches, shape[2:], 2)
        expected = F.max_unpool2d(pooled, indices, 2, output_size=shape[2:])
        assert torch.equal(max_unpool2d(pooled, switches, 2, output_size=shape[2:]), expected)
        assert torch.equal(
            OPS.max_pool2d_gather(x, switches, *Windows((1, 1), (2, 2), (2, 2)).geometry), pooled
        )


# ---- gradients ----

FEW = [
    Windows((6, 9), (2, 2), (2, 2), ceil_mode=True),
    Windows((7, 8), (3, 3), (1, 2), (1, 1)),
    Windows((7, 9), (3, 2), (2, 3), (2, 1), (2, 2)),
]


@pytest.mark.parametrize("w", FEW)
def test_gradcheck(w: Windows) -> None:
    switches = random_switches(w, 2, 3)
    x = torch.randn(switches.shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: unpool(x, switches, w), x)
    assert torch.autograd.gradgradcheck(lambda x: unpool(x, switches, w).square(), x)


@pytest.mark.parametrize("w", FEW)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_backward_is_the_adjoint(w: Windows, layout: str) -> None:
    switches = lay_out(random_switches(w, 2, 5), layout)
    x = lay_out(tied(switches.shape, special=False), layout).requires_grad_()
    output = unpool(x, switches, w)
    upstream = lay_out(tied(output.shape, 1, special=False), layout)
    (grad,) = torch.autograd.grad(output, x, upstream)
    assert (output * upstream).sum() == (x * grad).sum()


# ---- torch.library, transforms, compile ----


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
@pytest.mark.parametrize("w", [Windows((6, 9), (2, 2), (2, 2)), Windows((7, 20), (3, 17), (1, 2), (1, 8))])
def test_opcheck(layout: str, w: Windows) -> None:
    switches = lay_out(random_switches(w, 2, 3), layout)
    x, grad = (lay_out(torch.randn(2, 3, *size), layout) for size in (w.pooled, w.size))
    torch.library.opcheck(OPS.max_unpool2d.default, (x, switches, w.size, *w.geometry))
    torch.library.opcheck(OPS.max_unpool2d_backward.default, (grad, switches, *w.geometry))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_forward_and_backward(dynamic: bool) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        pooled, switches = max_pool2d_with_switches(x, 2)
        return max_unpool2d(pooled, switches, 2, output_size=x.shape).square().sum()

    compiled = torch.compile(
        f, fullgraph=True, dynamic=dynamic, backend="aot_eager" if dynamic else "inductor"
    )
    for shape in [(2, 3, 8, 9), (1, 3, 12, 7)]:
        x = torch.randn(shape, requires_grad=True)
        y = x.detach().clone().requires_grad_()
        f(x).backward()
        compiled(y).backward()
        torch.testing.assert_close(x.grad, y.grad)
    torch._dynamo.reset()


def test_export() -> None:
    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor, switches: torch.Tensor) -> torch.Tensor:
            return max_unpool2d(x, switches, 2)

    x, switches = torch.randn(2, 3, 4, 4), torch.randint(4, (2, 3, 4, 4), dtype=torch.uint8)
    sizes = {0: torch.export.Dim("n"), 2: torch.export.Dim("h")}
    exported = torch.export.export(
        Module(), (x, switches), dynamic_shapes={"x": sizes, "switches": sizes}
    ).module()
    x, switches = torch.randn(5, 3, 6, 4), torch.randint(4, (5, 3, 6, 4), dtype=torch.uint8)
    assert torch.equal(exported(x, switches), max_unpool2d(x, switches, 2))


def test_vmap_and_grad() -> None:
    x = torch.randn(4, 2, 3, 4, 5)
    switches = torch.randint(9, (4, 2, 3, 4, 5), dtype=torch.uint8)
    switches[:, :, :, (0, -1)] = switches[:, :, :, :, (0, -1)] = 4  # inside at the border too

    def f(x: torch.Tensor, switches: torch.Tensor) -> torch.Tensor:
        return max_unpool2d(x, switches, 3, 2, 1)

    each = torch.stack([f(*pair) for pair in zip(x, switches, strict=True)])
    assert torch.equal(torch.func.vmap(f)(x, switches), each)
    assert torch.equal(torch.func.vmap(f, in_dims=(1, 1))(x.transpose(0, 1), switches.transpose(0, 1)), each)
    alone = torch.stack([f(y, switches[0]) for y in x])
    assert torch.equal(torch.func.vmap(f, in_dims=(0, None))(x, switches[0]), alone)

    def loss(x: torch.Tensor, switches: torch.Tensor) -> torch.Tensor:
        return f(x, switches).square().sum()

    grads = torch.func.vmap(torch.func.grad(loss))(x, switches)
    y = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(f(y.flatten(0, 1), switches.flatten(0, 1)).square().sum(), y)
    assert torch.equal(grads, expected)


def test_autocast_and_meta() -> None:
    x, switches = torch.randn(2, 3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        assert max_unpool2d(x, switches, 2).dtype == torch.float32
        assert max_unpool2d(x.bfloat16(), switches, 2).dtype == torch.bfloat16
    output = max_unpool2d(x.to("meta"), switches.to("meta"), 3, 2, 1)
    assert output.is_meta
    assert output.shape == (2, 3, 7, 7)


@pytest.mark.parametrize("geometry", [(2, 2, 0), (3, 2, 1)])
def test_the_result_does_not_depend_on_the_number_of_threads(geometry: tuple[int, int, int]) -> None:
    big = torch.arange(2 * 5 * 60 * 70).float().sin().view(2, 5, 60, 70)

    def run(layout: str) -> tuple[torch.Tensor, ...]:
        pooled, switches = max_pool2d_with_switches(lay_out(big, layout), *geometry)
        x = pooled.detach().requires_grad_()
        output = max_unpool2d(x, switches, *geometry, output_size=(60, 70))
        return output, *torch.autograd.grad(output, x, output.cos())

    with_thread_counts(run)


# ---- errors ----

X = torch.zeros(2, 3, 4, 4)
S = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (TypeError, "input: expected a torch.Tensor", lambda: max_unpool2d([1.0], S, 2)),
        (TypeError, "input: expected float32", lambda: max_unpool2d(X.long(), S, 2)),
        (TypeError, "input: expected float32", lambda: max_unpool2d(X.to(torch.complex64), S, 2)),
        (ValueError, "input: expected shape", lambda: max_unpool2d(X[0, 0], S[0, 0], 2)),
        (ValueError, "input: expected shape", lambda: max_unpool2d(X[None], S[None], 2)),
        (ValueError, "input: expected at least one channel", lambda: max_unpool2d(X[:, :0], S[:, :0], 2)),
        (ValueError, "input: expected at least one", lambda: max_unpool2d(X[:, :, :0], S[:, :, :0], 2)),
        (TypeError, "switches: expected a torch.Tensor", lambda: max_unpool2d(X, None, 2)),
        (TypeError, "switches: expected uint8.*indices_to_switches", lambda: max_unpool2d(X, S.long(), 2)),
        (TypeError, "switches: expected int32", lambda: max_unpool2d(X, S, 16)),
        (TypeError, "switches: expected uint8", lambda: max_unpool2d(X, S.int(), 2)),
        (ValueError, "switches: expected the input's shape", lambda: max_unpool2d(X, S[:, :2], 2)),
        (ValueError, "switches: expected the input's shape", lambda: max_unpool2d(X, S[0], 2)),
        (ValueError, "switches: expected the input's device", lambda: max_unpool2d(X, S.to("meta"), 2)),
        (ValueError, "kernel_size: expected", lambda: max_unpool2d(X, S, 0)),
        (ValueError, "kernel_size: expected", lambda: max_unpool2d(X, S, (2, 2, 2))),
        (TypeError, "kernel_size: expected", lambda: max_unpool2d(X, S, 2.0)),
        (ValueError, "stride: expected", lambda: max_unpool2d(X, S, 2, 0)),
        (ValueError, "padding: expected", lambda: max_unpool2d(X, S, 2, 2, -1)),
        (ValueError, "padding: expected at most half", lambda: max_unpool2d(X, S, 2, 2, 2)),
        (ValueError, "dilation: expected", lambda: max_unpool2d(X, S, 2, dilation=0)),
        (ValueError, "output_size: expected a .*between", lambda: max_unpool2d(X, S, 2, output_size=(10, 8))),
        (ValueError, "output_size: expected a .*between", lambda: max_unpool2d(X, S, 2, output_size=(6, 8))),
        (ValueError, "output_size: expected the spatial", lambda: max_unpool2d(X, S, 2, output_size=(8,))),
        (TypeError, "output_size: expected", lambda: max_unpool2d(X, S, 2, output_size=8.5)),
        (ValueError, "output_size: expected", lambda: max_unpool2d(X, S, 2, output_size=(-8, 8))),
        (
            ValueError,
            r"output_size: expected fewer than 2\*\*60",
            lambda: max_unpool2d(X, S, 2, 2**31 - 2),
        ),
    ],
)
def test_bad_arguments(error: type[Exception], words: str, call: Any) -> None:
    with pytest.raises(error, match=f"^max_unpool2d: {words}"):
        call()


def test_bad_arguments_in_one_dimension() -> None:
    x, switches = X[0], S[0]
    with pytest.raises(ValueError, match=r"^max_unpool1d: input: expected shape \(N, C, L\)"):
        max_unpool1d(X, S, 2)
    with pytest.raises(ValueError, match=r"^max_unpool1d: kernel_size: expected an int of 1"):
        max_unpool1d(x, switches, (2, 2))
    with pytest.raises(ValueError, match=r"^max_unpool1d: output_size: expected"):
        max_unpool1d(x, switches, 2, output_size=12)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_switches_that_point_outside_raise(isa: str, layout: str) -> None:
    for n, c, w in SHAPES.values():
        good = random_switches(w, n, c)
        x, grad = torch.ones(good.shape), torch.ones(n, c, *w.size)
        cells = w.kernel[0] * w.kernel[1]
        bad = [cells, 254] if w.dtype is torch.uint8 else [cells, -1, 2**31 - 2, -(2**31)]
        last = tuple(i - 1 for i in good.shape)
        for at, value in itertools.product([(0, 0, 0, 0), last], bad):
            switches = good.clone()
            switches[at] = value
            switches = lay_out(switches, layout)
            with pytest.raises(ValueError, match=r"^max_unpool2d: switches: "):
                unpool(x, switches, w)
            with pytest.raises(ValueError, match=r"^max_unpool2d_backward: switches: "):
                OPS.max_unpool2d_backward(grad, switches, *w.geometry)


@examples
@given(windows(), st.integers(1, 9), seeds, st.sampled_from(["contiguous", "channels_last"]))
def test_any_bytes_as_switches_are_used_or_refused(w: Windows, c: int, seed: int, layout: str) -> None:
    """Whatever they hold: right where all are valid, else an error. (tests/native has the guard zones.)"""
    generator = torch.Generator().manual_seed(seed)
    bytes_ = torch.randint(0, 256, (1, c, *w.pooled, w.dtype.itemsize), generator=generator)
    if seed % 2:
        bytes_ %= w.kernel[0] * w.kernel[1] + 1
    switches = lay_out(bytes_.to(torch.uint8).view(w.dtype).squeeze(-1), layout)
    numbers = reference_switches(switches)
    named = [
        numbers[i] < 0 or numbers[i] in [at for at, _, _ in reference.window(*i[2:], w.size, *w.geometry)]
        for i in itertools.product(*map(range, numbers.shape))
    ]
    good = all(named) and not (w.dtype is torch.int32 and bool((switches < 0).any()))
    x = torch.ones(switches.shape)
    for call in (
        lambda: unpool(x, switches, w),
        lambda: OPS.max_unpool2d_backward(torch.ones(1, c, *w.size), switches, *w.geometry),
        lambda: OPS.max_pool2d_backward(x, switches, w.size, *w.geometry),
        lambda: OPS.max_pool2d_gather(torch.ones(1, c, *w.size), switches, *w.geometry),
        lambda: deconvkit.switches_to_indices(switches, w.size, *w.geometry),
    ):
        if good:
            call()
        else:
            with pytest.raises(ValueError, match=": switches: expected offsets inside"):
                call()
