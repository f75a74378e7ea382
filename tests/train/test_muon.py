"""Steps made orthogonal."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from deconvkit.train.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (12, 12), (1, 5)])
def test_singular_values_come_close_to_1_and_their_vectors_stay(shape: tuple[int, int]) -> None:
    left, values, right = torch.linalg.svd(torch.randn(shape).double(), full_matrices=False)
    values = torch.linspace(1, 0.05, len(values)).double()
    found = orthogonal(left * values @ right, 3)
    inside = left.T @ found @ right.T
    assert inside.diagonal().min() > 0.68
    assert inside.diagonal().max() < 1.21
    torch.testing.assert_close(inside, inside.diagonal().diag(), atol=1e-12, rtol=0)


def test_nothing_stays_nothing() -> None:
    assert orthogonal(torch.zeros(3, 4), 3).equal(torch.zeros(3, 4))


def stepped(optimizer: torch.optim.Optimizer, weight: nn.Parameter, count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return weight.detach()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has none before 2.9")
@pytest.mark.parametrize("shape", [(8, 30), (30, 8)])
def test_matrices_learn_as_by_torchs(shape: tuple[int, int]) -> None:
    """But for its rounding to bfloat16."""
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(w) for w in torch.randn(shape).expand(2, *shape).clone())
    begin = ours.detach().clone()
    group = {"params": [ours], "orthogonal": True}
    found = stepped(Muon([group], 0.1, momentum=0.8, weight_decay=0.5, iterations=5), ours)
    wanted = stepped(torch.optim.Muon([theirs], 0.1, momentum=0.8, weight_decay=0.5), theirs)
    assert (found - wanted).norm() < 0.02 * (wanted - begin).norm()


@pytest.mark.parametrize("make", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_convolutions_weight_is_the_matrix_of_its_first_axis(make: type[nn.Module]) -> None:
    weight = make(6, 5, 3).weight
    assert isinstance(weight, nn.Parameter)
    matrix = nn.Parameter(weight.detach().flatten(1).clone())
    generator = torch.Generator().manual_seed(1)
    optimizers = [Muon([{"params": [p], "orthogonal": True}], 0.1) for p in (weight, matrix)]
    for _ in range(3):
        weight.grad = torch.randn(weight.shape, generator=generator)
        matrix.grad = weight.grad.flatten(1)
        for optimizer in optimizers:
            optimizer.step()
    assert weight.detach().flatten(1).equal(matrix.detach())


def test_the_rest_learns_as_by_sgd() -> None:
    ours, theirs = (nn.Parameter(torch.ones(7)) for _ in range(2))
    found = stepped(Muon([{"params": [ours]}], 0.1, momentum=0.8, weight_decay=0.5), ours)
    wanted = stepped(torch.optim.SGD([theirs], 0.1, momentum=0.8, weight_decay=0.5), theirs)
    torch.testing.assert_close(found, wanted)


def test_its_state_can_be_saved() -> None:
    first = nn.Parameter(torch.randn(4, 3, 3, 3))
    optimizer = Muon([{"params": [first], "orthogonal": True}], 0.1)
    stepped(optimizer, first)
    second = nn.Parameter(first.detach().clone())
    other = Muon([{"params": [second], "orthogonal": True}], 0.2)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert stepped(other, second).equal(stepped(optimizer, first))


def test_a_closure_and_weights_without_a_gradient() -> None:
    weight, idle = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))

    def closure() -> float:
        loss = (weight * torch.eye(2)).sum()
        loss.backward()
        return loss.item()

    assert Muon([{"params": [weight, idle], "orthogonal": True}], 0.1).step(closure) == 2.0
    assert weight.detach().diagonal().max() < 0.95
    assert idle.detach().equal(torch.ones(2, 2))


def test_the_defaults() -> None:
    defaults = Muon([{"params": [nn.Parameter(torch.ones(2, 2))]}], 0.1).defaults
    assert defaults == {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "iterations": 3,
        "orthogonal": False,
    }


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((3,), {"orthogonal": True}, r"two or more axes, got shape \(3,\)"),
        ((3, 0), {"orthogonal": True}, r"two or more axes, got shape \(3, 0\)"),
        ((3,), {"lr": -1.0}, "expected lr >= 0"),
        ((3,), {"weight_decay": float("nan")}, "weight_decay >= 0"),
        ((3,), {"momentum": 1.0}, "momentum < 1"),
    ],
)
def test_what_cannot_be(shape: tuple[int, ...], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon([{"params": [nn.Parameter(torch.ones(shape))], **settings}], 0.1)
