"""What is wrong is told in one line, with exit code 2, and nothing is written."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from deconvkit import cli, models
from deconvkit.train.checkpoint import CheckpointError, load_model, save_model


@pytest.fixture
def vae(tmp_path: Path) -> str:
    save_model(tmp_path / "vae.pt", models.VAE(64, 3, [8]), "vae", {"size": 8})
    return str(tmp_path / "vae.pt")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line."""
    assert cli.main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert err.startswith(f"deconvkit {arguments[0]}: ")
    return err


def test_checkpoints(tmp_path: Path, vae: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    (tmp_path / "text.pt").write_text("text")
    (tmp_path / "text.safetensors").write_text("text")
    torch.save(nn.Linear(2, 2), tmp_path / "code.pt")
    torch.save({"pytorch-lightning_version": "2"}, tmp_path / "last.ckpt")
    torch.save({"features.0.weight": torch.ones(3), "classifier.6.bias": torch.ones(3)}, tmp_path / "w.pt")
    torch.save({"module.features.0.weight": torch.ones(3)}, tmp_path / "other.pt")
    nan = models.VAE(64, 3, [8])
    with torch.no_grad():
        next(nan.parameters()).fill_(torch.nan)
    save_model(tmp_path / "nan.pt", nan, "vae", {})
    save_model(tmp_path / "flat.pt", models.VAE(65, 3, [8]), "vae", {})
    for file, message in (
        ("absent.pt", "got no file of that name"),
        ("text.pt", "cannot be read as one"),
        ("text.safetensors", "cannot be read as one"),
        ("code.pt", "cannot be read as one"),
        ("last.ckpt", "model.pt is written when a run ends"),
        ("w.pt", "expected the weights of a VGG, got others"),
        ("other.pt", "got weights without classifier.6.bias, features.0.weight"),
        ("nan.pt", "got NaN or infinity among them"),
        ("flat.pt", "expected a model of square grey images, got one of 65 values"),
        (".", "got no file of that name"),
    ):
        arguments = ["--checkpoint", str(tmp_path / file), "--out", str(out)]
        assert message in told(capsys, "sample", *arguments)
    assert "expected a model of type M2 or StackedM1M2, got VAE" in told(
        capsys, "analogies", "--checkpoint", vae, "--out", str(out)
    )
    assert not out.exists()


def test_images(tmp_path: Path, vae: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    (tmp_path / "text.png").write_text("text")
    (tmp_path / "empty").mkdir()
    save_model(tmp_path / "large.pt", models.VAE(784, 3, [8]), "vae", {})
    before = sorted(tmp_path.rglob("*"))
    for file, message in (
        ("text.png", "cannot be read as one"),
        ("absent.png", "got none of that name"),
        ("empty", "got a folder without any"),
    ):
        arguments = ["--checkpoint", vae, "--input", str(tmp_path / file), "--out", str(out)]
        assert message in told(capsys, "reconstruct", *arguments)
    large = ["--checkpoint", str(tmp_path / "large.pt"), "--out", str(out)]
    assert "this model is of 28x28 pixels" in told(capsys, "reconstruct", *large)
    names = [str(tmp_path / "absent.txt"), str(tmp_path / "empty")]
    for name in names:
        assert "--names: expected a text file" in told(
            capsys, "traverse", "--checkpoint", decoder(tmp_path), "--names", name, "--out", str(out)
        )
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "m2.pt"])


def test_options_that_change_nothing(tmp_path: Path, vae: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "names.txt").write_text("a")
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    save_model(tmp_path / "gan.pt", models.MLPGenerator(3, 64, [8]), "gan-mlp", {})
    save_model(tmp_path / "vgg.pt", models.VGG(num_classes=3, width=1), "vgg", {"size": 32})
    save_model(tmp_path / "sae.pt", models.SparseAutoencoder(64, 4), "sparse-autoencoder", {"patch": 8})
    image = ["--input", str(tmp_path / "x.png")]
    for verb, file, options, message in (
        ("traverse", "gan.pt", image, "--input: expected none for traverse of a model of type MLPGenerator"),
        ("classify", "vgg.pt", [*image, "--invert"], "--invert: expected none"),
        ("reconstruct", "sae.pt", [*image, "--invert"], "--invert: expected none"),
        ("sample", "vae.pt", ["--names", str(tmp_path / "names.txt")], "--names: expected none"),
    ):
        out = tmp_path / "out"
        arguments = ["--checkpoint", str(tmp_path / file), *options, "--out", str(out)]
        assert message in told(capsys, verb, *arguments)
        assert not out.exists()


def decoder(folder: Path) -> str:
    save_model(folder / "m2.pt", models.M2(64, 10, 2, [4]), "m2", {})
    return str(folder / "m2.pt")


def test_more_than_can_be_drawn(tmp_path: Path, vae: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    many = ["--checkpoint", vae, "--count", "1001", "--out", str(out)]
    assert "--count: expected at most 1000, got 1001" in told(capsys, "sample", *many)
    save_model(tmp_path / "odd.pt", models.ConvVAE(8, 2, 3, 2), "vae", {})
    odd = ["--checkpoint", str(tmp_path / "odd.pt"), "--out", str(out)]
    for verb in ("sample", "reconstruct", "traverse"):
        assert "expected a model of images, got one of 2 channels" in told(capsys, verb, *odd)
    assert not out.exists()


def test_folders(tmp_path: Path, vae: str, capsys: pytest.CaptureFixture[str]) -> None:
    def of(out: object) -> str:
        return told(capsys, "sample", "--checkpoint", vae, "--out", str(out))

    assert f"--out: {vae} is a file, not a folder" in of(vae)
    assert "cannot be written (Not a directory)" in of(f"{vae}/below")
    assert "--out: expected a folder, got an empty name" in of("")
    if os.geteuid() == 0:
        assert "cannot be written" in of("/proc/deconvkit/pictures")
    else:
        tmp_path.chmod(0o500)
        assert "cannot be written (Permission denied)" in of(tmp_path / "new")


def test_a_full_disk_is_1_and_leaves_no_half(
    tmp_path: Path, vae: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    out = tmp_path / "out"
    assert cli.main(["sample", "--checkpoint", vae, "--out", str(out)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("missing", ["model", "config", "state_dict", "recipe", "notes"])
def test_files_with_parts_missing(missing: str, tmp_path: Path, vae: str) -> None:
    content = torch.load(vae, weights_only=True)
    for wrong in ({key: value for key, value in content.items() if key != missing}, content | {missing: 3}):
        torch.save(wrong, tmp_path / "wrong.pt")
        with pytest.raises(CheckpointError, match=f"got one without a proper '{missing}'"):
            load_model(tmp_path / "wrong.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "Projection"}, "expected one of this version's models, got Projection"),
        ({"model": "SwitchVisualizer"}, "expected one of this version's models"),
        ({"model": "vgg16", "config": {"weights": "x"}}, "expected one of this version's models, got vgg16"),
        ({"model": "DeconvNet", "config": {"encoder_weights": "/etc/passwd"}}, "got encoder_weights among"),
        ({"config": {1: 2}}, "expected the weights of VAE"),
        ({"config": {"in_features": "x", "latent_size": 3}}, "expected the weights of VAE"),
        ({"state_dict": {1: 2}}, "expected the weights of VAE"),
    ],
)
def test_files_that_say_other_things(change: dict[str, Any], message: str, tmp_path: Path, vae: str) -> None:
    torch.save(torch.load(vae, weights_only=True) | change, tmp_path / "wrong.pt")
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "wrong.pt")
