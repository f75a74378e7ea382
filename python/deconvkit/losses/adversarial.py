"""The two players' losses of a generative adversarial network, in logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def adversarial_value(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V(D, G) = E ln D(x) + E ln(1 − D(G(z))), what D maximises and G minimises.

    With D = σ(l) the terms are −softplus(−l_real) and −softplus(l_fake), which overflow nowhere. At the
    optimum of both D = ½ and V = −ln 4.

    Args:
        real_logits: D's logits of data, any shape; the mean is taken over all of them.
        fake_logits: D's logits of generated samples, any shape.

    Returns:
        A scalar, at most 0.

    Source: Goodfellow et al. 2014, equation 1.
    """
    return -functional.softplus(-real_logits).mean() - functional.softplus(fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """−V: softplus(−l_real) + softplus(l_fake), each a mean; what D minimises. A scalar.

    Args and source: as :func:`adversarial_value`.
    """
    return -adversarial_value(real_logits, fake_logits)


def generator_loss(fake_logits: Tensor, *, saturating: bool = False) -> Tensor:
    """What G minimises: a mean over all fakes.

    Saturating, E ln(1 − D(G(z))) = −softplus(l_fake): the game as written, whose gradient vanishes while D is
    sure of itself. Non-saturating, −E ln D(G(z)) = softplus(−l_fake): the same fixed point, and a gradient
    where D is sure.

    Args:
        fake_logits: D's logits of generated samples, any shape.
        saturating: which of the two.

    Returns:
        A scalar.

    Source: Goodfellow et al. 2014, section 3.
    """
    if saturating:
        return -functional.softplus(fake_logits).mean()
    return functional.softplus(-fake_logits).mean()
