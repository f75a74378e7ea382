"""VGG and DeconvNet in training: stages, data of the user's, weights of one for the other, verbs on both."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from deconvkit.cli import main
from deconvkit.data.scenes import centred_object, proposal
from deconvkit.models import VGG, DeconvNet
from deconvkit.train import command
from deconvkit.train.checkpoint import load_model
from deconvkit.train.data import ClassImages, Scenes
from deconvkit.train.modules.vision import DeconvNetRecipe
from deconvkit.visualize.panels import label_colours
from tests.data.test_voc import PARTS, write_voc
from tests.train.test_recipes import SHORT


def scenes(epoch: int, seed: int = 0) -> Scenes:
    data = Scenes(size=32, batch_size=4, first_stage=2, scenes=6, scene_size=40, test_count=3, seed=seed)
    data.trainer = SimpleNamespace(current_epoch=epoch, world_size=1, global_rank=0)  # type: ignore[assignment]
    data.setup("fit")
    return data


def test_two_stages() -> None:
    """Epochs 0 and 1 show objects in the middle, later ones proposals; each by numbers of its own."""
    for epoch, cut in ((0, centred_object), (1, centred_object), (2, proposal), (5, proposal)):
        data = scenes(epoch)
        images, labels = data.train_dataloader().dataset[3]
        image, target = cut(data.train_scenes[3], 32, np.random.default_rng((0, epoch, 3)))
        np.testing.assert_array_equal(images, image.transpose(2, 0, 1))
        np.testing.assert_array_equal(labels, target)


def test_batches_are_those_of_the_epoch_and_the_seed() -> None:
    def first(epoch: int, seed: int = 0) -> torch.Tensor:
        images, labels = next(iter(scenes(epoch, seed).train_dataloader()))
        assert images.shape == (4, 3, 32, 32)
        assert images.dtype == torch.uint8
        assert labels.shape == (4, 32, 32)
        return images

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(0))
    assert not torch.equal(first(1), first(1, seed=1))
    assert torch.equal(scenes(0).test_images, scenes(4).test_images)


def test_no_scene_is_for_training_and_testing() -> None:
    data = scenes(0)
    for test in data.test_scenes:
        assert not any(np.array_equal(test.image, train.image) for train in data.train_scenes)


def test_the_picture_of_a_run_names_the_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the classes that it shows, those of the labels and those that the network sees, and of border."""
    data = scenes(0)
    data.test_targets[:] = 0
    data.test_targets[0, :5] = 255
    data.test_targets[1, :5] = 3
    recipe = DeconvNetRecipe()
    recipe.trainer = SimpleNamespace(datamodule=data)  # type: ignore[assignment]
    seen = torch.zeros(3, 32, 32, dtype=torch.int64)
    seen[2, 0, 0] = 2
    scores = torch.nn.functional.one_hot(seen, len(data.classes)).permute(0, 3, 1, 2)
    monkeypatch.setattr(recipe, "scores", lambda images: scores)
    figure = recipe.pictures()["segmented"]
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        *(data.classes[label] for label in (0, 2, 3)),
        "does not count",
    ]
    colours = label_colours(256)
    for patch, label in zip(legend.get_patches(), (0, 2, 3, 255), strict=True):
        np.testing.assert_array_equal(patch.get_facecolor()[:3], colours[label])
        row = np.asarray(figure.axes[2 if label == 2 else 1].images[0].get_array())
        assert (row == colours[label]).all(-1).any()


def test_voc(tmp_path: Path) -> None:
    write_voc(tmp_path / "VOC2012", PARTS)
    summary = command.run("deconvnet", tmp_path / "run", str(tmp_path), SHORT["deconvnet"])
    assert 0 <= summary["figures"]["mean_iou"] <= 1
    trained = load_model(tmp_path / "run" / "model.pt", "DeconvNet")
    assert trained.model.num_classes == 21
    assert trained.notes["classes"][20] == "television"


def test_voc_without_its_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voc(tmp_path, {"train": ["a", "b"]})
    assert main(["train", "deconvnet", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("deconvkit train: ")
    assert "expected VOC's list of the images of 'val'" in line
    assert not list(tmp_path.rglob("model.pt"))


def write_classes(folder: Path, count: int) -> None:
    for colour in ("red", "blue"):
        (folder / colour).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (40 + i, 50), colour).save(folder / colour / f"{i}.png")


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    write_classes(tmp_path, 10)
    data = ClassImages(str(tmp_path), 32, seed=3)
    data.setup("fit")
    assert data.classes == ["blue", "red"]
    assert (data.count, len(data.test_images)) == (18, 2)
    for batch, labels in [(data.test_images, data.test_targets), *data.train_dataloader()]:
        for image, label in zip(batch, labels.tolist(), strict=True):
            assert image.flatten(1)[[2, 0][label]].min() == 255


def test_too_few_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_classes(tmp_path / "images", 1)
    arguments = ["train", "vgg", "--data", str(tmp_path / "images"), "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "two or more images to learn from and one to test on, got 1 and 1" in capsys.readouterr().err


def test_a_file_that_is_no_image_is_told_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes(tmp_path / "images", 10)
    (tmp_path / "images/red/odd.png").write_text("no picture")
    arguments = ["train", "vgg", "--data", str(tmp_path / "images"), "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "odd.png: expected an image, got a file that cannot be read as one" in capsys.readouterr().err
    (tmp_path / "images/red/odd.png").unlink()
    Image.fromarray(np.zeros((40, 50), np.float32)).save(tmp_path / "images/red/odd.tiff")
    assert main(arguments) == 2
    told = "odd.tiff: expected an image, got a file that cannot be read as one (floating-point pixels"
    err = capsys.readouterr().err
    assert told in err
    assert "epoch" not in err  # no bar has begun
    assert not (tmp_path / "run").exists()


def test_a_run_taken_up_again_between_the_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(folder: str, *more: str) -> int:
        stages = ["--data.first_stage=2", "--trainer.max_epochs=4"]
        return main(
            ["train", "deconvnet", *SHORT["deconvnet"], *stages, "--out", str(tmp_path / folder), *more]
        )

    def stop(recipe: DeconvNetRecipe) -> None:
        if recipe.current_epoch == 2:
            raise KeyboardInterrupt

    assert train("whole") == 0
    with monkeypatch.context() as patched:
        patched.setattr(DeconvNetRecipe, "on_train_epoch_start", stop)
        assert train("broken") == 130
    assert train("broken", "--resume") == 0
    expected, got = (load_model(tmp_path / name / "model.pt").model for name in ("whole", "broken"))
    for name, value in expected.state_dict().items():
        assert torch.equal(got.state_dict()[name], value)


@pytest.mark.filterwarnings("default:DeconvNet")
def test_an_encoder_and_the_verbs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vgg, net = tmp_path / "vgg" / "model.pt", tmp_path / "deconvnet" / "model.pt"
    command.run("vgg", vgg.parent, overrides=SHORT["vgg"])
    seen: list[torch.Tensor] = []
    copy = DeconvNet.copy_encoder

    def copied(self: DeconvNet, source: VGG) -> None:
        copy(self, source)
        seen.append(self.encoder[0][0][0].weight.detach().clone())

    monkeypatch.setattr(DeconvNet, "copy_encoder", copied)
    overrides = [*SHORT["deconvnet"], f"--model.encoder_weights={vgg}"]
    command.run("deconvnet", net.parent, overrides=overrides)
    told = [line for line in capsys.readouterr().err.splitlines() if "deconvkit" in line]
    assert told == [
        "deconvkit train: DeconvNet: encoder_weights: fc6 not loaded: VGG's reads 7x7 maps, of 224 pixels; "
        "for 32 pixels it reads 1x1"
    ]
    source = load_model(vgg, "VGG").model
    assert torch.equal(seen[0], source.features[0].weight)

    Image.new("RGB", (50, 40), "green").save(tmp_path / "green.png")
    for verb, checkpoint in (("classify", vgg), ("visualize", vgg), ("segment", net), ("visualize", net)):
        out = tmp_path / f"{verb}-{checkpoint.parent.name}"
        asked = ["--checkpoint", str(checkpoint), "--input", str(tmp_path / "green.png"), "--out", str(out)]
        capsys.readouterr()
        assert main([verb, *asked]) == 0
        assert list(out.glob("*.png"))
        if verb != "visualize":
            printed = capsys.readouterr().out
            assert any(name in printed for name in ("disc", "square", "triangle", "star", "background"))

    capsys.readouterr()
    arguments = ["train", "deconvnet", *SHORT["deconvnet"], "--out", str(tmp_path / "wrong")]
    for more, message in (
        ([f"--model.encoder_weights={vgg}", "--model.width=5"], "expected VGG-16 of width 5, got VGG-16 of"),
        ([f"--model.encoder_weights={net}"], "expected a model of type VGG, got DeconvNet"),
        (["--model.encoder_weights=absent.pt"], "absent.pt: expected a trained model, got no file"),
    ):
        assert main([*arguments, *more]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line


def test_weights_decay_but_biases_and_normalisations_do_not() -> None:
    recipe = DeconvNetRecipe(weight_decay=0.1)
    recipe.network = DeconvNet(3, 1, 32)
    recipe.trainer = SimpleNamespace(estimated_stepping_batches=100)  # type: ignore[assignment]
    decayed, kept = recipe.configure_optimizers()["optimizer"].param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0)
    names = {id(parameter): name for name, parameter in recipe.network.named_parameters()}
    assert all(names[id(p)].endswith("weight") for p in decayed["params"])
    assert len(decayed["params"]) == 13 + 3 + 13 + 1  # encoder, fc, decoder, score
    assert len(decayed["params"]) + len(kept["params"]) == len(names)


def test_a_run_is_not_taken_up_with_another_optimizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "vgg", *SHORT["vgg"], "--out", str(tmp_path / "run"), "--resume"]
    command.run("vgg", tmp_path / "run", overrides=[*SHORT["vgg"], "--model.optimizer=adam"])
    assert main([*arguments, "--trainer.max_epochs=3"]) == 2
    assert "--resume: the run was begun with --model.optimizer adam, not muon" in capsys.readouterr().err
    last = tmp_path / "run/checkpoints/last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    del checkpoint["optimizer"]  # of an earlier version
    torch.save(checkpoint, last)
    assert main([*arguments, "--trainer.max_epochs=3"]) == 2
    assert "is of another --model.optimizer; give that" in capsys.readouterr().err
    assert main([*arguments, "--trainer.max_epochs=3", "--model.optimizer=adam"]) in (0, 1)


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay"])
@pytest.mark.parametrize("value", ["-1", ".nan", ".inf"])
def test_rates_that_are_none(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "vgg", f"--model.{name}={value}"]) == 2
    assert f"vgg: --model.{name}: expected a finite number >= 0, got" in capsys.readouterr().err


def test_muon_is_for_the_windows_of_3x3() -> None:
    recipe = DeconvNetRecipe(optimizer="muon", learning_rate=0.05, weight_decay=0.1)
    recipe.network = DeconvNet(3, 1, 64)
    recipe.trainer = SimpleNamespace(estimated_stepping_batches=100)  # type: ignore[assignment]
    windows, rest, others = recipe.configure_optimizers()["optimizer"].param_groups
    assert [group["orthogonal"] for group in (windows, rest, others)] == [True, False, False]
    assert [group["initial_lr"] for group in (windows, rest, others)] == [0.05, 0.2, 0.2]
    assert [group["weight_decay"] for group in (windows, rest, others)] == [0.1, 0.1, 0]
    assert {tuple(p.shape[2:]) for p in windows["params"]} == {(3, 3)}
    assert [tuple(p.shape[2:]) for p in rest["params"]] == [(2, 2), (1, 1), (2, 2), (1, 1)]
    assert len(windows["params"]) == 26


def test_the_learning_rate_rises_and_falls_to_0() -> None:
    recipe = DeconvNetRecipe(learning_rate=0.5)
    recipe.network = DeconvNet(3, 1, 32)
    recipe.trainer = SimpleNamespace(estimated_stepping_batches=99)  # type: ignore[assignment]
    found = recipe.configure_optimizers()
    rates = []
    for _ in range(100):
        rates.append(found["optimizer"].param_groups[0]["lr"])
        found["optimizer"].step()
        found["lr_scheduler"]["scheduler"].step()
    assert rates[:2] == pytest.approx([0.05, 0.1])
    assert max(rates) == rates[9] == pytest.approx(0.5)
    assert rates[54] == pytest.approx(0.25)
    assert rates[98] < 0.001
    assert abs(rates[99]) < 1e-9
