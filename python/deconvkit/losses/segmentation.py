"""The loss of a network that labels pixels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

IGNORED = 255
"""The label of pixels that belong to no class, as in PASCAL VOC's border."""


def pixel_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """−ln softmax(scores)[label], the mean over all pixels whose label is not 255.

    Args:
        scores: (N, C, H, W), before the softmax.
        labels: (N, H, W), int64, 0 to C − 1, or 255.

    Returns:
        A scalar; 0, with a zero gradient, where no pixel counts.

    Raises:
        ValueError: the shapes do not belong together.

    Source: Noh, Hong and Han 2015, section 4.
    """
    expected = (scores.shape[0], *scores.shape[2:])
    if scores.dim() != 4 or tuple(labels.shape) != expected:
        raise ValueError(
            f"pixel_cross_entropy: labels: expected (N, H, W) for scores (N, C, H, W), got labels "
            f"{tuple(labels.shape)} for scores {tuple(scores.shape)}"
        )
    counted = (labels != IGNORED).sum().clamp(min=1)
    return functional.cross_entropy(scores, labels, ignore_index=IGNORED, reduction="sum") / counted
