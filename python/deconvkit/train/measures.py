"""How good generated samples and labelled pixels are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from deconvkit.losses.segmentation import IGNORED


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


def mean_iou(predicted: Tensor, labels: Tensor, classes: int) -> float:
    """Intersection over union of the predicted and true pixels of a class, the mean over the classes.

    All pixels count together, but for those labelled 255; a class that is nowhere does not count.

    Args:
        predicted: (N, H, W), 0 to classes − 1.
        labels: (N, H, W), and 255.
        classes: the background among them.
    """
    from torchmetrics.functional.classification import multiclass_jaccard_index

    found = multiclass_jaccard_index(predicted.long(), labels.long(), classes, ignore_index=IGNORED)
    return float(found)


def boundary_band(labels: Tensor, radius: int) -> Tensor:
    """The pixels of (N, H, W) with another label at most ``radius`` rows and columns away, as booleans."""
    maps, side = labels[:, None].float(), 2 * radius + 1
    most = functional.max_pool2d(maps, side, 1, radius)
    least = -functional.max_pool2d(-maps, side, 1, radius)
    return (most != least)[:, 0]


def boundary_iou(predicted: Tensor, labels: Tensor, classes: int, radius: int = 2) -> float:
    """:func:`mean_iou` of the pixels in the band around the boundaries of the true labels.

    Source: the "trimap" measure of Kohli, Ladicky and Torr 2009, by the mean IoU.
    """
    outside = ~boundary_band(labels, radius)
    return mean_iou(predicted, labels.masked_fill(outside, IGNORED), classes)
