"""Gradients against central differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor


def gradient_error(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    step: float = 1e-4,
    progress: Callable[[range], Iterable[int]] = iter,
) -> float:
    """How far autograd's gradient is from (J(θ+h) − J(θ−h)) / 2h, every parameter moved by itself.

    Args:
        loss: computes J from the parameters as they are.
        parameters: contiguous leaves, float64 for an answer better than 1e-4; they are moved and put back.
        step: h.
        progress: wraps the range over the values of each parameter, e.g. in a progress bar.

    Returns:
        ‖g − ĝ‖ / ‖g + ĝ‖ over all parameters together: about 1e-10 where the gradient is right.
    """
    exact = torch.autograd.grad(loss(), parameters)
    differences = []
    with torch.no_grad():
        for parameter in parameters:
            flat = parameter.view(-1)
            slopes = torch.empty_like(flat)
            for i in progress(range(flat.numel())):
                value = flat[i].item()
                flat[i] = value + step
                above = loss().item()
                flat[i] = value - step
                slopes[i] = (above - loss().item()) / (2 * step)
                flat[i] = value
            differences.append(slopes)
    g = torch.cat([gradient.reshape(-1) for gradient in exact])
    estimate = torch.cat(differences)
    return ((g - estimate).norm() / (g + estimate).norm()).item()
