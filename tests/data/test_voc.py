"""VOC's folders, and what is none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvkit.data.images import DataError
from deconvkit.data.voc import CLASSES, VOCScenes, connected


def palette(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array.astype(np.uint8), "L").convert("P")
    image.putdata(array.ravel().tolist())
    image.putpalette([i * 7 % 256 for i in range(768)])
    image.save(path)


def write_voc(folder: Path, names: dict[str, list[str]], objects: bool = False) -> None:
    """Images of 30 rows and 40 columns: one square of class 8 + i, and two of the class before; a ring."""
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    for part, listed in names.items():
        (folder / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(listed) + "\n")
        for i, name in enumerate(listed):
            labels = np.zeros((30, 40), np.uint8)
            labels[4:14, 4:14], labels[4:14, 20:30], labels[18:28, 4:34] = 8 + i, 7 + i, 7 + i
            labels[3, :] = 255
            palette(labels, folder / "SegmentationClass" / f"{name}.png")
            Image.fromarray(np.repeat(labels[..., None] * 5, 3, 2)).save(
                folder / "JPEGImages" / f"{name}.jpg"
            )
            if objects:
                numbers = np.where(labels == 255, 255, (labels > 0) * 1)
                palette(numbers, folder / "SegmentationObject" / f"{name}.png")


PARTS = {"train": ["2007_01", "2007_02"], "val": ["2008_01"]}


def test_scenes(tmp_path: Path) -> None:
    write_voc(tmp_path / "VOCdevkit" / "VOC2012", PARTS)
    for folder in (tmp_path / "VOCdevkit", tmp_path / "VOCdevkit" / "VOC2012"):
        scenes = VOCScenes(folder, "train")
        assert len(scenes) == 2
        scene = scenes[1]
        assert scene.image.shape == (30, 40, 3)
        assert np.unique(scene.labels).tolist() == [0, 8, 9, 255]
        assert CLASSES[8] == "cat"
        assert len(scene.boxes()) == 3
        assert len(VOCScenes(folder, "val")) == len(scenes[:1]) == 1


def test_objects_are_those_of_the_folder_where_it_has_them(tmp_path: Path) -> None:
    write_voc(tmp_path, PARTS, objects=True)
    scene = VOCScenes(tmp_path)[0]
    assert np.unique(scene.objects).tolist() == [0, 1]
    assert not scene.objects[3].any()


def test_what_hangs_together() -> None:
    labels = np.array([[1, 1, 0, 1], [0, 2, 2, 0], [255, 255, 2, 0]], np.uint8)
    expected = [[1, 1, 0, 2], [0, 3, 3, 0], [0, 0, 3, 0]]
    found = connected(labels)
    pairs = set(zip(found.ravel().tolist(), np.ravel(expected).tolist(), strict=True))
    assert len(pairs) == 4  # the same parts, whatever their numbers
    checks = np.indices((60, 60)).sum(0) % 2 == 0
    assert len(np.unique(connected(checks.astype(np.uint8)))) == 255


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


LIST = "ImageSets/Segmentation/train.txt"
LABELS = "SegmentationClass/2007_01.png"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove(LIST), r"train\.txt: expected VOC's list of the images of 'train', .* got no such file"),
        (write(LIST, b" \n"), "expected a name a line, got none"),
        (write(LIST, b"\xff\xfe\xff"), "got a file that is no text"),
        (remove(LABELS), r"names 2007_01, but .*2007_01\.png is not there"),
        (remove("JPEGImages/2007_02.jpg"), r"names 2007_02, but .*2007_02\.jpg is not there"),
        (write(LABELS, b"text"), "expected a PNG of labels, got a file that cannot be read as one"),
        (lambda f: Image.new("RGB", (40, 30)).save(f / LABELS), "expected a palette PNG, .* mode RGB"),
        (lambda f: palette(np.zeros((20, 40)), f / LABELS), "size of its image, 40x30, got 40x20"),
        (lambda f: palette(np.full((30, 40), 21), f / LABELS), "labels 0 to 20 or 255, got 21"),
    ],
)
def test_folders_that_are_spoilt(spoil: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    write_voc(tmp_path, PARTS)
    spoil(tmp_path)
    with pytest.raises(DataError, match=message) as error:
        VOCScenes(tmp_path)[0]
    assert "\n" not in str(error.value)


def test_folders_that_are_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=r"expected a VOCdevkit folder .* got one without JPEGImages"):
            VOCScenes(folder)
