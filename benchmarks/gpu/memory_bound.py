"""Pooling, unpooling and the sparsity penalty, against torch, torch.compile and a copy of as many bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import deconvkit
from benchmarks.gpu.contest import DTYPES, Case, Contest, Run, is_tiny

BUFFERS = Contest._field_defaults["buffers"]
# A copy's: the bytes that must move at 85 % of its speed.
GOALS = {
    "max_pool2d": {"copy": 0.85, "torch": 1.3},
    "max_pool2d_backward": {"copy": 0.85, "torch": 2.0},
    "max_pool2d_both": {"compile": 1.0},
    "max_unpool2d": {"copy": 0.85, "torch": 2.0},
    "max_unpool2d_backward": {"copy": 0.85},
    "sparse_kl": {"copy": 0.85},
    "sparse_sigmoid": {"copy": 0.85},
    "sparse_sigmoid_backward": {"copy": 0.85},
    "sparse_sigmoid_both": {"torch": 2.0, "compile": 1.2},
}
Build = Callable[[list[Tensor]], Contest]


def pooling(dtype: str) -> list[Case]:
    """Of 2x2 windows."""
    builds = max_pool2d, max_unpool2d, max_pool2d_backward, max_unpool2d_backward, max_pool2d_both
    return [case(build, layout, dtype) for layout in ("contiguous", "channels_last") for build in builds]


def sparse(dtype: str) -> list[Case]:
    """Of 64 maps of channels, or 1024 units."""
    layouts = "contiguous", "channels_last", "matrix"
    builds = sparse_kl, sparse_sigmoid, sparse_sigmoid_backward, sparse_sigmoid_both
    return [case(build, layout, dtype) for layout in layouts for build in builds]


def case(build: Build, layout: str, dtype: str) -> Case:
    """The contest of an op in one layout."""
    goals = GOALS[build.__name__]
    if (build, layout) == (max_unpool2d, "channels_last"):
        goals = goals | {"torch": 4.0}  # torch makes it contiguous first

    def made(device: str) -> Contest:
        contest = build(tensors(layout, DTYPES[dtype], device))
        if "copy" not in goals:
            return contest
        return contest._replace(runs={"copy": copy(contest.bytes, device)} | contest.runs)

    return Case(build.__name__, layout, dtype, goals, made)


def tensors(layout: str, dtype: torch.dtype, device: str) -> list[Tensor]:
    """Random numbers, half a gigabyte in each buffer."""
    batch, channels, side = (2, 16, 6) if is_tiny(device) else (2**29 // dtype.itemsize // 2**20, 64, 128)
    shape: tuple[int, ...] = (batch, channels, side, side)
    if layout == "matrix":
        shape = (40, 16) if is_tiny(device) else (2**19 // dtype.itemsize, 1024)
    x = [torch.randn(shape, device=device, dtype=dtype) for _ in range(BUFFERS)]
    return [t.contiguous(memory_format=torch.channels_last) for t in x] if layout == "channels_last" else x


def copy(nbytes: int, device: str) -> Run:
    """A copy that moves so many bytes, read and written."""
    pairs = [
        [torch.empty(nbytes // 2, dtype=torch.uint8, device=device).random_() for _ in range(2)]
        for _ in range(BUFFERS)
    ]
    return lambda i: pairs[i][0].copy_(pairs[i][1])


# ---- the contests ----


def gradient(outputs: list[Any], leaves: list[Tensor], grads: list[Any]) -> Run:
    """A backward pass alone."""
    return lambda i: torch.autograd.grad(outputs[i], leaves[i], grads[i], retain_graph=True)


def both(op: Callable[[Tensor], Any], leaves: list[Tensor], grads: list[Any]) -> Run:
    """Forward and backward."""
    return lambda i: torch.autograd.grad(op(leaves[i]), leaves[i], grads[i])


def pool_by_torch(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and indices."""
    return F.max_pool2d(x, 2, return_indices=True)


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and switches."""
    return deconvkit.max_pool2d_with_switches(x, 2)


def pooled_bytes(x: Tensor) -> int:
    """Of x, and of values and switches of its windows."""
    return x.nbytes + x.numel() // 4 * (x.itemsize + 1)


def max_pool2d(x: list[Tensor]) -> Contest:
    runs: dict[str, Run] = {"torch": lambda i: pool_by_torch(x[i]), "deconvkit": lambda i: pool(x[i])}
    return Contest(runs, pooled_bytes(x[0]))


def max_unpool2d(x: list[Tensor]) -> Contest:
    theirs, ours = [pool_by_torch(t) for t in x], [pool(t) for t in x]
    runs: dict[str, Run] = {
        "torch": lambda i: F.max_unpool2d(*theirs[i], 2),
        "deconvkit": lambda i: deconvkit.max_unpool2d(*ours[i], 2),
    }
    return Contest(runs, pooled_bytes(x[0]))


def max_pool2d_backward(x: list[Tensor]) -> Contest:
    leaves = [t.detach().requires_grad_() for t in x]
    theirs, ours = [pool_by_torch(t)[0] for t in leaves], [pool(t)[0] for t in leaves]
    grads = [torch.randn_like(values) for values in ours]
    runs = {"torch": gradient(theirs, leaves, grads), "deconvkit": gradient(ours, leaves, grads)}
    return Contest(runs, pooled_bytes(x[0]))


def max_unpool2d_backward(x: list[Tensor]) -> Contest:
    theirs, ours = [pool_by_torch(t) for t in x], [pool(t) for t in x]
    leaves = [values.detach().requires_grad_() for values, _ in ours]
    runs = {
        "torch": gradient([F.max_unpool2d(leaves[i], at, 2) for i, (_, at) in enumerate(theirs)], leaves, x),
        "deconvkit": gradient(
            [deconvkit.max_unpool2d(leaves[i], at, 2) for i, (_, at) in enumerate(ours)], leaves, x
        ),
    }
    return Contest(runs, pooled_bytes(x[0]))


def max_pool2d_both(x: list[Tensor]) -> Contest:
    leaves = [t.detach().requires_grad_() for t in x]
    grads = [torch.randn_like(pool(t)[0]) for t in x]
    runs = {
        "torch": both(lambda t: F.max_pool2d(t, 2), leaves, grads),
        "compile": both(torch.compile(lambda t: F.max_pool2d(t, 2)), leaves, grads),
        "deconvkit": both(lambda t: pool(t)[0], leaves, grads),
    }
    return Contest(runs, 2 * pooled_bytes(x[0]))


def kl_by_torch(activations: Tensor) -> Tensor:
    """What sparse_kl is equivalent to, where no unit is always on or off."""
    others = [dim for dim in range(activations.dim()) if dim != 1]
    rho, rho_hat = 0.05, activations.mean(others, dtype=torch.float32)
    return (rho * (rho / rho_hat).log() + (1 - rho) * ((1 - rho) / (1 - rho_hat)).log()).sum()


def sigmoid_by_torch(z: Tensor) -> tuple[Tensor, Tensor]:
    """What sparse_sigmoid is equivalent to."""
    activations = torch.sigmoid(z)
    return activations, kl_by_torch(activations)


def sigmoid(z: Tensor) -> tuple[Tensor, Tensor]:
    """Activations and penalty."""
    return deconvkit.sparse_sigmoid(z, 0.05)


def upstream(z: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Gradients of the activations and of the penalty."""
    return [(torch.randn_like(t), torch.ones((), device=t.device)) for t in z]


def sparse_kl(z: list[Tensor]) -> Contest:
    on = [torch.sigmoid(t) for t in z]
    runs: dict[str, Run] = {
        "torch": lambda i: kl_by_torch(on[i]),
        "deconvkit": lambda i: deconvkit.sparse_kl(on[i], 0.05),
    }
    return Contest(runs, z[0].nbytes)


def sparse_sigmoid(z: list[Tensor]) -> Contest:
    runs: dict[str, Run] = {"torch": lambda i: sigmoid_by_torch(z[i]), "deconvkit": lambda i: sigmoid(z[i])}
    return Contest(runs, 2 * z[0].nbytes)


def sparse_sigmoid_backward(z: list[Tensor]) -> Contest:
    leaves, grads = [t.detach().requires_grad_() for t in z], upstream(z)
    theirs, ours = [sigmoid_by_torch(t) for t in leaves], [sigmoid(t) for t in leaves]
    runs = {"torch": gradient(theirs, leaves, grads), "deconvkit": gradient(ours, leaves, grads)}
    return Contest(runs, 3 * z[0].nbytes)


def sparse_sigmoid_both(z: list[Tensor]) -> Contest:
    leaves, grads = [t.detach().requires_grad_() for t in z], upstream(z)
    runs = {
        "torch": both(sigmoid_by_torch, leaves, grads),
        "compile": both(torch.compile(sigmoid_by_torch), leaves, grads),
        "deconvkit": both(sigmoid, leaves, grads),
    }
    return Contest(runs, 5 * z[0].nbytes)
