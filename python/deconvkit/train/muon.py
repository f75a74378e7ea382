"""Momentum whose steps are made orthogonal, for convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# x -> a x + b x^3 + c x^5, which sends singular values of 0.02 to 1 close to 1 within a few steps.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Muon for weights of two or more axes, as matrices of the first by the others; SGD for the rest.

    torch.optim.Muon (torch 2.9) takes matrices alone, and multiplies them in bfloat16: without instructions
    for it that takes a CPU some twenty times as long as float32 does.

    Args:
        params: groups; those with ``orthogonal=True`` hold weights, and their steps are made orthogonal.
        lr: the step's size. An orthogonal step's singular values are about ``lr * sqrt(max(1, rows /
            columns))``.
        momentum: share of the steps before.
        weight_decay: as in SGD; of orthogonal groups apart from the gradient, as in AdamW.
        iterations: of Newton and Schulz, for each step.

    Raises:
        ValueError: a negative rate or decay, a momentum outside [0, 1), or an orthogonal group with a
            parameter that is no matrix.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        iterations: int = 3,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "iterations": iterations,
            "orthogonal": False,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            if not (group["lr"] >= 0 and group["weight_decay"] >= 0 and 0 <= group["momentum"] < 1):
                raise ValueError(
                    "Muon: expected lr >= 0, weight_decay >= 0 and 0 <= momentum < 1, got "
                    f"{group['lr']!r}, {group['weight_decay']!r} and {group['momentum']!r}"
                )
            for parameter in group["params"]:
                if group["orthogonal"] and (parameter.dim() < 2 or parameter.numel() == 0):
                    raise ValueError(
                        "Muon: params: expected orthogonal groups of weights with two or more axes, "
                        f"got shape {tuple(parameter.shape)}"
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; the closure computes the loss anew."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)
        return loss

    def _step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[parameter], group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"]
        if not group["orthogonal"]:
            buffer.mul_(momentum).add_(gradient.add(parameter, alpha=group["weight_decay"]))
            parameter.add_(buffer, alpha=-group["lr"])
            return
        buffer.lerp_(gradient, 1 - momentum)
        matrix = gradient.lerp(buffer, momentum).flatten(1)
        rows, columns = matrix.shape
        step = orthogonal(matrix, group["iterations"]).view_as(parameter)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(step, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonal(matrix: Tensor, iterations: int) -> Tensor:
    """Nearly the matrix's U Vᵀ, of its singular values U S Vᵀ, by Newton's and Schulz's iteration.

    Three of them bring singular values of more than a fiftieth of the matrix's norm to between 0.68 and 1.21.

    Args:
        matrix: (rows, columns).
        iterations: with five it serves values of a hundredth of the norm too, but comes no closer.
    """
    a, b, c = _COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(iterations):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T
