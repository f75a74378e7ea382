"""Whole runs and the figures that they must reach: minutes, by ``pytest -m slow``."""

from pathlib import Path

import pytest

from deconvkit.train import command

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "recipe",
    [
        "sparse-autoencoder",
        "denoise",
        "vae",
        "class-decoder",
        "gan-mlp",
        "gan-digits",
        "dcgan",
        "vgg",
        "deconvnet",
    ],
)
def test_a_default_run(recipe: str, tmp_path: Path) -> None:
    summary = command.run(recipe, tmp_path)
    assert summary["wanted"]
    assert summary["missed"] == []


def test_m2_of_twenty_labels_beats_the_classifier_of_those_alone(tmp_path: Path) -> None:
    """Two points in the mean over five splits, paired."""
    gains = []
    for seed in range(5):
        overrides = [f"--seed_everything={seed}", f"--data.seed={seed}"]
        gains.append(command.run("m2", tmp_path / str(seed), overrides=overrides)["figures"]["gain"])
    assert sum(gains) / len(gains) >= 2


def test_switches_find_boundaries_that_fixed_corners_lose(tmp_path: Path) -> None:
    """By five points of the IoU near boundaries."""
    found = [
        command.run("deconvnet", tmp_path / unpooling, overrides=[f"--model.unpooling={unpooling}"])
        for unpooling in ("switches", "fixed")
    ]
    assert found[0]["figures"]["boundary_iou"] - found[1]["figures"]["boundary_iou"] >= 0.05
