"""Images and folders, crops, and what is none of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvkit.data.images import (
    DataError,
    image_files,
    random_crops,
    read_image,
    sample_photographs_in_colour,
)


def test_images_of_every_mode(tmp_path: Path) -> None:
    for mode in ("RGB", "L", "RGBA", "P", "1"):
        Image.new(mode, (5, 4)).save(tmp_path / f"{mode}.png")
    for path in image_files(tmp_path):
        image = read_image(path)
        assert image.shape == (4, 5, 3)
        assert image.dtype == np.uint8


def test_folders_are_searched_to_the_ground(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    Image.new("RGB", (5, 4)).save(tmp_path / "a" / "b" / "x.JPG", "jpeg")
    Image.new("RGB", (5, 4)).save(tmp_path / "y.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert [path.name for path in image_files(tmp_path)] == ["x.JPG", "y.png"]


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("text")
    with pytest.raises(DataError, match="cannot be read as one"):
        read_image(tmp_path / "x.png")
    with pytest.raises(DataError, match="got none of that name"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(DataError, match="nothing of that name"):
        image_files(tmp_path / "absent")
    with pytest.raises(DataError, match="got a file"):
        image_files(tmp_path / "x.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a folder without any"):
        image_files(tmp_path / "empty")
    Image.new("RGB", (500, 400), "red").save(tmp_path / "cut.jpg")
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read as one"):
        read_image(tmp_path / "cut.jpg")


def test_crops() -> None:
    photographs = list(sample_photographs_in_colour().values())
    assert len(photographs) == 6
    crops, again = (random_crops(photographs, 20, 32, np.random.default_rng(3)) for _ in range(2))
    assert crops.shape == (20, 32, 32, 3)
    np.testing.assert_array_equal(crops, again)
    assert len({crop.tobytes() for crop in crops}) == 20
    flat = np.full((40, 50, 3), 7, np.uint8)
    assert (random_crops([flat], 4, 40, np.random.default_rng(0)) == 7).all()
    with pytest.raises(DataError, match="expected at least 64x64 pixels, got a side of 40"):
        random_crops([flat], 1, 64, np.random.default_rng(0))
    with pytest.raises(DataError, match="at least one"):
        random_crops([], 1, 64, np.random.default_rng(0))
