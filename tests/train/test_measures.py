"""How good labelled pixels are, against NumPy's slow and obvious way."""

import numpy as np
import pytest
import torch

from deconvkit.train.measures import boundary_band, boundary_iou, mean_iou


def by_counting(predicted: np.ndarray, labels: np.ndarray, classes: int) -> float:
    found = []
    for label in range(classes):
        both = ((predicted == label) & (labels == label)).sum()
        either = (((predicted == label) | (labels == label)) & (labels != 255)).sum()
        if either:
            found.append(both / either)
    return float(np.mean(found))


def near_another(labels: np.ndarray, radius: int) -> np.ndarray:
    band = np.zeros(labels.shape, bool)
    count, height, width = labels.shape
    for n in range(count):
        for y in range(height):
            for x in range(width):
                rows = slice(max(0, y - radius), y + radius + 1)
                columns = slice(max(0, x - radius), x + radius + 1)
                band[n, y, x] = (labels[n, rows, columns] != labels[n, y, x]).any()
    return band


@pytest.fixture(params=[0, 1, 2])
def maps(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """Labels in blocks of 4×4 with some 255, and predictions that are mostly right; class 4 is nowhere."""
    generator = np.random.default_rng(request.param)
    labels = generator.integers(0, 4, (3, 5, 6)).repeat(4, 1).repeat(4, 2)
    predicted = np.where(generator.random(labels.shape) < 0.3, generator.integers(0, 4, labels.shape), labels)
    labels[generator.random(labels.shape) < 0.1] = 255
    return predicted, labels


def test_mean_iou(maps: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, labels = (torch.from_numpy(array) for array in maps)
    assert mean_iou(predicted, labels, 5) == pytest.approx(by_counting(*maps, 5), abs=1e-6)
    assert mean_iou(labels.where(labels != 255, 0), labels, 5) == 1


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_boundary_iou(radius: int, maps: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, labels = (torch.from_numpy(array) for array in maps)
    band = near_another(maps[1], radius)
    np.testing.assert_array_equal(boundary_band(labels, radius).numpy(), band)
    expected = by_counting(maps[0], np.where(band, maps[1], 255), 5)
    assert boundary_iou(predicted, labels, 5, radius) == pytest.approx(expected, abs=1e-6)


def test_errors_far_from_boundaries_do_not_count() -> None:
    labels = torch.zeros(1, 20, 20, dtype=torch.int64)
    labels[:, :, 10:] = 1
    predicted = labels.clone()
    predicted[:, 5, 2] = 1
    assert boundary_iou(predicted, labels, 2) == 1
    assert mean_iou(predicted, labels, 2) < 1
