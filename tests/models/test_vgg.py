"""VGG: torchvision's layout, its files, and files that are not what they should be."""

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from deconvkit.models import DeconvNet, vgg16, vgg16_bn, vgg19, vgg19_bn

CONVOLUTIONS = {
    vgg16: [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
    vgg16_bn: [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40],
}


@pytest.mark.parametrize("make", CONVOLUTIONS)
def test_names_are_torchvisions(make) -> None:
    with torch.device("meta"):
        model = make()
    names = {name for name in model.state_dict() if name.endswith("weight")}
    convolutions = [i for i, layer in enumerate(model.features) if isinstance(layer, nn.Conv2d)]
    assert convolutions == CONVOLUTIONS[make]
    norms = [i + 1 for i in convolutions] if make is vgg16_bn else []
    assert names == {f"features.{i}.weight" for i in convolutions + norms} | {
        f"classifier.{i}.weight" for i in (0, 3, 6)
    }
    assert model.classifier[0].weight.shape == (4096, 25088)


@pytest.mark.parametrize("make", [vgg16, vgg16_bn, vgg19, vgg19_bn])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_load(make, suffix: str, tmp_path: Path) -> None:
    model = make(num_classes=5, width=1).eval()
    path = tmp_path / f"weights{suffix}"
    save_file(model.state_dict(), path) if suffix == ".safetensors" else torch.save(model.state_dict(), path)
    again = make(weights=path, num_classes=5, width=1).eval()
    x = torch.rand(2, 3, 40, 33)
    assert model(x).shape == (2, 5)
    assert torch.equal(again(x), model(x))


def test_another_number_of_classes_is_told_and_left(tmp_path: Path) -> None:
    model = vgg16(num_classes=7, width=1)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.warns(UserWarning, match=r"classifier.6.weight, classifier.6.bias not loaded: 7 cl.* 3"):
        other = vgg16(weights=tmp_path / "w.pth", num_classes=3, width=1)
    assert other.classifier[6].weight.shape[0] == 3
    assert torch.equal(other.features[0].weight, model.features[0].weight)


def broken(kind: str, path: Path) -> None:
    state = vgg16(num_classes=5, width=1).state_dict()
    if kind == "missing":
        del state["features.5.bias"]
    elif kind == "extra":
        state["head.weight"] = torch.ones(1)
    elif kind == "shape":
        state["features.2.weight"] = torch.ones(1, 1, 5, 5)
    if kind == "code":
        torch.save(nn.Linear(2, 2), path)
    elif kind == "no tensors":
        torch.save([1, 2], path)
    elif kind == "garbage":
        path.write_bytes(b"not a checkpoint")
    elif kind != "absent":
        torch.save(state, path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"1 missing \(features.5.bias\)"),
        ("extra", r"1 unknown \(head.weight\)"),
        ("shape", r"features.2.weight: expected shape \(1, 1, 3, 3\), got \(1, 1, 5, 5\)"),
        ("code", "cannot be read"),
        ("garbage", "cannot be read"),
        ("no tensors", "expected a state dict, names to tensors"),
        ("absent", "does not exist"),
    ],
)
def test_files_that_are_none(kind: str, message: str, tmp_path: Path) -> None:
    broken(kind, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=f"^vgg16: weights: .*{message}") as caught:
        vgg16(weights=tmp_path / "w.pth", num_classes=5, width=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [vgg16, vgg16_bn])
def test_an_encoder_from_a_file(make, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vgg = make(num_classes=1000, width=1)
    vgg(torch.rand(2, 3, 64, 64))  # running statistics
    torch.save(vgg.state_dict(), tmp_path / "w.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = DeconvNet(4, width=1, encoder_weights=tmp_path / "w.pth")
    sources = [layer for layer in vgg.features if isinstance(layer, nn.Conv2d)]
    units = [unit for stage in net.encoder for unit in stage]
    assert all(torch.equal(s.weight, u[0].weight) for s, u in zip(sources, units, strict=True))
    assert torch.equal(net.fc6[0].weight, vgg.classifier[0].weight.view(64, 8, 7, 7))
    assert torch.equal(net.fc7[0].bias, vgg.classifier[3].bias)
    norms = [layer for layer in vgg.features if isinstance(layer, nn.BatchNorm2d)]
    assert all(torch.equal(n.running_var, u[1].running_var) for n, u in zip(norms, units, strict=False))
    # A smaller input has another fc6.
    with pytest.warns(UserWarning, match="fc6 not loaded: .* 7x7 maps, of 224 pixels; for 64 .* 2x2") as told:
        small = DeconvNet(4, width=1, input_size=64, encoder_weights=tmp_path / "w.pth")
    assert len(told) == 1
    assert torch.equal(small.fc7[0].weight.flatten(1), vgg.classifier[3].weight)
    assert torch.equal(small.encoder[0][0][0].weight, sources[0].weight)
