"""The sparse autoencoder against the lecture's formulas."""

import math

import numpy as np
import pytest
import torch

from deconvkit.gradient_check import gradient_error
from deconvkit.models import SparseAutoencoder


def make(dtype: torch.dtype = torch.float64, **options: float) -> SparseAutoencoder:
    return SparseAutoencoder(64, 25, dtype=dtype, **options)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def parameters(model: SparseAutoencoder) -> list[np.ndarray]:
    return [
        p.detach().numpy()
        for p in (model.encoder.weight, model.encoder.bias, model.decoder.weight, model.decoder.bias)
    ]


def test_parameter_count() -> None:
    assert sum(p.numel() for p in make().parameters()) == 3289


def test_initialisation() -> None:
    model = make()
    bound = math.sqrt(6) / math.sqrt(64 + 25 + 1)
    for weight in (model.encoder.weight, model.decoder.weight):
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.98 * bound
        assert abs(weight.mean()) < 0.05 * bound
    assert not model.encoder.bias.any()
    assert not model.decoder.bias.any()


def test_forward_and_loss_term_by_term() -> None:
    rho, beta, decay = 0.05, 2.5, 3e-3
    model = make(rho=rho, beta=beta, weight_decay=decay)
    torch.nn.init.normal_(model.encoder.bias)
    torch.nn.init.normal_(model.decoder.bias)
    x = torch.rand(7, 64, dtype=torch.float64)
    output = model(x)
    w1, b1, w2, b2 = parameters(model)
    a1 = sigmoid(x.numpy() @ w1.T + b1)
    a2 = sigmoid(a1 @ w2.T + b2)
    np.testing.assert_allclose(output.code.detach(), a1, rtol=1e-12)
    np.testing.assert_allclose(output.reconstruction.detach(), a2, rtol=1e-12)
    np.testing.assert_allclose(model.encode(x).detach(), a1, rtol=1e-12)
    np.testing.assert_allclose(model.decode(output.code).detach(), a2, rtol=1e-12)

    # J = (1/2M) Σ‖x̂ − x‖² + (λ/2)(‖W1‖² + ‖W2‖²) + β Σ_j KL(ρ‖ρ̂_j), sums written out.
    squares = sum((a2[m, i] - x[m, i].item()) ** 2 for m in range(7) for i in range(64)) / (2 * 7)
    weights = decay / 2 * (sum(v**2 for v in w1.ravel()) + sum(v**2 for v in w2.ravel()))
    divergence = 0.0
    for j in range(25):
        rho_hat = sum(a1[m, j] for m in range(7)) / 7
        divergence += rho * math.log(rho / rho_hat) + (1 - rho) * math.log((1 - rho) / (1 - rho_hat))
    terms = model.loss_terms(output, x)
    assert terms.reconstruction.item() == pytest.approx(squares, rel=1e-12)
    assert terms.weight_decay.item() == pytest.approx(weights, rel=1e-12)
    assert terms.sparsity.item() == pytest.approx(beta * divergence, rel=1e-12)
    assert model.loss(output, x).item() == pytest.approx(squares + weights + beta * divergence, rel=1e-12)
    assert terms.total.item() == model.loss(output, x).item()


def test_gradient_is_the_lectures() -> None:
    """δ⁽²⁾ = (x̂ − x)f′(z⁽²⁾); δ⁽¹⁾ = f′(z⁽¹⁾)(W2ᵀδ⁽²⁾ + β(−ρ/ρ̂ + (1−ρ)/(1−ρ̂))); then 1/M, and λW."""
    rho, beta, decay = 0.02, 3.0, 1e-2
    model = make(rho=rho, beta=beta, weight_decay=decay)
    x = torch.rand(11, 64, dtype=torch.float64)
    model.loss(model(x), x).backward()
    w1, b1, w2, b2 = parameters(model)
    data = x.numpy()
    a1 = sigmoid(data @ w1.T + b1)
    a2 = sigmoid(a1 @ w2.T + b2)
    rho_hat = a1.mean(0)
    delta2 = (a2 - data) * a2 * (1 - a2)
    delta1 = a1 * (1 - a1) * (delta2 @ w2 + beta * (-rho / rho_hat + (1 - rho) / (1 - rho_hat)))
    for parameter, expected in (
        (model.decoder.weight, delta2.T @ a1 / 11 + decay * w2),
        (model.decoder.bias, delta2.sum(0) / 11),
        (model.encoder.weight, delta1.T @ data / 11 + decay * w1),
        (model.encoder.bias, delta1.sum(0) / 11),
    ):
        np.testing.assert_allclose(parameter.grad, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_against_central_differences(seed: int) -> None:
    torch.manual_seed(seed)
    model = SparseAutoencoder(16, 6, dtype=torch.float64)
    x = 0.1 + 0.8 * torch.rand(100, 16, dtype=torch.float64)
    assert gradient_error(lambda: model.loss(model(x), x), list(model.parameters())) < 1e-9


def test_gradient_error_sees_a_wrong_gradient() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, grad: torch.Tensor) -> torch.Tensor:
            return 2 * grad

    x = torch.rand(5, dtype=torch.float64, requires_grad=True)
    before = x.detach().clone()
    assert gradient_error(lambda: Doubled.apply(x).square().sum(), [x]) == pytest.approx(1 / 3, rel=1e-6)
    assert torch.equal(x.detach(), before)


def test_denoising_target() -> None:
    model = make()
    clean = torch.rand(9, 64, dtype=torch.float64)
    output = model(clean + 0.1 * torch.randn_like(clean))
    expected = (output.reconstruction - clean).square().sum() / 18
    torch.testing.assert_close(model.loss_terms(output, clean).reconstruction, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_training_step_in_every_dtype(dtype: torch.dtype) -> None:
    model = make(dtype)
    x = torch.rand(50, 64).to(dtype)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-2)
    costs = []
    for _ in range(3):
        optimiser.zero_grad()
        loss = model.loss(model(x), x)
        loss.backward()
        optimiser.step()
        costs.append(loss.item())
    assert costs[2] < costs[0]
    assert all(math.isfinite(cost) for cost in costs)


def test_compiles_without_breaks() -> None:
    model = make(torch.float32)
    x = torch.rand(20, 64)
    compiled = torch.compile(lambda x: model.loss(model(x), x), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model.loss(model(x), x))


def test_state_dict_round_trip() -> None:
    model, other = make(), make()
    assert list(model.state_dict()) == ["encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"]
    other.load_state_dict(model.state_dict())
    x = torch.rand(3, 64, dtype=torch.float64)
    assert torch.equal(model(x).reconstruction, other(x).reconstruction)


def test_repr_tells_the_numbers() -> None:
    assert "weight_decay=0.0001" in repr(make())
    assert "rho=0.01, beta=3.0" in repr(make())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 25), "in_features: expected an int >= 1, got 0"),
        ((64, -1), "code_size: expected an int >= 1, got -1"),
    ],
)
def test_bad_sizes(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseAutoencoder(*arguments)


@pytest.mark.parametrize("decay", [-1e-4, math.nan])
def test_bad_weight_decay(decay: float) -> None:
    with pytest.raises(ValueError, match="weight_decay: expected a number >= 0"):
        make(weight_decay=decay)


@pytest.mark.parametrize("rho", [0.0, 1.5, math.nan])
def test_bad_rho(rho: float) -> None:
    with pytest.raises(ValueError, match="rho"):
        make(rho=rho)


def test_bad_target() -> None:
    model = make()
    output = model(torch.rand(3, 64, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"target: expected shape \(3, 64\), got \(64,\)"):
        model.loss(output, torch.rand(64, dtype=torch.float64))
