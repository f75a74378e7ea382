"""sparse_sigmoid against NumPy, the lecture's formulas and torch: values, gradients, extremes, layouts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvkit import _C, sparse_kl, sparse_sigmoid
from deconvkit.ops._library import ref
from tests import reference
from tests.ops.sparsity import (
    BETA,
    DTYPES,
    RHO,
    SHAPES,
    TOLERANCE,
    check_sparse_sigmoid,
    layouts,
    numpy,
    torch_sparse_sigmoid,
)


@pytest.mark.parametrize(("shape", "unit_dim"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_sigmoid(isa, shape, unit_dim, dtype):
    check_sparse_sigmoid(torch.randn(shape).mul(2).to(dtype), unit_dim)


@given(data=st.data())
@settings(deadline=None, derandomize=True, max_examples=100)
def test_against_torch(data):
    """Any shape, unit dimension, order of memory, ρ and β; forward, backward and double backward, float64."""
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    unit_dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    order = data.draw(st.permutations(range(len(shape))))
    rho, beta = data.draw(st.floats(0.01, 0.99)), data.draw(st.floats(0, 5))
    inverse = [order.index(d) for d in range(len(shape))]
    z = torch.randn([shape[d] for d in order], dtype=torch.float64).permute(inverse).requires_grad_()
    results = []
    for function in (sparse_sigmoid, torch_sparse_sigmoid):
        torch.manual_seed(1)
        activations, penalty = function(z, rho, beta, unit_dim=unit_dim)
        upstream = torch.randn(z.shape, dtype=z.dtype, requires_grad=True)
        weight = torch.tensor(0.7, dtype=z.dtype, requires_grad=True)
        (grad,) = torch.autograd.grad([activations, penalty], [z], [upstream, weight], create_graph=True)
        second = torch.autograd.grad(grad, [z, upstream, weight], torch.randn(z.shape, dtype=z.dtype))
        results.append([activations, penalty, grad, *second])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("shape", "unit_dim"), [((5, 4), 1), ((2, 3, 4), 1), ((2, 3, 17), 1), ((6,), 0)])
def test_gradients(shape, unit_dim):
    z = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    activations = torch.rand(shape, dtype=torch.float64).mul(0.9).add(0.05).requires_grad_()

    def fused(z):
        return sparse_sigmoid(z, 0.1, 2.0, unit_dim=unit_dim)

    def penalty_alone(a):
        return sparse_kl(a, 0.1, 2.0, unit_dim=unit_dim)

    for function, x in (
        (fused, z),
        (lambda z: fused(z)[1], z),
        (lambda z: fused(z)[0], z),
        (penalty_alone, activations),
    ):
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)


def test_lecture_term_by_term():
    """δ is f'(z) times the sum of upstream and β times each of the lecture's two terms over M."""
    rho, beta, samples = 0.1, 3.0, 12
    z = torch.randn(samples, 5, dtype=torch.float64, requires_grad=True)
    activations, penalty = sparse_sigmoid(z, rho, beta)
    upstream = torch.randn_like(z)
    (delta,) = torch.autograd.grad([activations, penalty], [z], [upstream, torch.ones_like(penalty)])
    a = activations.detach()
    rho_hat = a.sum(0) / samples
    slope = a * (1 - a)
    error_term = slope * upstream
    on_term = slope * beta * (-rho / rho_hat) / samples
    off_term = slope * beta * ((1 - rho) / (1 - rho_hat)) / samples
    torch.testing.assert_close(delta, error_term + on_term + off_term, rtol=1e-12, atol=1e-14)
    # Each term alone: the upstream gradient alone, the penalty alone, and ρ to either end.
    activations, penalty = sparse_sigmoid(z, rho, beta)
    torch.testing.assert_close(
        torch.autograd.grad(activations, z, upstream, retain_graph=True)[0], error_term
    )
    torch.testing.assert_close(torch.autograd.grad(penalty, z)[0], on_term + off_term, rtol=1e-12, atol=1e-14)
    for tiny_rho, expected in ((1e-12, off_term / (1 - rho)), (1 - 1e-12, on_term / rho)):
        _, penalty = sparse_sigmoid(z, tiny_rho, beta)
        torch.testing.assert_close(torch.autograd.grad(penalty, z)[0], expected, rtol=1e-9, atol=1e-12)


# ---- extremes ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extreme", [12.0, 20.0, 60.0, 100.0, 1e4, math.inf])
def test_units_always_or_never_on(isa, dtype, extreme):
    z = torch.randn(130, 19, dtype=dtype)
    z[:, 3], z[:, 18] = extreme, -extreme
    z.requires_grad_()
    activations, penalty = sparse_sigmoid(z, RHO, BETA)
    (activations.double().sum() + penalty).backward()
    assert penalty.isfinite()
    assert activations.isfinite().all()
    assert z.grad.isfinite().all()
    assert activations[0, 3] <= 1
    assert activations[0, 18] >= 0
    detached = activations.detach().requires_grad_()
    alone = sparse_kl(detached, RHO, BETA)
    alone.backward()
    assert alone.isfinite()
    assert detached.grad.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_stuck_unit_comes_back(isa, dtype):
    """σ has rounded to 1 (or lies far below ρ), and still the gradient is β(1-ρ)/M (or -βρ/M)."""
    z = torch.zeros(100, 9, dtype=dtype)
    z[:, 0], z[:, 8] = 30.0, -30.0
    z.requires_grad_()
    activations, penalty = sparse_sigmoid(z, RHO, BETA)
    if dtype != torch.float64:
        assert (activations[:, 0] == 1).all()
    penalty.backward()
    torch.testing.assert_close(
        z.grad[:, 0].double(),
        torch.full((100,), BETA * (1 - RHO) / 100, dtype=torch.float64),
        rtol=5e-3,
        atol=0,
    )
    torch.testing.assert_close(
        z.grad[:, 8].double(), torch.full((100,), -BETA * RHO / 100, dtype=torch.float64), rtol=5e-3, atol=0
    )


def test_sigmoid_is_accurate_everywhere(isa):
    """Within 3 ulp down to the denormals, both halves exact in the limit."""
    for dtype, edge in ((torch.float32, 105.0), (torch.float64, 750.0)):
        z = torch.cat(
            [torch.linspace(-edge, edge, 40001, dtype=torch.float64), torch.tensor([0.0, -0.0])]
        ).to(dtype)
        activations, _ = sparse_sigmoid(z[:, None], 0.5)
        exact = np.float64(1) / (1 + np.exp(-z.numpy().astype(np.longdouble)))
        ulp = np.spacing(np.abs(exact.astype(z.numpy().dtype)))
        assert (np.abs(activations[:, 0].numpy() - exact) <= 3 * ulp).all()
        ends = sparse_sigmoid(torch.tensor([[math.inf, -math.inf, math.nan, 0.0]], dtype=dtype), 0.5)[0][0]
        assert ends[:2].tolist() == [1, 0]
        assert ends[2].isnan()
        assert ends[3] == 0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("shape", "unit_dim"), [((300_000, 3), 1), ((3, 300_000), 0), ((5, 3, 40_000), 1)])
def test_half_precision_sums_of_many(isa, dtype, shape, unit_dim):
    """Samples by the hundred thousand: sums in half, or one long sum in float32, would stall."""
    z = torch.full(shape, -5.0, dtype=dtype, requires_grad=True)
    activations, penalty = sparse_sigmoid(z, RHO, unit_dim=unit_dim)
    rho_hat = float(torch.sigmoid(torch.tensor(-5.0, dtype=torch.float64)))
    kl = RHO * math.log(RHO / rho_hat) + (1 - RHO) * math.log((1 - RHO) / (1 - rho_hat))
    assert penalty.item() == pytest.approx(3 * kl, rel=5e-5)
    rounded = activations.flatten()[0].item()
    kl = RHO * math.log(RHO / rounded) + (1 - RHO) * math.log((1 - RHO) / (1 - rounded))
    assert sparse_kl(activations, RHO, unit_dim=unit_dim).item() == pytest.approx(3 * kl, rel=5e-5)


def test_nan_spreads_to_its_unit_alone(isa):
    z = torch.randn(20, 30)
    z[4, 7] = math.nan
    z.requires_grad_()
    activations, penalty = sparse_sigmoid(z, RHO)
    assert activations.isnan().sum() == 1
    assert penalty.isnan()
    penalty.backward()
    assert z.grad[:, 7].isnan().all()
    assert z.grad.isnan().sum() == 20


def test_flush_denormal_is_honoured():
    torch.set_flush_denormal(True)
    try:
        assert sparse_sigmoid(torch.full((300, 40), -100.0), RHO)[0].count_nonzero() == 0
    finally:
        torch.set_flush_denormal(False)
    assert sparse_sigmoid(torch.full((300, 40), -100.0), RHO)[0].count_nonzero() == 12000


# ---- layouts ----


@pytest.mark.parametrize("name", [name for name, _ in layouts()])
@pytest.mark.parametrize("unit_dim", [0, 1, -1])
def test_layouts(isa, name, unit_dim):
    z = dict(layouts())[name]
    check_sparse_sigmoid(z, unit_dim)
    activations = torch.sigmoid(z)
    np.testing.assert_allclose(
        sparse_kl(activations, RHO, unit_dim=unit_dim).item(),
        reference.sparse_kl(numpy(activations), RHO, 1, unit_dim),
        rtol=1e-5,
    )


@pytest.mark.parametrize("unit_dim", [0, 1])
def test_matrix_layouts(isa, unit_dim):
    base = torch.randn(50, 60)
    for z in (
        base[:, 3:40],
        base[::2, :37],
        base[::3, ::2],
        base.t(),
        base[:, :1],
        base[:1],
        base[:, 5:6].t(),
        base[5].expand(20, 60),
        base[:, 5:6].expand(50, 40),
        torch.randn(90).unfold(0, 30, 1),
        torch.randn(90).unfold(0, 30, 3),
    ):
        check_sparse_sigmoid(z, unit_dim)


@pytest.mark.parametrize(
    "make", [lambda g: g, lambda g: g.t().contiguous().t(), lambda g: g[:1].expand_as(g)]
)
def test_layouts_of_the_upstream_gradient(make):
    z = torch.randn(33, 21, requires_grad=True)
    upstream = make(torch.randn(33, 21))
    activations, _ = sparse_sigmoid(z, RHO)
    (grad,) = torch.autograd.grad(activations, z, upstream)
    torch.testing.assert_close(grad, upstream * activations * (1 - activations))


def test_channels_last_is_not_copied(monkeypatch):
    z = torch.randn(2, 8, 5, 5).to(memory_format=torch.channels_last)
    monkeypatch.setattr(torch.Tensor, "copy_", None)
    sparse_sigmoid(z, RHO)
    sparse_kl(z, RHO)
    sparse_sigmoid(torch.randn(9, 20)[:, :8], RHO)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((4100, 40), torch.float32),
        ((700, 1030), torch.bfloat16),
        ((33, 5000), torch.float32),
        ((3, 70, 90, 90), torch.float64),
        ((2600, 1613), torch.float32),  # streamed
    ],
)
def test_bits_do_not_depend_on_threads(isa, shape, dtype):
    z, upstream = torch.randn(2, *shape).to(dtype)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 4, 7):
            torch.set_num_threads(threads)
            x = z.clone().requires_grad_()
            activations, penalty = sparse_sigmoid(x, RHO, BETA)
            torch.autograd.backward([activations, penalty], [upstream, torch.ones_like(penalty)])
            results.append((activations, penalty, x.grad, sparse_kl(activations, RHO)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2100, 4096), torch.float32),  # whole lines
        ((4201, 1003), torch.float32),  # rows that start and end inside lines
        ((130, 33001), torch.float32),
        ((1000, 2111), torch.float64),
        ((3000, 2817), torch.bfloat16),
        ((3, 5, 777, 401), torch.float32),
    ],
)
def test_large_outputs_are_streamed_correctly(isa, shape, dtype):
    """A pass over 32 MB and more stores past the caches."""
    z, upstream = torch.randn(2, *shape).to(dtype)
    z.requires_grad_()
    activations, penalty = sparse_sigmoid(z, RHO)
    torch.autograd.backward([activations, penalty], [upstream, torch.ones_like(penalty)])
    with torch.no_grad():
        others = [d for d in range(len(shape)) if d != 1]
        exact = torch.sigmoid(z.double())
        rho_hat = exact.mean(others, keepdim=True)
        kl = RHO * (RHO / rho_hat).log() + (1 - RHO) * ((1 - RHO) / (1 - rho_hat)).log()
        slope = ((1 - RHO) / (1 - rho_hat) - RHO / rho_hat) * shape[1] / z.numel()
        value, relative, gradient = TOLERANCE[dtype]
        torch.testing.assert_close(activations.double(), exact, rtol=0, atol=value)
        torch.testing.assert_close(penalty.double(), kl.sum(), rtol=relative, atol=0)
        expected = exact * (1 - exact) * (upstream + slope)
        torch.testing.assert_close(z.grad.double(), expected, rtol=gradient, atol=gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_streaming_stays_inside_a_short_last_row(isa, dtype):
    """Narrow rows are joined; the last one may end before its first whole cache line."""
    units, rows = 17, 16 * 40001 + 1
    count = rows * units
    z = torch.randn(1, rows, units, 1).to(dtype)
    slope, penalty = torch.zeros(units), torch.zeros(1)
    for lead in range(1, 64 // dtype.itemsize, 5):
        for backward in (False, True):
            memory = torch.full((count + 128,), 7, dtype=dtype)
            out = memory[lead : lead + count].view_as(z)
            if backward:
                _C.sparse_sigmoid_backward(None, ref(z), ref(slope), ref(penalty), ref(out), 2)
            else:
                _C.sparse_sigmoid(ref(z), ref(out), None, ref(penalty), ref(slope), RHO, BETA, 2)
            assert (memory[:lead] == 7).all()
            assert (memory[lead + count :] == 7).all()


def test_partial_gradients():
    """Only one of the two results is used."""
    z = torch.randn(6, 5, requires_grad=True)
    activations, penalty = sparse_sigmoid(z, RHO)
    (first,) = torch.autograd.grad(activations.sum(), z, retain_graph=True)
    (second,) = torch.autograd.grad(penalty, z, retain_graph=True)
    (both,) = torch.autograd.grad(activations.sum() + penalty, z)
    torch.testing.assert_close(first, activations * (1 - activations))
    torch.testing.assert_close(first + second, both)


def test_no_units():
    z = torch.empty(5, 0, requires_grad=True)
    activations, penalty = sparse_sigmoid(z, RHO)
    assert activations.shape == (5, 0)
    assert penalty.item() == 0
    penalty.backward()
    assert z.grad.shape == (5, 0)
    assert sparse_kl(torch.empty(5, 0), RHO).item() == 0
