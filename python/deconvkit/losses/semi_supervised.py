"""The objective of the semi-supervised model M2."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from deconvkit.losses._shapes import require_shape


def m2_labelled(log_likelihood: Tensor, log_prior: Tensor | float, kl: Tensor) -> Tensor:
    """L(x, y) = −E ln p(x|y,z) − ln p(y) + KL(q(z|x,y)‖p(z)): minus the bound on ln p(x, y).

    Args:
        log_likelihood: ln p(x|y,z) of a sampled z, any shape.
        log_prior: ln p(y), of a shape that broadcasts to it.
        kl: of that shape.

    Returns:
        L for each sample (and class).

    Source: Kingma et al. 2014, equation 6.
    """
    return kl - log_likelihood - log_prior


def m2_unlabelled(labelled: Tensor, log_q: Tensor) -> Tensor:
    """U(x) = Σ_y q(y|x) (L(x,y) + ln q(y|x)), the exact sum over the classes; minus the bound on ln p(x).

    Args:
        labelled: L(x, y) for every class, (N, C), as :func:`m2_labelled` gives it.
        log_q: ln q(y|x), (N, C), normalised.

    Returns:
        (N,).

    Raises:
        ValueError: the shapes differ.

    Source: Kingma et al. 2014, equation 7.
    """
    require_shape("m2_unlabelled", "log_q", log_q, tuple(labelled.shape))
    return (log_q.exp() * (labelled + log_q)).sum(-1)


def m2_objective(
    labelled: Tensor,
    unlabelled: Tensor,
    log_q_of_labels: Tensor,
    classification: float,
    labelled_weight: float = 1.0,
) -> Tensor:
    """J = w Σ_l (L(x,y) − α ln q(y|x)) + Σ_u U(x), divided by the number of samples, w N_l + N_u.

    The paper's J is a sum over all data, with w = 1, and its α Σ_l is 0.1 · n times the mean over the
    labelled points, n all points: α = 0.1 · n / n_labelled for each of them. Where batches hold a share of
    the others, but every labelled point, that share is w.

    Args:
        labelled: L of the labelled samples, (N_l,).
        unlabelled: U of the others, (N_u,); either may be empty.
        log_q_of_labels: ln q(y|x) of the labelled samples' own classes, (N_l,).
        classification: α.
        labelled_weight: w, how much a labelled sample counts.

    Returns:
        A scalar.

    Raises:
        ValueError: no sample that counts, or shapes that differ.

    Source: Kingma et al. 2014, equations 8 and 9.
    """
    require_shape("m2_objective", "log_q_of_labels", log_q_of_labels, tuple(labelled.shape))
    if not 0 <= labelled_weight < math.inf:
        raise ValueError(
            f"m2_objective: labelled_weight: expected a finite number >= 0, got {labelled_weight}"
        )
    count = labelled_weight * labelled.numel() + unlabelled.numel()
    if not count > 0:
        raise ValueError("m2_objective: labelled, unlabelled: expected at least one sample, got none")
    known = labelled.sum() - classification * log_q_of_labels.sum()
    return (labelled_weight * known + unlabelled.sum()) / count


def weight_prior(parameters: Iterable[Tensor]) -> Tensor:
    """½ Σ w², minus the logarithm of a standard normal prior on the weights, up to a constant. A scalar.

    Divide it by the number of training points where the rest of the objective is a mean over them.

    Source: Kingma et al. 2014, section 4.
    """
    squares = [parameter.square().sum() for parameter in parameters]
    if not squares:
        raise ValueError("weight_prior: parameters: expected at least one tensor, got none")
    return torch.stack(squares).sum() / 2
