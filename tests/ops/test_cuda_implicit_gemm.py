"""algorithm="implicit_gemm" on CUDA tensors beyond test_cuda_convolution.py: larger layers, TF32, plan().

What the kernels do is tested on the CPU (tests/native/test_implicit_gemm.cpp); there these run the plain sum.
"""

import importlib

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import deconvkit
from tests.ops import on_cuda
from tests.ops.convolution import WIDE, Case, expected_of, near
from tests.ops.on_cuda import cuda

# Of the magnitudes of a sum's products, in units of the dtype's tolerance.
DTYPES = {torch.float32: 16, torch.bfloat16: 4, torch.float16: 4}
LAYER = Case(9, (128, 3), (9, 11), (5, 5), (2, 2), (2, 2), (1, 1))  # few channels: phases are folded
EVERY = {**WIDE, "a last layer": LAYER}

either = pytest.mark.parametrize("transposed", [False, True], ids=["conv2d", "conv_transpose2d"])
problems = on_cuda.problems(
    EVERY, DTYPES, lambda name, dtype: (name, dtype) == ("channels 1x1", torch.float32)
)


def function(transposed):
    return deconvkit.conv_transpose2d if transposed else deconvkit.conv2d


def results(transposed, operands, grad, **arguments):
    """Output and the operands' gradients."""
    leaves = [t.detach().requires_grad_() for t in operands]
    output = function(transposed)(*leaves, algorithm="implicit_gemm", **arguments)
    return [output, *torch.autograd.grad(output, leaves, grad)]


@problems
@either
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_is_float64s(monkeypatch, device, case, dtype, transposed, layout):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    output, grad, *grads = expected_of(case, transposed)
    x, weight, bias = (t.to(device, dtype) for t in case.tensors(transposed))
    expected = [output + case.tensors(transposed)[2].view(1, -1, 1, 1), *grads]
    operands = x.contiguous(memory_format=layout), weight, bias
    got = results(transposed, operands, grad.to(device, dtype), **case.arguments(transposed))
    for a, b in zip(got, expected, strict=True):
        near(a.cpu(), b, factor=DTYPES[dtype])


@cuda
def test_tf32_is_used_where_torch_allows_it(monkeypatch):
    x, weight, _ = (t.to("cuda", torch.float32) for t in WIDE["channels 3x3"].tensors(False))
    expected = deconvkit.conv2d(x.double(), weight.double(), padding=1, algorithm="direct")
    errors = []
    for allowed in (False, True):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        got = deconvkit.conv2d(x, weight, padding=1, algorithm="implicit_gemm")
        errors.append((got - expected).abs().max() / expected.abs().max())
    assert errors[0] < 1e-5 < errors[1] < 5e-3


# What Hopper's own kernel is made for: boxes that taps share, and boxes of several images, of one, and of a
# part of one; phases folded and not; channels that fill its terms or not; several tiles for each block.
HOPPER = {
    "4x4 s2": Case(9, (128, 136), (16, 16), (4, 4), (2, 2), (1, 1)),
    "5x5 s2": Case(5, (72, 40), (8, 8), (5, 5), (2, 2), (2, 2), (1, 1)),
    "4x4 images": Case(33, (200, 64), (4, 4), (4, 4), (2, 2), (1, 1)),
    "3x3": Case(3, (96, 64), (35, 51), (3, 3), padding=(1, 1)),
    "2x2 s2": Case(4, (64, 32), (33, 34), (2, 2), (2, 2)),
    "a last layer": Case(9, (64, 3), (32, 32), (5, 5), (2, 2), (2, 2), (1, 1)),
    "groups": Case(2, (40, 24), (17, 19), (3, 3), padding=(1, 1), groups=3),
    "dilated": Case(2, (64, 64), (40, 40), (3, 3), padding=(12, 12), dilation=(12, 12)),
    "one line": Case(2, (64, 48), (1, 700), (1, 4), (1, 2), (0, 1)),
    "many tiles": Case(24, (64, 128), (64, 64), (3, 3), padding=(1, 1)),
    "everything()": Case(36, (64, 64), (64, 64), (4, 4), (2, 2), (1, 1)),  # of test_cuda_convolution.py
}
# Of these conv2d has so few tiles that the other kernel, which splits them into parts, has it.
FEW_TILES = ("4x4 s2", "5x5 s2", "4x4 images", "a last layer")


def kernels_of(run):
    """The result of a call, and the names of the kernels that it ran."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        result = run()
        torch.cuda.synchronize()
    return result, [event.name for event in profile.events()]


hopper_problems = pytest.mark.parametrize("name", HOPPER)
half_floats = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
layouts = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def is_hoppers(name, transposed):
    return transposed or name not in FEW_TILES


@either
@hopper_problems
@half_floats
@layouts
def test_plan_names_hoppers_own_kernel(monkeypatch, name, dtype, transposed, layout):
    monkeypatch.setattr(
        importlib.import_module("deconvkit.ops.plan"), "_cuda_capability", lambda device: "sm_90"
    )
    case = HOPPER[name]
    x_shape, weight_shape, _ = case.shapes(transposed)
    with FakeTensorMode():
        x = torch.empty(x_shape, device="cuda", dtype=dtype, memory_format=layout)
        weight = torch.empty(weight_shape, device="cuda", dtype=dtype)
    for algorithm in ("implicit_gemm", "implicit_gemm_mma"):
        plan = deconvkit.plan(
            function(transposed), x, weight, **case.arguments(transposed), algorithm=algorithm
        )
        assert ("Hopper" in plan.reason) == (algorithm == "implicit_gemm" and is_hoppers(name, transposed))


@cuda
@either
@hopper_problems
@half_floats
@layouts
def test_hoppers_own_kernel(name, dtype, transposed, layout):
    case = HOPPER[name]
    x, weight, bias = (t.to("cuda", dtype) for t in case.tensors(transposed))
    x = x.contiguous(memory_format=layout)
    ours, arguments = function(transposed), case.arguments(transposed)

    def run():
        return ours(x, weight, bias, **arguments, activation="relu", algorithm="implicit_gemm")

    got, names = kernels_of(run)
    plan = deconvkit.plan(ours, x, weight, **arguments, algorithm="implicit_gemm")
    hopper = any("ImplicitGemmSm90" in kernel for kernel in names)
    assert hopper == ("Hopper" in plan.reason)
    assert hopper == (is_hoppers(name, transposed) and torch.cuda.get_device_capability() == (9, 0))
    expected = ours(x.double(), weight.double(), bias.double(), **arguments, algorithm="direct").relu()
    near(got.cpu(), expected.cpu(), factor=4)
    other = ours(x, weight, bias, **arguments, activation="relu", algorithm="implicit_gemm_mma")
    near(other.cpu(), expected.cpu(), factor=4)
    for _ in range(3):
        assert torch.equal(run(), got)
    # As a part of a larger tensor: the input is read where it lies, between numbers that must not matter.
    padded = torch.full((*x.shape[:3], x.shape[3] + 8), torch.nan, device="cuda", dtype=dtype)
    within = padded.contiguous(memory_format=layout)[..., 3:-5].copy_(x)
    assert torch.equal(
        ours(within, weight, bias, **arguments, activation="relu", algorithm="implicit_gemm"), got
    )


@cuda
def test_plan():
    x, weight = (torch.randn(shape, device="cuda") for shape in ((2, 64, 8, 8), (64, 32, 4, 4)))
    asked = deconvkit.plan("conv_transpose2d", x, weight, stride=2, padding=1, algorithm="implicit_gemm")
    assert asked.algorithm == ("implicit_gemm" if torch.cuda.get_device_capability()[0] >= 8 else "direct")
    assert deconvkit.plan("conv_transpose2d", x, weight, stride=2, padding=1).algorithm == "torch"
