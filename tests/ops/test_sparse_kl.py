"""sparse_kl against NumPy, and what both ops of the sparsity penalty refuse."""

import math
import re

import numpy as np
import pytest
import torch

from deconvkit import sparse_kl, sparse_sigmoid
from deconvkit.ops import _units as units
from tests import reference
from tests.ops.sparsity import BETA, DTYPES, RHO, SHAPES, TOLERANCE, numpy


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
        ((torch.ones(2, 3), 0.1, -1.0), {}, ValueError, r"beta: expected a finite number >= 0, got -1\.0"),
        ((torch.ones(2, 3), 0.1, -1), {}, ValueError, "beta: expected a finite number >= 0, got -1"),
        ((torch.ones(2, 3), 0.1, None), {}, TypeError, "beta"),
        ((torch.ones(2, 3, dtype=torch.int64), 0.1), {}, TypeError, "expected float32.*got int64"),
        ((torch.ones(2, 3, dtype=torch.bool), 0.1), {}, TypeError, "bool"),
        ((torch.ones(2, 3, dtype=torch.complex64), 0.1), {}, TypeError, "complex64"),
        (([[0.5]], 0.1), {}, TypeError, "expected a torch.Tensor, got list"),
        ((torch.ones(2, 3), 0.1), {"unit_dim": 2}, ValueError, "unit_dim"),
        ((torch.ones(2, 3), 0.1), {"unit_dim": -3}, ValueError, "unit_dim"),
        ((torch.ones(2, 3), 0.1), {"unit_dim": 1.0}, TypeError, "unit_dim"),
        ((torch.ones(2, 3), 0.1), {"unit_dim": True}, TypeError, "unit_dim"),
        ((torch.ones(2, 3), 0.1), {"unit_dim": None}, TypeError, "unit_dim"),
        ((torch.ones(2, 3), math.inf), {}, ValueError, "rho"),
        ((torch.ones(2, 3), 0.1j), {}, TypeError, "rho"),
        ((None, 0.1), {}, TypeError, "expected a torch.Tensor, got NoneType"),
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
    assert re.match(rf"{function.__name__}: \w+: expected .+, got .+", str(caught.value))


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
