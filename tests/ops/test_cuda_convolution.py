"""Convolutions of CUDA tensors: by our kernels and as `auto` decides, held against NumPy in float64.

Every body also runs on the CPU for a few cases, so that it is known to work before a device sees it.
"""

import functools

import pytest
import torch
from torch import Tensor

import deconvkit
from deconvkit.ops import _torch_convolution
from tests.ops import on_cuda
from tests.ops.convolution import ACTIVATIONS, CASES, DTYPES, WIDE, Case, apply_by_torch, expected_of, near
from tests.ops.on_cuda import check_capture_and_replay, check_memory, check_nothing_waits, cuda, large
from tests.ops.pooling import lay_out

OURS = ("direct", "implicit_gemm")
ALGORITHMS = (*OURS, "auto")
# Those that gradients in several parts, groups and whole tiles need.
MANY = ("tiles 3x3", "channels in groups", "channels of vocoders", "both, many out")
EVERY = {**CASES, **{name: WIDE[name] for name in MANY}, "empty": Case(0, (3, 4), (5, 6), (3, 3))}
ON_CPU = ("4x4 s2", "dilated", "groups", "empty")

devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=cuda)])
either = pytest.mark.parametrize("transposed", [False, True], ids=["conv2d", "conv_transpose2d"])
problems = on_cuda.problems(
    EVERY, DTYPES, lambda name, dtype: name in ON_CPU and dtype in (torch.float32, torch.float16)
)


@pytest.fixture(autouse=True)
def _float32_is_float32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def function(transposed: bool, dims: int = 2):
    return getattr(deconvkit, f"conv_transpose{dims}d" if transposed else f"conv{dims}d")


def results(call, operands: list[Tensor], grad: Tensor) -> list[Tensor]:
    """Output and the operands' gradients."""
    leaves = [t.detach().requires_grad_() for t in operands]
    output = call(*leaves)
    return [output, *torch.autograd.grad(output, leaves, grad)]


def expected_results(case: Case, transposed: bool) -> tuple[Tensor, list[Tensor]]:
    """A gradient of the output; output with bias, gradients of input, weight and bias."""
    output, grad, *grads = expected_of(case, transposed)
    bias = case.tensors(transposed)[2]
    return grad, [output + bias.view(1, -1, 1, 1), *grads]


@problems
@either
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_is_float64s(nan_filled, device, case, dtype, transposed, algorithm, layout):
    x, weight, bias = (t.to(device, dtype) for t in case.tensors(transposed))
    grad, expected = expected_results(case, transposed)

    def call(*operands):
        return function(transposed)(*operands, algorithm=algorithm, **case.arguments(transposed))

    got = results(call, [lay_out(x, layout), lay_out(weight, layout), bias], grad.to(device, dtype))
    for a, b in zip(got, expected, strict=True):
        assert a.device.type == device
        assert a.dtype == dtype
        # cuDNN's sums have another order, or fewer products; tensor cores round float32's operands; a stored
        # sum is rounded once.
        near(a.cpu(), b, factor=16 if algorithm != "direct" and dtype == torch.float32 else 4)
    strides = call(lay_out(x, layout), weight, bias).stride()
    assert strides == call(lay_out(x.cpu(), layout), weight.cpu(), bias.cpu()).stride()


@devices
@either
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_dimension(nan_filled, device, transposed, algorithm):
    case = WIDE["channels of vocoders"]
    grad, expected = expected_results(case, transposed)
    *tensors, grad = (t.to(device, torch.float32) for t in (*case.tensors(transposed), grad))
    geometry = {n: v if n == "groups" else v[1] for n, v in case.arguments(transposed).items()}
    got = results(
        lambda x, w, b: function(transposed, 1)(x, w, b, algorithm=algorithm, **geometry),
        [tensors[0].squeeze(2), tensors[1].squeeze(2), tensors[2]],
        grad.squeeze(2),
    )
    for a, b in zip(got, expected, strict=True):
        near(a.cpu(), b.squeeze(2) if b.dim() == 4 else b, factor=16)


# Of 64 channels Hopper's own kernel makes the transposed one.
VIEWED = {"few": CASES["4x4 s2"], "many": Case(34, (64, 64), (8, 8), (4, 4), (2, 2), (1, 1))}


@devices
@either
@pytest.mark.parametrize(
    ("algorithm", "name", "dtype"),
    [
        ("direct", "few", torch.float64),
        ("implicit_gemm", "few", torch.float32),
        ("implicit_gemm", "few", torch.bfloat16),
        ("implicit_gemm", "many", torch.bfloat16),
    ],
)
@pytest.mark.parametrize("layout", ["cropped", "strided", "expanded", "offset", "transposed"])
def test_views(device, transposed, algorithm, name, dtype, layout):
    case = VIEWED[name]
    x, weight, bias = (t.to(device, dtype) for t in case.tensors(transposed))
    view = lay_out(x, layout)
    if name == "many" and layout == "cropped":  # read where it lies
        view = lay_out(lay_out(x, "channels_last"), layout)
    assert torch.equal(view, view.contiguous())
    geometry = case.arguments(transposed) | {"algorithm": algorithm}
    expected = function(transposed)(view.contiguous(), weight, bias, **geometry)
    grad = torch.randn_like(expected)
    apart = torch.stack([grad, grad], -1)[..., 0]
    for a, b in zip(
        results(
            lambda *t: function(transposed)(*t, **geometry), [view, lay_out(weight, layout), bias], apart
        ),
        results(
            lambda *t: function(transposed)(*t, **geometry),
            [view.contiguous(), lay_out(weight, layout).contiguous(), bias],
            grad,
        ),
        strict=True,
    ):
        near(a.cpu(), b.cpu())


@devices
@either
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(nan_filled, device, transposed, algorithm, activation):
    case = CASES["3x3"]
    x, weight, bias = (t.to(device, torch.float32) for t in case.tensors(transposed))
    x[0, 0, 0, 0] = torch.nan
    output, *_ = expected_of(case, transposed)
    expected = apply_by_torch(output + case.tensors(transposed)[2].view(1, -1, 1, 1), activation)
    got = function(transposed)(
        x, weight, bias, activation=activation, algorithm=algorithm, **case.arguments(transposed)
    ).cpu()
    assert got[0, :, 0, 0].isnan().all()
    touched = got.isnan()
    assert not touched[1:].any()
    factor = 4 if algorithm == "direct" else 16
    near(got.masked_fill(touched, 0), expected.masked_fill(touched, 0), factor=factor)


@devices
def test_plan_and_refusals(device):
    x, weight, _ = (t.to(device) for t in CASES["3x3"].tensors(False))
    assert deconvkit.plan("conv2d", x, weight, algorithm="direct").algorithm == "direct"
    auto = deconvkit.plan("conv2d", x, weight)
    assert auto.reason
    if device == "cuda":
        assert auto.algorithm == "torch"
        with pytest.raises(ValueError, match="input's device"):
            deconvkit.conv2d(x, weight.cpu())


# ---- streams, graphs, repetition ----


# Inputs of everything(): of the second Hopper's own kernel makes both convolutions.
INPUTS = {
    "float32": ((4, 8, 64, 64), torch.float32, torch.contiguous_format),
    "bfloat16": ((36, 64, 64, 64), torch.bfloat16, torch.channels_last),
}

inputs = pytest.mark.parametrize("name", INPUTS)


def input_of(name: str, device: str = "cuda") -> Tensor:
    shape, dtype, memory_format = INPUTS[name]
    return torch.randn(shape, device=device).to(dtype).contiguous(memory_format=memory_format)


def everything(x: Tensor, algorithm: str = "direct") -> list[Tensor]:
    """Both convolutions of (N, C, H, W) and all their gradients, to one list of tensors."""
    channels = x.shape[1]
    weight = torch.linspace(-1, 1, channels**2 * 16, device=x.device, dtype=x.dtype).cos()
    weight = weight.view(channels, channels, 4, 4) * (8 / channels)
    bias = weight[0, :, 0, 0]
    geometry = {"stride": 2, "padding": 1, "algorithm": algorithm}
    small = deconvkit.conv2d(x, weight, bias, activation="tanh", **geometry)
    grads = results(lambda *t: deconvkit.conv2d(*t, **geometry), [x, weight, bias], small)
    return [
        small,
        *grads,
        *results(lambda *t: deconvkit.conv_transpose2d(*t, **geometry), [small, weight, bias], x),
    ]


@devices
@pytest.mark.parametrize("algorithm", OURS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", DTYPES)
def test_two_runs_are_equal_to_the_bit(nan_filled, device, memory_format, dtype, algorithm):
    x = torch.randn(9, 8, 30, 34).to(device, dtype).contiguous(memory_format=memory_format)
    for a, b in zip(everything(x, algorithm), everything(x, algorithm), strict=True):
        assert not a.isnan().any()
        assert torch.equal(a, b)


@cuda
@inputs
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_side_stream(algorithm, name):
    x = input_of(name)
    expected = everything(2 * x, algorithm)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # kernels on another stream would not wait for the doubling
        got = everything(2 * x, algorithm)
    stream.synchronize()
    for a, b in zip(got, expected, strict=True):
        if algorithm in OURS:
            assert torch.equal(a, b)
        else:
            near(a.cpu(), b.cpu(), factor=16)


@cuda
@inputs
@pytest.mark.parametrize("algorithm", OURS)
def test_graph_capture_and_replay(algorithm, name):
    check_capture_and_replay(functools.partial(everything, algorithm=algorithm), input_of(name))


@cuda
@inputs
@pytest.mark.parametrize("algorithm", OURS)
def test_nothing_waits_for_the_device(algorithm, name):
    check_nothing_waits(functools.partial(everything, algorithm=algorithm), input_of(name))


@devices
@pytest.mark.parametrize("algorithm", OURS)
def test_compiled(device, algorithm):
    x = torch.randn(2, 8, 16, 16, device=device)
    weight = torch.randn(8, 8, 3, 3, device=device)

    def f(x):
        return deconvkit.conv_transpose2d(x, weight, stride=2, activation="relu", algorithm=algorithm)

    torch.testing.assert_close(torch.compile(f, fullgraph=True, backend="aot_eager")(x), f(x))


@devices
@either
def test_torchs_gradients_are_one_call(device, transposed, monkeypatch):
    x = torch.randn(2, 4, 8, 8, device=device, requires_grad=True)
    weight = torch.randn(4, 4, 3, 3, device=device, requires_grad=True)
    found, backward = [], _torch_convolution.backward
    monkeypatch.setattr(
        _torch_convolution, "backward", lambda *arguments: found.append(backward(*arguments)) or found[-1]
    )
    with torch.autocast(
        device, torch.bfloat16, enabled=device == "cpu"
    ):  # else autograd there is torch's own
        y = function(transposed)(x, weight, algorithm="torch")
    y.sum().backward()
    ((grad_input, grad_weight),) = found
    torch.testing.assert_close(x.grad, grad_input.float(), rtol=0, atol=0)
    torch.testing.assert_close(weight.grad, grad_weight.float(), rtol=0, atol=0)


@large
@pytest.mark.parametrize("channels", [1, 2], ids=["per channel", "gather"])
@either
def test_beyond_2_31_elements(device, rows, channels, transposed):
    check_memory(device, 12)
    x = torch.zeros(1, channels, rows, 2**16 // channels, dtype=torch.float16, device=device)
    x[0, -1, -1, -1] = 1
    weight = torch.zeros(channels, channels, 1, 1, dtype=torch.float16, device=device)
    weight[-1, -1] = 2
    y = function(transposed)(x, weight, algorithm="direct")
    assert y[0, -1, -1, -1] == 2
    assert y[0, :, -2:, -64:].count_nonzero() == 1
    assert y[0, :, :2, :64].count_nonzero() == 0
