"""Scenes, what is cut out of them, and drawn ones."""

import numpy as np
import pytest
from PIL import Image

from deconvkit.data import shapes
from deconvkit.data.scenes import Box, Scene, centred_object, enlarged, proposal


def two_objects() -> Scene:
    """40 rows, 60 columns: object 1 of class 3 and object 4 of class 2, between them a ring of 255."""
    image, (labels, objects) = np.zeros((40, 60, 3), np.uint8), np.zeros((2, 40, 60), np.uint8)
    labels[10:20, 5:25], objects[10:20, 5:25] = 3, 1
    labels[10:20, 25] = 255
    labels[10:30, 26:46], objects[10:30, 26:46] = 2, 4
    image[labels == 3] = (200, 0, 0)
    image[labels == 2] = (0, 0, 200)
    return Scene(image, labels, objects)


def test_boxes() -> None:
    assert two_objects().boxes() == {1: Box(10, 5, 20, 25), 4: Box(10, 26, 30, 46)}
    assert Scene(*np.zeros((3, 4, 4), np.uint8)).boxes() == {}


def test_enlarged_boxes() -> None:
    within = Box(0, 0, 40, 60)
    assert enlarged(Box(10, 10, 20, 30), 1.2, within) == (9, 8, 21, 32)
    assert enlarged(Box(10, 10, 20, 30), 1.0, within, (0.5, -0.5)) == (15, 0, 25, 20)
    assert enlarged(Box(0, 50, 20, 60), 2.0, within) == (0, 45, 30, 60)
    for factor in (0.01, 9.0):  # never empty, never outside
        for shift in ((-9, -9), (9, 9), (0, 0)):
            top, left, bottom, right = enlarged(Box(0, 50, 20, 60), factor, within, shift)
            assert 0 <= top < bottom <= 40
            assert 0 <= left < right <= 60


def test_cutting_keeps_labels_whole_and_colours_right() -> None:
    scene = two_objects()
    image, labels = scene.cut(Box(8, 0, 32, 60), 24)
    assert image.shape == (24, 24, 3)
    assert set(np.unique(labels)) <= {0, 2, 3, 255}
    # Row 20 of the scene is 12 of the cut, column 35 is 14.
    assert labels[12, 14] == 2
    assert image[12, 14].tolist() == [0, 0, 200]
    _, only = scene.cut(Box(8, 0, 32, 60), 60, only=1)
    assert set(np.unique(only)) == {0, 3, 255}


def test_the_first_stage_shows_one_object_in_the_middle() -> None:
    """Its box is 1.2 times as large as the object, so it takes 1 / 1.44 of the sample."""
    scene, generator = two_objects(), np.random.default_rng(0)
    seen = []
    for _ in range(30):
        _, labels = centred_object(scene, 60, generator)
        (label,) = set(np.unique(labels)) - {0, 255}
        rows, columns = np.nonzero(labels == label)
        assert abs(rows.mean() - 29.5) < 2
        assert abs(columns.mean() - 29.5) < 2
        assert (labels == label).mean() == pytest.approx(1 / 1.44, abs=0.05)
        seen.append(label)
    assert set(seen) == {2, 3}


def test_the_second_stage_shows_all_labels_at_many_scales() -> None:
    scene, generator = two_objects(), np.random.default_rng(0)
    samples = [proposal(scene, 30, generator)[1] for _ in range(100)]
    assert any({2, 3} <= set(np.unique(labels)) for labels in samples)
    shares = [(labels == 2).mean() for labels in samples]
    assert min(shares) < 0.2
    assert max(shares) > 0.7


def test_a_scene_without_objects() -> None:
    scene = Scene(np.zeros((9, 7, 3), np.uint8), *np.zeros((2, 9, 7), np.uint8))
    for cut in (centred_object, proposal):
        image, labels = cut(scene, 8, np.random.default_rng(0))
        assert image.shape == (8, 8, 3)
        assert not labels.any()


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return shapes.draw_scenes(60, 64, np.random.default_rng(0))


def test_drawn_scenes(drawn: list[Scene]) -> None:
    labels = np.stack([scene.labels for scene in drawn])
    assert set(np.unique(labels)) == set(range(len(shapes.CLASSES)))
    assert 0.5 < (labels == 0).mean() < 0.95
    counts = [len(scene.boxes()) for scene in drawn]
    assert min(counts) == 1
    assert max(counts) == 2
    widths = [box.right - box.left for scene in drawn for box in scene.boxes().values()]
    assert min(widths) < 18
    assert max(widths) > 30
    for scene in drawn:
        assert scene.image.shape == (64, 64, 3)
        assert scene.image.dtype == scene.labels.dtype == scene.objects.dtype == np.uint8
        np.testing.assert_array_equal(scene.labels > 0, scene.objects > 0)


def test_drawn_objects_have_one_label_and_another_colour(drawn: list[Scene]) -> None:
    for scene in drawn:
        behind = scene.image[scene.labels == 0].mean(0)
        for number in scene.boxes():
            inside = scene.objects == number
            assert len(np.unique(scene.labels[inside])) == 1
            assert np.linalg.norm(scene.image[inside].mean(0) - behind) > 25


def test_outlines() -> None:
    """How much of its circle a shape fills."""
    filled = {}
    for label in range(1, len(shapes.CLASSES)):
        masks = [shapes._mask(label, 40, np.random.default_rng(i)) for i in range(20)]
        assert all(mask.shape == (40, 40) and mask.max() == 1 for mask in masks)
        filled[shapes.CLASSES[label]] = np.mean([(mask > 0).mean() for mask in masks])
    assert filled["disc"] > filled["square"] > filled["star"] > filled["triangle"]


def test_a_ring_is_where_labels_meet() -> None:
    generators = (np.random.default_rng(1) for _ in range(2))
    bare, ringed = (
        shapes.draw_scenes(1, 64, generator, ring=ring)[0]
        for generator, ring in zip(generators, (False, True), strict=True)
    )
    np.testing.assert_array_equal(bare.image, ringed.image)
    padded = np.pad(bare.labels, 1, mode="edge")
    for row in range(64):
        for column in range(64):
            meets = len(np.unique(padded[row : row + 3, column : column + 3])) > 1
            assert ringed.labels[row, column] == (255 if meets else bare.labels[row, column])


def test_the_same_seed_draws_the_same_on_any_photographs() -> None:
    photographs = [np.asarray(Image.new("RGB", (90, 80), "red"))]
    first, second = (
        shapes.draw_scenes(2, 64, np.random.default_rng(3), photographs=photographs) for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
        assert one.image[one.labels == 0][0].tolist() == [255, 0, 0]
