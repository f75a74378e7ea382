"""The sparsity modules."""

import copy
import pickle

import pytest
import torch

from deconvkit import nn, sparse_kl, sparse_sigmoid


def test_modules_are_the_functions():
    z = torch.randn(6, 4, 5)
    for ours, expected in zip(nn.SparseSigmoid(0.1, 2.0)(z), sparse_sigmoid(z, 0.1, 2.0), strict=True):
        assert torch.equal(ours, expected)
    activations = torch.sigmoid(z)
    assert torch.equal(
        nn.SparseKL(0.1, 2.0, unit_dim=-1)(activations), sparse_kl(activations, 0.1, 2.0, unit_dim=-1)
    )
    assert torch.equal(nn.SparseKL(0.1)(activations), sparse_kl(activations, 0.1))


@pytest.mark.parametrize("module", [nn.SparseKL, nn.SparseSigmoid])
def test_modules_have_no_state_and_copy(module):
    one = module(0.1, 2.0, unit_dim=0)
    assert not one.state_dict()
    assert not list(one.parameters())
    z = torch.rand(3, 4)
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert repr(other) == repr(one) == f"{module.__name__}(rho=0.1, beta=2.0, unit_dim=0)"
        torch.testing.assert_close(other(z), one(z))


@pytest.mark.parametrize("module", [nn.SparseKL, nn.SparseSigmoid])
def test_bad_arguments_are_told_at_once(module):
    with pytest.raises(ValueError, match=f"{module.__name__}: rho: expected a number inside"):
        module(1.5)
    with pytest.raises(ValueError, match="beta"):
        module(0.5, float("nan"))
    with pytest.raises(TypeError, match="rho"):
        module(None)


def test_training_reaches_the_target():
    """Plain gradient descent on the penalty alone drives every unit's mean to ρ."""
    layer, sparse = torch.nn.Linear(10, 6), nn.SparseSigmoid(0.2)
    x = torch.randn(500, 10)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(200):
        activations, penalty = sparse(layer(x))
        optimizer.zero_grad()
        penalty.backward()
        optimizer.step()
    assert penalty.item() < 1e-4
    assert ((activations.mean(0) - 0.2).abs() < 0.01).all()
