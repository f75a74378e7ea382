"""Handwritten digits: scikit-learn's 8×8 ones, which ship with it, or MNIST's files."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deconvkit.data.images import DataError

CLASSES = tuple(map(str, range(10)))  # their names, by label
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Digits(NamedTuple):
    """Images and what they show."""

    images: NDArray[np.float32]  # (N, size, size), in [0, 1]
    labels: NDArray[np.int64]  # (N,)

    @property
    def size(self) -> int:
        """Pixels a side."""
        return int(self.images.shape[1])


def sample_digits() -> Digits:
    """scikit-learn's 1797 digits of 8×8 pixels."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return Digits((loaded.images / 16).astype(np.float32), loaded.target.astype(np.int64))


def read_idx(path: str | Path) -> NDArray[np.generic]:
    """An IDX file (MNIST's format), gzipped or not.

    Raises:
        DataError: no such file, or none of that format, or one cut short.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: expected an IDX file, got none of that name")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: expected an IDX file, got one that cannot be read ({error})") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES or content[3] == 0:
        raise DataError(
            f"{path}: expected an IDX file, got one that begins with {content[:4].hex(' ') or 'nothing'}"
        )
    head = 4 + 4 * content[3]
    if len(content) < head:
        raise DataError(f"{path}: expected an IDX file, got one cut short in its head")
    shape = struct.unpack(f">{content[3]}I", content[4:head])
    dtype = np.dtype(_TYPES[content[2]])
    wanted = head + math.prod(shape) * dtype.itemsize
    if len(content) != wanted:
        raise DataError(f"{path}: expected {wanted} bytes for shape {shape}, got {len(content)}")
    return np.frombuffer(content, dtype, offset=head).reshape(shape).astype(dtype.newbyteorder("="))


def read_mnist(folder: str | Path, part: str = "train") -> Digits:
    """MNIST's two files of a part, "train" or "t10k", from the folder that holds them, gzipped or not.

    Raises:
        DataError: a file is missing or not what its name says.
    """
    folder = Path(folder)
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "nothing of that name"
        raise DataError(f"{folder}: expected a folder with MNIST's files, got {kind}")

    def find(kind: str, dims: int) -> NDArray[np.generic]:
        for separator in ("-", "."):
            for suffix in ("", ".gz"):
                path = folder / f"{part}-{kind}{separator}idx{dims}-ubyte{suffix}"
                if path.is_file():
                    array = read_idx(path)
                    if array.ndim != dims:
                        raise DataError(f"{path}: expected {dims} dimensions, got {array.ndim}")
                    return array
        raise DataError(f"{folder}: expected {part}-{kind}-idx{dims}-ubyte or its .gz, got neither")

    images, labels = find("images", 3), find("labels", 1)
    if len(images) != len(labels):
        raise DataError(f"{folder}: expected as many labels as images, got {len(labels)} for {len(images)}")
    if images.shape[1] != images.shape[2]:
        raise DataError(f"{folder}: expected square images, got {images.shape[1]}x{images.shape[2]}")
    numbers = labels.astype(np.int64)
    wrong = numbers[(numbers < 0) | (numbers >= len(CLASSES))]
    if len(wrong):
        raise DataError(f"{folder}: expected labels 0 to {len(CLASSES) - 1}, got {wrong[0]}")
    return Digits((images.astype(np.float32) / np.float32(255)), numbers)
