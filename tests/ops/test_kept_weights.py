"""Winograd's transformed weights in inference: kept, dropped and bounded; the numbers are the same."""

import gc

import pytest
import torch
from torch.nn import functional as F

import deconvkit
from deconvkit import _C
from deconvkit.ops import _kept_weights as kept_weights
from deconvkit.ops import _library as library

CASES = {  # op, input, weight, arguments
    "3x3": ("conv2d", (1, 40, 9, 10), (24, 40, 3, 3), {"padding": 1}),
    "5x5 stride 2": ("conv2d", (2, 20, 13, 12), (36, 20, 5, 5), {"stride": 2, "padding": 2}),
    "transposed": (
        "conv_transpose2d",
        (2, 70, 8, 9),
        (70, 33, 5, 5),
        {"stride": 2, "padding": 2, "output_padding": 1},
    ),
    "many tiles": ("conv_transpose2d", (1, 17, 70, 70), (17, 40, 4, 4), {"stride": 2, "padding": 1}),
    "pieces": ("conv2d", (1, 20, 17, 12), (36, 20, 5, 7), {"padding": 2}),
    "groups": ("conv_transpose2d", (1, 40, 12, 12), (40, 18, 3, 3), {"groups": 2}),
    "1-d": ("conv_transpose1d", (2, 40, 100), (40, 24, 4), {"stride": 2, "padding": 1}),
}


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    monkeypatch.setattr(kept_weights, "_KEPT", {})


def tensors(input, weight, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(shape, generator=generator).to(dtype) for shape in (input, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_the_same(isa, case, dtype):
    op, input_shape, weight_shape, arguments = CASES[case]
    input, weight = tensors(input_shape, weight_shape, dtype)
    function = getattr(deconvkit, op)
    outputs = []
    for _ in range(3):
        outputs.append(function(input, weight, algorithm="winograd", **arguments))
        if len(outputs) == 1:
            assert kept_weights.kept_bytes() == 0
    assert kept_weights.kept_bytes() > 0
    assert torch.equal(outputs[1], outputs[0])
    assert torch.equal(outputs[2], outputs[0])
    expected = getattr(F, op)(input.double(), weight.double(), **arguments)
    error = 3e-2 if dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(outputs[2].double(), expected, rtol=error, atol=error * expected.std().item())


def convolve(input, weight):
    return deconvkit.conv2d(input, weight, padding=1, algorithm="winograd")


@pytest.fixture
def case():
    input, weight = tensors((1, 20, 9, 9), (24, 20, 3, 3))
    for _ in range(2):
        convolve(input, weight)
    assert kept_weights.kept_bytes() > 0
    return input, weight


@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight.add_(1),
        lambda weight: weight.data.mul_(2),  # autograd's count stays as it was
        lambda weight: weight.numpy().__setitem__((23, 19, 2, 2), 5),
        lambda weight: weight.set_(torch.ones(24, 20, 3, 3)),
    ],
    ids=["in place", "data", "numpy, last element", "other memory"],
)
def test_a_changed_weight_is_transformed_anew(case, change):
    input, weight = case
    change(weight)
    for _ in range(3):
        torch.testing.assert_close(
            convolve(input, weight), F.conv2d(input, weight, padding=1), atol=1e-3, rtol=1e-4
        )
    assert len(kept_weights._KEPT) == 1


def test_a_changed_weight_frees_what_was_kept(case):
    input, weight = case
    weight.add_(1)
    convolve(input, weight)
    assert kept_weights.kept_bytes() == 0


def test_a_weight_takes_its_transform_with_it(case):
    input, weight = case
    other = weight.clone()
    convolve(input, other)
    assert len(kept_weights._KEPT) == 2
    del other
    gc.collect()
    assert len(kept_weights._KEPT) == 1


def test_training_keeps_nothing():
    input, weight = tensors((1, 20, 9, 9), (24, 20, 3, 3))
    weight.requires_grad_()
    for _ in range(3):
        convolve(input, weight).sum().backward()
    assert not kept_weights._KEPT
    with torch.no_grad():
        for _ in range(2):
            convolve(input, weight)
    assert kept_weights.kept_bytes() > 0


def test_a_frozen_weight_behind_a_trained_input_keeps_nothing():
    input, weight = tensors((1, 20, 9, 9), (24, 20, 3, 3))
    input.requires_grad_()
    for _ in range(3):
        convolve(input, weight).sum().backward()
    assert not kept_weights._KEPT


def test_what_is_kept_is_bounded(monkeypatch):
    input, _ = tensors((1, 20, 9, 9), (24, 20, 3, 3))
    weights = [torch.randn(24, 20, 3, 3) for _ in range(4)]
    for _ in range(2):
        convolve(input, weights[0])
    monkeypatch.setattr(kept_weights, "LIMIT", 2 * kept_weights.kept_bytes())
    for weight in weights * 3:
        torch.testing.assert_close(
            convolve(input, weight), F.conv2d(input, weight, padding=1), atol=1e-3, rtol=1e-4
        )
    assert kept_weights.kept_bytes() == kept_weights.LIMIT


@pytest.mark.parametrize(
    ("pays", "batch", "channels", "size"),
    [
        (True, 1, 128, 40),  # 100 tiles, a round
        (True, 8, 24, 40),  # 800 tiles, of weights that stay in a cache
        (False, 11, 24, 40),  # 1100 tiles
        (False, 2, 416, 40),  # 200 tiles, of 25 MB
        (False, 1, 1024, 8),  # more than is kept in all
    ],
)
def test_weights_are_kept_where_it_pays(monkeypatch, pays, batch, channels, size):
    asked = []
    fingerprint = kept_weights._fingerprint
    monkeypatch.setattr(kept_weights, "_fingerprint", lambda *a: asked.append(a) or fingerprint(*a))
    input, weight = torch.zeros(batch, channels, size, size), torch.zeros(channels, channels, 3, 3)
    for _ in range(2):
        convolve(input, weight)
    assert bool(kept_weights.kept_bytes()) == bool(asked) == pays


def test_inference_tensors_count_no_versions():
    with torch.inference_mode():
        input, weight = tensors((1, 20, 9, 9), (24, 20, 3, 3))
        for _ in range(2):
            convolve(input, weight)
        weight.mul_(3)
        torch.testing.assert_close(
            convolve(input, weight), F.conv2d(input, weight, padding=1), atol=1e-3, rtol=1e-4
        )


def test_a_weight_with_holes_is_not_kept():
    input, weight = tensors((1, 20, 9, 9), (24, 20, 3, 6))
    for _ in range(3):
        convolve(input, weight[..., ::2])
    assert not kept_weights._KEPT


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [1, 7, 9, 100, 16384, 16385, 70001])
def test_fingerprint_shows_any_element(isa, size, threads):
    values = torch.arange(size, dtype=torch.int32)
    fingerprint = _C.fingerprint(library.ref(values), threads)
    assert fingerprint == _C.fingerprint(library.ref(values.clone()), 3 - threads)
    for place in {0, size // 2, size - 1}:
        changed = values.clone()
        changed[place] ^= 1 << 30
        assert _C.fingerprint(library.ref(changed), threads) != fingerprint


def test_transformed_weights_of_another_size_are_refused():
    input, weight = tensors((1, 20, 9, 9), (24, 20, 3, 3))
    output = torch.empty(1, 24, 9, 9)
    refs = [library.ref(t) for t in (input, weight)]
    geometry = (1, 1), (1, 1), (1, 1), 1
    size = _C.conv_transformed_size(False, refs[1], *geometry)
    for wrong in (torch.empty(size - 1), torch.empty(size, dtype=torch.float64), torch.empty(size, 1)):
        with pytest.raises(ValueError, match="transformed weights"):
            _C.conv_transform_weights(False, refs[1], library.ref(wrong), *geometry, 1)
        with pytest.raises(ValueError, match="transformed weights"):
            _C.conv2d(*refs, None, library.ref(output), *geometry, 0, 0.0, 1, 1, library.ref(wrong))
