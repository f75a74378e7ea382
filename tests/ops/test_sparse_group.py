"""ρ̂ over the samples of several processes: two of them, through gloo, against one with all samples."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from deconvkit import nn, sparse_kl, sparse_sigmoid

RHO, BETA, WORLD = 0.1, 3.0, 2


class Case(NamedTuple):
    """How a batch is split: samples of each process, the other dimensions, the units' dimension."""

    batches: tuple[int, int]
    rest: tuple[int, ...]
    unit_dim: int = 1
    dtype: torch.dtype = torch.float64


CASES = {
    "even": Case((6, 6), (5,)),
    "uneven": Case((3, 9), (17,)),
    "empty": Case((0, 7), (5,)),
    "the other empty": Case((4, 0), (3, 4), unit_dim=-1),
    "maps": Case((2, 3), (4, 5, 5)),
    "samples behind": Case((2, 5), (4, 3), unit_dim=2),
    # Runs of 64 rows, summed without rounding beyond: one process gets the same bits.
    "runs": Case((128, 64), (70,), dtype=torch.float32),
    "float32": Case((3, 90), (20,), dtype=torch.float32),
    "bfloat16": Case((5, 8), (9,), dtype=torch.bfloat16),
    "float16": Case((5, 8), (9,), dtype=torch.float16),
}
TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def full_batch(case: Case) -> tuple[Tensor, Tensor]:
    """All samples, and how much each activation counts in the loss."""
    torch.manual_seed(1)
    shape = (sum(case.batches), *case.rest)
    return torch.randn(shape).mul(2).to(case.dtype), torch.randn(shape).to(case.dtype)


Run = Callable[..., tuple[Tensor, Tensor]]
RUNS: dict[str, Run] = {  # -> activations, penalty
    "sparse_sigmoid": lambda x, **options: sparse_sigmoid(x, RHO, BETA, **options),
    "sparse_kl": lambda x, **options: (x, sparse_kl(x, RHO, BETA, **options)),
}


def start(name: str, x: Tensor, weight: Tensor, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Forward: the leaf, the penalty and the loss."""
    x = (torch.sigmoid(x) if name == "sparse_kl" else x).detach().requires_grad_()
    activations, penalty = RUNS[name](x, **options)
    return x, penalty, (activations * weight).sum() + penalty


def raised(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


class Layers(torch.nn.Module):
    def __init__(self, group: Any) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.layer = torch.nn.Linear(6, 5, dtype=torch.float64)
        self.sparse = nn.SparseSigmoid(RHO, BETA, group=group)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.sparse(self.layer(x))


def worker(rank: int, folder: str) -> None:
    """One of the two processes: everything it computes, into a file."""
    torch.set_num_threads(rank + 1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=30),
    )
    group, results = dist.group.WORLD, {}

    def own(case: Case, tensor: Tensor) -> Tensor:
        return tensor.split(case.batches)[rank]

    started = {}
    for name in RUNS:
        for label, case in CASES.items():
            x, weight = (own(case, t) for t in full_batch(case))
            # The average over processes of the gradients is the gradient of the sum over all samples.
            options = {"unit_dim": case.unit_dim, "group": group}
            started[name, label] = start(name, x, WORLD * weight, **options)
            again = start(name, x, WORLD * weight, **options)[1]
            assert torch.equal(started[name, label][1], again)

        # Compiled, the graph breaks around the collective.
        case = CASES["float32"]
        x, weight = (own(case, t) for t in full_batch(case))
        compiled = torch.compile(start, backend="aot_eager")
        started[name, "compiled"] = compiled(name, x, WORLD * weight, group=group)

        one = torch.randn(3, 4, requires_grad=True)
        results[name, "no sample"] = raised(lambda: RUNS[name](torch.empty(0, 4), group=group))  # noqa: B023
        (grad,) = torch.autograd.grad(RUNS[name](one, group=group)[1], one, create_graph=True)
        results[name, "double backward"] = raised(lambda: grad.sum().backward())  # noqa: B023
        results[name, "vmap"] = raised(
            lambda: torch.func.vmap(lambda x: RUNS[name](x, group=group)[1])(one[None])  # noqa: B023
        )
        # A group of one process: only it may call, and its samples are all.
        alone = dist.new_group([0])
        if rank == 0:
            results[name, "alone"] = RUNS[name](one, group=alone)[1], RUNS[name](one)[1]
        else:
            results[name, "outsider"] = raised(lambda: RUNS[name](one, group=alone))  # noqa: B023

    model = torch.nn.parallel.DistributedDataParallel(Layers(group))
    case = CASES["uneven"]
    activations, penalty = model(own(case, full_batch(case)[0])[:, :6])
    (WORLD * activations.square().sum() / sum(case.batches) + penalty).backward()
    results["ddp"] = [parameter.grad for parameter in model.parameters()]

    # Backward communicates nothing: it works without the group.
    dist.destroy_process_group()
    for key, (x, penalty, loss) in started.items():
        loss.backward()
        results[key] = penalty.detach(), x.grad
    torch.save(results, Path(folder) / f"{rank}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """What the two processes computed."""
    folder = tmp_path_factory.mktemp("group")
    mp.spawn(worker, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("label", CASES)
def test_two_processes_are_one(two, name, label):
    """The same penalty on both, that of all samples, and their gradients are W times one process's."""
    case = CASES[label]
    (penalty, first), (other, second) = (results[name, label] for results in two)
    assert torch.equal(penalty, other)
    x, expected, loss = start(name, *full_batch(case), unit_dim=case.unit_dim)
    loss.backward()
    assert penalty.dtype == expected.dtype
    relative = TOLERANCE[case.dtype]
    torch.testing.assert_close(penalty, expected.detach(), rtol=min(relative, 2e-6), atol=0)
    assert first.shape == (case.batches[0], *case.rest)
    ours = torch.cat([first, second]) / WORLD
    torch.testing.assert_close(ours, x.grad, rtol=relative, atol=relative * x.grad.abs().max().item())
    if label == "runs":
        assert torch.equal(penalty, expected)
        assert torch.equal(ours, x.grad)


def test_ddp(two):
    """DistributedDataParallel, batches of 3 and 9: the parameters' gradients of one process with 12."""
    case, model = CASES["uneven"], Layers(None)
    activations, penalty = model(full_batch(case)[0][:, :6])
    (activations.square().sum() / sum(case.batches) + penalty).backward()
    for first, second, parameter in zip(two[0]["ddp"], two[1]["ddp"], model.parameters(), strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, parameter.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", RUNS)
def test_compile(two, name):
    for results in two:
        for compiled, eager in zip(results[name, "compiled"], results[name, "float32"], strict=True):
            torch.testing.assert_close(compiled, eager)


@pytest.mark.parametrize("name", RUNS)
def test_a_group_of_one(two, name):
    assert torch.equal(*two[0][name, "alone"])
    assert two[1][name, "outsider"].startswith(f"TypeError: {name}: group: expected a torch.distributed.P")


@pytest.mark.parametrize("name", RUNS)
def test_what_a_group_cannot_do(two, name):
    for results in two:
        message = f"ValueError: {name}: group: expected a sample on at least one of its processes, got none"
        assert results[name, "no sample"] == message
        for label in ("double backward", "vmap"):
            assert results[name, label].startswith(f"NotImplementedError: {name}: group: ")
