"""Every verb on every model that it knows, and what they do with what users give them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvkit import cli, models
from deconvkit.data import photographs
from deconvkit.data.images import square
from deconvkit.models import vgg16, vgg19_bn
from deconvkit.train.checkpoint import Trained, load_model, save_model
from deconvkit.verbs import command, inputs, latents, seeing
from deconvkit.verbs.inputs import Request, VerbError
from deconvkit.verbs.table import VERBS

MODELS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "VAE": (lambda: models.VAE(64, 3, [8]), {"size": 8}),
    "M1": (lambda: models.M1(64, 1, [8]), {"size": 8}),
    "ConvVAE": (lambda: models.ConvVAE(8, 1, 3, 2), {}),
    "M2": (lambda: models.M2(64, 10, 3, [8]), {"size": 8}),
    "StackedM1M2": (lambda: models.StackedM1M2(64, 10, 4, [8], 3, [8], kept=[0, 2]), {"size": 8}),
    "ClassDecoder": (lambda: models.ClassDecoder(10, 64), {"size": 8}),
    "MLPGenerator": (lambda: models.MLPGenerator(3, 64, [8]), {"size": 8}),
    "DCGANGenerator": (lambda: models.DCGANGenerator(5, 2, 8), {"prior": "normal"}),
    "SparseAutoencoder": (lambda: models.SparseAutoencoder(64, 9), {"size": 8, "noise": 0.25}),
    "VGG": (lambda: vgg16(num_classes=3, width=1), {"size": 32, "classes": ["cat", "dog", "cow"]}),
    "DeconvNet": (lambda: models.DeconvNet(4, 1, 32), {}),
}


def saved(folder: Path, name: str) -> str:
    make, notes = MODELS[name]
    torch.manual_seed(0)
    save_model(folder / f"{name}.pt", make(), "test", notes)
    return str(folder / f"{name}.pt")


def trained(model: nn.Module, **notes: Any) -> Trained:
    return Trained(model.eval(), "test", notes)


def draw(verb: Callable[[Trained, Request], inputs.Drawn], it: Trained, **request: Any) -> inputs.Drawn:
    with torch.no_grad():
        return verb(it, Request(**request))


@pytest.fixture
def photograph(tmp_path: Path) -> str:
    grid = np.mgrid[:40, :60]
    image = np.stack([grid[0] * 6, grid[1] * 4, (grid.sum(0) % 8) * 30], -1).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "photograph.png")
    return str(tmp_path / "photograph.png")


def test_all_models_and_verbs_are_in_the_tables() -> None:
    assert command._DRAW.keys() == VERBS.keys()
    assert {name for _, known in command._DRAW.values() for name in known} == MODELS.keys()


@pytest.mark.parametrize(("verb", "name"), [(v, m) for v, (_, known) in command._DRAW.items() for m in known])
def test_every_verb_on_every_model(
    verb: str, name: str, tmp_path: Path, photograph: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--input", photograph] if name in ("VGG", "DeconvNet") else []
    out = tmp_path / "a" / "b"
    assert cli.main([verb, "--checkpoint", saved(tmp_path, name), *given, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    files = sorted(out.iterdir())
    assert files
    assert sorted(line for line in lines if line.endswith(".png")) == [str(file) for file in files]
    for file in files:
        with Image.open(file) as image:
            assert image.format == "PNG"
            assert len(image.convert("L").getcolors()) > 20


def test_samples_are_the_models_and_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(latents, "image_sheet", lambda images, *rest: shown.append(images))
    model = models.DCGANGenerator(5, 2, 8)
    for seed in (3, 3, 4):
        draw(latents.sample, trained(model), count=6, seed=seed)
    with torch.no_grad():
        made = model(torch.rand(6, 5, generator=torch.Generator().manual_seed(3)) * 2 - 1)
    np.testing.assert_allclose(shown[0], made.permute(0, 2, 3, 1) / 2 + 0.5, atol=1e-6)
    np.testing.assert_array_equal(shown[0], shown[1])
    assert not np.array_equal(shown[0], shown[2])


def test_a_walk_shows_the_strongest_latent_first(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(latents, "image_rows", lambda rows, *rest: shown.append(rows))
    model = models.VAE(64, 3, [], "gaussian")
    last: Any = model.decoder[-1]
    with torch.no_grad():
        last.weight.copy_(torch.tensor([0.01, 0.3, 0.1]).expand(64, 3))
        last.bias.fill_(0.5)
    draw(latents.traverse, trained(model))
    (rows,) = shown
    assert [name for name, _ in rows] == ["latent 1", "latent 2", "latent 0"]
    at = torch.special.ndtri(torch.linspace(0.05, 0.95, 10))
    np.testing.assert_allclose(rows[1][1][:, 0, 0], 0.5 + 0.1 * at, atol=1e-6)


def test_a_generators_walk_leads_from_latent_to_latent(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(latents, "image_rows", lambda rows, *rest: shown.append(rows))
    model = models.MLPGenerator(3, 64, [8])
    draw(latents.traverse, trained(model), seed=5)
    ends = torch.rand(16, 3, generator=torch.Generator().manual_seed(5)) * 2 - 1
    with torch.no_grad():
        made = model(ends).view(8, 2, 8, 8).numpy()
    for (_, walk), (first, last) in zip(shown[0], made, strict=True):
        np.testing.assert_allclose(walk[[0, -1]], [first, last], atol=1e-6)


def test_analogies_have_the_style_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(latents, "image_rows", lambda rows, *rest: shown.append(rows))
    model = models.M2(64, 3, 2, [8])
    draw(latents.analogies, trained(model, classes=["a", "b", "c"]))
    digits = torch.from_numpy(np.stack([images[0] for _, images in shown[0]])).flatten(1)
    with torch.no_grad():
        labels = model(digits).argmax(1)
        style = model.encode(digits, labels).mean
        made = model.generate(torch.tensor([2]), style[4:5])
    assert shown[0][4][0] == f"taken for {'abc'[labels[4]]}"
    np.testing.assert_allclose(shown[0][4][1][3], made.view(8, 8), atol=1e-6)


def test_photographs_through_patches(photograph: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that gives back what it is given gives back the photograph, but for what is clipped."""
    shown: list[Any] = []
    monkeypatch.setattr(latents, "panels", lambda seen, *rest: shown.append(seen))
    model = models.SparseAutoencoder(64, 4)
    monkeypatch.setattr(
        model, "forward", lambda x: models.SparseAutoencoderOutput(x, x[:, :4], torch.zeros(()))
    )
    draw(latents.reconstruct, trained(model, patch=8, limit=1.0), input=[photograph])
    original, restored, _ = shown[0]
    assert original.image.shape == (40, 56)
    np.testing.assert_allclose(restored.image, original.image, atol=1e-5)


def test_more_images_than_a_picture_holds(tmp_path: Path) -> None:
    for i in range(50):
        Image.new("L", (9, 8), i * 5).save(tmp_path / f"{i:02}.png")
    it = trained(models.VAE(64, 3, [8]))
    drawn = draw(latents.reconstruct, it, input=[str(tmp_path)])
    assert list(drawn.pictures) == ["reconstructions", "reconstructions_2"]
    assert list(
        draw(seeing.classify, trained(models.M2(64, 10, 3, [8])), input=[str(tmp_path)]).pictures
    ) == ["classes", *(f"classes_{i}" for i in range(2, 6))]


def test_images_are_cropped_shrunk_and_inverted(tmp_path: Path) -> None:
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:, 8:24] = 255  # the middle is white
    Image.fromarray(wide).save(tmp_path / "wide.png")
    model = models.VAE(64, 2, [8]).double()
    given = inputs.digits_for(model, Request([str(tmp_path / "wide.png")]), 8)
    assert given.dtype == torch.float64
    assert torch.equal(given, torch.ones(1, 64, dtype=torch.float64))
    inverted = inputs.digits_for(model, Request([str(tmp_path)], invert=True), 8)
    assert torch.equal(inverted, torch.zeros(1, 64, dtype=torch.float64))


def test_mnist_folder(tmp_path: Path) -> None:
    images = np.arange(20 * 784, dtype=np.uint8).reshape(20, 28, 28)
    labels = (np.arange(20) % 10).astype(np.uint8)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(
        b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in images.shape) + images.tobytes()
    )
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(
        b"\0\0\x08\x01" + (20).to_bytes(4, "big") + labels.tobytes()
    )
    model = models.VAE(784, 2, [8])
    given = inputs.digits_for(model, Request([str(tmp_path)]), 28, 10)
    found = [(torch.from_numpy(images[i].ravel()) / 255).float() for i in range(20)]
    for label, digit in enumerate(given):
        assert any(torch.allclose(digit, found[i]) for i in (label, label + 10))
    with pytest.raises(VerbError, match="expected digits of 8x8 pixels, got 28x28"):
        inputs.digits_for(model, Request([str(tmp_path)]), 8)


def test_shipped_digits_are_one_of_each_class() -> None:
    from sklearn.datasets import load_digits

    given = inputs.digits_for(models.VAE(64, 2, [8]), Request(), 8, 12)
    known = load_digits()
    labels = [known.target[np.abs(known.data / 16 - digit.numpy()).sum(1).argmin()] for digit in given]
    assert labels == [*range(10), 0, 1]


def test_what_vgg_is_given(photograph: str) -> None:
    image = square(inputs.pictures_for(Request([photograph]))[0][1], 40)
    given = inputs.normalised(image)
    assert given.shape == (1, 3, 40, 40)
    assert given[0, 1, 3, 5] == pytest.approx((image[3, 5, 1] / 255 - 0.456) / 0.224, abs=1e-5)


def test_classes_are_printed_and_named(tmp_path: Path, photograph: str) -> None:
    model = vgg16(num_classes=3, width=1)
    last: Any = model.classifier[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.0, 3.0, 1.0]))
    noted = draw(seeing.classify, trained(model, size=32, classes=["cat", "dog", "cow"]), input=[photograph])
    assert noted.text == "photograph.png: dog 84.4%, cow 11.4%, cat 4.2%"
    (tmp_path / "names.txt").write_text("α\nβ\n\nγ\n", "utf-8")
    named = draw(
        seeing.classify, trained(model, size=32), input=[photograph], names=str(tmp_path / "names.txt")
    )
    assert named.text.startswith("photograph.png: β 84.4%")
    with pytest.raises(VerbError, match="--names: expected 3 names, got 1"):
        draw(seeing.classify, trained(model, size=32), input=[photograph], names=photograph_names(tmp_path))


def photograph_names(folder: Path) -> str:
    (folder / "one.txt").write_text("one\n")
    return str(folder / "one.txt")


def test_labels_over_a_picture(photograph: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.DeconvNet(3, 1, 32)
    labels = torch.zeros(1, 40, 60, dtype=torch.int64)
    labels[:, :10] = 2
    seen = torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    monkeypatch.setattr(model, "probabilities", lambda images: seen)
    drawn = draw(seeing.segment, trained(model), input=[photograph])
    assert drawn.text == "photograph.png: 0 75.0%, 2 25.0%"
    figure = drawn.pictures["labels"]
    legend = figure.axes[1].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["0  75%", "2  25%"]
    shown = np.asarray(figure.axes[1].images[0].get_array())
    original = np.asarray(figure.axes[0].images[0].get_array())
    assert shown.shape == (8 * 40, 8 * 60, 3)
    assert (shown[8 * 10 - 1] == 1).all()  # where they meet
    shown = shown[::8, ::8]
    np.testing.assert_array_equal(shown[10:], original[10:])
    green = np.array([0, 128 / 255, 0])  # VOC's second colour
    np.testing.assert_allclose(shown[:10], 0.4 * original[:10] + 0.6 * green)


def test_bare_weights_of_a_vgg(tmp_path: Path, photograph: str) -> None:
    from safetensors.torch import save_file

    model = vgg19_bn(num_classes=5, width=2)
    torch.save(model.state_dict(), tmp_path / "vgg.pth")
    save_file(model.state_dict(), tmp_path / "vgg.safetensors")
    for name in ("vgg.pth", "vgg.safetensors"):
        found = load_model(tmp_path / name).model
        assert found.config() == model.config()
        for key, value in model.state_dict().items():
            assert torch.equal(found.state_dict()[key], value)
    arguments = ["visualize", "--checkpoint", str(tmp_path / "vgg.pth"), "--input", photograph]
    assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == 0


def test_projections_are_the_strongest_channels(photograph: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(seeing, "panels", lambda seen, *rest: shown.extend(seen))
    model = vgg16(num_classes=2, width=2)
    draw(seeing.visualize, trained(model, size=64), input=[photograph])
    assert len(shown) == 6
    image = inputs.normalised(square(inputs.pictures_for(Request([photograph]))[0][1], 64))
    with torch.no_grad():
        maps = model.features[:10](image)
    assert shown[2].name == f"pool 2: channel {int(maps.amax((2, 3)).argmax())}, 16×16"
    assert all(panel.image.shape == (64, 64, 3) for panel in shown)


def test_the_way_up_shows_what_varies_most(photograph: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(seeing, "panels", lambda seen, *rest: shown.extend(seen))
    model = models.DeconvNet(3, 2, 32).eval()
    maps = {f"deconv{i}": torch.zeros(1, 3, 64 >> i, 64 >> i) for i in range(5, 0, -1)}
    for found in maps.values():
        found[0, 0] = 7  # strong, but the same everywhere
        found[0, 2, 0] = 4
    monkeypatch.setattr(model, "activations", lambda images: maps)
    draw(seeing.visualize, trained(model), input=[photograph])
    assert [panel.name for panel in shown[1:]] == [
        f"deconv{i}: channel 2, {64 >> i}×{64 >> i}" for i in range(5, 0, -1)
    ]
    for panel in shown[1:]:
        assert (panel.image[0] == 1).all()
        assert (panel.image[1:] == 0).all()


def test_patch_scale_of_a_foreign_file() -> None:
    for limit in (0, -1, float("nan"), "x", None, True):
        assert inputs.noted_number({"limit": limit}, "limit", 1.0) == 1.0
    assert photographs.PatchScale(inputs.noted_number({"limit": 2}, "limit", 1.0)).limit == 2
