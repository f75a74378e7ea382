"""Folding batch normalisation and activations into convolutions, against the model as it was."""

from typing import Any

import pytest
import torch
from torch import nn

import deconvkit
from deconvkit.models import DCGANGenerator
from deconvkit.nn import fuse

OURS = deconvkit.nn
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 6e-2}


def trained(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """In evaluation mode, with statistics and weights as training leaves them."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            if module.running_mean is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.3, 3)
            if module.weight is not None:
                nn.init.uniform_(module.weight, -1.5, 1.5)
                nn.init.normal_(module.bias)
    return model.to(dtype).eval()


def check(
    model: nn.Module, *shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[nn.Module, list[str]]:
    """Fuse, compare, and see that the original is as it was."""
    trained(model, dtype).to(device)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kinds = [type(module) for module in model.modules()]
    lines: list[str] = []
    fused = fuse(model, report=lines.append)
    assert not any(module.training for module in fused.modules())
    x = torch.randn(shape, dtype=dtype, device=device)
    with torch.no_grad():
        got, expected = fused(x), model(x)
    assert (got.dtype, got.device) == (dtype, x.device)
    largest = expected.abs().max().item()
    torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE[dtype] * largest)
    assert [type(module) for module in model.modules()] == kinds
    assert model.state_dict().keys() == before.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    return fused, lines


ACTIVATIONS = [nn.ReLU(inplace=True), nn.LeakyReLU(0.1), nn.Tanh(), nn.Sigmoid()]


@pytest.mark.parametrize("library", [OURS, nn], ids=["deconvkit", "torch"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda module: type(module).__name__)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Conv2d", {"stride": 2, "padding": 1, "groups": 2}),
        ("Conv2d", {"padding": "same", "padding_mode": "circular", "dilation": 2}),
        ("ConvTranspose2d", {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
        ("Conv1d", {"padding": 2, "groups": 2}),
        ("ConvTranspose1d", {"stride": 3, "groups": 2}),
    ],
)
def test_convolution_norm_activation(
    library: Any, activation: nn.Module, bias: bool, name: str, options: dict[str, Any]
) -> None:
    one = name.endswith("1d")
    norm = nn.BatchNorm1d(6) if one else nn.BatchNorm2d(6)
    model = nn.Sequential(getattr(library, name)(4, 6, 3, bias=bias, **options), norm, activation)
    fused, lines = check(model, *((3, 4, 9) if one else (3, 4, 9, 7)))
    assert isinstance(fused[0], getattr(OURS, name))
    assert fused[0].bias is not None
    assert [type(module) for module in fused[1:]] == [nn.Identity, nn.Identity]
    assert lines == [f"0 ({name}): takes in 1 ({type(norm).__name__}) and 2 ({type(activation).__name__})"]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_dtypes(dtype: torch.dtype) -> None:
    model = nn.Sequential(OURS.ConvTranspose2d(4, 6, 5, 2, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
    fused, _ = check(model, 2, 4, 5, 6, dtype=dtype)
    assert fused[0].weight.dtype == fused[0].bias.dtype == dtype


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("algorithm", ["auto", "direct", "implicit_gemm"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_devices(monkeypatch: pytest.MonkeyPatch, device: str, algorithm: str, dtype: torch.dtype) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    down = OURS.Conv2d(3, 40, 3, padding=1, bias=False, algorithm=algorithm)
    up = OURS.ConvTranspose2d(40, 3, 4, 2, 1, algorithm=algorithm)
    model = nn.Sequential(down, nn.BatchNorm2d(40), nn.LeakyReLU(0.1), up, nn.BatchNorm2d(3), nn.Tanh())
    fused, lines = check(model, 2, 3, 12, 10, dtype=dtype, device=device)
    assert [fused[0].activation, fused[3].activation] == [("leaky_relu", 0.1), "tanh"]
    assert len(lines) == 2


def test_norm_without_weights_or_activation() -> None:
    fused, _ = check(nn.Sequential(OURS.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False)), 2, 4, 6, 6)
    assert fused[0].activation is None
    assert isinstance(fused[1], nn.Identity)


def test_torchs_convolution_with_a_norm_alone_stays_torchs() -> None:
    fused, _ = check(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU6()), 2, 4, 6, 6)
    assert [type(module) for module in fused] == [nn.Conv2d, nn.Identity, nn.ReLU6]


def test_activation_alone() -> None:
    fused, _ = check(nn.Sequential(OURS.Conv2d(4, 6, 3), nn.Tanh()), 2, 4, 6, 6)
    assert fused[0].activation == "tanh"


def test_layouts_stay() -> None:
    model = nn.Sequential(OURS.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    fused, _ = check(model.to(memory_format=torch.channels_last), 2, 4, 6, 6)
    assert fused[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_nested_chains() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(
                nn.Sequential(OURS.Conv2d(4, 4, 3, padding=1), nn.Dropout2d()),
                nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()),
            )
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.norm(self.inner(x))

    fused, lines = check(nn.Sequential(Block(), Block()), 2, 4, 6, 6)
    for block in fused:
        assert block.inner[0][0].activation == "relu"
        assert [type(module) for module in block.inner[1]] == [nn.Identity, nn.Identity]
        assert isinstance(block.norm, nn.BatchNorm2d)
    assert lines == [
        "0.inner.0.0 (Conv2d): takes in 0.inner.1.0 (BatchNorm2d) and 0.inner.1.1 (ReLU)",
        "1.inner.0.0 (Conv2d): takes in 1.inner.1.0 (BatchNorm2d) and 1.inner.1.1 (ReLU)",
        "0.norm (BatchNorm2d): kept, it follows no convolution in an nn.Sequential",
        "1.norm (BatchNorm2d): kept, it follows no convolution in an nn.Sequential",
    ]


def shared() -> nn.Module:
    conv = OURS.Conv2d(4, 4, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), conv, nn.BatchNorm2d(4))


def watched() -> nn.Module:
    conv = OURS.Conv2d(4, 4, 3)
    conv.register_forward_hook(lambda *_: None)
    return nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU())


class Doubled(nn.Dropout):
    """Does something in evaluation mode too, as Monte Carlo dropout does."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * input


def hooked_dropout() -> nn.Module:
    dropout = nn.Dropout()
    dropout.register_forward_hook(lambda _module, _inputs, output: 2 * output)
    return nn.Sequential(OURS.Conv2d(4, 4, 3), dropout, nn.BatchNorm2d(4))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (hooked_dropout, "follows no convolution"),
        (
            lambda: nn.Sequential(OURS.Conv2d(4, 4, 3), Doubled(), nn.BatchNorm2d(4)),
            "follows no convolution",
        ),
        (shared, "0 is used more than once"),
        (watched, "0 has hooks"),
        (
            lambda: nn.Sequential(OURS.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
            "each batch's own statistics",
        ),
        (
            lambda: nn.Sequential(OURS.Conv2d(4, 4, 3, activation="relu"), nn.BatchNorm2d(4)),
            "0 ends in an activation, 'relu', which comes first",
        ),
        (
            lambda: nn.Sequential(OURS.Conv2d(4, 4, 3, activation="relu"), nn.Tanh()),
            "0 has an activation already, 'relu'",
        ),
        (lambda: nn.Sequential(OURS.Conv2d(4, 4, 3), nn.LeakyReLU(-0.1)), "its slope, -0.1, is negative"),
        (
            lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), nn.ReLU()),
            None,  # a class of its own
        ),
        (lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)), "follows no convolution"),
    ],
)
def test_what_is_kept_and_why(make: Any, reason: str | None) -> None:
    model = make()
    fused, lines = check(model, 2, 4, 6, 6)
    assert [type(module) for module in fused.modules()] == [type(module) for module in model.modules()]
    if reason is None:
        assert lines == []
    else:
        assert all("kept, " in line for line in lines)
        assert reason in lines[0]


def test_linear_layers_take_in_the_norm() -> None:
    fused, lines = check(nn.Sequential(nn.Linear(5, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU()), 3, 5)
    assert [type(module) for module in fused] == [nn.Linear, nn.Identity, nn.ReLU]
    assert lines == ["0 (Linear): takes in 1 (BatchNorm1d)"]


def test_norm_of_another_dimension_is_kept() -> None:
    """Behind a linear layer over (N, C, L) BatchNorm1d normalises C, and the layer makes L."""
    fused, lines = check(nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(5)), 2, 5, 8)
    assert isinstance(fused[1], nn.BatchNorm1d)
    assert lines == ["1 (BatchNorm1d): kept, it normalises 5 channels, not the 16 of 0"]


def test_the_generator_folds_wholly() -> None:
    fused, lines = check(DCGANGenerator(10, 4, 16, 3), 2, 10)
    assert not any(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) for module in fused.modules())
    assert len(lines) == 2


def test_training_mode_is_refused() -> None:
    model = nn.Sequential(OURS.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=r"fuse: model: expected evaluation mode .* the model itself"):
        fuse(model)
    model.eval()[1].train()
    with pytest.raises(ValueError, match="got training mode in 1"):
        fuse(model)
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got function"):
        fuse(check)  # type: ignore[arg-type]


def test_random_numbers_are_left_alone() -> None:
    model = trained(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    state = torch.random.get_rng_state()
    fuse(model)
    assert torch.equal(torch.random.get_rng_state(), state)
