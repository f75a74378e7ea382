"""Images from files: one, or a folder of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class DataError(ValueError):
    """A file or folder that is not what was wanted, told in one line."""


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """An image file as RGB, (H, W, 3) uint8.

    16 bits a pixel become 8; what is transparent becomes white; of a moving image it is the first frame.

    Raises:
        DataError: no such file, or none that pillow can read.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: expected an image file, got none of that name")
    with _refusing(path), Image.open(path) as image:
        return _rgb(ImageOps.exif_transpose(image))


def require_images(paths: Iterable[Path]) -> None:
    """Raise DataError at the first of these files that does not begin as an image does that can be read."""
    from PIL import Image

    for path in paths:
        with _refusing(path), Image.open(path) as image:
            _require_range(image)


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """What pillow says of a file that it cannot read, in a DataError."""
    from PIL import Image

    try:
        yield
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path}: expected an image, got a file that cannot be read as one ({reason})"
        ) from error


def _require_range(image: Any) -> None:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known; save it with 8 or 16 bits")


def _rgb(image: Any) -> NDArray[np.uint8]:
    """A pillow image's pixels, which its own conversion would clip at 255, or let show what nobody sees."""
    from PIL import Image

    _require_range(image)
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image).astype(np.int64) / 257, 0, 255).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, 2)
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def image_files(folder: str | Path) -> list[Path]:
    """The image files of a folder and of its subfolders, sorted.

    Raises:
        DataError: no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "nothing of that name"
        raise DataError(f"{folder}: expected a folder of images, got {kind}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise DataError(
            f"{folder}: expected images ({', '.join(SUFFIXES[:4])}, ...), got a folder without any"
        )
    return files


def class_folders(folder: str | Path) -> tuple[list[Path], list[int], list[str]]:
    """The images of a folder that has a folder for each class: files, their classes, the classes' names.

    Raises:
        DataError: no such folder, fewer than two classes, or a class without an image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "nothing of that name"
        raise DataError(f"{folder}: expected a folder with a folder of images for each class, got {kind}")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise DataError(
            f"{folder}: expected a folder of images for each of two or more classes, got {len(classes)}"
        )
    files: list[Path] = []
    labels: list[int] = []
    for label, path in enumerate(classes):
        found = image_files(path)
        files += found
        labels += [label] * len(found)
    return files, labels, [path.name for path in classes]


def sample_photographs_in_colour() -> dict[str, NDArray[np.uint8]]:
    """Photographs that ship with scikit-learn and scikit-image, (H, W, 3) uint8; nothing is downloaded."""
    import skimage
    from sklearn.datasets import load_sample_image

    photographs = {name: np.asarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower")}
    folder = Path(skimage.__file__).parent / "data"
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        photographs[name.split(".")[0]] = read_image(folder / name)
    return photographs


def random_crops(
    images: Sequence[NDArray[Any]], count: int, size: int, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Square crops of random places and scales, resized to size×size: (count, size, size, 3) uint8.

    A crop's side is between ``size`` and the image's shorter side, uniformly in its logarithm; half of the
    crops are mirrored. Each image gives a share by its area.

    Raises:
        DataError: no image, or one smaller than a crop.
    """
    from PIL import Image

    if not images:
        raise DataError("random_crops: images: expected at least one, got none")
    smallest = min(min(image.shape[:2]) for image in images)
    if smallest < size:
        raise DataError(
            f"random_crops: images: expected at least {size}x{size} pixels, got a side of {smallest}"
        )
    areas = np.array([image.shape[0] * image.shape[1] for image in images], dtype=float)
    chosen = generator.choice(len(images), count, p=areas / areas.sum())
    crops = np.empty((count, size, size, 3), np.uint8)
    for i, index in enumerate(chosen):
        image = images[index]
        height, width = image.shape[:2]
        side = int(size * (min(height, width) / size) ** generator.random())
        top, left = generator.integers(height - side + 1), generator.integers(width - side + 1)
        crop = Image.fromarray(image[top : top + side, left : left + side])
        crops[i] = np.asarray(crop.resize((size, size), Image.Resampling.BOX))
        if generator.random() < 0.5:
            crops[i] = crops[i][:, ::-1]
    return crops


def square(
    image: NDArray[np.uint8], size: int, generator: np.random.Generator | None = None
) -> NDArray[np.uint8]:
    """The middle square of an image, resized: (size, size, 3).

    With a generator: a square of 0.8 to 1 of the shorter side, anywhere, and mirrored half of the time.
    """
    from PIL import Image

    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    if generator is not None:
        side = max(1, round(side * generator.uniform(0.8, 1)))
        top, left = generator.integers(height - side + 1), generator.integers(width - side + 1)
    cut = image[top : top + side, left : left + side]
    if generator is not None and generator.random() < 0.5:
        cut = cut[:, ::-1]
    if side == size:
        return cut
    # BICUBIC widens its kernel when it shrinks, as torchvision's transforms do.
    resized = Image.fromarray(np.ascontiguousarray(cut)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized)
