"""MNIST's files, and files that are none."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from deconvkit.data.digits import read_idx, read_mnist, sample_digits
from deconvkit.data.images import DataError


def idx(array: np.ndarray, code: int = 8) -> bytes:
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder: Path, compress: bool, count: int = 5, labels: int | None = None) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    files = {
        "train-images-idx3-ubyte": images,
        "train-labels-idx1-ubyte": np.arange(labels or count, dtype=np.uint8) % 10,
    }
    for name, array in files.items():
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return images


def test_sample_digits() -> None:
    digits = sample_digits()
    assert digits.images.shape == (1797, 8, 8)
    assert digits.images.min() == 0
    assert digits.images.max() == 1
    assert sorted(set(digits.labels)) == list(range(10))


@pytest.mark.parametrize("compress", [False, True])
def test_mnist(compress: bool, tmp_path: Path) -> None:
    images = write_mnist(tmp_path, compress)
    digits = read_mnist(tmp_path)
    np.testing.assert_allclose(digits.images * 255, images, atol=1e-3)
    assert digits.labels.tolist() == [0, 1, 2, 3, 4]
    assert digits.size == 28


@pytest.mark.parametrize(
    ("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")]
)
def test_types(code: int, dtype: str, tmp_path: Path) -> None:
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    (tmp_path / "x").write_bytes(idx(array, code))
    read = read_idx(tmp_path / "x")
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (b"PK\3\4....", "begins with 50 4b 03 04"),
        (b"\0\0\7\1\0\0\0\1x", "begins with 00 00 07 01"),
        (b"\0\0\10\3\0\0", "cut short in its head"),
        (b"\0\0\10\1\0\0\0\5abc", r"expected 13 bytes for shape \(5,\), got 11"),
    ],
)
def test_no_idx_file(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "x")


def test_no_gzip_file(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(b"\0\0\10\1\0\0\0\0")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "x.gz")


def test_no_mnist_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing of that name"):
        read_mnist(tmp_path / "absent")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte or its \.gz, got neither"):
        read_mnist(tmp_path)
    write_mnist(tmp_path, False, labels=4)
    with pytest.raises(DataError, match="expected as many labels as images, got 4 for 5"):
        read_mnist(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="got a file"):
        read_mnist(tmp_path / "file")


def test_labels_that_are_no_digits(tmp_path: Path) -> None:
    write_mnist(tmp_path, False)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + bytes([26]))  # of letters, as EMNIST's files have them
    with pytest.raises(DataError, match="expected labels 0 to 9, got 26"):
        read_mnist(tmp_path)
