"""sparse_kl and sparse_sigmoid under torch's transforms and tracers."""

import pytest
import torch
from torch import Tensor

import deconvkit
from deconvkit import sparse_kl, sparse_sigmoid
from tests.ops.sparsity import DTYPES, RHO, layouts, torch_penalty, torch_sparse_sigmoid


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
    yield library.sparse_kl_from_sums.default, (sums, 0.1, 1.0, 2.0, compute)


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
