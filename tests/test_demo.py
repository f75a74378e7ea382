"""The demo from end to end."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import deconvkit
from deconvkit import demo

PICTURES = ["receptive_fields.png", "reconstruction.png", "mean_activations.png", "unpooling.png"]


def check_files(folder: Path, report: demo.Report) -> None:
    assert [path.name for path in report.pictures] == PICTURES
    assert sorted(path.name for path in folder.iterdir()) == sorted(PICTURES)
    for path in report.pictures:
        with Image.open(path) as image:
            image.load()
            assert image.width >= 1000


def test_short_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "not" / "there yet"
    report = demo.run(folder, seed=1, iterations=5, patches=600, rounds=1)
    check_files(folder, report)
    assert report.gradient_error < demo.GRADIENT_LIMIT
    assert report.cost_after < 0.1 * report.cost_before
    assert len(report.layers) == 5
    for row in report.layers:
        assert row.difference < 1e-4, row.layer
        assert row.torch.p50 > 0
        assert row.deconvkit.p50 > 0
    out, err = capfd.readouterr()
    for name in ("patches", "gradient", "training", "mean activation", "orientation", "layer", str(folder)):
        assert name in out
    assert all(row.layer in out for row in report.layers)
    for bar in ("gradient check", "training", "drawing", "timing"):
        assert f"{bar}: 100%" in err


def test_the_seed_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_check_gradient", lambda model, data: 0.0)
    monkeypatch.setattr(demo, "_layers", lambda: iter(()))

    def run(seed: int) -> demo.Report:
        return demo.run(tmp_path, seed, iterations=2, patches=200, rounds=1)

    first, again, other = run(3), run(3), run(4)
    assert first.cost_after == again.cost_after
    assert first.cost_after != other.cost_after


def test_full_run_reaches_its_figures(tmp_path: Path) -> None:
    report = demo.run(tmp_path, rounds=5)
    check_files(tmp_path, report)
    assert report.missed() == []
    assert report.gradient_error < 1e-9
    assert report.rho_hat[0] >= 0.008
    assert report.rho_hat[1] <= 0.012
    assert report.orientation >= 0.5
    assert report.orientation_untrained < 0.25
    assert report.cost_after < 0.36


def test_missed_names_what_is_missed() -> None:
    good = demo.Report(gradient_error=1e-10, rho_hat=(0.009, 0.0119), orientation=0.6)
    assert good.missed() == []
    bad = demo.Report(gradient_error=float("nan"), rho_hat=(0.0079, 0.01), orientation=0.49)
    assert [text.split()[0] for text in bad.missed()] == ["gradient", "ρ̂", "orientation"]


def test_pool_and_unpool() -> None:
    picture = torch.rand(1, 1, 24, 20, dtype=torch.float64)
    pooled, by_switches, corners = demo.pool_and_unpool(picture, 2)
    assert pooled.shape == (1, 1, 6, 5)
    kept = by_switches != 0
    assert kept.sum() == 30
    assert torch.equal(by_switches[kept], picture[kept])
    assert torch.equal(corners[..., ::4, ::4], pooled)
    assert (corners != 0).sum() == 30
    assert torch.equal(deconvkit.max_pool2d_with_switches(by_switches, 4)[0], pooled)
