"""PASCAL VOC's folders: photographs, and a palette PNG for each with a class a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from deconvkit.data.images import DataError, read_image
from deconvkit.data.scenes import Bytes, Scene
from deconvkit.losses.segmentation import IGNORED

CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("table", "dog", "horse", "motorbike", "person", "plant", "sheep", "sofa", "train", "television"),
)


class VOCScenes(Sequence[Scene]):
    """The scenes of a list, each read when it is asked for.

    Args:
        folder: VOCdevkit (with VOC2012 in it), or VOC2012 itself: JPEGImages, SegmentationClass,
            ImageSets/Segmentation. Objects are SegmentationObject's where it is there, or else what hangs
            together in one class.
        part: the list: "train", "val" or "trainval".

    Raises:
        DataError: a folder or list is missing, or names what is not there.
    """

    def __init__(self, folder: str | Path, part: str = "train") -> None:
        folder = Path(folder)
        inner = sorted(folder.glob("VOC20*")) if folder.is_dir() else []
        self.folder = folder if (folder / "JPEGImages").is_dir() or not inner else inner[-1]
        for name in ("JPEGImages", "SegmentationClass"):
            if not (self.folder / name).is_dir():
                raise DataError(
                    f"{folder}: expected a VOCdevkit folder with JPEGImages, SegmentationClass and "
                    f"ImageSets/Segmentation, got one without {name}"
                )
        source = self.folder / "ImageSets" / "Segmentation" / f"{part}.txt"
        if not source.is_file():
            raise DataError(
                f"{source}: expected VOC's list of the images of {part!r}, a name a line, got no such file"
            )
        try:
            self.names = source.read_text("utf-8").split()
        except UnicodeDecodeError as error:
            raise DataError(f"{source}: expected a name a line, got a file that is no text") from error
        if not self.names:
            raise DataError(f"{source}: expected a name a line, got none")
        for name in self.names:
            for file in (self._image(name), self._labels("SegmentationClass", name)):
                if not file.is_file():
                    raise DataError(f"{source}: names {name}, but {file} is not there")

    def _image(self, name: str) -> Path:
        return self.folder / "JPEGImages" / f"{name}.jpg"

    def _labels(self, kind: str, name: str) -> Path:
        return self.folder / kind / f"{name}.png"

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Scene: ...

    @overload
    def __getitem__(self, index: slice) -> list[Scene]: ...

    def __getitem__(self, index: int | slice) -> Scene | list[Scene]:
        """Read one, or some.

        Raises:
            DataError: files that are none, or do not belong together.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        name = self.names[index]
        image = read_image(self._image(name))
        file = self._labels("SegmentationClass", name)
        labels = _read_labels(file, image.shape[:2])
        wrong = labels[(labels >= len(CLASSES)) & (labels != IGNORED)]
        if wrong.size:
            raise DataError(f"{file}: expected labels 0 to {len(CLASSES) - 1} or 255, got {wrong[0]}")
        file = self._labels("SegmentationObject", name)
        if file.is_file():
            objects = _read_labels(file, image.shape[:2])
            objects = np.where(objects == IGNORED, np.uint8(0), objects)
        else:
            objects = connected(labels)
        return Scene(image, labels, objects)


def connected(labels: Bytes) -> Bytes:
    """Number what hangs together in one class, from 1; at most 254 of them, the largest."""
    from scipy.ndimage import label

    found = np.zeros(labels.shape, np.int64)
    for value in np.unique(labels[(labels > 0) & (labels != IGNORED)]):
        parts, _ = label(labels == value)
        found += np.where(parts > 0, parts + found.max(), 0)
    sizes = np.bincount(found.ravel())[1:]
    number = np.zeros(len(sizes) + 1, np.uint8)
    kept = np.argsort(-sizes, kind="stable")[: IGNORED - 1]
    number[kept + 1] = np.arange(1, len(kept) + 1)
    return number[found]


def _read_labels(file: Path, shape: tuple[int, ...]) -> Bytes:
    """A palette or grey PNG's numbers."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            mode, labels = image.mode, np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: expected a PNG of labels, got a file that cannot be read as one") from error
    if mode not in ("P", "L"):
        raise DataError(f"{file}: expected a palette PNG, a class a pixel, got one of mode {mode}")
    if labels.shape != shape:
        raise DataError(
            f"{file}: expected the size of its image, {shape[1]}x{shape[0]}, got "
            f"{labels.shape[1]}x{labels.shape[0]}"
        )
    return labels.astype(np.uint8)
