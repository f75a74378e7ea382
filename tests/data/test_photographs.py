"""Photographs and patches."""

import numpy as np
import pytest

from deconvkit.data import photographs


def test_sample_photographs() -> None:
    photos = photographs.sample_photographs()
    assert list(photos) == ["china", "flower"]
    for photo in photos.values():
        assert photo.shape == (427, 640)
        assert photo.dtype == np.float64
        assert photo.min() >= 0
        assert photo.max() <= 1
        assert photo.std() > 0.1


def test_grey_is_luma() -> None:
    image = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]])
    np.testing.assert_allclose(photographs.grey(image), [[0.299, 0.587, 0.114, 1.0]])


def test_patches_are_cut_from_the_images_without_their_means() -> None:
    images = [np.arange(12 * 15.0).reshape(12, 15), np.full((8, 8), 7.0)]
    patches = photographs.random_patches(images, 41, 8, np.random.default_rng(0))
    assert patches.shape == (41, 64)
    np.testing.assert_allclose(patches.mean(1), 0, atol=1e-12)
    inside = np.arange(8)[:, None] * 15.0 + np.arange(8)
    np.testing.assert_allclose(patches[:21], np.tile((inside - inside.mean()).ravel(), (21, 1)))
    np.testing.assert_allclose(patches[21:], 0, atol=1e-12)


def test_patches_come_from_everywhere_and_depend_on_the_generator_alone() -> None:
    image = np.random.default_rng(0).random((10, 9))

    def cut(seed: int) -> np.ndarray:
        return photographs.random_patches([image], 300, 8, np.random.default_rng(seed))

    assert len(np.unique(cut(1).round(9), axis=0)) == 3 * 2
    np.testing.assert_array_equal(cut(1), cut(1))
    assert (cut(1) != cut(2)).any()


@pytest.mark.parametrize(
    ("images", "message"), [([], "at least one image"), ([np.zeros((9, 7))], r"8x8 pixels, got \(9, 7\)")]
)
def test_bad_images(images: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        photographs.random_patches(images, 4, 8, np.random.default_rng(0))


def test_scale_clips_at_three_deviations_and_maps_to_the_sigmoids_range() -> None:
    values = np.random.default_rng(0).standard_normal((500, 64))
    values[0, 0] = 50.0
    scale = photographs.PatchScale.of(values)
    assert scale.limit == pytest.approx(3 * values.std())
    scaled = scale.apply(values)
    assert scaled.min() >= 0.1 - 1e-12
    assert scaled.max() == pytest.approx(0.9)
    assert scale.apply(np.zeros(1)) == pytest.approx(0.5)
    inside = np.abs(values) <= scale.limit
    np.testing.assert_allclose(scale.undo(scaled)[inside], values[inside])
    np.testing.assert_allclose(scale.undo(scaled)[~inside], np.sign(values[~inside]) * scale.limit)


def test_tiles_there_and_back() -> None:
    image = np.arange(19 * 26.0).reshape(19, 26)
    tiles = photographs.tile(image, 8)
    assert tiles.shape == (2 * 3, 64)
    np.testing.assert_array_equal(tiles[4].reshape(8, 8), image[8:16, 8:16])
    np.testing.assert_array_equal(photographs.untile(tiles, 19, 26, 8), image[:16, :24])


def test_patches_of_one_colour_have_no_scale() -> None:
    with pytest.raises(ValueError, match="expected patches that vary"):
        photographs.PatchScale.of(np.zeros((5, 4)))
