"""The terms of a variational autoencoder's bound, each for every sample of a batch."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from deconvkit.losses._shapes import require_shape


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²)‖N(0, 1)) = −½ Σ (1 + ln σ² − μ² − σ²), summed over the latents.

    Args:
        mean: μ, (N, ..., Z).
        log_variance: ln σ², of the same shape.

    Returns:
        (N, ...): at least 0.

    Raises:
        ValueError: the shapes differ.

    Source: Kingma and Welling 2014, appendix B.
    """
    require_shape("gaussian_kl", "log_variance", log_variance, tuple(mean.shape))
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1) / 2


def bernoulli_log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """ln p(x) = Σ x ln σ(l) + (1 − x) ln(1 − σ(l)), summed over all but the first dimension.

    Args:
        logits: l, (N, ...).
        target: x in [0, 1], of the same shape.

    Returns:
        (N,): at most 0.

    Raises:
        ValueError: the shapes differ.

    Source: Kingma and Welling 2014, appendix C.1.
    """
    require_shape("bernoulli_log_likelihood", "target", target, tuple(logits.shape))
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return -losses.flatten(1).sum(1)


def gaussian_log_likelihood(mean: Tensor, log_scale: Tensor, target: Tensor) -> Tensor:
    """ln N(x; m, σ²) = −Σ [(x − m)² / 2σ² + ln σ + ½ ln 2π], summed over all but the first dimension.

    Args:
        mean: m, (N, ...).
        log_scale: ln σ, of a shape that broadcasts to it; a scalar for one σ.
        target: x, of the mean's shape.

    Returns:
        (N,).

    Raises:
        ValueError: the shapes differ.

    Source: Kingma and Welling 2014, appendix C.2.
    """
    require_shape("gaussian_log_likelihood", "target", target, tuple(mean.shape))
    squares = ((target - mean) * (-log_scale).exp()).square()
    return -(squares / 2 + log_scale + math.log(2 * math.pi) / 2).flatten(1).sum(1)
