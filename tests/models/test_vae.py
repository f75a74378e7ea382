"""Variational models: shapes, bounds, and what training must find."""

import math

import pytest
import torch
from torch.nn import functional

from deconvkit.losses import gaussian_kl
from deconvkit.models import M1, M2, VAE, ClassDecoder, ConvVAE, StackedM1M2


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("model", ["vae", "conv"])
def test_a_step(model: str, likelihood: str) -> None:
    torch.manual_seed(0)
    shape = (6, 12) if model == "vae" else (6, 2, 8, 8)
    vae = VAE(12, 3, [8], likelihood) if model == "vae" else ConvVAE(8, 2, 3, 4, 2, likelihood)
    x = torch.rand(shape)
    output = vae(x)
    assert output.parameters.shape == shape
    assert output.latent.shape == output.posterior.mean.shape == (6, 3)
    loss = vae.loss(output, x)
    expected = -(vae.likelihood(output.parameters, x) - gaussian_kl(*output.posterior)).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())
    images = vae.reconstruct(x)
    assert images.shape == shape
    if likelihood == "bernoulli":
        assert images.min() > 0
        assert images.max() < 1
    first, second = (vae.sample(4, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (4, *shape[1:])
    assert torch.equal(first, second)


def test_the_variance_starts_at_one() -> None:
    posterior = VAE(12, 3, [8]).encode(torch.rand(5, 12))
    assert not posterior.log_variance.any()


def test_latents_in_use() -> None:
    model = M1(4, 3, [5])
    with torch.no_grad():
        model.head.mean.weight[1] = 0
    assert model.active_latents(torch.randn(200, 4) * 5, 1e-3) == [0, 2]
    x = torch.rand(4, 4)
    assert not torch.equal(model.features(x), model.features(x))  # drawn anew


def test_a_class_decoder_returns_the_means_of_the_classes() -> None:
    torch.manual_seed(0)
    x, labels = torch.rand(60, 5, dtype=torch.float64), torch.arange(60) % 3
    codes = functional.one_hot(labels, 3).double()
    for likelihood in ("bernoulli", "gaussian"):
        model = ClassDecoder(3, 5, likelihood=likelihood, dtype=torch.float64)
        optimizer = torch.optim.LBFGS(
            model.parameters(), max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
        )

        def closure(model: ClassDecoder = model, optimizer: torch.optim.LBFGS = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = model.loss(codes, x)
            loss.backward()
            return loss

        optimizer.step(closure)
        means = torch.stack([x[labels == y].mean(0) for y in range(3)])
        torch.testing.assert_close(model(torch.eye(3)), means, rtol=0, atol=1e-5)


def test_m2_sums_over_the_classes_in_the_samples_order() -> None:
    """U by the model against the loop over samples and classes, with the same z."""
    torch.manual_seed(0)
    model = M2(5, 3, 2, [6], dtype=torch.float64)
    with torch.no_grad():
        model.head.log_variance.bias.fill_(-200)  # z is its mean
    x = torch.rand(4, 5, dtype=torch.float64)
    q = torch.softmax(model(x), 1)
    expected = torch.zeros(4, dtype=torch.float64)
    for i in range(4):
        for y in range(3):
            labelled = model.labelled_loss(x[i : i + 1], torch.tensor([y]))[0]
            expected[i] += q[i, y] * (labelled + q[i, y].log())
    torch.testing.assert_close(model.unlabelled_loss(x), expected)


def test_m2_loss_and_analogies() -> None:
    torch.manual_seed(0)
    model = M2(5, 3, 2, [6])
    x, labels = torch.rand(7, 5), torch.tensor([0, 2, 1])
    loss = model.loss(x[:3], labels, x[3:], classification=2.0)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.loss(x[:0], labels[:0], x, 2.0).isfinite()
    assert model.loss(x[:3], labels, x[:0], 2.0).isfinite()
    z = torch.randn(1, 2).expand(3, -1)
    images = model.generate(torch.arange(3), z)
    assert images.shape == (3, 5)
    assert not torch.equal(images[0], images[1])


def test_stacked_models() -> None:
    torch.manual_seed(0)
    model = StackedM1M2(5, 3, 4, [6], 2, [6], kept=[3, 1])
    x, labels = torch.rand(7, 5), torch.tensor([0, 2, 1])
    assert model.features(x).shape == (7, 2)
    model.loss(x[:3], labels, x[3:], 1.0).backward()
    assert all(p.grad is None for p in model.m1.parameters())
    assert all(p.grad is not None for p in model.m2.parameters())
    assert model(x).shape == (7, 3)
    assert model.generate(labels, torch.randn(3, 2)).shape == (3, 5)


def test_bound_is_below_the_evidence() -> None:
    """Of one Bernoulli pixel and one latent, whose evidence a fine grid gives."""
    torch.manual_seed(0)
    model = VAE(1, 1, [4], dtype=torch.float64)
    x = torch.tensor([[1.0]], dtype=torch.float64)
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    prior = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    evidence = (torch.sigmoid(model.decode(z)) * prior).sum() * (z[1] - z[0])
    bounds = model.bound(model(x.expand(20_000, 1)), x.expand(20_000, 1))
    assert bounds.mean().item() <= evidence.log().item() + 0.01
