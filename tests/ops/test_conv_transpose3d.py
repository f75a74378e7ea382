"""conv_transpose3d: torch's, with the family's arguments, checks and activations."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from deconvkit import conv_transpose2d, conv_transpose3d

X = torch.randn(2, 4, 3, 4, 5)
W = torch.randn(4, 3, 2, 3, 2)
B = torch.randn(3)

ACTIVATIONS = {
    None: lambda x: x,
    "relu": torch.relu,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
    ("leaky_relu", 0.05): lambda x: functional.leaky_relu(x, 0.05),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def triples(least, most):
    return st.tuples(*[st.integers(least, most)] * 3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_equals_torch(data):
    groups, inner, outer = (data.draw(st.integers(1, 3)) for _ in range(3))
    stride, dilation, kernel = data.draw(triples(1, 3)), data.draw(triples(1, 2)), data.draw(triples(1, 3))
    extra = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    sizes, padding = data.draw(triples(1, 4)), data.draw(triples(0, 1))
    geometry = zip(sizes, kernel, stride, padding, dilation, extra, strict=True)
    if any((n - 1) * s - 2 * p + d * (k - 1) + e + 1 < 1 for n, k, s, p, d, e in geometry):
        padding = (0, 0, 0)
    batch = data.draw(st.sampled_from([(2,), ()]))
    x = torch.randn(*batch, groups * inner, *sizes, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(groups * inner, outer, *kernel, dtype=torch.float64, requires_grad=True)
    bias = data.draw(st.sampled_from([None, torch.randn(groups * outer, dtype=torch.float64)]))
    arguments = (bias, stride, padding, extra, groups, dilation)
    result, expected = (
        conv_transpose3d(x, weight, *arguments),
        functional.conv_transpose3d(x, weight, *arguments),
    )
    torch.testing.assert_close(result, expected)
    assert result.stride() == expected.stride()
    ones = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(result, [x, weight], ones),
        torch.autograd.grad(expected, [x, weight], ones),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("algorithm", ["auto", "torch"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_activations(activation, algorithm):
    result = conv_transpose3d(X, W, B, 2, activation=activation, algorithm=algorithm)
    torch.testing.assert_close(result, ACTIVATIONS[activation](functional.conv_transpose3d(X, W, B, 2)))


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_gradients(activation):
    x, w, b = (t.double().requires_grad_() for t in (X[:1, :2, :2, :2, :2], W[:2, :1, :, :2], B[:1]))

    def run(x, w, b):
        return conv_transpose3d(x, w, b, 2, 1, 1, activation=activation)

    assert torch.autograd.gradcheck(run, (x, w, b))
    assert torch.autograd.gradgradcheck(run, (x, w, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype):
    result = conv_transpose3d(X.to(dtype), W.to(dtype), B.to(dtype), 2, activation="tanh")
    assert result.dtype == dtype
    expected = torch.tanh(functional.conv_transpose3d(X, W, B, 2))
    rtol = {torch.bfloat16: 0.05, torch.float16: 0.02}.get(dtype, 1e-5)
    torch.testing.assert_close(result.float(), expected, rtol=rtol, atol=rtol)


def test_layouts():
    expected = functional.conv_transpose3d(X, W, B, 2)
    wide = torch.zeros(2, 4, 3, 4, 10)
    wide[..., ::2] = X
    last = X.contiguous(memory_format=torch.channels_last_3d)
    for x in (wide[..., ::2], last, X.transpose(3, 4).contiguous().transpose(3, 4)):
        torch.testing.assert_close(conv_transpose3d(x, W, B, 2), expected)
    assert conv_transpose3d(last, W, B, 2).is_contiguous(memory_format=torch.channels_last_3d)
    assert conv_transpose3d(X[:0], W, B, 2).shape == (0, *expected.shape[1:])
    torch.testing.assert_close(conv_transpose3d(X[0], W, B, 2), expected[0])


def test_one_deep_is_two_dimensional():
    result = conv_transpose3d(X[:, :, :1], W[:, :, :1], B, (1, 2, 2), activation="relu")
    flat = conv_transpose2d(X[:, :, 0], W[:, :, 0], B, 2, activation="relu")
    torch.testing.assert_close(result[:, :, 0], flat, rtol=1e-4, atol=1e-5)


def test_compile_vmap_autocast_and_meta():
    def run(x):
        return conv_transpose3d(x, W, B, 2, activation="relu")

    expected = run(X)
    torch.testing.assert_close(torch.compile(run, fullgraph=True, backend="aot_eager")(X), expected)
    torch.testing.assert_close(torch.func.vmap(run)(X), expected)
    x = X.clone().requires_grad_()
    grad = torch.autograd.grad(run(x).square().sum(), x)[0]
    torch.testing.assert_close(torch.func.grad(lambda x: run(x).square().sum())(X), grad)
    assert conv_transpose3d(X.to("meta"), W.to("meta"), B.to("meta"), 2).shape == expected.shape
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert run(X).dtype == torch.bfloat16


NUMBERS = ("stride", "padding", "output_padding", "groups", "dilation")


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"input": X[0, 0]}, ValueError, "input: expected shape"),
        ({"input": X[:, :3]}, ValueError, "input: expected 4 channels"),
        ({"input": X[:, :, :0]}, ValueError, "input: expected every size"),
        ({"input": X.long()}, TypeError, "input: expected float32"),
        ({"input": X.to(torch.complex64)}, TypeError, "input: expected float32"),
        ({"input": None}, TypeError, r"input: expected a torch\.Tensor"),
        ({"weight": W[0]}, ValueError, "weight: expected shape"),
        ({"weight": W[..., :0]}, ValueError, "weight: expected every size"),
        ({"weight": W.double()}, TypeError, "weight: expected input's dtype"),
        ({"weight": 1.0}, TypeError, r"weight: expected a torch\.Tensor"),
        ({"weight": W.to("meta")}, ValueError, "weight: expected input's device"),
        ({"bias": B[:2]}, ValueError, r"bias: expected shape \(3,\)"),
        ({"bias": B.double()}, TypeError, "bias: expected input's dtype"),
        ({"groups": 3}, ValueError, "groups: expected a divisor"),
        ({"output_padding": 1}, ValueError, "output_padding: expected less than"),
        ({"padding": 3}, ValueError, "input: expected sizes whose output"),
        ({"activation": "gelu"}, ValueError, "activation: expected"),
        ({"activation": ("leaky_relu", -0.1)}, ValueError, "activation: expected"),
        ({"algorithm": "direct"}, ValueError, "algorithm: expected one of 'auto', 'torch', got 'direct'"),
        ({"algorithm": "winograd"}, ValueError, "algorithm: expected one of"),
        *[({name: -1}, ValueError, f"{name}: expected") for name in NUMBERS],
        *[({name: 0}, ValueError, f"{name}: expected") for name in ("stride", "groups", "dilation")],
        *[({name: 1.0}, TypeError, f"{name}: expected") for name in NUMBERS],
        *[({name: (1, 1)}, ValueError, f"{name}: expected") for name in NUMBERS],
    ],
)
def test_bad_arguments(changed, error, told):
    with pytest.raises(error, match=f"conv_transpose3d: {told}"):
        conv_transpose3d(**{"input": X, "weight": W, "bias": B, **changed})
