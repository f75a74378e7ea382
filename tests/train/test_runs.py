"""Runs that are killed, broken off, taken up again; and what no run begins with."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from tqdm import tqdm

from deconvkit import models
from deconvkit.cli import main
from deconvkit.train import command
from deconvkit.train.callbacks import WholeCheckpoints
from deconvkit.train.checkpoint import CheckpointError, load_model, save_model
from deconvkit.train.errors import TrainingError
from tests.data.test_digits import write_mnist

PHASES = ["--model.discriminator_epochs=3", "--model.generator_epochs=2"]
SMALL = ["--model.base_channels=4", *PHASES]
GAN = {
    "gan-mlp": ["--data.test_size=1500", *PHASES],
    "gan-digits": ["--data.test_size=1500", *SMALL],
    "dcgan": ["--data.count=24", "--data.size=16", "--data.batch_size=8", *SMALL],
}


def started(recipe: str, folder: Path, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "deconvkit", "train", recipe, *GAN[recipe], "--out", str(folder), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def finish(process: "subprocess.Popen[str]") -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.parametrize(
    ("recipe", "how"),
    [
        ("gan-mlp", signal.SIGKILL),
        ("gan-mlp", signal.SIGINT),
        ("gan-digits", signal.SIGKILL),
        ("dcgan", signal.SIGKILL),
    ],
    ids=["killed", "interrupted", "gan-digits killed", "dcgan killed"],
)
def test_a_run_that_is_taken_up_again_ends_with_the_same_numbers(
    recipe: str, how: int, tmp_path: Path
) -> None:
    # Too long to end, so that the signal comes in the midst of it.
    broken = started(recipe, tmp_path / "broken", "--trainer.max_epochs=10000")
    wait_for(tmp_path / "broken" / "checkpoints" / "last.ckpt", broken)
    broken.send_signal(how)
    _, errors = broken.communicate(timeout=60)
    if how == signal.SIGINT:
        assert broken.returncode == 130
        assert re.search(r"train: interrupted; --resume --out \S+ goes on with it$", errors.rstrip())
    state = torch.load(tmp_path / "broken" / "checkpoints" / "last.ckpt", weights_only=True)
    epochs = f"--trainer.max_epochs={state['epoch'] + 8}"
    finish(started(recipe, tmp_path / "broken", "--resume", epochs))
    finish(started(recipe, tmp_path / "whole", epochs))
    expected, got = (load_model(tmp_path / name / "model.pt").model for name in ("whole", "broken"))
    for name, value in expected.state_dict().items():
        assert torch.equal(got.state_dict()[name], value)


VAE = ["vae", "--data.test_size=1600"]


def test_a_run_killed_when_only_its_summary_was_left(tmp_path: Path) -> None:
    arguments = ["train", *VAE, "--trainer.max_epochs=2", "--out", str(tmp_path)]
    assert main(arguments) == 0
    whole = json.loads((tmp_path / "summary.json").read_text())
    for name in ("summary.json", "model.pt", "samples.png"):
        (tmp_path / name).unlink()
    assert main([*arguments, "--resume"]) == 0
    again = json.loads((tmp_path / "summary.json").read_text())
    assert again["figures"] == whole["figures"]
    assert (tmp_path / "model.pt").is_file()
    assert (tmp_path / "samples.png").is_file()


def test_what_cannot_be_taken_up_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--out", str(tmp_path), "--trainer.max_epochs=2"]
    assert main(["train", *VAE, *more]) == 0
    summary = (tmp_path / "summary.json").read_bytes()
    last = tmp_path / "checkpoints" / "last.ckpt"
    capsys.readouterr()

    def told(*arguments: str) -> str:
        assert main(["train", *arguments, "--resume"]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    assert "has ended; for more, --trainer.max_epochs" in told(*VAE, *more)
    assert "is of recipe vae, not m2" in told("m2", *more)
    more[-1] = "--trainer.max_epochs=3"
    assert "is of other --model arguments" in told(*VAE, *more, "--model.latent_size=3")
    last.write_bytes(last.read_bytes()[:2000])
    assert "got a file that is none" in told(*VAE, *more)
    assert (tmp_path / "summary.json").read_bytes() == summary


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"a": 1}, path)
    before = path.stat().st_ino
    monkeypatch.setattr(tempfile, "tempdir", "/dev/full")  # not by way of another folder
    WholeCheckpoints().save_checkpoint({"a": 2}, path)
    assert path.stat().st_ino != before
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        WholeCheckpoints().save_checkpoint({"a": 3}, path)
    assert torch.load(path, weights_only=True) == {"a": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_folder_that_holds_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "summary.json").write_text("{}")
    assert main(["train", "vae", "--out", str(tmp_path)]) == 2
    assert "holds a run already; go on with it by --resume, or name another folder" in capsys.readouterr().err
    assert main(["train", "vae", "--out", str(tmp_path), "--resume"]) == 2
    assert "holds a run without" in capsys.readouterr().err
    assert (tmp_path / "summary.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "RECIPE: expected one of class-decoder, .*, got nothing"),
        ([], "RECIPE: expected one of"),
        (
            ["vae", "--data", "absent"],
            "--data: expected a file or folder, got 'absent', which does not",
        ),
        (["vae", "--out", ""], "--out: expected a folder, got an empty name"),
        (["vae", "--out", "FILE"], "--out: .* is a file, not a folder"),
        (["vae", "--data", "EMPTY"], "expected train-images-idx3-ubyte or its .gz, got neither"),
        (["vae", "--data", "FILE"], "expected a folder with MNIST's files, got a file"),
        (
            ["m1", "--data", "ONES", "--data.test_size", "2"],
            "ONES: expected digits of two or more classes, got of one alone",
        ),
        (["dcgan", "--data", "EMPTY"], "expected images .*, got a folder without any"),
        (
            ["vae", "--out", "NOWHERE", "--resume"],
            "--resume: expected the folder of a run, got NOWHERE, which",
        ),
        (["vae", "--data", ""], "--data: expected a file or folder, got an empty name"),
        (["vae", "--model.latent_size"], "vae: --model.latent_size: expected a value, got none"),
        (
            ["vae", "--model.latent_size", "--data.seed", "3"],
            "vae: --model.latent_size: expected a value, got none",
        ),
        (["vae", "--trainer.epochs", "3"], "vae: --trainer.epochs: expected one of --trainer.accelerator, "),
        (["vae", "--trainer.max_epohcs", "3"], r"did you mean --trainer.max_epochs\?"),
        (["vae", "--trainer.max_epochs", "many"], "--trainer.max_epochs: expected int or None, got 'many'"),
        (["vae", "--seed_everything", "x"], "vae: --seed_everything: expected bool or int, got 'x'"),
        (["vae", "--seed_everything", "-1"], "vae: --seed_everything: expected 0 to 4294967295, got -1"),
        (
            ["vae", "--trainer.max_epochs", "-3"],
            "vae: --trainer.max_epochs: expected a non-negative integer or -1, got -3",
        ),
        (["vae", "--bogus", "3"], "vae: --bogus: expected one of --data, --out, --resume, "),
        (["vae", "more"], r"vae: expected options \(--data, --out, .*\), got 'more'"),
        (["vae", "--model.colour", "3"], "vae: --model.colour: expected one of --model.latent_size, .*"),
        (["vae", "--data.colour", "3"], "vae: --data.colour: expected one of --data.path, --data.batch_size"),
        (["vae", "--model.latent_size", "many"], "vae: --model.latent_size: expected int, got 'many'"),
        (["vae", "--model.latent_size", "0"], "VAE: latent_size: expected an int >= 1, got 0"),
        (["vae", "--model.hidden", "3"], "vae: --model.hidden: expected Sequence, got '3'"),
        (["gan-mlp", "--model.prior", "flat"], "gan-mlp: --model.prior: expected one of .*, got 'flat'"),
        (["vae", "--trainer.devices", "0"], "vae: .*devices"),
        (["vae", "--trainer.max_epochs", "0"], "vae: nothing was trained"),
        (["vae", "--data.test_size", "0"], "--data.test_size: expected 2 to 1796 of the 1797 digits, got 0"),
        (["vgg", "--data.test_count", "0"], "--data.test_count: expected at least 1, got 0"),
        (["vgg", "--data.seed", "-1"], "--data.seed: expected at least 0, got -1"),
        (["vae", "--data.seed", "-1"], "--data.seed: expected at least 0, got -1"),
        (["vgg", "--data.size", "3"], "--data.size: expected at least 32, got 3"),
        (["vgg", "--data.scenes", "0"], "--data.scenes: expected at least 1, got 0"),
        (["deconvnet", "--data.scene_size", "7"], "--data.scene_size: expected at least 8, got 7"),
        (["deconvnet", "--data.first_stage", "-1"], "--data.first_stage: expected at least 0, got -1"),
        (["sparse-autoencoder", "--data.count", "0"], "--data.count: expected at least 1, got 0"),
        (["dcgan", "--data.size", "-4"], "--data.size: expected at least 1, got -4"),
        (["m2", "--model.weight", "-1"], "m2: --model.weight: expected at least 0, got -1"),
        (["m2", "--model.labelled", "0"], "m2: labelled: expected 10 to 1297, got 0"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("text")
    (tmp_path / "ONES").mkdir()
    write_mnist(tmp_path / "ONES", False)
    labels = tmp_path / "ONES" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-5] + bytes([1] * 5))
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert re.fullmatch(rf"deconvkit train: .*{message}.*\n", err)
    assert (tmp_path / "FILE").read_text() == "text"
    assert sorted(tmp_path.rglob("*")) == before


def test_what_ends_a_run_has_a_line_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the rest of the progress bar's."""
    arguments = ["vae", "--out", str(tmp_path / "run"), "--model.learning_rate", "1e20"]
    assert main(["train", *arguments]) == 1
    assert re.search(r"\ndeconvkit train: .* became .* epoch 0; try again .*\n$", capsys.readouterr().err)


def test_a_warning_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with command._quiet(), tqdm(total=2, desc="bar", mininterval=0):
        warnings.simplefilter("default")
        warnings.warn("careful", stacklevel=1)
    assert "\rdeconvkit train: careful\n" in capsys.readouterr().err


def test_numbers_that_are_none_end_a_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss became (nan|inf) in epoch .* smaller learning rate"):
        command.run("vae", tmp_path, overrides=["--model.learning_rate=1e30", "--trainer.max_epochs=2"])
    assert not (tmp_path / "model.pt").exists()


def test_a_network_larger_than_the_memory(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="vae: expected a network and batches that fit"):
        command.run("vae", tmp_path, overrides=["--model.hidden=[100000000000]"])


def test_a_missed_figure_is_a_failed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deconvkit.train.modules.variational import ClassDecoderRecipe, Wanted

    monkeypatch.setattr(ClassDecoderRecipe, "wanted", lambda self: [Wanted("largest_difference", most=-1)])
    parsed = command._parsed
    monkeypatch.setattr(command, "_parsed", lambda *a: parsed(*a[:2], ["--trainer.max_epochs=2"]))
    assert main(["train", "class-decoder", "--out", str(tmp_path)]) == 1
    assert "missed what was wanted: largest_difference" in capsys.readouterr().err
    assert (tmp_path / "model.pt").exists()


def test_models_as_files(tmp_path: Path) -> None:
    model = models.MLPGenerator(3, 9, [5])
    save_model(tmp_path / "m.pt", model, "gan-mlp", {"size": 3})
    trained = load_model(tmp_path / "m.pt", "MLPGenerator")
    assert trained.notes == {"size": 3}
    z = torch.randn(2, 3)
    assert torch.equal(trained.model(z), model(z))
    with pytest.raises(CheckpointError, match="expected a model of type VAE or M1, got MLPGenerator"):
        load_model(tmp_path / "m.pt", "VAE", "M1")
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    for change, message in (
        ({"model": "Sequential"}, "expected one of this version's models, got Sequential"),
        (
            {"config": {"latent_size": 4, "out_features": 9, "hidden": [5]}},
            "expected the weights of MLPGenerator",
        ),
        ({"config": {"colour": 1}}, "expected the weights of MLPGenerator"),
        ({"format": "other"}, "got another file"),
    ):
        torch.save(content | change, tmp_path / "wrong.pt")
        with pytest.raises(CheckpointError, match=message):
            load_model(tmp_path / "wrong.pt")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no file of that name"):
        load_model(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("text")
    torch.save(nn.Linear(2, 2), tmp_path / "code.pt")  # would run code
    for name in ("text.pt", "code.pt"):
        with pytest.raises(CheckpointError, match="cannot be read as one"):
            load_model(tmp_path / name)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deconvkit.train.checkpoint import write_whole

    write_whole(tmp_path / "x", b"before")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "x", b"after")
    assert (tmp_path / "x").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
