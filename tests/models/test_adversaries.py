"""Discriminators and the small generator; the 4×4 variant of both."""

import pytest
import torch
from torch import nn

from deconvkit.models import DCGANDiscriminator, DCGANGenerator, MLPDiscriminator, MLPGenerator


@pytest.mark.parametrize("kernel_size", [4, 5])
def test_images_to_logits_and_back(kernel_size: int) -> None:
    generator = DCGANGenerator(7, 4, 32, 2, kernel_size)
    discriminator = DCGANDiscriminator(4, 32, 2, kernel_size)
    images = generator(torch.rand(3, 7) * 2 - 1)
    assert images.shape == (3, 2, 32, 32)
    logits = discriminator(images)
    assert logits.shape == (3,)
    logits.sum().backward()
    for model in (generator, discriminator):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_discriminator_equals_the_layers_written_out() -> None:
    discriminator = DCGANDiscriminator(4, 16, 3).eval()
    by_hand = nn.Sequential(
        nn.Conv2d(3, 4, 5, 2, 2, bias=False),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4, 8, 5, 2, 2, bias=False),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(128, 1, bias=False),
    ).eval()
    by_hand.load_state_dict(dict(zip(by_hand.state_dict(), discriminator.state_dict().values(), strict=True)))
    images = torch.rand(5, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(discriminator(images), by_hand(images).squeeze(1), rtol=1e-4, atol=1e-5)


def test_weights_as_the_paper_draws_them() -> None:
    torch.manual_seed(0)
    for model in (DCGANGenerator(50, 16, 32), DCGANDiscriminator(16, 32)):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert abs(module.weight.mean() - 1) < 0.02
                assert not module.bias.any()
            elif isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.15)


def test_perceptrons() -> None:
    generator, discriminator = MLPGenerator(), MLPDiscriminator()
    samples = generator(torch.randn(6, 16))
    assert samples.shape == (6, 64)
    assert samples.min() > 0
    assert samples.max() < 1
    assert discriminator(samples).shape == (6,)
    assert [m.out_features for m in generator.layers if isinstance(m, nn.Linear)] == [128, 128, 64]
