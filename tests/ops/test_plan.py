"""plan() says what the ops then do; backend_info() what they do it with."""

import dataclasses
import importlib
import platform
import random
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import deconvkit
from deconvkit import _C, backend_info, plan
from deconvkit.ops import _convolution_op as convolution_op
from deconvkit.ops import _library as library
from deconvkit.ops._convolution import ALGORITHM_CODES

plan_module = importlib.import_module("deconvkit.ops.plan")  # the function has its name

# Shapes and arguments of every public op.
CALLS = {
    "conv1d": (((2, 4, 9), (6, 2, 3)), dict(padding="same", groups=2)),
    "conv2d": (((2, 4, 9, 8), (6, 4, 3, 3), (6,)), dict(stride=2, padding=1)),
    "conv_transpose1d": (((4, 9), (4, 6, 3)), dict(stride=2, output_padding=1)),
    "conv_transpose2d": (((2, 4, 5, 5), (4, 6, 5, 5)), dict(stride=2, padding=2, output_padding=1)),
    "conv_transpose3d": (((2, 4, 3, 3, 3), (4, 6, 2, 2, 2), (6,)), dict(stride=2)),
    "max_pool1d_with_switches": (((2, 3, 8),), dict(kernel_size=2)),
    "max_pool2d_with_switches": (((2, 3, 8, 8),), dict(kernel_size=2)),
    "max_unpool1d": (((2, 3, 4), (2, 3, 4)), dict(kernel_size=2)),
    "max_unpool2d": (((2, 3, 4, 4), (2, 3, 4, 4)), dict(kernel_size=(2, 2))),
    "switches_to_indices": (((2, 3, 4, 4),), dict(input_size=(8, 8), kernel_size=2)),
    "indices_to_switches": (((2, 3, 4, 4),), dict(input_size=(8, 8), kernel_size=2)),
    "sparse_kl": (((6, 4),), dict(rho=0.1)),
    "sparse_sigmoid": (((6, 4),), dict(rho=0.1, unit_dim=-1)),
}
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CONVOLUTIONS = ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"]
BY_TORCH = ["conv_transpose3d", "switches_to_indices", "indices_to_switches"]


def tensors(name, shapes):
    dtypes = {"switches_to_indices": [torch.uint8], "indices_to_switches": [torch.int64]}.get(name)
    if "unpool" in name:
        dtypes = [torch.float32, torch.uint8]
    dtypes = dtypes or [torch.float32] * len(shapes)
    return [torch.zeros(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]


def test_every_public_op_is_known():
    others = {"__version__", "backend_info", "keep_freed_memory", "nn", "plan"}
    assert set(CALLS) == {name for name in deconvkit.__all__ if name not in others}


@pytest.mark.parametrize("name", CALLS)
def test_names_functions_shapes_and_tensors(name):
    shapes, arguments = CALLS[name]
    expected = plan(name, *shapes, **arguments)
    assert expected.op == name
    assert expected.algorithm in ("direct", "winograd", "torch")
    assert expected.isa
    assert expected.reason
    assert plan(getattr(deconvkit, name), *shapes, **arguments) == expected
    assert plan(name, *tensors(name, shapes), **arguments) == expected
    assert plan(name, *map(list, shapes), **arguments) == expected
    assert plan(name, *[torch.Size(shape) for shape in shapes], **arguments) == expected


@pytest.mark.parametrize("name", CALLS)
def test_str_is_one_line(name):
    shapes, arguments = CALLS[name]
    it = plan(name, *shapes, **arguments)
    text = str(it)
    assert text.startswith(name)
    assert "\n" not in text
    for part in (it.algorithm, it.isa, it.reason):
        assert part in text
    with pytest.raises(dataclasses.FrozenInstanceError):
        it.algorithm = "another"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CALLS)
def test_dtypes(name, dtype):
    shapes, arguments = CALLS[name]
    it = plan(name, *shapes, dtype=dtype, **arguments)
    assert it.dtype == str(dtype).removeprefix("torch.")


def test_shapes_beside_a_tensor_have_its_dtype():
    weight = torch.zeros(4, 6, 3, 3, dtype=torch.float16)
    it = plan("conv_transpose2d", (2, 4, 5, 5), weight, (6,))
    assert it.dtype == "float16"
    assert plan("conv_transpose2d", torch.zeros(2, 4, 5, 5).half(), (4, 6, 3, 3)).dtype == "float16"


@pytest.mark.parametrize("name", BY_TORCH)
def test_says_where_torch_computes(name):
    shapes, arguments = CALLS[name]
    it = plan(name, *shapes, **arguments)
    assert it.algorithm == "torch"
    assert it.isa == torch.backends.cpu.get_cpu_capability().lower()


@pytest.mark.parametrize("name", ["max_pool2d_with_switches", "max_unpool1d", "sparse_kl", "sparse_sigmoid"])
def test_ops_of_one_algorithm(name, isa):
    shapes, arguments = CALLS[name]
    it = plan(name, *shapes, **arguments)
    assert (it.algorithm, it.isa) == ("direct", isa)


def test_large_windows_have_wide_switches():
    assert plan("max_unpool2d", (1, 2, 3, 3), (1, 2, 3, 3), 16).algorithm == "direct"
    assert plan("max_unpool1d", (2, 3), (2, 3), 255).algorithm == "direct"
    assert plan("max_unpool1d", (2, 3), (2, 3), (256,)).algorithm == "direct"
    assert plan("max_unpool1d", (2, 3), (2, 3), 16).algorithm == "direct"
    assert plan("switches_to_indices", (2, 3), 48, 16).algorithm == "torch"
    assert plan("switches_to_indices", (2, 3), (768,), (256,)).algorithm == "torch"
    assert plan("switches_to_indices", (2, 3, 3), (48, 48), (16,)).algorithm == "torch"


@pytest.mark.parametrize("algorithm", ["direct", "torch"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_what_is_asked_for(name, algorithm):
    shapes, arguments = CALLS[name]
    it = plan(name, *shapes, **arguments, algorithm=algorithm)
    assert it.algorithm == algorithm
    assert "asked" in it.reason
    assert it.isa == (_C.isa() if algorithm == "direct" else torch.backends.cpu.get_cpu_capability().lower())


def test_winograd_is_asked_for_where_it_does_not_serve():
    for name, weight, arguments in [
        ("conv2d", (6, 4, 10, 4), dict(padding=1)),
        ("conv_transpose2d", (4, 6, 5, 5), dict(stride=(1, 2))),
        ("conv2d", (6, 4, 3, 3), dict(dilation=2)),
        ("conv2d", (6, 4, 3, 1), {}),
        ("conv_transpose2d", (4, 6, 7, 7), dict(stride=2)),
        ("conv1d", (6, 4, 1), {}),
    ]:
        x = (2, 4, 9, 9)[: len(weight)]
        it = plan(name, x, weight, **arguments, algorithm="winograd")
        assert it.algorithm == "direct"
        assert "does not serve" in it.reason
        x, w = torch.randn(x), torch.randn(weight)
        ours = getattr(deconvkit, name)
        assert torch.equal(
            ours(x, w, **arguments, algorithm="winograd"), ours(x, w, **arguments, algorithm="direct")
        )
    assert plan("conv2d", (2, 4, 9, 9), (6, 4, 3, 3), algorithm="winograd").algorithm == "winograd"
    assert (
        plan("conv_transpose1d", (4, 9), (4, 6, 16), stride=8, algorithm="winograd").algorithm == "winograd"
    )


def test_implicit_gemms_are_asked_for_where_they_do_not_serve():
    layer, arguments = ((2, 16, 9, 9), (16, 8, 4, 4)), dict(stride=2, padding=1, algorithm="implicit_gemm")
    it = plan("conv_transpose2d", *layer, **arguments)
    assert it.algorithm == "direct"
    assert "on CUDA only" in it.reason
    x, w = map(torch.randn, layer)
    del arguments["algorithm"]
    direct, *ours = (
        deconvkit.conv_transpose2d(x, w, **arguments, algorithm=a)
        for a in ("direct", "implicit_gemm", "implicit_gemm_mma")
    )
    assert all(torch.equal(direct, it) for it in ours)
    for transposed, size, kernel, stride, padding, dilation, served in [
        (True, 2, 4, 2, 1, 1, True),
        (False, 4, 3, 1, 1, 1, True),
        (False, 8, 3, 1, 1, 1, False),  # float64
        (False, 2, 3, 1, 12, 12, False),  # taps too far apart
        (True, 2, 33, 33, 0, 1, False),  # more than 32 phases
    ]:
        large = 39 * stride - 2 * padding + dilation * (kernel - 1) + 1
        geometry = [(n, n) for n in (40, large, kernel, stride, padding, dilation)]
        assert _C.implicit_gemms(transposed, size, 2, 16, 8, *geometry, 1)[0] == served


@pytest.mark.parametrize(
    ("algorithm", "channels", "stride", "dtype", "isa", "expected", "dilation"),
    [
        ("implicit_gemm", 32, 2, torch.bfloat16, "sm_90", "Hopper", 1),
        ("implicit_gemm", 32, 2, torch.float16, "sm_90", "Hopper", 1),
        ("implicit_gemm_mma", 32, 2, torch.bfloat16, "sm_90", "asked for", 1),
        ("implicit_gemm", 31, 2, torch.bfloat16, "sm_90", "asked for", 1),
        ("implicit_gemm", 32, 3, torch.bfloat16, "sm_90", "asked for", 1),  # nine phases of the input
        ("implicit_gemm", 32, 2, torch.float32, "sm_90", "asked for", 1),
        ("implicit_gemm", 32, 2, torch.bfloat16, "sm_100", "asked for", 1),
        ("implicit_gemm", 32, 2, torch.float64, "sm_90", "does not serve", 1),
        ("implicit_gemm_mma", 32, 2, torch.bfloat16, "sm_75", "on CUDA only", 1),
        ("implicit_gemm", 32, 2, torch.bfloat16, "sm_90", "Hopper", 12),  # taps far apart: boxes of their own
        ("implicit_gemm_mma", 32, 2, torch.bfloat16, "sm_90", "does not serve", 12),
        # Few tiles, of so many terms that the other kernel splits them.
        ("implicit_gemm", 64, 2, torch.bfloat16, "sm_90", "asked for", 1),
    ],
)
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_hopper_has_a_kernel_of_its_own(
    monkeypatch, algorithm, channels, stride, dtype, isa, expected, dilation, format
):
    monkeypatch.setattr(plan_module, "_cuda_capability", lambda device: isa)
    with FakeTensorMode():
        x = torch.empty(2, channels, 48, 48, device="cuda", dtype=dtype, memory_format=format)
        weight = torch.empty(24, channels, 4, 4, device="cuda", dtype=dtype)
    it = plan("conv2d", x, weight, stride=stride, padding=1, dilation=dilation, algorithm=algorithm)
    assert it.algorithm == ("direct" if expected in ("does not serve", "on CUDA only") else algorithm)
    assert expected in it.reason
    assert ("Hopper" in it.reason) == (expected == "Hopper")


@pytest.mark.parametrize(
    ("built", "isa", "algorithm", "reason"),
    [
        ("75,90", "sm_90", "implicit_gemm", "Hopper"),
        ("75,80", "sm_90", "implicit_gemm", "it was asked for"),  # by PTX, which has not Hopper's own
        ("75", "sm_90", "direct", "sm_75's kernels for sm_90"),
        ("90", "sm_80", "implicit_gemm", "but deconvkit's kernels were built for compute capabilities 90"),
    ],
)
def test_a_build_for_few_architectures(monkeypatch, built, isa, algorithm, reason):
    module = SimpleNamespace(versions=lambda: [13000, 13000], architectures=built)
    monkeypatch.setattr(plan_module, "_cuda_capability", lambda device: isa)
    monkeypatch.setattr(plan_module.library, "cuda_module", lambda: module)
    with FakeTensorMode():
        x = torch.empty(2, 48, 48, 32, device="cuda", dtype=torch.bfloat16).permute(0, 3, 1, 2)
        weight = torch.empty(24, 32, 4, 4, device="cuda", dtype=torch.bfloat16)
    it = plan("conv2d", x, weight, stride=2, padding=1, algorithm="implicit_gemm")
    assert it.algorithm == algorithm
    assert reason in it.reason
    assert ("Hopper" in it.reason) == (reason == "Hopper")
    pooled = plan("max_pool2d", x, 2)
    assert pooled.algorithm == "direct"
    assert ("but deconvkit's kernels" in pooled.reason) == ("but" in reason)


class _Recorder:
    """The native module, which remembers the algorithm it was called with."""

    def __init__(self):
        self.used = None

    def __getattr__(self, name):
        def call(*args):
            if name in ("conv2d", "conv_transpose2d"):
                self.used = next(key for key, value in ALGORITHM_CODES.items() if value == args[-3])
            return getattr(_C, name)(*args)

        return call


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_ops_do_what_it_says(name, monkeypatch):
    dims = int(name[-2])
    choose = random.Random(name)
    for _ in range(25):
        groups = choose.choice([1, 1, 2])
        inner, outer = (choose.choice([1, 3, 16, 32, 40]) for _ in range(2))
        kernel, stride = choose.randint(1, 5), choose.randint(1, 3)
        channels = (inner * groups, outer) if "transpose" in name else (outer * groups, inner)
        dtype = choose.choice(DTYPES[:3])
        x = torch.randn(2, inner * groups, *[choose.randint(9, 12)] * dims, dtype=dtype)
        weight = torch.randn(*channels, *[kernel] * dims, dtype=dtype)
        arguments = dict(stride=stride, padding=choose.choice([0, 1]), groups=groups)
        arguments["dilation"] = choose.choice([1, 1, 2])
        if "transpose" in name and kernel == 1:
            arguments["padding"] = 0
        recorder = _Recorder()
        with monkeypatch.context() as patch:
            patch.setattr(library, "native", lambda tensor, recorder=recorder: recorder)
            patch.setattr(convolution_op, "_CACHE", {})  # calls planned before know the native module
            getattr(deconvkit, name)(x, weight, **arguments)
        it = plan(name, x, weight, **arguments)
        assert it.algorithm == (recorder.used or "torch"), it
        assert plan(name, tuple(x.shape), tuple(weight.shape), dtype=dtype, **arguments) == it


@pytest.mark.parametrize("dims", [1, 2])
def test_torchs_name_of_a_pool_will_do(dims):
    name, shape = f"max_pool{dims}d", (1, 3, *[8] * dims)
    expected = plan(f"{name}_with_switches", shape, 2)
    assert plan(name, shape, 2) == plan(getattr(torch.nn.functional, name), shape, 2) == expected
    assert expected.op == f"{name}_with_switches"


def test_computes_nothing():
    """Shapes of a terabyte, and tensors as they were."""
    assert plan("conv2d", (2**20, 64, 64, 64), (64, 64, 3, 3)).op == "conv2d"
    assert plan("sparse_kl", (2**30, 2**8), 0.1).op == "sparse_kl"
    x = torch.full((2, 3, 4, 4), 0.5)
    plan("max_pool2d_with_switches", x, 2)
    assert (x == 0.5).all()


@pytest.mark.parametrize(
    ("args", "error", "told"),
    [
        (("conv4d", (1, 2, 3)), ValueError, "plan: op: expected one of .*conv_transpose2d.*got 'conv4d'"),
        ((torch.nn.functional.relu, (1, 2, 3)), ValueError, "plan: op: expected one of .*got 'relu'"),
        ((None, (1, 2, 3)), ValueError, "plan: op: expected one of .*got 'None'"),
        (("conv2d", (1, 4, 8, 8)), TypeError, "'weight'"),
        (("conv2d", "shape", (6, 4, 3, 3)), ValueError, "plan: input: expected a tensor or its shape, got"),
        (("conv2d", 3, (6, 4, 3, 3)), ValueError, "plan: input: expected a tensor or its shape, got 3"),
        (("conv2d", (1, 4, 8, -8), (6, 4, 3, 3)), ValueError, "plan: input: expected a tensor or its shape"),
        (("conv2d", (2**40, 2**40, 1, 1), (6, 4, 3, 3)), ValueError, "plan: input: expected a tensor or its"),
        (("conv2d", (1, 5, 8, 8), (6, 4, 3, 3)), ValueError, "conv2d: input: expected 4 channels"),
        (("conv2d", (1, 4, 2, 2), (6, 4, 3, 3)), ValueError, "conv2d: input: expected sizes whose output"),
        (("conv_transpose2d", (1, 4, 2, 2), (4, 4, 3, 3), None, 0), ValueError, "stride: expected"),
        (("conv_transpose3d", (1, 4, 2, 2), (4, 4, 3)), ValueError, "conv_transpose3d: weight: expected"),
        (("max_pool2d_with_switches", (1, 4, 2, 2), 0), ValueError, "kernel_size: expected"),
        (("max_unpool2d", (1, 4, 2, 2), (1, 4, 2, 3), 2), ValueError, "switches: expected the input's shape"),
        (("sparse_kl", (8, 2), 1.5), ValueError, "rho: expected"),
        (("sparse_kl", (0, 2), 0.5), ValueError, "sparse_kl: activations"),
    ],
)
def test_bad_arguments_are_told_as_the_op_tells_them(args, error, told):
    with pytest.raises(error, match=told):
        plan(*args)


def test_bad_keywords():
    shapes = (1, 4, 8, 8), (6, 4, 3, 3)
    with pytest.raises(ValueError, match="conv2d: algorithm: expected one of"):
        plan("conv2d", *shapes, algorithm="fft")
    with pytest.raises(ValueError, match="conv2d: activation: expected"):
        plan("conv2d", *shapes, activation="swish")
    with pytest.raises(TypeError, match="colour"):
        plan("conv2d", *shapes, colour="red")
    with pytest.raises(TypeError, match="conv2d: input: expected float32"):
        plan("conv2d", *shapes, dtype=torch.int64)
    with pytest.raises(ValueError, match="'direct'"):
        plan("conv_transpose3d", (1, 4, 2, 2, 2), (4, 4, 3, 3, 3), algorithm="direct")


def test_backend_info(isa):
    info = backend_info()
    assert info["deconvkit"] == deconvkit.__version__
    assert info["torch"] == torch.__version__
    assert info["python"] == platform.python_version()
    assert platform.machine() in info["platform"]
    assert info["isa"] == isa
    assert info["vector_bytes"] == _C.vector_bytes()
    assert list(info["available_isas"]) == _C.available_isas()
    assert info["threads"] == torch.get_num_threads()
    assert "CUDA" in info["cuda"]
    lines = str(info).splitlines()
    assert [line.split()[0] for line in lines] == list(info)
    assert (
        len(
            {
                line.index(str(value))
                for line, value in zip(lines, info.values(), strict=True)
                if str(value) in line
            }
        )
        == 1
    )
