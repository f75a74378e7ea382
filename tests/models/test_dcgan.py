"""The generator's sizes, parameters and structure."""

import pytest
import torch
from torch import nn

from deconvkit.models import DCGANGenerator


def test_papers_sizes() -> None:
    with torch.device("meta"):
        generator = DCGANGenerator()
        images = generator(torch.empty(2, 100))
    assert images.shape == (2, 3, 64, 64)
    assert sum(p.numel() for p in generator.parameters()) == 18_885_760
    convs = [(m.in_channels, m.out_channels) for m in generator.upsample if hasattr(m, "in_channels")]
    assert convs == [(1024, 512), (512, 256), (256, 128), (128, 3)]


@pytest.mark.parametrize("arguments", [(7, 3, 8, 1), (5, 2, 32, 4)])
def test_other_sizes_and_gradients(arguments: tuple[int, int, int, int]) -> None:
    latent, _, size, channels = arguments
    generator = DCGANGenerator(*arguments, dtype=torch.float64)
    images = generator(torch.rand(3, latent, dtype=torch.float64) * 2 - 1)
    assert images.shape == (3, channels, size, size)
    assert images.abs().max() < 1
    images.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.parameters())


def test_equals_the_layers_written_out() -> None:
    generator = DCGANGenerator(6, 4, 16, 3).eval()
    by_hand = nn.Sequential(
        nn.Linear(6, 128, bias=False),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Unflatten(1, (8, 4, 4)),
        nn.ConvTranspose2d(8, 4, 5, 2, 2, 1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 3, 5, 2, 2, 1, bias=False),
        nn.Tanh(),
    ).eval()
    state = dict(zip(by_hand.state_dict(), generator.state_dict().values(), strict=True))
    by_hand.load_state_dict(state)
    latent = torch.rand(5, 6)
    torch.testing.assert_close(generator(latent), by_hand(latent))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_size": 0}, "latent_size: expected an int >= 1, got 0"),
        ({"base_channels": 0}, "base_channels: expected"),
        ({"channels": -1}, "channels: expected"),
        ({"image_size": 48}, "image_size: expected 8, 16, 32, 64, ..., got 48"),
        ({"image_size": 4}, "image_size: expected"),
        ({"image_size": 18}, "image_size: expected"),
    ],
)
def test_bad_arguments(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"DCGANGenerator: {message}"):
        DCGANGenerator(**arguments)


def test_bad_latent() -> None:
    with pytest.raises(ValueError, match=r"latent: expected shape \(N, 4\), got \(2, 5\)"):
        DCGANGenerator(4, 2, 8, 1)(torch.zeros(2, 5))
