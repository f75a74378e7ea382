"""sparse_kl and sparse_sigmoid against NumPy, the lecture's formulas and torch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import deconvkit
from deconvkit import sparse_kl, sparse_sigmoid
from deconvkit.ops import _units as units
from tests import reference

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# Largest error of σ, relative error of the penalty, relative error of a gradient.
TOLERANCE = {
    torch.float32: (1e-7, 2e-6, 1e-6),
    torch.float64: (3e-16, 1e-13, 1e-14),
    torch.bfloat16: (4e-3, 2e-6, 1e-2),
    torch.float16: (5e-4, 2e-6, 2e-3),
}
RHO, BETA = 0.05, 3.0

# (shape, unit_dim): matrices narrower and wider than vectors and tiles, rows over several runs and blocks,
# planes of every kind of length, few and many units.
SHAPES = [
    ((1, 1), 1),
    ((7, 3), 1),
    ((5, 8), 1),
    ((64, 25), 1),
    ((65, 17), 1),
    ((200, 196), -1),
    ((3, 2100), 1),
    ((4200, 5), 1),
    ((9, 6), 0),
    ((40, 33), 0),
    ((11,), 0),
    ((4, 5, 3), 1),
    ((4, 5, 3), 2),
    ((4, 5, 3), 0),
    ((2, 3, 15), 1),
    ((3, 4, 16), 1),
    ((2, 3, 7, 7), 1),
    ((2, 3, 33, 31), -3),
    ((1, 2, 70, 130), 1),
    ((70, 3, 5, 5), 1),
    ((2, 3, 4, 2, 3, 2), 3),
]


def torch_penalty(activations: Tensor, rho: float, beta: float, unit_dim: int, complement: Tensor) -> Tensor:
    """The obvious formula; complement: 1 - activations, without cancellation."""
    others = [d for d in range(activations.dim()) if d != unit_dim % activations.dim()]
    on = activations.mean(others) if others else activations
    off = complement.mean(others) if others else complement
    return beta * (rho * (rho / on).log() + (1 - rho) * ((1 - rho) / off).log()).sum()


def torch_sparse_sigmoid(
    z: Tensor, rho: float, beta: float = 1.0, unit_dim: int = 1
) -> tuple[Tensor, Tensor]:
    activations = torch.sigmoid(z)
    return activations, torch_penalty(activations, rho, beta, unit_dim, torch.sigmoid(-z))


def numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def check_sparse_sigmoid(z: Tensor, unit_dim: int, rho: float = RHO, beta: float = BETA) -> None:
    """Forward and backward against NumPy, with a random upstream gradient and a weighted penalty."""
    value, relative, gradient = TOLERANCE[z.dtype]
    z = z.detach().requires_grad_()
    activations, penalty = sparse_sigmoid(z, rho, beta, unit_dim=unit_dim)
    assert activations.dtype == z.dtype
    assert activations.stride() == torch.sigmoid(z).stride()
    assert penalty.dtype == (torch.float64 if z.dtype == torch.float64 else torch.float32)
    assert penalty.shape == ()
    exact = reference.sigmoid(numpy(z))
    np.testing.assert_allclose(numpy(activations), exact, rtol=0, atol=value)
    np.testing.assert_allclose(penalty.item(), reference.sparse_kl(exact, rho, beta, unit_dim), rtol=relative)
    upstream = torch.randn(z.shape).to(z.dtype)
    (grad,) = torch.autograd.grad([activations, penalty], [z], [upstream, torch.full_like(penalty, 0.5)])
    expected = reference.sparse_sigmoid_backward(numpy(z), numpy(upstream), rho, beta / 2, unit_dim)
    np.testing.assert_allclose(
        numpy(grad), expected, rtol=gradient, atol=gradient * (1 + abs(expected).max()) / 4
    )


@pytest.mark.parametrize(("shape", "unit_dim"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_sigmoid(isa, shape, unit_dim, dtype):
    check_sparse_sigmoid(torch.randn(shape).mul(2).to(dtype), unit_dim)


@pytest.mark.parametrize(("shape", "unit_dim"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_kl(isa, shape, unit_dim, dtype):
    activations = torch.rand(shape).mul(0.9).add(0.05).to(dtype).requires_grad_()
    penalty = sparse_kl(activations, RHO, BETA, unit_dim=unit_dim)
    _, relative, gradient = TOLERANCE[dtype]
    np.testing.assert_allclose(
        penalty.item(), reference.sparse_kl(numpy(activations), RHO, BETA, unit_dim), rtol=relative
    )
    (penalty * 0.5).backward()
    expected = reference.sparse_kl_backward(numpy(activations), RHO, BETA / 2, unit_dim)
    assert activations.grad.dtype == dtype
    np.testing.assert_allclose(
        numpy(activations.grad), expected, rtol=gradient, atol=gradient * abs(expected).max()
    )


@given(data=st.data())
@settings(deadline=None, derandomize=True, max_examples=100)
def test_against_torch(data):
    """Any shape, unit dimension, order of memory, ρ and β; forward, backward and double backward, float64."""
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    unit_dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    order = data.draw(st.permutations(range(len(shape))))
    rho, beta = data.draw(st.floats(0.01, 0.99)), data.draw(st.floats(-2, 5))
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


def test_penalty_is_zero_at_the_target():
    activations = torch.full((8, 5), 0.25, dtype=torch.float64)
    assert sparse_kl(activations, 0.25).item() == 0


def test_activations_outside_the_unit_interval():
    for value in (-3.0, 2.0, math.inf, -math.inf):
        activations = torch.full((4, 3), value, requires_grad=True)
        penalty = sparse_kl(activations, RHO)
        penalty.backward()
        assert not penalty.isnan()
        assert activations.grad.isfinite().all()
        assert (activations.grad < 0 if value < 0 else activations.grad > 0).all()


def test_flush_denormal_is_honoured():
    torch.set_flush_denormal(True)
    try:
        assert sparse_sigmoid(torch.full((300, 40), -100.0), RHO)[0].count_nonzero() == 0
    finally:
        torch.set_flush_denormal(False)
    assert sparse_sigmoid(torch.full((300, 40), -100.0), RHO)[0].count_nonzero() == 12000


# ---- layouts ----


def layouts(shape=(4, 6, 5, 7)):
    plain = torch.randn(shape)
    big = torch.randn([2 * n + 1 for n in shape])
    yield "contiguous", plain
    yield "channels_last", plain.to(memory_format=torch.channels_last)
    yield "strided", big[1::2, ::2, 1::2, 1::2][: shape[0], : shape[1], : shape[2], : shape[3]]
    yield "offset", torch.randn(plain.numel() + 3)[3:].view(shape)
    yield "expanded", torch.randn(shape[0], 1, 1, shape[3]).expand(shape)
    yield "scalar expanded", torch.randn(()).expand(shape)
    yield "transposed", plain.transpose(0, 3).contiguous().transpose(0, 3)
    yield "permuted", plain.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2)


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


@pytest.mark.parametrize("shape", [(4100, 40), (700, 1030), (3, 70, 90, 90)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_bits_do_not_depend_on_threads(isa, shape, dtype):
    z = torch.randn(shape, dtype=dtype)
    upstream = torch.randn(shape, dtype=dtype)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            x = z.clone().requires_grad_()
            activations, penalty = sparse_sigmoid(x, RHO, BETA)
            torch.autograd.backward([activations, penalty], [upstream, torch.ones_like(penalty)])
            results.append((activations, penalty, x.grad, sparse_kl(activations, RHO)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_large_outputs_are_streamed_correctly(isa):
    """Over 32 MB: streaming stores."""
    z = torch.randn(2100, 4096)
    z.requires_grad_()
    activations, penalty = sparse_sigmoid(z, RHO)
    upstream = torch.randn_like(z)
    torch.autograd.backward([activations, penalty], [upstream, torch.ones_like(penalty)])
    with torch.no_grad():
        expected = torch.sigmoid(z)
        torch.testing.assert_close(activations, expected, rtol=1e-6, atol=1e-7)
        rho_hat = expected.double().mean(0)
        slope = ((1 - RHO) / (1 - rho_hat) - RHO / rho_hat) / 2100
        torch.testing.assert_close(
            z.grad, (expected * (1 - expected) * (upstream + slope)).float(), rtol=1e-5, atol=1e-6
        )


def test_large_planes_are_streamed_correctly():
    z = torch.randn(1, 3, 1800, 1600, requires_grad=True)
    activations, penalty = sparse_sigmoid(z, RHO)
    torch.testing.assert_close(activations, torch.sigmoid(z), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(penalty.item(), sparse_kl(activations.double(), RHO).item(), rtol=1e-6)
    penalty.backward()
    assert z.grad.isfinite().all()
    assert z.grad.count_nonzero() == z.numel()


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


# ---- torch's transforms and tracers ----


def all_ops(dtype=torch.float32):
    z = torch.randn(6, 5, dtype=dtype)
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    slope, one = torch.randn(5, dtype=compute), torch.tensor(1.0, dtype=compute)
    library = torch.ops.deconvkit
    yield library.sparse_sigmoid.default, (z, 0.1, 1.0, 1, 0)
    yield library.sparse_sigmoid.default, (z.t(), 0.1, 1.0, 1, 0)
    yield library.sparse_sigmoid.default, (torch.randn(3, 4, 5, dtype=dtype), 0.1, 1.0, 2, 1)
    yield library.sparse_sigmoid_backward.default, (z, slope, torch.randn_like(z), one, 0.1, 1.0, 1, 0)
    yield library.sparse_sigmoid_backward.default, (z, slope, None, one, 0.1, 1.0, 1, 0)
    yield library.sparse_sigmoid_backward.default, (z, slope, torch.randn_like(z), None, 0.1, 1.0, 1, 0)
    yield library.sparse_kl.default, (torch.sigmoid(z), 0.1, 1.0, 1, 0)
    yield library.sparse_kl_backward.default, (z, slope, one, 0.1, 1.0, 1, 0)
    yield library.sparse_sigmoid_sums.default, (z, 1)
    yield library.sparse_kl_sums.default, (torch.sigmoid(z), 1)
    sums = torch.rand(11, dtype=torch.float64)
    yield library.sparse_kl_from_sums.default, (sums, 0.1, 1.0, 2.0, compute, "sparse_kl")


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(dtype):
    for op, arguments in all_ops(dtype):
        torch.library.opcheck(op, arguments)


def sparse_loss(z: Tensor) -> Tensor:
    activations, penalty = sparse_sigmoid(z, 0.1, 2.0)
    return (activations**2).sum() + penalty + sparse_kl(activations, 0.2)


def torch_loss(z: Tensor) -> Tensor:
    activations, penalty = torch_sparse_sigmoid(z, 0.1, 2.0)
    return (activations**2).sum() + penalty + torch_penalty(activations, 0.2, 1.0, 1, torch.sigmoid(-z))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile(dynamic):
    compiled = torch.compile(sparse_loss, fullgraph=True, dynamic=dynamic)
    for shape in ((6, 5), (7, 5)):
        z = torch.randn(shape, requires_grad=True)
        (ours,) = torch.autograd.grad(compiled(z), z)
        (eager,) = torch.autograd.grad(torch_loss(z), z)
        torch.testing.assert_close(ours, eager)


def test_compile_layouts():
    for name, z in layouts((2, 3, 4, 4)):
        torch.compiler.reset()
        compiled = torch.compile(sparse_loss, fullgraph=True)
        z = z.detach().requires_grad_()
        (ours,) = torch.autograd.grad(compiled(z), z)
        (eager,) = torch.autograd.grad(torch_loss(z), z)
        torch.testing.assert_close(ours, eager, msg=name)


def test_compile_module():
    module = torch.nn.Sequential(torch.nn.Linear(6, 5), deconvkit.nn.SparseSigmoid(0.1, 2.0))
    x = torch.randn(9, 6)
    for ours, eager in zip(torch.compile(module, fullgraph=True)(x), module(x), strict=True):
        torch.testing.assert_close(ours, eager)


def test_export():
    class Model(torch.nn.Module):
        def forward(self, z):
            activations, penalty = sparse_sigmoid(z, 0.1)
            return activations, penalty, sparse_kl(activations, 0.1)

    z = torch.randn(6, 5)
    program = torch.export.export(Model(), (z,), dynamic_shapes={"z": {0: torch.export.Dim("batch", min=2)}})
    names = {node.target for node in program.graph.nodes}
    assert {torch.ops.deconvkit.sparse_sigmoid.default, torch.ops.deconvkit.sparse_kl.default} <= names
    z = torch.randn(11, 5)
    for exported, eager in zip(program.module()(z), Model()(z), strict=True):
        torch.testing.assert_close(exported, eager)


@pytest.mark.parametrize("in_dim", [0, 1, 2, -1])
def test_vmap(in_dim):
    """Every slice has ρ̂ of its own, forward and backward."""
    z = torch.randn(4, 6, 5, dtype=torch.float64)
    slices = z.movedim(in_dim, 0)
    activations, penalties = torch.func.vmap(
        lambda z: sparse_sigmoid(z, 0.1, 2.0), in_dims=in_dim, out_dims=(in_dim, 0)
    )(z)
    torch.testing.assert_close(activations, torch.sigmoid(z))
    expected = torch.stack([sparse_sigmoid(s, 0.1, 2.0)[1] for s in slices])
    torch.testing.assert_close(penalties, expected)
    alone = torch.func.vmap(lambda a: sparse_kl(a, 0.1, 2.0), in_dims=in_dim)(activations)
    torch.testing.assert_close(alone, expected)
    for loss in (sparse_loss, lambda z: sparse_loss(z.t())):
        grads = torch.func.vmap(torch.func.grad(loss), in_dims=in_dim)(z)
        torch.testing.assert_close(grads, torch.stack([torch.func.grad(loss)(s) for s in slices]))


def test_nested_vmap():
    z = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    nested = torch.func.vmap(torch.func.vmap(torch.func.grad(sparse_loss)), in_dims=1, out_dims=1)(z)
    expected = torch.stack([torch.stack([torch.func.grad(torch_loss)(s) for s in row]) for row in z])
    torch.testing.assert_close(nested, expected)


def test_vmap_of_channels_last():
    z = torch.randn(3, 2, 4, 5, 5).permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    grads = torch.func.vmap(torch.func.grad(sparse_loss))(z)
    torch.testing.assert_close(grads, torch.stack([torch.func.grad(torch_loss)(s) for s in z]))


def test_vmap_over_gradients():
    z = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(
        torch.func.jacrev(lambda z: sparse_sigmoid(z, 0.1))(z),
        torch.func.jacrev(lambda z: torch_sparse_sigmoid(z, 0.1))(z),
    )
    torch.testing.assert_close(
        torch.func.jacrev(lambda a: sparse_kl(a, 0.1))(torch.sigmoid(z)).shape, z.shape
    )


def test_func_grad_and_hessian():
    z = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(torch.func.grad(sparse_loss)(z), torch.func.grad(torch_loss)(z))
    torch.testing.assert_close(
        torch.func.jacrev(torch.func.grad(sparse_loss))(z), torch.func.hessian(torch_loss)(z)
    )


def test_func_grad_under_compile():
    z = torch.randn(4, 3, dtype=torch.float64)
    compiled = torch.compile(torch.func.grad(sparse_loss), fullgraph=True)
    torch.testing.assert_close(compiled(z), torch.func.grad(torch_loss)(z))


def test_autocast_keeps_the_dtype():
    """As torch.sigmoid: what a bfloat16 layer hands on stays bfloat16, float32 stays float32."""
    layer, x = torch.nn.Linear(6, 5), torch.randn(8, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        activations, penalty = sparse_sigmoid(layer(x), RHO)
        assert activations.dtype == torch.bfloat16
        assert penalty.dtype == torch.float32
        assert sparse_sigmoid(x, RHO)[0].dtype == torch.float32
        penalty.backward()
    assert layer.weight.grad.isfinite().all()


def test_meta():
    z = torch.empty(6, 5, device="meta", dtype=torch.bfloat16, requires_grad=True)
    activations, penalty = sparse_sigmoid(z, RHO)
    assert activations.is_meta
    assert activations.dtype == torch.bfloat16
    assert penalty.is_meta
    assert penalty.shape == ()
    assert penalty.dtype == torch.float32
    (activations.sum() + penalty + sparse_kl(activations, RHO)).backward()
    assert z.grad.shape == z.shape


def test_no_graph_without_need():
    activations, penalty = sparse_sigmoid(torch.randn(3, 4), RHO)
    assert not activations.requires_grad
    assert not penalty.requires_grad
    with torch.no_grad():
        assert not sparse_sigmoid(torch.randn(3, 4, requires_grad=True), RHO)[1].requires_grad


def test_third_derivative():
    z = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    results = []
    for loss in (sparse_loss, torch_loss):
        x = loss(z)
        for _ in range(3):
            (x,) = torch.autograd.grad(x.sum(), z, create_graph=True)
        results.append(x)
    torch.testing.assert_close(*results)


# ---- bad arguments ----


@pytest.mark.parametrize("function", [sparse_kl, sparse_sigmoid])
@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((torch.ones(2, 3), 0.0), {}, ValueError, r"rho: expected a number inside \(0, 1\), got 0.0"),
        ((torch.ones(2, 3), 1.0), {}, ValueError, "rho"),
        ((torch.ones(2, 3), 1), {}, ValueError, "rho"),
        ((torch.ones(2, 3), -0.1), {}, ValueError, "rho"),
        ((torch.ones(2, 3), math.nan), {}, ValueError, "rho"),
        ((torch.ones(2, 3), "0.1"), {}, TypeError, "rho"),
        ((torch.ones(2, 3), None), {}, TypeError, "rho"),
        ((torch.ones(2, 3), torch.tensor(0.1)), {}, TypeError, "rho"),
        ((torch.ones(2, 3), True), {}, TypeError, "rho"),
        ((torch.ones(2, 3), 0.1, math.nan), {}, ValueError, "beta"),
        ((torch.ones(2, 3), 0.1, math.inf), {}, ValueError, "beta"),
        ((torch.ones(2, 3), 0.1, -math.inf), {}, ValueError, "beta"),
        ((torch.ones(2, 3), 0.1, None), {}, TypeError, "beta"),
        ((torch.ones(2, 3, dtype=torch.int64), 0.1), {}, TypeError, "expected float32.*got int64"),
        ((torch.ones(2, 3, dtype=torch.bool), 0.1), {}, TypeError, "bool"),
        ((torch.ones(2, 3, dtype=torch.complex64), 0.1), {}, TypeError, "complex64"),
        (([[0.5]], 0.1), {}, TypeError, "expected a torch.Tensor, got list"),
        ((torch.ones(2, 3), 0.1), {"unit_dim": 2}, ValueError, "unit_dim"),
        ((torch.ones(2, 3), 0.1), {"unit_dim": -3}, ValueError, "unit_dim"),
        ((torch.ones(2, 3), 0.1), {"unit_dim": 1.0}, TypeError, "unit_dim"),
        ((torch.ones(3), 0.1), {}, ValueError, r"unit_dim: expected an int in \[-1, 0\]"),
        ((torch.ones(()), 0.1), {}, ValueError, "at least one dimension"),
        ((torch.ones(()), 0.1), {"unit_dim": 0}, ValueError, "at least one dimension"),
        ((torch.ones(0, 3), 0.1), {}, ValueError, r"expected at least one sample a unit, got shape \(0, 3\)"),
        ((torch.ones(2, 3, 0), 0.1), {}, ValueError, "sample"),
        ((torch.ones(0, 0), 0.1), {}, ValueError, "sample"),
        ((torch.ones(2, 3), 0.1), {"group": "gloo"}, TypeError, "group"),
    ],
)
def test_bad_arguments(function, arguments, options, error, message):
    with pytest.raises(error, match=message) as caught:
        function(*arguments, **options)
    assert str(caught.value).startswith(f"{function.__name__}: ")


def test_bad_arguments_of_fake_tensors():
    with pytest.raises(ValueError, match="sample"):
        sparse_sigmoid(torch.empty(0, 3, device="meta"), 0.1)
    with pytest.raises(TypeError, match="int64"):
        sparse_kl(torch.empty(2, 3, device="meta", dtype=torch.int64), 0.1)


def test_numbers_of_other_kinds():
    z = torch.randn(4, 3)
    expected = sparse_sigmoid(z, 0.5, 2.0)[1]
    assert sparse_sigmoid(z, np.float64(0.5), 2)[1] == expected
    assert sparse_sigmoid(z, np.float32(0.5), np.int64(2))[1] == expected


def test_partition_covers_everything():
    """The private layout: (batch, outer, units, inner) multiplies up to the elements."""
    for shape, unit_dim in SHAPES:
        sizes = units.view_sizes(torch.empty(shape), unit_dim % len(shape), 0)
        assert math.prod(sizes) == math.prod(shape)
        assert sizes[2] == shape[unit_dim]
