"""How ``segment`` looks at an image: in one pass or box by box, with a second opinion, smoothed or not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvkit import segmentation
from deconvkit.verbs.inputs import Request, VerbError, normalised, read_model

Array = NDArray[Any]

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_BOX = re.compile(r"(?:(.*?)[\s,]+)?" + r"[\s,]+".join([_NUMBER] * 4))


class Segmenter:
    """What the user asked for, read and checked once, then applied to each image.

    Args:
        model: a ``DeconvNet``.
        request: its proposals, boxes, ensemble and crf.
        count: of the images to come.

    Raises:
        CheckpointError, VerbError: a file that cannot be read or does not fit, or options that exclude each
            other.
    """

    def __init__(self, model: Any, request: Request, count: int) -> None:
        if request.boxes is not None and request.proposals:
            raise VerbError(
                "--proposals: expected none beside --boxes, which has boxes of its own, "
                f"got {request.proposals}"
            )
        self._model, self._request = model, request
        self._boxes = None if request.boxes is None else _read_boxes(request.boxes)
        self._second: Any = None
        self._map: Tensor | None = None
        if request.ensemble is not None and Path(request.ensemble).suffix == ".npy":
            self._map = _read_map(request.ensemble, model.num_classes, count)
        elif request.ensemble is not None:
            self._second = read_model("--ensemble", request.ensemble, "DeconvNet").model
            found = self._second.num_classes
            if found != model.num_classes:
                raise VerbError(
                    f"--ensemble: expected a model of {model.num_classes} classes, got one of {found} in "
                    f"{request.ensemble}"
                )

    def __call__(self, name: str, picture: Array, size: tuple[int, int]) -> tuple[Array, str]:
        """The class of every pixel, and how it was found.

        Args:
            name: of the image, which its boxes go by.
            picture: (H, W, 3), uint8.
            size: height and width of the image in its file, which boxes are of.

        Returns:
            (H, W), int64, and a few words.

        Raises:
            VerbError: no box is for the image.
        """
        images = normalised(picture)
        boxes = self._boxes_of(name, picture, size)
        if boxes is None:
            chances, how = self._model.probabilities(images)[0], "in one pass"
        else:
            chances = segmentation.aggregate(self._model, images[0], boxes, self._model.input_size)
            how = f"over {len(boxes)} box{'es' if len(boxes) > 1 else ''}"
        second = self._opinion(images)
        if second is not None:
            chances = segmentation.ensemble(chances, second)
            how += ", in the mean with a second map"
        if self._request.crf:
            colours = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
            chances = segmentation.dense_crf(chances, colours)
            how += ", after a dense CRF"
        return chances.argmax(0).numpy(), how

    def _boxes_of(self, name: str, picture: Array, size: tuple[int, int]) -> Tensor | None:
        height, width = picture.shape[:2]
        if self._boxes is None:
            wanted = self._request.proposals
            return segmentation.proposals(height, width, wanted) if wanted else None
        found = [box for of, box in self._boxes if of is None or of == name]
        scale = torch.tensor([width / size[1], height / size[0]], dtype=torch.float64).repeat(2)
        boxes = torch.tensor(found, dtype=torch.float64).view(-1, 4) * scale
        inside = segmentation.clip_boxes(boxes, height, width)
        if not len(inside):
            raise VerbError(
                f"--boxes: expected a box in {name}, of {size[1]}x{size[0]} pixels, got none in "
                f"{self._request.boxes}"
            )
        return inside

    def _opinion(self, images: Tensor) -> Tensor | None:
        if self._second is not None:
            second: Tensor = self._second.probabilities(images)[0]
            return second
        if self._map is None:
            return None
        return torch.nn.functional.interpolate(
            self._map[None], images.shape[2:], mode="bilinear", align_corners=False
        )[0]


def _read_boxes(path: str) -> list[tuple[str | None, list[float]]]:
    """A box a line: left, top, right and bottom in pixels, before them, if they are of one image, its name.

    Raises:
        VerbError: no file, no text, or a line of another kind.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise VerbError(f"--boxes: expected a text file, got {path} ({reason})") from error
    boxes = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _BOX.fullmatch(line.strip())
        box = [float(value) for value in match.groups()[1:]] if match else []
        if not box or not (box[0] < box[2] and box[1] < box[3] and np.isfinite(box).all()):
            raise VerbError(
                f"--boxes: expected [NAME] LEFT TOP RIGHT BOTTOM in each line, got {line.strip()[:60]!r} "
                f"in line {number} of {path}"
            )
        assert match is not None
        boxes.append((match.group(1) or None, box))
    if not boxes:
        raise VerbError(f"--boxes: expected a box in each line, got a file without any, {path}")
    return boxes


def _read_map(path: str, classes: int, count: int) -> Tensor:
    """Probabilities (C, H, W) from a file of NumPy's.

    Raises:
        VerbError: it holds something else, or there are several images for the one map.
    """
    try:
        with open(path, "rb") as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        raise VerbError(f"--ensemble: expected an array of NumPy's, got {path} ({reason})") from error
    expected = f"--ensemble: expected probabilities of shape ({classes}, height, width)"
    if values.ndim != 3 or len(values) != classes or not values.size or values.dtype.kind != "f":
        raise VerbError(f"{expected}, got {values.dtype} {values.shape} in {path}")
    # Written so that NaN is refused as well.
    if not (values.min() >= 0 and np.abs(values.sum(0, dtype=np.float64) - 1).max() <= 0.02):
        raise VerbError(
            f"{expected} that add up to 1 over the classes, got other numbers in {path} "
            "(a softmax makes them of scores)"
        )
    if count != 1:
        raise VerbError(f"--ensemble: expected one image beside the map of one, got {count}")
    return torch.from_numpy(values.astype(np.float32))
