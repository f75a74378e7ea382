"""Images and folders, crops, and what is none of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvkit.data.images import (
    DataError,
    class_folders,
    image_files,
    random_crops,
    read_image,
    sample_photographs_in_colour,
    square,
)


def test_images_of_every_mode(tmp_path: Path) -> None:
    for mode in ("RGB", "L", "RGBA", "P", "1"):
        Image.new(mode, (5, 4)).save(tmp_path / f"{mode}.png")
    for path in image_files(tmp_path):
        image = read_image(path)
        assert image.shape == (4, 5, 3)
        assert image.dtype == np.uint8


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    values = np.array([[0, 257, 65535], [128 * 257, 200, 25700]], np.uint16)
    for name in ("x.png", "x.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert read_image(tmp_path / name)[..., 1].tolist() == [[0, 1, 255], [128, 1, 100]]
    Image.fromarray(np.ones((3, 3), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match="floating-point pixels, whose range is not known"):
        read_image(tmp_path / "float.tif")


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    ink = np.zeros((2, 2, 4), np.uint8)  # black ink on nothing
    ink[0, 0, 3], ink[0, 1, 3] = 255, 51
    Image.fromarray(ink).save(tmp_path / "ink.png")
    assert read_image(tmp_path / "ink.png")[..., 0].tolist() == [[0, 204], [255, 255]]
    palette = Image.fromarray(np.zeros((2, 2), np.uint8)).convert("P")
    palette.save(tmp_path / "palette.png", transparency=bytes(256))
    assert (read_image(tmp_path / "palette.png") == 255).all()


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


def test_a_folder_of_images_for_each_class(tmp_path: Path) -> None:
    for name, count in (("dog", 2), ("cat", 1), (".hidden", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (5, 4)).save(tmp_path / name / f"{i}.png")
    files, labels, names = class_folders(tmp_path)
    assert [file.parent.name for file in files] == ["cat", "dog", "dog"]
    assert labels == [0, 1, 1]
    assert names == ["cat", "dog"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: expected images .* got a folder without any"):
        class_folders(tmp_path)
    with pytest.raises(DataError, match="for each of two or more classes, got 0"):
        class_folders(tmp_path / "cat")
    for name, kind in (("absent", "nothing of that name"), ("cat/0.png", "a file")):
        with pytest.raises(DataError, match=f"a folder of images for each class, got {kind}"):
            class_folders(tmp_path / name)


def test_squares() -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 255
    assert square(image, 8).min() == 255  # the middle
    assert square(image, 20).shape == (20, 20, 3)
    generator = np.random.default_rng(0)
    shares = [square(image, 8, generator).mean() / 255 for _ in range(50)]
    assert min(shares) < 0.7
    assert max(shares) == 1
    image[:] = np.arange(40)[None, :, None]
    directions = [np.sign(np.diff(square(image, 8, generator)[0, :, 0].astype(int)).sum()) for _ in range(20)]
    assert set(directions) == {-1, 1}  # mirrored or not
