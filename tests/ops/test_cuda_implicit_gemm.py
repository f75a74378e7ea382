"""algorithm="implicit_gemm" on CUDA tensors beyond test_cuda_convolution.py: larger layers, TF32, plan().

What the kernels do is tested on the CPU (tests/native/test_implicit_gemm.cpp); there these run the plain sum.
"""

import pytest
import torch

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


@cuda
def test_plan():
    x, weight = (torch.randn(shape, device="cuda") for shape in ((2, 64, 8, 8), (64, 32, 4, 4)))
    asked = deconvkit.plan("conv_transpose2d", x, weight, stride=2, padding=1, algorithm="implicit_gemm")
    assert asked.algorithm == ("implicit_gemm" if torch.cuda.get_device_capability()[0] >= 8 else "direct")
    assert deconvkit.plan("conv_transpose2d", x, weight, stride=2, padding=1).algorithm == "torch"
