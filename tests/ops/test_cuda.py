"""CUDA tensors: the same results as on the CPU in float64, on torch's stream, without waiting or allocating.

What needs a device is marked ``cuda``; the kernels themselves also run on the CPU (tests/native/cuda_host.h).
"""

import shutil
import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

import deconvkit
from deconvkit.ops import _library as library
from tests.ops.on_cuda import check_capture_and_replay, check_memory, check_nothing_waits, cuda, large

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}
FORMATS = [torch.contiguous_format, torch.channels_last]
# shape, then kernel, stride, padding, dilation, ceil_mode
WINDOWS = [
    ((2, 8, 16, 32), (2, 2, 0, 1, False)),
    ((2, 3, 7, 9), (2, 2, 0, 1, True)),
    ((2, 3, 7, 32), (2, 2, 0, 1, True)),
    ((3, 16, 13, 11), (3, 2, 1, 1, False)),
    ((1, 5, 14, 15), ((3, 2), (1, 2), 1, 2, False)),
    ((2, 8, 20, 20), (17, 3, 2, 1, False)),
    ((0, 4, 8, 8), (2, 2, 0, 1, False)),
]
SHAPES = [
    ((64, 25), 1),
    ((1000, 256), 1),
    ((3, 8, 56, 56), 1),
    ((5, 6, 7), 1),
    ((4, 9), 0),
    ((7, 1), 1),
    ((1, 1, 7, 7), 1),
    ((1, 33), 0),
]
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=cuda)])
VIEWS = {
    "cut": lambda t: t[:, 1:, 1:, 1:],
    "steps": lambda t: t[:, :, ::2, ::3],
    "transposed": lambda t: t.transpose(2, 3),
    "expanded": lambda t: t[:1].expand(4, -1, -1, -1),
    "unaligned": lambda t: t.flatten()[1 : 1 + 2 * 4 * 16 * 32].view(2, 4, 16, 32),
}
views = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)


def tied(shape, dtype, memory_format=torch.contiguous_format):
    """Few different values, some of them NaN, on the CPU."""
    x = torch.randint(-3, 4, shape).to(dtype)
    x[torch.rand(shape) < 0.03] = torch.nan
    return x.contiguous(memory_format=memory_format)


def pooled(x, geometry):
    return deconvkit.max_pool2d_with_switches(x, *geometry)


# ---- without a device ----


def test_versions_are_named_where_the_driver_is_too_old():
    assert library.driver_problem(13000, 13000) is None
    assert library.driver_problem(12080, 13010) is None
    assert library.driver_problem(13010, 13000) is None
    old = library.driver_problem(13000, 12040)
    assert "CUDA 13.0" in old
    assert "CUDA 12.4" in old
    assert "580" in old
    assert "no driver" in library.driver_problem(13000, 0)


@pytest.mark.parametrize(
    ("built", "capability", "serving"),
    [
        ("75,80,86,89,90,100,120", (9, 0), 90),
        ("75,80", (7, 5), 75),
        ("75,80", (8, 6), 80),  # machine code of the same major version
        ("75,80", (9, 0), 80),  # PTX of the newest
        ("120,80", (9, 0), 0),  # no PTX of 80, none older than 120
        ("80,120", (12, 1), 120),
        ("86", (8, 0), 0),
        ("90", (7, 5), 0),
    ],
)
def test_the_kernels_of_a_narrowed_build_that_a_device_runs(built, capability, serving):
    assert library.serving_architecture(built, capability) == serving
    problem = library.architecture_problem(built, capability)
    if serving:
        assert problem is None
    else:
        assert built in problem
        assert f"{capability[0]}.{capability[1]}" in problem
        assert f"DECONVKIT_CUDA_ARCHS={capability[0]}{capability[1]}" in problem


def test_the_module_needs_neither_cuda_nor_torch_and_offers_its_entry_alone():
    module = pytest.importorskip("deconvkit._C_cuda", reason="built without nvcc", exc_type=ImportError)
    if (readelf := shutil.which("readelf")) is None:
        pytest.skip("no readelf")
    needed = subprocess.run([readelf, "-d", module.__file__], check=True, capture_output=True, text=True)
    names = [line.split("[")[1] for line in needed.stdout.splitlines() if "(NEEDED)" in line]
    assert names
    assert not [name for name in names if "cuda" in name or "torch" in name or "c10" in name]
    symbols = subprocess.run(
        [readelf, "--dyn-syms", "-W", module.__file__], check=True, capture_output=True, text=True
    )
    rows = [line.split() for line in symbols.stdout.splitlines()]
    offered = [r[7] for r in rows if len(r) > 7 and r[4] == "GLOBAL" and r[5] == "DEFAULT" and r[6] != "UND"]
    # And the type information of plain C++ types, which are everybody's.
    assert [name for name in offered if not name.startswith(("_ZTI", "_ZTS"))] == ["PyInit__C_cuda"]


def test_the_module_is_imported_only_for_a_cuda_tensor():
    code = (
        "import sys, torch, deconvkit; deconvkit.max_pool2d_with_switches(torch.randn(1, 1, 4, 4), 2);"
        "assert 'deconvkit._C_cuda' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_module_imports_without_a_driver():
    pytest.importorskip("deconvkit._C_cuda", reason="built without nvcc", exc_type=ImportError)
    module = library.cuda_module()
    runtime, _ = module.versions()
    assert runtime >= 12000
    assert module.architectures
    assert module.registered_kernels() > 0


def test_another_device_is_refused():
    with pytest.raises(NotImplementedError, match="meta"):
        library.native(torch.empty(1, device="meta"))


def test_tensors_of_several_devices_are_refused():
    cpu, meta = torch.empty(1), torch.empty(1, device="meta")
    library.check_one_device("op", (cpu, None, cpu))
    with pytest.raises(ValueError, match="op: expected all tensors on one device, got cpu and meta"):
        library.check_one_device("op", (cpu, None, meta))


def test_what_the_dispatcher_calls_looks_at_the_devices_of_all_tensors(monkeypatch):
    seen = []
    monkeypatch.setattr(library, "check_one_device", lambda *arguments: seen.append(arguments))
    x, switches = torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2, dtype=torch.uint8)
    torch.ops.deconvkit.max_unpool2d(x, switches, [2, 4], [2, 2], [2, 2], [0, 0], [1, 1])
    ((op, tensors),) = seen
    assert op == "max_unpool2d"
    assert [t is u for t, u in zip(tensors, (x, switches), strict=True)] == [True, True]


@cuda
def test_an_op_refuses_tensors_of_several_devices():
    x = torch.ones(1, 1, 1, 2, device="cuda")
    op = torch.ops.deconvkit
    switches = torch.zeros(1, 1, 1, 2, dtype=torch.uint8)
    pair = [2, 2]
    for call in (
        lambda: op.max_unpool2d(x, switches, [2, 4], pair, pair, [0, 0], [1, 1]),
        lambda: op.max_unpool2d(x.cpu(), switches.cuda(), [2, 4], pair, pair, [0, 0], [1, 1]),
        lambda: op.conv_weight_grad(x, x.cpu(), [1, 1], [1, 1], [0, 0], [1, 1], 1, False, "direct"),
    ):
        with pytest.raises(ValueError, match="expected all tensors on one device"):
            call()


# ---- pooling ----


@cuda
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(("shape", "geometry"), WINDOWS)
def test_pooling_is_the_cpus(nan_filled, shape, geometry, memory_format, dtype):
    x = tied(shape, dtype, memory_format).requires_grad_()
    y = x.detach().cuda().requires_grad_()
    (values, switches), (got, got_switches) = pooled(x, geometry), pooled(y, geometry)
    assert got.stride() == values.stride()
    assert torch.equal(got_switches.cpu(), switches)
    assert_close(got.cpu(), values, rtol=0, atol=0, equal_nan=True)

    grad = torch.randint(-3, 4, values.shape).to(dtype)
    values.backward(grad)
    got.backward(grad.cuda())
    assert_close(y.grad.cpu(), x.grad, rtol=0, atol=0)

    kernel, stride, padding, dilation, _ = geometry
    arguments = kernel, stride, padding, shape[-2:]
    z = torch.randint(-3, 4, values.shape).to(dtype).contiguous(memory_format=memory_format).requires_grad_()
    w = z.detach().cuda().requires_grad_()
    up = deconvkit.max_unpool2d(z, switches, *arguments, dilation=dilation)
    got = deconvkit.max_unpool2d(w, got_switches, *arguments, dilation=dilation)
    assert_close(got.cpu(), up, rtol=0, atol=0)
    grad = torch.randint(-3, 4, shape).to(dtype)
    up.backward(grad)
    got.backward(grad.cuda())
    assert_close(w.grad.cpu(), z.grad, rtol=0, atol=0)


@devices
@views
def test_views_are_pooled(device, view):
    x = tied((3, 9, 18, 35), torch.float32)
    expected, got = pooled(view(x), (2,)), pooled(view(x.to(device)), (2,))
    assert_close(got[0].cpu(), expected[0], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(got[1].cpu(), expected[1])


# Its columns lie a row apart, which nobody needs to know.
A_COLUMN = pytest.param(lambda t: t[:, :, :1].contiguous().transpose(2, 3), id="a column")


@devices
@pytest.mark.parametrize("view", [*(pytest.param(view, id=name) for name, view in VIEWS.items()), A_COLUMN])
def test_views_are_unpooled(device, view):
    values, codes = torch.randint(-3, 4, (3, 9, 18, 35)).float(), torch.randint(0, 4, (3, 9, 18, 35)).byte()
    results = []
    for x, switches in ((values.clone(), codes), (values.to(device), codes.to(device))):
        up = deconvkit.max_unpool2d(view(x.requires_grad_()), view(switches), 2)
        up.backward(torch.arange(up.numel(), device=up.device).float().view_as(up) % 7)
        results.append((up.detach().cpu(), x.grad.cpu()))
    for wanted, got in zip(*results, strict=True):
        assert_close(got, wanted, rtol=0, atol=0)


@cuda
def test_a_switch_that_points_outside_is_skipped():
    switches = torch.tensor([[[[7, 3]]]], dtype=torch.uint8, device="cuda")
    x = torch.ones(1, 1, 1, 2, device="cuda")
    assert deconvkit.max_unpool2d(x, switches, 2).tolist() == [[[[0, 0, 0, 0], [0, 0, 0, 1]]]]


@large
@pytest.mark.parametrize(("channels", "memory_format"), [(2, FORMATS[0]), (8, FORMATS[1])])
def test_pooling_beyond_2_31_elements(device, rows, channels, memory_format):
    check_memory(device, 12)
    shape = 1, channels, rows, 2**16 // channels
    x = torch.empty(shape, dtype=torch.float16, device=device, memory_format=memory_format).zero_()
    x[0, -1, -1, -1] = 1
    values, switches = pooled(x, (2,))
    assert values[0, -1, -1, -1] == 1
    assert values.count_nonzero() == 1
    assert switches[0, -1, -1, -1] == 3
    del x
    up = deconvkit.max_unpool2d(values, switches, 2)
    assert up[0, -1, -1, -1] == 1
    assert up[0, -1, :, -2:].count_nonzero() == 1


# ---- the sparsity penalty ----


@cuda
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "unit_dim"), SHAPES)
def test_sparse_sigmoid_is_float64s(nan_filled, shape, unit_dim, dtype):
    z = (3 * torch.randn(shape)).to(dtype)
    x, y = z.double().requires_grad_(), z.detach().cuda().requires_grad_()
    grad = torch.randn(shape).to(dtype)
    activations, penalty = deconvkit.sparse_sigmoid(x, 0.05, 2.0, unit_dim=unit_dim)
    got, got_penalty = deconvkit.sparse_sigmoid(y, 0.05, 2.0, unit_dim=unit_dim)
    (activations * grad.double()).sum().add(penalty).backward()
    torch.autograd.backward((got, got_penalty), (grad.cuda(), torch.ones_like(got_penalty)))
    tolerance = TOLERANCE[dtype]
    assert_close(got.double().cpu(), activations, rtol=tolerance, atol=tolerance)
    assert_close(got_penalty.double().cpu(), penalty, rtol=1e-5 if dtype != torch.float64 else 1e-11, atol=0)
    assert_close(y.grad.double().cpu(), x.grad, rtol=4 * tolerance, atol=4 * tolerance)
    kl = deconvkit.sparse_kl(got.detach(), 0.05, 2.0, unit_dim=unit_dim)
    expected = deconvkit.sparse_kl(got.detach().double().cpu(), 0.05, 2.0, unit_dim=unit_dim)
    assert_close(kl.double().cpu(), expected, rtol=1e-4, atol=1e-4)


@devices
@views
@pytest.mark.parametrize("unit_dim", [0, 1, 3])
def test_views_are_made_sparse(device, view, unit_dim):
    base = torch.randn(3, 9, 18, 35)
    results = []
    for z in (base.double(), base.to(device)):
        activations, penalty = deconvkit.sparse_sigmoid(view(z.requires_grad_()), 0.05, unit_dim=unit_dim)
        kl = deconvkit.sparse_kl(view(z.sigmoid()), 0.05, unit_dim=unit_dim)
        (activations.sum() + penalty + kl).backward()
        results.append([t.detach().double().cpu() for t in (activations, penalty, kl, z.grad)])
    for wanted, got in zip(*results, strict=True):
        assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@devices
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "unit_dim"), SHAPES)
def test_sums_of_a_group_are_float64s(nan_filled, shape, unit_dim, dtype, device):
    op = torch.ops.deconvkit
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    z = torch.randn(shape).to(dtype)
    for x, sums_of in (
        (z, lambda z: op.sparse_sigmoid_sums(z, unit_dim)[1]),
        (z.sigmoid(), lambda activations: op.sparse_kl_sums(activations, unit_dim)),
    ):
        sums, wanted = sums_of(x.to(device)), sums_of(x.double())
        assert_close(sums.cpu(), wanted, rtol=1e-5, atol=0)
        # Of two processes alike.
        penalty, slope = op.sparse_kl_from_sums(2 * sums, 0.05, 2.0, 2.0, compute)
        expected = op.sparse_kl_from_sums(2 * wanted, 0.05, 2.0, 2.0, torch.float64)
        assert_close(penalty.double().cpu(), expected[0], rtol=1e-4, atol=1e-6)
        assert_close(slope.double().cpu(), expected[1], rtol=1e-4, atol=1e-6)


@large
@pytest.mark.parametrize("planes", [True, False])
def test_sparsity_beyond_2_31_elements(device, rows, planes):
    check_memory(device, 16)
    shape = (1, 2, rows, 2**15) if planes else (2 * rows, 2**15)
    beta = 2.0**24 if planes else 2.0**10  # gradients are divided by the samples
    z = torch.zeros(shape, dtype=torch.float16, device=device)
    z[:, -1] = 4
    activations, penalty = deconvkit.sparse_sigmoid(z.requires_grad_(), 0.5, beta)
    small = torch.tensor([[0.0, 4.0]], dtype=torch.float64, requires_grad=True)
    wanted, wanted_penalty = deconvkit.sparse_sigmoid(small, 0.5, beta)
    assert_close(penalty.double().cpu(), wanted_penalty, rtol=1e-4, atol=0)
    penalty.backward()
    wanted_penalty.backward()
    samples = z.numel() // z.shape[1]
    for got, expected in ((activations, wanted), (z.grad, small.grad / samples)):
        for unit in (-2, -1):
            last = got[-1, unit].flatten()[-1]
            assert_close(last.double().cpu(), expected[0, unit], rtol=2e-3, atol=1e-6)


# ---- streams, graphs, repetition ----


def everything(x):
    """Every op, to one list of tensors."""
    x = x.detach().requires_grad_()
    values, switches = deconvkit.max_pool2d_with_switches(x, 2)
    up = deconvkit.max_unpool2d(values, switches, 2)
    activations, penalty = deconvkit.sparse_sigmoid(up, 0.1)
    total = activations.sum() + penalty + deconvkit.sparse_kl(activations, 0.2)
    (grad,) = torch.autograd.grad(total, x)
    return [values, switches, up, activations, penalty, grad]


@cuda
@pytest.mark.parametrize("memory_format", FORMATS)
def test_two_runs_are_equal_to_the_bit(memory_format):
    x = torch.randn(4, 64, 58, 58, device="cuda").contiguous(memory_format=memory_format)
    for a, b in zip(everything(x), everything(x), strict=True):
        assert torch.equal(a, b)


@cuda
def test_a_side_stream():
    x = torch.randn(8, 32, 64, 64, device="cuda")
    expected = everything(2 * x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # kernels on another stream would not wait for the doubling
        got = everything(2 * x)
    stream.synchronize()
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


@cuda
def test_graph_capture_and_replay():
    check_capture_and_replay(everything, torch.randn(4, 16, 32, 32, device="cuda"))


@cuda
def test_nothing_waits_for_the_device():
    check_nothing_waits(everything, torch.randn(4, 16, 32, 32, device="cuda"))


@cuda
def test_compiled():
    x = torch.randn(2, 8, 16, 16, device="cuda")

    def f(x):
        values, switches = deconvkit.max_pool2d_with_switches(x, 2)
        return deconvkit.sparse_sigmoid(deconvkit.max_unpool2d(values, switches, 2), 0.1)

    for a, b in zip(torch.compile(f, fullgraph=True)(x), f(x), strict=True):
        assert_close(a, b)


@cuda
def test_the_current_device_stays():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two devices")
    x = torch.randn(2, 8, 16, 16, device="cuda:1")
    assert torch.cuda.current_device() == 0
    assert all(t.device.index == 1 for t in everything(x))
    assert torch.cuda.current_device() == 0


@cuda
def test_another_device_gets_no_context():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two devices")
    code = (
        "import torch, deconvkit\n"
        "x = torch.randn(2, 8, 16, 16, device='cuda:1', requires_grad=True)\n"
        "values, switches = deconvkit.max_pool2d_with_switches(x, 2)\n"
        "deconvkit.max_unpool2d(values, switches, 2).sum().backward()\n"
        "assert torch._C._cuda_hasPrimaryContext(1)\n"
        "assert not torch._C._cuda_hasPrimaryContext(0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@cuda
def test_plan_and_info():
    x = torch.randn(2, 8, 16, 16, device="cuda")
    assert deconvkit.plan("max_pool2d_with_switches", x, 2).isa.startswith("sm_")
    assert torch.cuda.get_device_name() in deconvkit.backend_info()["cuda"]
