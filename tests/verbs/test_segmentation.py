"""``deconvkit segment``: proposals, boxes, a second opinion, the CRF, and what is wrong with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvkit import cli, models, segmentation
from deconvkit.train.checkpoint import save_model
from deconvkit.verbs import inputs
from deconvkit.verbs.inputs import Request
from deconvkit.verbs.segmentation import Segmenter
from tests.verbs.test_bad_input import told


@pytest.fixture
def picture() -> np.ndarray:
    """Two colours that meet in the middle."""
    image = np.full((40, 60, 3), (200, 150, 40), np.uint8)
    image[:, 30:] = 40, 90, 180
    return image


@pytest.fixture
def photograph(tmp_path: Path, picture: np.ndarray) -> str:
    Image.fromarray(picture).save(tmp_path / "two colours.png")
    return str(tmp_path / "two colours.png")


@pytest.fixture
def net() -> models.DeconvNet:
    torch.manual_seed(1)
    model = models.DeconvNet(3, 2, 32)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():  # statistics and scores with which labels differ from pixel to pixel
        model(torch.rand(16, 3, 32, 32) * 4 - 2)
        model.score.weight.normal_()
    return model.eval()


def checkpoint(folder: Path, model: Any, name: str = "model.pt") -> str:
    save_model(folder / name, model, "test", {})
    return str(folder / name)


def test_each_option_is_what_the_library_does(
    tmp_path: Path, picture: np.ndarray, net: models.DeconvNet
) -> None:
    images, colours = inputs.normalised(picture), torch.from_numpy(picture.copy()).permute(2, 0, 1)
    other = models.DeconvNet(3, 1, 32).eval()
    with torch.no_grad():
        other.score.bias.copy_(torch.tensor([0.0, 1, 2]))
    one, opinion = net.probabilities(images)[0], other.probabilities(images)[0]
    (tmp_path / "boxes.txt").write_text("0 0 20 30\n\nphoto a.png, 10, 5, 200, 40\nb.png 1 1 3 3\n")
    joined = segmentation.aggregate(net, images[0], segmentation.proposals(40, 60, 20), 32)
    boxed = segmentation.aggregate(net, images[0], torch.tensor([[0, 0, 10, 15], [5, 2, 60, 20]]), 32)
    mean = segmentation.ensemble(one, opinion)
    np.save(tmp_path / "map.npy", opinion.numpy())
    np.save(tmp_path / "small.npy", np.full((3, 2, 2), 1 / 3))
    second = checkpoint(tmp_path, other, "second.pt")
    for request, expected, how in (
        (Request(), one, "in one pass"),
        (Request(proposals=20), joined, f"over {len(segmentation.proposals(40, 60, 20))} boxes"),
        (Request(boxes=str(tmp_path / "boxes.txt")), boxed, "over 2 boxes"),
        (Request(ensemble=second), mean, "in one pass, in the mean with a second map"),
        (Request(ensemble=str(tmp_path / "map.npy")), mean, "in one pass, in the mean with a second map"),
        (Request(ensemble=str(tmp_path / "small.npy")), one, "in one pass, in the mean with a second map"),
        (Request(crf=True), segmentation.dense_crf(one, colours), "in one pass, after a dense CRF"),
        (
            Request(proposals=20, ensemble=second, crf=True),
            segmentation.dense_crf(segmentation.ensemble(joined, opinion), colours),
            f"over {len(segmentation.proposals(40, 60, 20))} boxes, in the mean with a second map, after a "
            "dense CRF",
        ),
    ):
        # The image is drawn half as large as its file for boxes: they are of the file.
        size = (80, 120) if request.boxes else (40, 60)
        labels, told_how = Segmenter(net, request, 1)("photo a.png", picture, size)
        assert told_how == how
        assert labels.shape == (40, 60)
        np.testing.assert_array_equal(labels, expected.argmax(0).numpy())
    assert len(joined.argmax(0).unique()) > 1
    assert not torch.equal(joined.argmax(0), one.argmax(0))


def test_by_the_command_line(
    tmp_path: Path, photograph: str, net: models.DeconvNet, capsys: pytest.CaptureFixture[str]
) -> None:
    model = checkpoint(tmp_path, net)
    (tmp_path / "boxes.txt").write_text("two colours.png 3 4 50 30\n")
    for options in (
        ["--proposals", "5", "--crf", "--ensemble", model],
        ["--boxes", str(tmp_path / "boxes.txt")],
    ):
        arguments = ["segment", "--checkpoint", model, "--input", photograph, *options]
        assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == 0
        assert "two colours.png: " in capsys.readouterr().out
        (tmp_path / "out" / "labels.png").unlink()


@pytest.mark.parametrize(
    "options", [["--crf", "maybe"], ["--proposals"], ["--proposals", "-1"], ["--proposals", "many"]]
)
def test_values_that_are_none(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["segment", "--checkpoint", "x", *options, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("deconvkit")
    assert len(told.splitlines()) == 1
    assert options[-1] in told


def test_what_is_wrong_is_told(
    tmp_path: Path, photograph: str, net: models.DeconvNet, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = checkpoint(tmp_path, net), tmp_path / "out"
    wrong = models.DeconvNet(3, 1, 32)
    with torch.no_grad():
        wrong.score.weight.fill_(torch.nan)
    checkpoint(tmp_path, wrong, "nan.pt")
    checkpoint(tmp_path, models.DeconvNet(4, 1, 32), "four.pt")
    checkpoint(tmp_path, models.VAE(64, 3, [8]), "vae.pt")
    thirds = np.full((3, 4, 6), 1 / 3)
    for name, values in (
        ("classes", thirds[:2]),
        ("flat", thirds[0]),
        ("integers", thirds.astype(int)),
        ("scores", thirds * 7),
        ("nan", thirds * np.nan),
        ("objects", np.array([None, {}])),
    ):
        np.save(tmp_path / f"{name}.npy", values, allow_pickle=True)
    np.save(tmp_path / "good.npy", thirds)
    (tmp_path / "text.npy").write_text("text")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "word.txt").write_text("1 2 3 4\n1 2 x 4\n")
    (tmp_path / "turned.txt").write_text("5 2 3 4\n")
    (tmp_path / "huge.txt").write_text("0 0 1e999 4\n")
    (tmp_path / "outside.txt").write_text("500 500 600 600\n")
    (tmp_path / "others.txt").write_text("other.png 1 1 20 20\n")

    def of(*options: str, more: tuple[str, ...] = ()) -> str:
        arguments = ["--checkpoint", model, "--input", photograph, *more, *options, "--out", str(out)]
        return told(capsys, "segment", *arguments)

    for name, message in (
        ("absent.pt", "absent.pt: expected a trained model, got no file of that name"),
        ("vae.pt", "expected a model of type DeconvNet, got VAE"),
        ("four.pt", "--ensemble: expected a model of 3 classes, got one of 4"),
        ("nan.pt", "--ensemble: expected numbers in"),
        ("absent.npy", "--ensemble: expected an array of NumPy's, got"),
        ("text.npy", "--ensemble: expected an array of NumPy's, got"),
        ("objects.npy", "--ensemble: expected an array of NumPy's, got"),
        (
            "classes.npy",
            "--ensemble: expected probabilities of shape (3, height, width), got float64 (2, 4, 6)",
        ),
        ("flat.npy", "got float64 (4, 6)"),
        ("integers.npy", "got int64 (3, 4, 6)"),
        ("scores.npy", "that add up to 1 over the classes, got other numbers in"),
        ("nan.npy", "that add up to 1 over the classes, got other numbers in"),
    ):
        line = of("--ensemble", str(tmp_path / name))
        assert message in line
        assert "cannot be drawn" not in line
    assert "--ensemble: expected one image beside the map of one, got 2" in of(
        "--ensemble", str(tmp_path / "good.npy"), more=(photograph,)
    )
    for name, message in (
        ("absent.txt", "--boxes: expected a text file, got"),
        ("good.npy", "--boxes: expected a text file, got"),
        ("empty.txt", "--boxes: expected a box in each line, got a file without any"),
        ("word.txt", "[NAME] LEFT TOP RIGHT BOTTOM in each line, got '1 2 x 4' in line 2 of"),
        ("turned.txt", "got '5 2 3 4' in line 1 of"),
        ("huge.txt", "got '0 0 1e999 4' in line 1 of"),
        ("outside.txt", "--boxes: expected a box in two colours.png, of 60x40 pixels, got none in"),
        ("others.txt", "--boxes: expected a box in two colours.png, of 60x40 pixels, got none in"),
    ):
        assert message in of("--boxes", str(tmp_path / name))
    both = of("--boxes", str(tmp_path / "outside.txt"), "--proposals", "3")
    assert "--proposals: expected none beside --boxes, which has boxes of its own, got 3" in both
    assert not out.exists()
