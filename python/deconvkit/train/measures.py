"""How good generated samples are."""

from __future__ import annotations

import torch
from torch import Tensor


def classes_of(real: Tensor, labels: Tensor, fake: Tensor) -> tuple[Tensor, float]:
    """What a classifier, trained on data, sees in generated samples.

    Args:
        real: (N, D).
        labels: (N,).
        fake: (M, D).

    Returns:
        The share of each class among the fakes, (C,), and the mean probability of the likeliest class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    # Products of pixels make it strong enough to be trusted, and it stays a convex problem.
    flat = real.numpy()
    classifier = LogisticRegression(max_iter=3000)
    if flat.shape[1] <= 100:
        classifier = make_pipeline(PolynomialFeatures(2, include_bias=False), classifier)
    probabilities = torch.from_numpy(classifier.fit(flat, labels.numpy()).predict_proba(fake.numpy()))
    confidence, seen = probabilities.max(1)
    shares = torch.bincount(seen, minlength=probabilities.shape[1]) / len(fake)
    return shares, confidence.mean().item()


def one_nearest_neighbour(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """The two-sample test by neighbours: shares of reals and of fakes whose nearest is of their own kind.

    ½ where nobody can tell them apart, 1 where anybody can (Lopez-Paz and Oquab 2017).
    """
    count = min(len(real), len(fake))
    both = torch.cat((real[:count], fake[:count]))
    distances = torch.cdist(both, both)
    distances.fill_diagonal_(torch.inf)
    nearest = distances.argmin(1)
    own = (nearest < count) == (torch.arange(2 * count) < count)
    return own[:count].float().mean().item(), own[count:].float().mean().item()
