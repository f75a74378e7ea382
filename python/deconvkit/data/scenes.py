"""Scenes whose pixels have labels, and what is cut out of them to train a network that labels pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deconvkit.losses.segmentation import IGNORED

Bytes = NDArray[np.uint8]


class Box(NamedTuple):
    """A rectangle of pixels; bottom and right are the first behind it."""

    top: int
    left: int
    bottom: int
    right: int


class Scene(NamedTuple):
    """An image, what each pixel shows, and which object it belongs to."""

    image: Bytes  # (H, W, 3)
    labels: Bytes  # (H, W): 0 background, 1 to C − 1, 255 ignored
    objects: Bytes  # (H, W): 0 none, 1, 2, ... the objects

    @property
    def whole(self) -> Box:
        """All of it."""
        return Box(0, 0, *self.labels.shape)

    def boxes(self) -> dict[int, Box]:
        """The smallest box of each object, by its number."""
        from scipy.ndimage import find_objects

        found = {}
        for number, slices in enumerate(find_objects(self.objects.astype(np.int32)), 1):
            if slices is not None:
                rows, columns = slices
                found[number] = Box(rows.start, columns.start, rows.stop, columns.stop)
        return found

    def cut(self, box: Box, size: int, only: int | None = None) -> tuple[Bytes, Bytes]:
        """A box, stretched to size × size: its image (size, size, 3) and labels (size, size).

        Args:
            box: within the scene.
            size: pixels a side.
            only: number of the object whose label is kept; all others become background.
        """
        from PIL import Image

        rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
        labels = self.labels[rows, columns]
        if only is not None:
            labels = np.where(
                (self.objects[rows, columns] == only) | (labels == IGNORED), labels, np.uint8(0)
            )
        # BILINEAR widens its kernel when it shrinks.
        image = Image.fromarray(self.image[rows, columns]).resize((size, size), Image.Resampling.BILINEAR)
        small = Image.fromarray(labels).resize((size, size), Image.Resampling.NEAREST)
        return np.asarray(image), np.asarray(small)


def enlarged(box: Box, factor: float, within: Box, shift: tuple[float, float] = (0.0, 0.0)) -> Box:
    """A box made larger about its middle, moved by shares of its sides, and kept within another."""
    height, width = box.bottom - box.top, box.right - box.left
    middle = (box.top + box.bottom) / 2 + shift[0] * height, (box.left + box.right) / 2 + shift[1] * width
    top, left = round(middle[0] - factor * height / 2), round(middle[1] - factor * width / 2)
    bottom, right = round(middle[0] + factor * height / 2), round(middle[1] + factor * width / 2)
    top, left = min(max(top, within.top), within.bottom - 1), min(max(left, within.left), within.right - 1)
    return Box(top, left, max(min(bottom, within.bottom), top + 1), max(min(right, within.right), left + 1))


def centred_object(scene: Scene, size: int, generator: np.random.Generator) -> tuple[Bytes, Bytes]:
    """The first stage's samples: an object of the scene in the middle, the others called background.

    Its box is made 1.2 times as large. A scene without objects is taken whole. Half of all are mirrored.

    Source: Noh, Hong and Han 2015, section 4.2.
    """
    boxes = scene.boxes()
    if not boxes:
        return _mirrored(*scene.cut(scene.whole, size), generator)
    number = _any(list(boxes), generator)
    box = enlarged(boxes[number], 1.2, scene.whole)
    return _mirrored(*scene.cut(box, size, only=number), generator)


def proposal(scene: Scene, size: int, generator: np.random.Generator) -> tuple[Bytes, Bytes]:
    """The second stage's samples: what a proposal may show, with all labels.

    A box about an object, 1 to 2.5 times as large as its own and off by up to a fifth, or, one time in five,
    the whole scene. Half of all are mirrored.

    Source: Noh, Hong and Han 2015, section 4.2.
    """
    boxes = scene.boxes()
    box = scene.whole
    if boxes and generator.random() >= 0.2:
        about = boxes[_any(list(boxes), generator)]
        down, across = generator.uniform(-0.2, 0.2, 2)
        box = enlarged(about, 2.5 ** generator.random(), scene.whole, (down, across))
    return _mirrored(*scene.cut(box, size), generator)


def _any(numbers: Sequence[int], generator: np.random.Generator) -> int:
    return numbers[int(generator.integers(len(numbers)))]


def _mirrored(image: Bytes, labels: Bytes, generator: np.random.Generator) -> tuple[Bytes, Bytes]:
    if generator.random() < 0.5:
        return image[:, ::-1], labels[:, ::-1]
    return image, labels
