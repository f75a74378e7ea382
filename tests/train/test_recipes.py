"""Every recipe for a moment: what a run leaves behind, phases, and processes together."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from deconvkit import models
from deconvkit.train import command, measures
from deconvkit.train.checkpoint import load_model
from deconvkit.train.modules import adversarial as adversarial_recipes
from deconvkit.train.modules.adversarial import DCGANRecipe, DigitsDCGANRecipe, DigitsGANRecipe, _frozen
from deconvkit.train.modules.semi_supervised import M2Recipe
from deconvkit.train.priors import draw_latents

SHORT = {
    "sparse-autoencoder": ["--data.count=300", "--trainer.max_epochs=2", "--model.iterations=3"],
    "denoise": ["--data.test_size=1500", "--trainer.max_epochs=2", "--model.iterations=3"],
    "vae": ["--data.test_size=1600", "--trainer.max_epochs=2"],
    "class-decoder": ["--trainer.max_epochs=2"],
    "m1": ["--data.test_size=1600", "--trainer.max_epochs=2"],
    "m2": ["--data.test_size=1600", "--trainer.max_epochs=2"],
    "m1m2": ["--data.test_size=1600", "--trainer.max_epochs=4", "--model.stacked=2"],
    "gan-mlp": [
        "--data.test_size=1600",
        "--trainer.max_epochs=5",
        "--model.discriminator_epochs=2",
        "--model.generator_epochs=1",
    ],
    "gan-digits": [
        "--data.test_size=1600",
        "--trainer.max_epochs=5",
        "--model.base_channels=4",
        "--model.discriminator_epochs=2",
        "--model.generator_epochs=1",
    ],
    "dcgan": [
        "--data.count=24",
        "--data.size=16",
        "--data.batch_size=8",
        "--model.base_channels=4",
        "--trainer.max_epochs=3",
        "--model.generator_epochs=1",
    ],
    "vgg": ["--data.size=32", "--data.scenes=12", "--data.test_count=8", "--trainer.max_epochs=2"],
    "deconvnet": [
        "--data.size=32",
        "--data.scene_size=40",
        "--data.scenes=12",
        "--data.test_count=5",
        "--data.first_stage=1",
        "--trainer.max_epochs=2",
    ],
}


def test_every_recipe_is_here_and_described() -> None:
    known = command.recipes()
    assert known.keys() == SHORT.keys()
    assert all(len(description) > 20 for description in known.values())


@pytest.mark.parametrize("recipe", SHORT)
def test_a_short_run(recipe: str, tmp_path: Path) -> None:
    summary = command.run(recipe, tmp_path, overrides=SHORT[recipe])
    assert json.loads((tmp_path / "summary.json").read_text())["figures"].keys() == summary["figures"].keys()
    assert summary["wanted"].keys() <= summary["figures"].keys()
    assert summary["epochs"] >= 2
    trained = load_model(tmp_path / "model.pt")
    assert trained.recipe == recipe
    assert type(trained.model).__name__ in models.__all__
    assert not trained.model.training
    assert list(tmp_path.glob("*.png"))
    assert list((tmp_path / "pictures").glob("*.png"))
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert not list(tmp_path.rglob(".*"))  # no half-written file


@pytest.mark.parametrize("recipe", SHORT)
def test_defaults_are_of_the_modules_and_data(recipe: str) -> None:
    """What a YAML sets must exist; a typing mistake would end every run."""
    text = (Path(command.__file__).parent / "recipes" / f"{recipe}.yaml").read_text()
    settings = yaml.safe_load(text)
    assert settings.keys() == {"seed_everything", "model", "data", "trainer"}
    cli = command._parsed(recipe, None, [])
    assert type(cli.model).__name__ == settings["model"]["class_path"].rsplit(".", 1)[1]


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    states = []
    for i, seed in enumerate((0, 0, 1)):
        command.run("vae", tmp_path / str(i), overrides=[*SHORT["vae"], f"--seed_everything={seed}"])
        states.append(load_model(tmp_path / str(i) / "model.pt").model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_phases_and_a_frozen_discriminator() -> None:
    recipe = DCGANRecipe(discriminator_epochs=2, generator_epochs=1)
    phases = []
    for epoch in range(5):
        DCGANRecipe.current_epoch = property(lambda _, epoch=epoch: epoch)  # type: ignore[assignment]
        phases.append(recipe.phase)
    del DCGANRecipe.current_epoch
    assert phases == ["discriminator", "discriminator", "generator", "both", "both"]
    discriminator = models.DCGANDiscriminator(4, 16)
    generator = models.DCGANGenerator(5, 4, 16)
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    with _frozen(discriminator):
        discriminator(generator(torch.rand(6, 5))).sum().backward()
    assert all(torch.equal(before[name], value) for name, value in discriminator.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())
    assert all(p.grad is not None for p in generator.parameters())


def test_m2_is_on_the_latents_of_m1_that_are_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a run that is taken up again, and in one of two processes."""
    whole = command.run("m1m2", tmp_path / "whole", overrides=SHORT["m1m2"])
    trained: Any = load_model(tmp_path / "whole" / "model.pt").model
    with monkeypatch.context() as patch:
        patch.setattr(models.M1, "active_latents", lambda *_: [1, 5, 30])
        begun = [*SHORT["m1m2"], "--trainer.max_epochs=3"]
        command.run("m1m2", tmp_path / "again", overrides=begun)
    last = tmp_path / "again" / "checkpoints" / "last.ckpt"
    again = command.run("m1m2", tmp_path / "again", overrides=SHORT["m1m2"], last=last)
    model: Any = load_model(tmp_path / "again" / "model.pt").model
    assert model.kept == [1, 5, 30]
    assert model.m2.in_features == 3 == again["figures"]["latents_kept"]
    assert whole["figures"]["latents_kept"] == len(trained.kept) == trained.m2.in_features
    both = trained_by("m1m2", 2, [], tmp_path)
    assert both["figures"]["latents_kept"] >= 1


def test_an_epoch_of_m2_is_the_papers_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kingma et al. 2014, equation 9, though all labelled digits are in each of its four batches."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(40, 9, generator=generator), torch.arange(40) % 10
    monkeypatch.setattr(
        M2Recipe, "data", SimpleNamespace(size=3, seed=0, train_images=images, train_labels=labels)
    )
    recipe = M2Recipe(labelled=20, latent_size=2, hidden=[4], weight=0.3)
    recipe.setup("fit")
    monkeypatch.setattr(M2Recipe, "current_epoch", 0)
    monkeypatch.setattr(recipe.network, "labelled_loss", lambda x, y: x.sum(1) * (y + 1))
    monkeypatch.setattr(recipe.network, "unlabelled_loss", lambda x: x.square().sum(1))
    found: list[torch.Tensor] = []
    monkeypatch.setattr(recipe, "report", lambda objective, supervised: found.append(objective))
    for batch in images.split(10):
        recipe.training_step((batch,), 0)
    known = recipe.known
    assert len(known.unique()) == 20
    log_q = torch.log_softmax(recipe.network(images[known]), 1)[torch.arange(20), labels[known]]
    alpha = 0.3 * 40 / 20
    expected = (images[known].sum(1) * (labels[known] + 1) - alpha * log_q).sum() + images.square().sum()
    torch.testing.assert_close(torch.stack(found).sum() * (20 / 4 + 10), expected)


def adversarial(recipe: Any, size: int) -> Any:
    """A recipe with its networks, without a trainer."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.rand(12, size * size, generator=generator)
    type(recipe).data = SimpleNamespace(size=size, tensors=(flat,))
    recipe.setup("fit")
    return recipe


def test_digits_in_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 pixels in 16, MNIST's 28 in 32, and back."""
    for size, framed in ((8, 16), (28, 32), (9, 16)):
        monkeypatch.setattr(DigitsDCGANRecipe, "data", None)
        recipe = adversarial(DigitsDCGANRecipe(base_channels=2, latent_size=3), size)
        images = recipe.data.tensors[0]
        seen = recipe.seen(images)
        assert seen.shape == (12, 1, framed, framed) == recipe.generator(torch.rand(12, 3)).shape
        expected = (images * 2 - 1).sum() - 12 * (framed**2 - size**2)
        assert seen.sum().item() == pytest.approx(expected.item(), abs=1e-2)
        torch.testing.assert_close(recipe.vectors(seen), images)
        assert recipe.discriminator(seen).shape == (12,)


def test_the_average_of_the_generator_is_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DigitsDCGANRecipe, "data", None)
    recipe = adversarial(DigitsDCGANRecipe(base_channels=2, latent_size=3, averaging=0.75), 8)
    expected: dict[str, torch.Tensor] = {}
    for step in range(3):
        with torch.no_grad():
            for value in recipe.generator.state_dict().values():
                value.add_(step + 1)
        recipe.average.update_parameters(recipe.generator)
        for name, value in recipe.generator.state_dict().items():
            before = expected.get(name, value)
            expected[name] = (0.75 * before + 0.25 * value).to(value.dtype)
    kept = recipe.trained().state_dict()
    for name, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(kept[name], value)
    assert not any(parameter.requires_grad for parameter in recipe.average.parameters())
    assert DigitsDCGANRecipe(averaging=0.0).averaging == 0


def test_no_more_digits_are_compared_than_fit_into_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def classes_of(*tensors: torch.Tensor) -> tuple[torch.Tensor, float]:
        seen.extend(len(tensor) for tensor in tensors)
        return torch.ones(10) / 10, 1.0

    monkeypatch.setattr(measures, "classes_of", classes_of)
    monkeypatch.setattr(adversarial_recipes, "_JUDGED", 7)
    monkeypatch.setattr(DigitsGANRecipe, "data", None)
    recipe = adversarial(DigitsGANRecipe(hidden=[4]), 8)
    recipe.data.train_images, recipe.data.train_labels = recipe.data.tensors[0], torch.arange(12)
    with torch.no_grad():
        assert recipe.figures()["neighbour_accuracy"] <= 1
    assert seen == [7, 7, 7]


@pytest.mark.parametrize(("prior", "spread"), [("uniform", 3**-0.5), ("normal", 1.0)])
def test_the_prior_is_noted_and_drawn_from(prior: str, spread: float, tmp_path: Path) -> None:
    command.run("gan-mlp", tmp_path, overrides=[*SHORT["gan-mlp"], f"--model.prior={prior}"])
    notes = load_model(tmp_path / "model.pt").notes
    assert notes == {"prior": prior, "size": 8}
    drawn = draw_latents(notes["prior"], 4000, 5, torch.Generator().manual_seed(0))
    assert drawn.std().item() == pytest.approx(spread, rel=0.02)
    assert (drawn.abs().max() > 1) == (prior == "normal")


@pytest.mark.parametrize(
    ("recipe", "processes", "more", "batch_size", "figures"),
    [
        ("sparse-autoencoder", 2, [], 0, ("cost", "rho_hat_least", "rho_hat_most", "orientation_index")),
        ("sparse-autoencoder", 2, ["--data.count=301"], 0, ("cost", "rho_hat_least", "rho_hat_most")),
        ("sparse-autoencoder", 3, ["--data.count=301"], 0, ("cost", "rho_hat_least", "rho_hat_most")),
        ("sparse-autoencoder", 2, ["--data.count=301"], 160, ("cost", "rho_hat_least", "rho_hat_most")),
        ("denoise", 2, [], 0, ("restored_db", "rho_hat_least", "rho_hat_most")),
    ],
    ids=["even", "uneven", "by three", "uneven last of two batches", "denoise"],
)
def test_processes_are_one(
    recipe: str, processes: int, more: list[str], batch_size: int, figures: tuple[str, ...], tmp_path: Path
) -> None:
    """ρ̂, the cost and the gradient are those of all samples, none counted twice."""
    results = []
    for n in (1, processes):
        summary = trained_by(recipe, n, [*more, f"--data.batch_size={batch_size // n}"], tmp_path)
        results.append(summary["figures"])
    for figure in figures:
        assert results[1][figure] == pytest.approx(results[0][figure], rel=1e-10)


@pytest.mark.parametrize("recipe", ["gan-mlp", "gan-digits", "vae", "m2", "deconvnet"])
def test_two_processes_train(recipe: str, tmp_path: Path) -> None:
    """Those of the GANs have phases in which half of the weights have no gradient."""
    assert trained_by(recipe, 2, [], tmp_path)["epochs"] >= 2


def trained_by(recipe: str, processes: int, more: list[str], folder: Path) -> Any:
    out = folder / str(processes)
    distributed = [f"--trainer.devices={processes}", "--trainer.strategy=ddp"] if processes > 1 else []
    arguments = [recipe, *SHORT[recipe], *more, *distributed, "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "deconvkit", "train", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # Lightning's processes outlive their parent
        raise
    assert process.returncode == 0, errors
    assert "warn" not in errors.lower()
    return json.loads((out / "summary.json").read_text())
