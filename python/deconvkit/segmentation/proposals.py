"""Boxes that are looked at one by one, and what a network sees in all of them together."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_SHAPES = (1.0, 2.0, 0.5)  # width by height
_SMALLEST = 16  # pixels of the mean side


def proposals(height: int, width: int, count: int = 50) -> Tensor:
    """Boxes of several sizes and shapes, slid over an image by half their sides.

    The first is the whole image. Then squares whose side is the image's shorter one, and the boxes of the
    same area twice as wide as high, and twice as high as wide; then those of half that area, and so on down
    to 256 pixels. What reaches over the border is clipped. Boxes of one size come all or not at all: as many
    sizes as ``count`` has room for.

    Args:
        height: of the image, in pixels.
        width: of the image.
        count: the most boxes; at least 1.

    Returns:
        (n, 4), int64, n ≤ count: left, top, right, bottom, the last two exclusive; the largest first, none
        twice.

    Raises:
        ValueError: a number below 1.

    Source: in the place of Noh, Hong and Han's edge boxes (2015, section 4.3), which are learned.
    """
    for name, value in (("height", height), ("width", width), ("count", count)):
        if value < 1:
            raise ValueError(f"proposals: {name}: expected at least 1, got {value!r}")
    found = torch.tensor([[0, 0, width, height]])
    side = float(min(height, width))
    while side >= min(_SMALLEST, height, width):
        for shape in _SHAPES:
            across, down = side * math.sqrt(shape), side / math.sqrt(shape)
            new = [
                (left, top, left + across, top + down)
                for top in _places(height, down)
                for left in _places(width, across)
            ]
            more = clip_boxes(
                torch.cat([found.double(), torch.tensor(new, dtype=torch.float64)]), height, width
            )
            if len(more) > count:
                return found
            found = more
        side /= math.sqrt(2)
    return found


def _places(size: int, side: float) -> list[float]:
    """Where boxes begin: evenly, at most half a side apart, from one border to the other."""
    room = size - side
    if room <= 0:
        return [0.0]
    steps = math.ceil(room / (side / 2))
    return [room * step / steps for step in range(steps + 1)]


def clip_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes on whole pixels inside an image, the largest first, none twice and none empty.

    Args:
        boxes: (n, 4): left, top, right, bottom, the last two exclusive; fractions are rounded.
        height: of the image, in pixels.
        width: of the image.

    Returns:
        (m, 4), int64, m ≤ n.

    Raises:
        ValueError: another shape, or NaN or infinity.
    """
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"clip_boxes: boxes: expected shape (n, 4), got {tuple(boxes.shape)}")
    if not boxes.isfinite().all():
        raise ValueError("clip_boxes: boxes: expected finite numbers, got NaN or infinity among them")
    limits = torch.tensor([width, height, width, height], device=boxes.device)
    inside = torch.minimum(boxes.round().clamp(min=0), limits).long()
    inside = inside[(inside[:, 0] < inside[:, 2]) & (inside[:, 1] < inside[:, 3])].unique(dim=0)
    area = (inside[:, 2] - inside[:, 0]) * (inside[:, 3] - inside[:, 1])
    # unique has sorted them from left to right; rows first is the order of reading.
    order = torch.argsort(inside[:, 1], stable=True)
    return inside[order[torch.argsort(area[order], descending=True, stable=True)]]


@torch.no_grad()
def aggregate(network: nn.Module, image: Tensor, boxes: Tensor, size: int, batch_size: int = 8) -> Tensor:
    """The classes of an image's pixels, as seen in all boxes together.

    Each box is cut out, resized to the network's size and its scores back to the box's, bilinearly. The maps
    of all boxes, zero outside of them, are joined by the maximum at each pixel, from a map of zeros on: a
    score below 0 says no more than 0 does. Then comes the softmax over the classes.

    Args:
        network: of images (N, 3, size, size) to scores (N, C, h, w), as ``DeconvNet``; run in eval mode.
        image: (3, H, W), normalised as the network wants it.
        boxes: (n, 4): left, top, right, bottom, the last two exclusive; clipped to the image.
        size: the network's, in pixels.
        batch_size: boxes at a time.

    Returns:
        Probabilities, (C, H, W).

    Raises:
        ValueError: another shape, NaN or infinity in the image, a number below 1, or no box in the image.

    Source: Noh, Hong and Han 2015, section 4.3, equation 3.
    """
    if image.dim() != 3 or not image.numel():
        raise ValueError(f"aggregate: image: expected shape (3, H, W), got {tuple(image.shape)}")
    if not image.isfinite().all():
        raise ValueError("aggregate: image: expected finite numbers, got NaN or infinity among them")
    for name, value in (("size", size), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"aggregate: {name}: expected at least 1, got {value!r}")
    height, width = image.shape[1:]
    inside: list[list[int]] = clip_boxes(boxes, height, width).tolist()
    if not inside:
        raise ValueError(
            f"aggregate: boxes: expected one or more in an image of {width}x{height} pixels, got none"
        )
    training = network.training
    network.eval()
    try:
        joined = None
        for start in range(0, len(inside), batch_size):
            part = inside[start : start + batch_size]
            cut = [
                _resized(image[None, :, top:bottom, left:right], size, size)
                for left, top, right, bottom in part
            ]
            scores = network(torch.cat(cut))
            if joined is None:
                joined = scores.new_zeros(scores.shape[1], height, width)
            for (left, top, right, bottom), one in zip(part, scores.split(1), strict=True):
                there = joined[:, top:bottom, left:right]
                torch.maximum(there, _resized(one, bottom - top, right - left)[0], out=there)
    finally:
        network.train(training)
    assert joined is not None
    return joined.softmax(0)


def _resized(maps: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(maps, (height, width), mode="bilinear", align_corners=False)
