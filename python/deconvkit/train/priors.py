"""What a generator's latents are drawn from; its name is noted with the model."""

from __future__ import annotations

import torch
from torch import Tensor

PRIORS = ("uniform", "normal")


def draw_latents(
    prior: str,
    count: int,
    size: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Latent vectors of "uniform", U(−1, 1), or "normal", N(0, 1): (count, size).

    Raises:
        ValueError: another prior.
    """
    if prior not in PRIORS:
        raise ValueError(f"prior: expected one of {', '.join(PRIORS)}, got {prior!r}")
    if prior == "normal":
        return torch.randn(count, size, generator=generator, device=device)
    return torch.rand(count, size, generator=generator, device=device) * 2 - 1
