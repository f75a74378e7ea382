"""The dense CRF: against sums over all pairs, and what it does to label maps."""

from importlib import import_module

import numpy as np
import pytest
import torch
from torch import Tensor

from deconvkit.segmentation import dense_crf
from deconvkit.segmentation.permutohedral import PermutohedralLattice, _simplices


def by_pairs(probabilities: Tensor, image: Tensor, iterations: int, **parameters: float) -> Tensor:
    """The formulas, kernel matrices and all, in float64."""
    p = {"sigma": 3.0, "w1": 3.0, "xy": 20.0, "rgb": 3.0, "w2": 5.0} | parameters
    classes, height, width = probabilities.shape
    given = probabilities.double().numpy().reshape(classes, -1).T
    places = np.indices((height, width)).reshape(2, -1).T.astype(float)
    colours = image.double().numpy().reshape(3, -1).T
    apart, unlike = (((x[:, None] - x) ** 2).sum(2) for x in (places, colours))
    kernels = (
        np.exp(-apart / (2 * p["sigma"] ** 2)),
        np.exp(-apart / (2 * p["xy"] ** 2) - unlike / (2 * p["rgb"] ** 2)),
    )
    first, second = (kernel / np.sqrt(np.outer(kernel.sum(1), kernel.sum(0))) for kernel in kernels)
    found = given
    for _ in range(iterations):
        costs = np.zeros_like(given)
        for label in range(classes):  # Potts: what the other labels weigh
            others = found.sum(1) - found[:, label]
            costs[:, label] = p["w1"] * first @ others + p["w2"] * second @ others
        found = given * np.exp(-costs)
        found /= found.sum(1, keepdims=True)
    return torch.from_numpy(found.T.reshape(classes, height, width))


def scene(height: int, width: int) -> tuple[Tensor, Tensor]:
    """A picture (3, H, W) of soft colours with an edge at its middle, and which side each pixel is on."""
    generator = torch.Generator().manual_seed(0)
    side = torch.zeros(height, width, dtype=torch.int64)
    side[:, width // 2 :] = 1
    shades = torch.tensor([[200.0, 180, 60], [40, 90, 160]])[side].permute(2, 0, 1)
    return shades + 3 * torch.randn(3, height, width, generator=generator), side


def chances(labels: Tensor, sure: float, classes: int = 2) -> Tensor:
    """Probabilities (C, H, W): ``sure`` for the label, the rest for the others."""
    hot = torch.nn.functional.one_hot(labels, classes).permute(2, 0, 1).double()
    return hot * sure + (1 - hot) * (1 - sure) / (classes - 1)


@pytest.mark.parametrize("filtering", ["exact", "auto"])
@pytest.mark.parametrize(
    ("iterations", "parameters"),
    [
        (0, {}),
        (1, {}),
        (10, {}),
        (3, {"sigma": 1.5, "w1": 1.0, "xy": 6.0, "rgb": 30.0, "w2": 2.0}),
        (3, {"w1": 0.0}),
        (3, {"w2": 0.0}),
    ],
)
def test_is_the_mean_field_over_all_pairs(filtering: str, iterations: int, parameters) -> None:
    probabilities = torch.randn(4, 13, 18, dtype=torch.float64).softmax(0)
    image, _ = scene(13, 18)
    names = {
        "sigma": "gaussian_sigma",
        "w1": "gaussian_weight",
        "xy": "bilateral_xy",
        "rgb": "bilateral_rgb",
        "w2": "bilateral_weight",
    }
    given = {names[name]: value for name, value in parameters.items()}
    found = dense_crf(probabilities, image, iterations=iterations, filtering=filtering, **given)
    expected = by_pairs(probabilities, image, iterations, **parameters)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    single = dense_crf(probabilities.float(), image, iterations=iterations, filtering=filtering, **given)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=2e-4)


def test_many_rows_of_pairs_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = torch.randn(3, 9, 11, dtype=torch.float64).softmax(0)
    image, _ = scene(9, 11)
    whole = dense_crf(probabilities, image, filtering="exact")
    module = import_module("deconvkit.segmentation.dense_crf")
    monkeypatch.setattr(module, "_BLOCK", 700)
    torch.testing.assert_close(dense_crf(probabilities, image, filtering="exact"), whole)
    monkeypatch.setattr(module, "_EXACT", 98)  # not kept, but made anew each time
    torch.testing.assert_close(dense_crf(probabilities, image, filtering="exact"), whole)


def photograph(size: int) -> Tensor:
    from skimage import data, transform

    image = transform.resize(data.astronaut(), (size, size), anti_aliasing=True)
    return torch.from_numpy(255 * image).permute(2, 0, 1)


def test_the_lattice_is_near_the_pairs_on_a_photograph() -> None:
    image = photograph(48)
    labels = (image.mean(0) > image.mean()).long()
    wrong = torch.rand(labels.shape) < 0.1
    probabilities = chances(torch.where(wrong, 1 - labels, labels), 0.7)
    exact = dense_crf(probabilities, image, filtering="exact")
    near = dense_crf(probabilities, image, filtering="lattice")
    assert (exact.argmax(0) == near.argmax(0)).double().mean() > 0.98
    assert (exact - near).abs().mean() < 0.015


def test_simplices_hold_their_points() -> None:
    points = np.random.default_rng(0).normal(size=(500, 5)) * 4
    corners, weights = _simplices(points)
    assert weights.min() >= -1e-12
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_array_equal(corners.sum(2), 0)
    np.testing.assert_array_equal(corners % 6, np.broadcast_to(np.arange(6)[:, None], corners.shape))
    # Inner products are those of the points, but for the scale.
    held = (weights[:, :, None] * corners).sum(1)
    np.testing.assert_allclose(held @ held.T, points @ points.T * 24, atol=1e-9)


def test_the_lattice_filters_by_a_gaussian() -> None:
    """One and two dimensions, where points are so dense that no corner is missing."""
    line = np.linspace(-8, 8, 400)[:, None]
    grid = np.stack(np.meshgrid(np.linspace(-4, 4, 40), np.linspace(-4, 4, 40)), -1).reshape(-1, 2)
    for points in (line, grid):
        kernel = np.exp(-0.5 * ((points[:, None] - points) ** 2).sum(2))
        wave = np.cos(points[:, :1])
        middle = np.abs(points).max(1) < (5 if points.shape[1] == 1 else 1.5)
        filtered = PermutohedralLattice(points)(np.concatenate([wave, np.ones_like(wave)], 1))
        expected = (kernel @ wave)[:, 0] / kernel.sum(1)
        np.testing.assert_allclose(
            (filtered[:, 0] / filtered[:, 1])[middle], expected[middle], rtol=0, atol=0.04
        )


@pytest.mark.parametrize("filtering", ["exact", "lattice"])
def test_maps_that_are_sure_and_even_stay(filtering: str) -> None:
    image, _ = scene(24, 30)
    sure = chances(torch.ones(24, 30, dtype=torch.int64), 0.99, 3)
    found = dense_crf(sure, image, filtering=filtering)
    assert torch.equal(found.argmax(0), sure.argmax(0))
    assert (found[1] > 0.99).all()
    undecided = torch.full((3, 24, 30), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(dense_crf(undecided, image, filtering=filtering), undecided)


@pytest.mark.parametrize("filtering", ["exact", "lattice"])
def test_salt_is_removed(filtering: str) -> None:
    image, side = scene(40, 48)
    salt = torch.rand(40, 48) < 0.05
    noisy = torch.where(salt, 1 - side, side)
    found = dense_crf(chances(noisy, 0.8), image, filtering=filtering)
    assert torch.equal(found.argmax(0), side)


@pytest.mark.parametrize("filtering", ["exact", "lattice"])
def test_labels_move_to_the_edge_of_the_picture(filtering: str) -> None:
    image, side = scene(40, 48)
    late = torch.zeros_like(side)
    late[:, 48 // 2 + 3 :] = 1  # three columns beside the edge
    given = chances(late, 0.8)
    found = dense_crf(given, image, filtering=filtering)
    assert torch.equal(found.argmax(0), side)
    flat = dense_crf(given, torch.full_like(image, 100.0), filtering=filtering)
    assert torch.equal(flat.argmax(0), late)  # nothing to follow


def test_the_result_is_probabilities_of_the_same_kind() -> None:
    image, _ = scene(10, 70)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        given = torch.randn(3, 10, 70).softmax(0).to(dtype)
        copy = given.clone()
        for size in (70, 1):  # one column as well
            found = dense_crf(given[:, :, :size], image.to(torch.uint8)[:, :, :size])
            assert found.dtype == dtype
            assert found.shape == (3, 10, size)
            torch.testing.assert_close(
                found.double().sum(0), torch.ones(10, size).double(), rtol=0, atol=0.02
            )
        assert torch.equal(given, copy)


def test_what_is_wrong_is_told() -> None:
    image, side = scene(6, 8)
    given = chances(side, 0.8)

    def told(message: str, error: type[Exception] = ValueError, probabilities=given, image=image, **rest):
        with pytest.raises(error, match=message):
            dense_crf(probabilities, image, **rest)

    nan, negative = given.clone(), given.clone()
    nan[0, 0, 0], negative[0, 0, 0], negative[1, 0, 0] = torch.nan, -0.2, 1.2
    told("probabilities: expected finite numbers, got NaN or infinity", probabilities=nan)
    told("probabilities: expected numbers of at least 0 that add up to 1", probabilities=negative)
    told("a softmax makes them of scores", probabilities=given * 3)
    told(r"probabilities: expected shape \(C, H, W\), got \(6, 8\)", probabilities=given[0])
    told(r"probabilities: expected shape \(C, H, W\), got \(2, 0, 8\)", probabilities=given[:, :0])
    told("probabilities: expected floats, got torch.int64", TypeError, probabilities=side[None])
    told(r"image: expected shape \(3, 6, 8\), got \(3, 6, 7\)", image=image[:, :, 1:])
    told("image: expected finite numbers", image=image * torch.inf)
    told("filtering: expected one of auto, exact, lattice, got 'fast'", filtering="fast")
    told("iterations: expected at least 0, got -1", iterations=-1)
    told("gaussian_sigma: expected a number above 0, got 0", gaussian_sigma=0)
    told("bilateral_rgb: expected a number above 0, got nan", bilateral_rgb=float("nan"))
    told("bilateral_weight: expected a number of at least 0, got -1", bilateral_weight=-1)
    told("gaussian_weight: expected a number of at least 0, got inf", gaussian_weight=float("inf"))
