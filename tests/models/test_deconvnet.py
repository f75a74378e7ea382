"""The deconvolution network: sizes of the paper, switches, prediction."""

import pytest
import torch
from torch import nn

from deconvkit.losses import pixel_cross_entropy
from deconvkit.models import DeconvNet


def test_sizes_of_the_paper() -> None:
    with torch.device("meta"):
        net = DeconvNet()
        maps = net.activations(torch.empty(2, 3, 224, 224))
    assert {name: tuple(value.shape[1:]) for name, value in maps.items()} == {
        "fc6_deconv": (512, 7, 7),
        "deconv5": (512, 14, 14),
        "deconv4": (256, 28, 28),
        "deconv3": (128, 56, 56),
        "deconv2": (64, 112, 112),
        "deconv1": (64, 224, 224),
        "score": (21, 224, 224),
    }
    norms = sum(p.numel() for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    assert norms == 33_408


@pytest.mark.parametrize("unpooling", ["switches", "fixed"])
def test_a_step(unpooling: str) -> None:
    torch.manual_seed(0)
    net = DeconvNet(4, width=2, input_size=32, unpooling=unpooling)
    images = torch.rand(3, 3, 32, 32)
    scores = net(images)
    assert scores.shape == (3, 4, 32, 32)
    scores.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_unpooling_puts_values_where_they_were() -> None:
    """Against torch's own modules, with the same weights."""
    torch.manual_seed(0)
    net = DeconvNet(4, width=2, input_size=32).eval()
    images = torch.rand(2, 3, 32, 32)
    maps, indices = images, []
    for stage in net.encoder:
        maps = stage(maps)
        maps, chosen = nn.functional.max_pool2d(maps, 2, 2, return_indices=True)
        indices.append(chosen)
    maps = net.fc6_deconv(net.fc7(net.fc6(maps)))
    for stage in net.decoder:
        maps = stage(nn.functional.max_unpool2d(maps, indices.pop(), 2, 2))
    torch.testing.assert_close(net(images), net.score(maps), rtol=1e-4, atol=1e-6)


def test_prediction_of_any_size() -> None:
    net = DeconvNet(4, width=1, input_size=32).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    labels = net.predict(torch.rand(2, 3, 41, 57))
    assert labels.shape == (2, 41, 57)
    assert labels.dtype == torch.int64
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.slow
def test_full_width() -> None:
    """One step of training and one prediction at 224 pixels."""
    net = DeconvNet()
    before = net.fc6[0].weight[0, 0].clone()
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    pixel_cross_entropy(net(torch.rand(2, 3, 224, 224)), torch.randint(0, 21, (2, 224, 224))).backward()
    optimizer.step()
    assert not torch.equal(net.fc6[0].weight[0, 0], before)
    assert net.predict(torch.rand(1, 3, 300, 200)).shape == (1, 300, 200)
