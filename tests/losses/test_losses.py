"""Every loss against its formula, and the identities that tell a right one."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from deconvkit import losses
from deconvkit.models import VAE


def test_value_of_the_game_at_its_optimum() -> None:
    logits = torch.zeros(5, 3)
    assert losses.adversarial_value(logits, logits).item() == pytest.approx(-math.log(4))
    assert losses.discriminator_loss(logits, logits).item() == pytest.approx(math.log(4))


def test_adversarial_losses_are_the_formulas() -> None:
    real, fake = torch.randn(7, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    d_real, d_fake = torch.sigmoid(real), torch.sigmoid(fake)
    value = d_real.log().mean() + (1 - d_fake).log().mean()
    torch.testing.assert_close(losses.adversarial_value(real, fake), value)
    torch.testing.assert_close(losses.discriminator_loss(real, fake), -value)
    torch.testing.assert_close(losses.generator_loss(fake), -d_fake.log().mean())
    torch.testing.assert_close(losses.generator_loss(fake, saturating=True), (1 - d_fake).log().mean())


def test_saturation() -> None:
    """Where D is sure of a fake, one gradient is all but gone and the other is not."""
    gradients = []
    for saturating in (True, False):
        logit = torch.tensor([-9.0], requires_grad=True)
        losses.generator_loss(logit, saturating=saturating).backward()
        assert logit.grad is not None
        assert logit.grad.item() < 0  # both ask for a larger logit
        gradients.append(-logit.grad.item())
    assert gradients[1] / gradients[0] == pytest.approx(math.exp(9), rel=1e-3)


def test_the_best_discriminator_of_two_gaussians() -> None:
    """D* = p / (p + q): where V is largest, the gradient by the logits of a fine grid vanishes."""
    x = torch.linspace(-6, 6, 481, dtype=torch.float64)
    p, q = Normal(-1.0, 0.8).log_prob(x).exp(), Normal(1.0, 1.2).log_prob(x).exp()
    logits = torch.zeros_like(x, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (p * torch.nn.functional.softplus(-logits) + q * torch.nn.functional.softplus(logits)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    seen = p + q > 1e-2
    torch.testing.assert_close(torch.sigmoid(logits)[seen], (p / (p + q))[seen], rtol=0, atol=1e-3)


def test_gaussian_kl() -> None:
    mean, log_variance = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    posterior = Normal(mean, torch.exp(log_variance / 2))
    expected = kl_divergence(posterior, Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(1)
    torch.testing.assert_close(losses.gaussian_kl(mean, log_variance), expected)
    z = posterior.sample((200_000,))
    estimate = (posterior.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(2).mean(0)
    torch.testing.assert_close(estimate, expected, rtol=0.03, atol=0.03)


def test_likelihoods() -> None:
    parameters, x = torch.randn(3, 2, 4, dtype=torch.float64), torch.rand(3, 2, 4, dtype=torch.float64)
    binary = (x > 0.5).double()
    expected = Bernoulli(logits=parameters).log_prob(binary).sum((1, 2))
    torch.testing.assert_close(losses.bernoulli_log_likelihood(parameters, binary), expected)
    log_scale = torch.tensor(-0.3, dtype=torch.float64)
    expected = Normal(parameters, log_scale.exp()).log_prob(x).sum((1, 2))
    torch.testing.assert_close(losses.gaussian_log_likelihood(parameters, log_scale, x), expected)


def test_a_linear_vae_is_probabilistic_pca() -> None:
    """Trained to its optimum, its bound is the exact likelihood of probabilistic PCA (Tipping and Bishop)."""
    torch.manual_seed(0)
    scales = torch.tensor([3.0, 2.0, 0.5, 0.5, 0.5], dtype=torch.float64)
    x = torch.randn(400, 5, dtype=torch.float64) * scales @ torch.linalg.qr(torch.randn(5, 5).double())[0]
    x = x - x.mean(0)
    model = VAE(5, 2, hidden=[], likelihood="gaussian", dtype=torch.float64)

    def bound() -> torch.Tensor:
        """The expectation over z in closed form: the model is linear."""
        posterior = model.encode(x)
        weight, scale = model.decoder[0].weight, model.likelihood.log_scale
        likelihood = losses.gaussian_log_likelihood(model.decode(posterior.mean), scale, x)
        spread = (posterior.log_variance.exp() @ weight.square().T).sum(1) / (2 * torch.exp(2 * scale))
        return (likelihood - spread - losses.gaussian_kl(*posterior)).mean()

    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=800, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = -bound()
        loss.backward()
        return loss

    optimizer.step(closure)
    values = torch.linalg.eigvalsh(x.T @ x / len(x)).flip(0)
    noise = values[2:].mean()
    log_determinant = values[:2].log().sum() + 3 * noise.log()
    exact = -(5 * math.log(2 * math.pi) + log_determinant + 5) / 2
    assert bound().item() == pytest.approx(exact.item(), abs=2e-3)
    assert torch.exp(2 * model.likelihood.log_scale).item() == pytest.approx(noise.item(), rel=2e-2)


def test_m2() -> None:
    labelled = torch.rand(4, 3, dtype=torch.float64)
    q = torch.softmax(torch.randn(4, 3, dtype=torch.float64), 1)
    expected = torch.stack(
        [sum(q[i, y] * (labelled[i, y] + q[i, y].log()) for y in range(3)) for i in range(4)]
    )
    unlabelled = losses.m2_unlabelled(labelled, q.log())
    torch.testing.assert_close(unlabelled, expected)
    # Were q the posterior of the L, U would be the evidence: −ln Σ exp(−L).
    best = losses.m2_unlabelled(labelled, torch.log_softmax(-labelled, 1))
    torch.testing.assert_close(best, -torch.logsumexp(-labelled, 1))
    assert (unlabelled >= best).all()
    log_q = q.log()[:, 0]
    total = losses.m2_objective(labelled[:, 0], unlabelled, log_q, 0.5)
    torch.testing.assert_close(total, (labelled[:, 0].sum() + expected.sum() - 0.5 * log_q.sum()) / 8)
    total = losses.m2_objective(labelled[:, 0], unlabelled, log_q, 0.5, labelled_weight=0.25)
    known = 0.25 * (labelled[:, 0] - 0.5 * log_q).sum()
    torch.testing.assert_close(total, (known + expected.sum()) / (0.25 * 4 + 4))
    empty = labelled.new_empty(0)
    torch.testing.assert_close(losses.m2_objective(empty, unlabelled, empty, 0.5), expected.mean())
    torch.testing.assert_close(
        losses.m2_labelled(torch.tensor(-2.0), math.log(0.1), torch.tensor(0.5)),
        torch.tensor(2.5 - math.log(0.1)),
    )
    with pytest.raises(ValueError, match="at least one sample"):
        losses.m2_objective(empty, empty, empty, 0.5)
    with pytest.raises(ValueError, match="at least one sample"):
        losses.m2_objective(labelled[:, 0], empty, log_q, 0.5, labelled_weight=0.0)
    for weight in (-1.0, math.nan):
        with pytest.raises(ValueError, match="labelled_weight: expected a finite number"):
            losses.m2_objective(labelled[:, 0], unlabelled, log_q, 0.5, labelled_weight=weight)


def test_weight_prior() -> None:
    assert losses.weight_prior([torch.ones(3), 2 * torch.ones(2, 2)]).item() == 9.5
    with pytest.raises(ValueError, match="at least one tensor"):
        losses.weight_prior([])


def test_pixels_without_a_class_do_not_count() -> None:
    scores = torch.randn(2, 3, 4, 5, requires_grad=True)
    labels = torch.randint(3, (2, 4, 5))
    labels[0, :2] = losses.IGNORED
    loss = losses.pixel_cross_entropy(scores, labels)
    chosen = torch.log_softmax(scores, 1).gather(1, labels.clamp(max=2)[:, None]).squeeze(1)
    torch.testing.assert_close(loss, -chosen[labels != losses.IGNORED].mean())
    nothing = losses.pixel_cross_entropy(scores, torch.full_like(labels, losses.IGNORED))
    assert nothing.item() == 0
    nothing.backward()
    assert not scores.grad.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.gaussian_kl(torch.ones(2, 3), torch.ones(3)),
            r"log_variance: expected shape \(2, 3\)",
        ),
        (
            lambda: losses.bernoulli_log_likelihood(torch.ones(2, 3), torch.ones(2, 4)),
            r"target: .*got \(2, 4\)",
        ),
        (lambda: losses.m2_unlabelled(torch.ones(2, 3), torch.ones(2)), "log_q: expected shape"),
        (lambda: losses.pixel_cross_entropy(torch.ones(1, 3, 4, 4), torch.ones(1, 4)), "labels: expected"),
    ],
)
def test_shapes_that_do_not_belong_together(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
