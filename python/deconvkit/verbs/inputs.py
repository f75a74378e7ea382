"""Images for the verbs: from files, or what ships with the dependencies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from deconvkit.data import digits, images, photographs
from deconvkit.data.images import square
from deconvkit.models.vgg import normalise
from deconvkit.train.checkpoint import Trained, load_model

Array = NDArray[Any]

LARGEST = 640  # pixels of the longer side of a photograph that is drawn


class VerbError(ValueError):
    """A verb that does not fit its model or its images, told in one line."""


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    input: Sequence[str] = ()
    invert: bool = False
    count: int = 60
    seed: int = 0
    names: str | None = None
    proposals: int = 0
    boxes: str | None = None
    ensemble: str | None = None
    crf: bool = False


class Drawn(NamedTuple):
    """What a verb has to show."""

    pictures: dict[str, Figure]  # by name of the file
    text: str = ""  # what is printed


def read_model(option: str, path: str, *wanted: str) -> Trained:
    """A trained model of one of the types wanted, whose weights are numbers.

    Raises:
        CheckpointError: it is none.
        VerbError: NaN or infinity.
    """
    trained = load_model(path, *wanted)
    if not all(value.isfinite().all() for value in trained.model.state_dict().values()):
        raise VerbError(f"{option}: expected numbers in {path}, got NaN or infinity among them")
    return trained


def side_of(features: int) -> int:
    """Pixels a side of a square image with so many values.

    Raises:
        VerbError: no square has as many.
    """
    side = math.isqrt(features)
    if side * side != features:
        raise VerbError(f"--checkpoint: expected a model of square grey images, got one of {features} values")
    return side


def digits_for(model: nn.Module, request: Request, size: int, most: int = 12) -> Tensor:
    """Square grey images in [0, 1] for a model, (N, size²).

    They are the user's, or for 8×8 pixels scikit-learn's digits, one of each class and again from the start.
    """
    if not request.input:
        if size != 8:
            raise VerbError(
                f"--input: expected images, as this model is of {size}x{size} pixels; "
                "only the 8x8 digits of scikit-learn need none"
            )
        return _to(model, _one_of_each(digits.sample_digits(), most))
    folder = Path(request.input[0])
    if len(request.input) == 1 and folder.is_dir() and any(folder.glob("*idx3-ubyte*")):
        part = "t10k" if any(folder.glob("t10k-images*")) else "train"
        found = digits.read_mnist(folder, part)
        if found.size != size:
            raise VerbError(
                f"--input: expected digits of {size}x{size} pixels, got {found.size}x{found.size}"
            )
        return _to(model, _one_of_each(found, most))
    squares = [square(images.read_image(file), size) for file in files(request.input)]
    grey = np.stack([photographs.grey(square) for square in squares]) / 255
    return _to(model, 1 - grey if request.invert else grey)


def colours_for(model: nn.Module, request: Request, size: int) -> Tensor:
    """Square colour images in [0, 1], (N, 3, size, size)."""
    squares = np.stack([square(picture, size) for _, picture in pictures_for(request)]) / 255
    return _to(model, squares if not request.invert else 1 - squares, flat=False).permute(0, 3, 1, 2)


def pictures_for(request: Request) -> list[tuple[str, NDArray[np.uint8]]]:
    """Photographs, (H, W, 3), with their names: the user's, or two of scikit-learn's."""
    if request.input:
        return [(file.name, images.read_image(file)) for file in files(request.input)]
    from sklearn.datasets import load_sample_image

    return [(name, np.asarray(load_sample_image(f"{name}.jpg"))) for name in ("china", "flower")]


def files(names: Sequence[str]) -> list[Path]:
    """The files named, and those in the folders named."""
    found: list[Path] = []
    for name in names:
        path = Path(name)
        found += images.image_files(path) if path.is_dir() else [path]
    return found


def normalised(picture: Array) -> Tensor:
    """An RGB image (H, W, 3) of 0 to 255 as VGG wants it, (1, 3, H, W)."""
    return normalise(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None])


def shrunk(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture that is no larger than can be drawn."""
    from PIL import Image

    factor = LARGEST / max(picture.shape[:2])
    if factor >= 1:
        return picture
    height, width = (max(1, round(factor * side)) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def class_names(request: Request, notes: dict[str, Any], classes: int) -> list[str]:
    """Names of the classes: the user's, those noted with the model, or numbers.

    Raises:
        VerbError: a file that cannot be read or has another number of lines.
    """
    if request.names is not None:
        try:
            lines = [line.strip() for line in Path(request.names).read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "no text"
            raise VerbError(f"--names: expected a text file, got {request.names} ({reason})") from error
        names = [line for line in lines if line]
        if len(names) != classes:
            raise VerbError(f"--names: expected {classes} names, got {len(names)} in {request.names}")
        return names
    noted = notes.get("classes")
    if isinstance(noted, list) and len(noted) == classes:
        return [str(name) for name in noted]
    return [str(number) for number in range(classes)]


def noted_number(notes: dict[str, Any], name: str, default: float) -> float:
    """A positive number that training noted, or the default."""
    value = notes.get(name, default)
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
    return float(value) if usable else default


def page_name(name: str, page: int) -> str:
    """A picture's name, with a number where there are several."""
    return name if page == 0 else f"{name}_{page + 1}"


def _one_of_each(found: digits.Digits, most: int) -> Array:
    """One digit of each class, then the next of each."""
    order = np.random.default_rng(0).permutation(len(found.labels))
    labels = found.labels[order]
    ranks = np.empty(len(order), np.int64)
    for label in np.unique(labels):
        ranks[labels == label] = np.arange((labels == label).sum())
    return found.images[order[np.lexsort((labels, ranks))[:most]]]


def _to(model: nn.Module, values: Array, flat: bool = True) -> Tensor:
    tensor = torch.from_numpy(np.array(values)).to(next(model.parameters()).dtype)
    return tensor.flatten(1) if flat else tensor
