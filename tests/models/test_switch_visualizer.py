"""Projections to the pixels: the gradient where they must be, and nothing outside the receptive field."""

import pytest
import torch
from torch import nn

from deconvkit import nn as dnn
from deconvkit.models import SwitchVisualizer, vgg16, vgg16_bn


@pytest.fixture(params=["vgg16", "vgg16_bn", "strided", "overlapping"])
def network(request) -> nn.Module:
    torch.manual_seed(0)
    if request.param == "strided":
        return nn.Sequential(
            nn.Conv2d(3, 6, 5, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            dnn.Conv2d(6, 8, 3, dilation=2, groups=2, activation="relu"),
            nn.Dropout(),
            dnn.MaxPool2d((2, 3), ceil_mode=True),
        ).double()
    if request.param == "overlapping":  # the pools of Zeiler and Fergus's network
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
            nn.Conv2d(6, 8, 3),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(8, 4, 3),
        ).double()
    make = vgg16 if request.param == "vgg16" else vgg16_bn
    model = make(num_classes=3, width=2, dtype=torch.float64)
    model(torch.rand(4, 3, 64, 64, dtype=torch.float64))  # running statistics
    return model.eval()


def test_with_the_masks_it_is_the_gradient(network: nn.Module) -> None:
    seen = SwitchVisualizer(network, rectifier="mask")
    layers = seen.layers.eval()
    for layer in range(0, len(layers), 2 if len(layers) < 10 else 5):
        images = torch.rand(2, 3, 65, 70, dtype=torch.float64, requires_grad=True)
        projection = seen.project(images.detach(), layer)
        maps = layers[: layer + 1](images)
        sample = torch.arange(2)
        chosen = maps[sample, projection.channel, projection.position[:, 0], projection.position[:, 1]]
        assert torch.equal(chosen, maps.flatten(1).amax(1))  # the strongest of all
        (expected,) = torch.autograd.grad(chosen.sum(), images)
        torch.testing.assert_close(projection.image, expected, rtol=0, atol=1e-10)


def test_nothing_outside_the_receptive_field(network: nn.Module) -> None:
    seen = SwitchVisualizer(network)
    images = torch.rand(1, 3, 96, 96, dtype=torch.float64)
    layer = min(6, len(seen.layers) - 1)
    projection = seen.project(images, layer)
    changed = images.clone().requires_grad_()
    # What the activation depends on at all: every weight and rectifier open.
    maps = changed
    for module in list(seen.layers)[: layer + 1]:
        if isinstance(module, nn.Conv2d):
            weight = torch.ones_like(module.weight)
            maps = nn.functional.conv2d(
                maps, weight, None, module.stride, module.padding, module.dilation, module.groups
            )
        elif isinstance(module, nn.MaxPool2d):
            maps = nn.functional.avg_pool2d(
                maps, module.kernel_size, module.stride, module.padding, module.ceil_mode
            )
    row, column = projection.position[0].tolist()
    maps[0, projection.channel[0], row, column].backward()
    assert changed.grad is not None
    inside = changed.grad != 0
    assert not inside.all()
    assert not projection.image[~inside].any()
    assert projection.image[inside].any()


def test_a_chosen_channel_position_and_a_whole_channel(network: nn.Module) -> None:
    seen = SwitchVisualizer(network)
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    projection = seen.project(images, 1, channel=1, position=(3, 4))
    assert projection.channel.tolist() == [1, 1]
    assert projection.position.tolist() == [[3, 4], [3, 4]]
    whole = seen.project(images, 1, channel=1, whole_channel=True).image
    assert (whole != 0).sum() > (projection.image != 0).sum()
    assert seen.project(images, -1).image.shape == images.shape


def test_with_the_masks_a_whole_channel_is_the_gradient_of_its_energy(network: nn.Module) -> None:
    seen = SwitchVisualizer(network, rectifier="mask")
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    projection = seen.project(images.detach(), 5, channel=1, whole_channel=True)
    energy = seen.layers.eval()[:6](images)[:, 1].square().sum() / 2
    (expected,) = torch.autograd.grad(energy, images)
    assert expected.any()
    torch.testing.assert_close(projection.image, expected, rtol=0, atol=1e-10)


def test_the_image_and_the_model_stay_as_they_were(network: nn.Module) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    copy = images.clone()
    SwitchVisualizer(network).project(images, -1)
    assert torch.equal(images, copy)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_pools() -> None:
    assert SwitchVisualizer(vgg16(num_classes=2, width=1)).pools() == [4, 9, 16, 23, 30]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 31}, "layer: expected -31 to 30, got 31"),
        ({"layer": 0, "channel": 1}, "channel: expected 0 to 0, got 1"),
        ({"layer": 0, "position": (40, 0)}, "position: expected a row below 40 and a column below 40"),
    ],
)
def test_what_does_not_exist(arguments, message: str) -> None:
    seen = SwitchVisualizer(vgg16(num_classes=2, width=1))
    with pytest.raises(ValueError, match=message):
        seen.project(torch.rand(1, 3, 40, 40), **arguments)
    with pytest.raises(ValueError, match="images: expected shape"):
        seen.project(torch.rand(3, 40, 40), 0)


def test_layers_that_it_cannot_undo() -> None:
    with pytest.raises(TypeError, match=r"got Tanh.* as layer 1"):
        SwitchVisualizer(nn.Sequential(nn.Conv2d(3, 3, 3), nn.Tanh()))
    with pytest.raises(TypeError, match=r"expected an nn.Sequential .* got Linear"):
        SwitchVisualizer(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="rectifier: expected one of relu, mask"):
        SwitchVisualizer(nn.Sequential(), rectifier="none")
