"""The package as a whole: names, version, what importing loads, and the native module in a process."""

import ast
import importlib.metadata
import importlib.resources
import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import deconvkit
from deconvkit import _C

ROOT = Path(__file__).parents[1]

PUBLIC = {
    "backend_info",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "indices_to_switches",
    "keep_freed_memory",
    "max_pool1d_with_switches",
    "max_pool2d_with_switches",
    "max_unpool1d",
    "max_unpool2d",
    "plan",
    "sparse_kl",
    "sparse_sigmoid",
    "switches_to_indices",
}
OPERATORS = sorted(PUBLIC - {"backend_info", "keep_freed_memory", "plan"})
MODULES = {
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "SparseKL",
    "SparseSigmoid",
}


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, which sees the package that this one sees."""
    path = os.pathsep.join([str(Path(deconvkit.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def output_of(code: str, **environment: str) -> str:
    done = run_python(code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- names and metadata ----


def test_public_names() -> None:
    assert set(deconvkit.__all__) == PUBLIC | {"__version__", "nn"}
    assert set(deconvkit.nn.__all__) == MODULES | {"fuse"}
    for name in deconvkit.__all__:
        assert hasattr(deconvkit, name)
    for name in MODULES:
        assert issubclass(getattr(deconvkit.nn, name), torch.nn.Module)


def test_one_version() -> None:
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert stated is not None
    assert f"## {stated[1]}" in (ROOT / "CHANGELOG.md").read_text()
    try:
        installed = importlib.metadata.version("deconvkit")
    except importlib.metadata.PackageNotFoundError:
        assert deconvkit.__version__ == "0+unknown"
    else:
        assert deconvkit.__version__ == installed == stated[1]


def test_types_are_shipped() -> None:
    package = importlib.resources.files("deconvkit")
    assert (package / "py.typed").is_file()
    assert (package / "_C.pyi").is_file()


def test_stub_lists_the_native_functions() -> None:
    stub = ast.parse((ROOT / "python/deconvkit/_C.pyi").read_text())
    stated = {node.name: node for node in stub.body if isinstance(node, ast.FunctionDef)}
    native = {name for name in dir(_C) if not name.startswith("_")}
    assert set(stated) == native
    for name, node in stated.items():
        signature = getattr(_C, name).__doc__.splitlines()[0]  # as pybind11 writes it
        assert signature.count(": ") == len(node.args.args), signature


# ---- documentation ----


@pytest.mark.parametrize("name", OPERATORS)
def test_docstring_is_complete(name: str) -> None:
    doc = inspect.getdoc(getattr(deconvkit, name))
    assert doc is not None
    for part in ("Args:", "Returns:", "Raises:"):
        assert part in doc
    assert "quivalent to" in doc, "expected the PyTorch lines that do the same"
    for parameter in inspect.signature(getattr(deconvkit, name)).parameters:
        assert re.search(rf"^ +.*\b{parameter}\b.*:", doc.partition("Args:")[2], re.MULTILINE), parameter


WINDOWS = {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 1}
CONV = {"bias": torch.randn(6), "stride": 2, "padding": 1, "groups": 2, "dilation": 2, "activation": "relu"}
TRANSPOSED = {**CONV, "output_padding": 1}


def unpooling(*shape: int) -> dict[str, Any]:
    op = deconvkit.max_pool1d_with_switches if len(shape) == 3 else deconvkit.max_pool2d_with_switches
    input, switches = op(torch.randn(shape), 3)
    return {
        "input": input,
        "switches": switches,
        **{"kernel_size": 3, "stride": 3, "padding": 0, "output_size": shape[2:], "dilation": 1},
    }


EXAMPLES: dict[str, Callable[[], dict[str, Any]]] = {
    "conv1d": lambda: {"input": torch.randn(2, 4, 12), "weight": torch.randn(6, 2, 3), **CONV},
    "conv2d": lambda: {"input": torch.randn(2, 4, 12, 9), "weight": torch.randn(6, 2, 3, 2), **CONV},
    "conv_transpose1d": lambda: {
        **{"input": torch.randn(2, 4, 5), "weight": torch.randn(4, 3, 3)},
        **TRANSPOSED,
    },
    "conv_transpose2d": lambda: {
        **{"input": torch.randn(2, 4, 5, 6), "weight": torch.randn(4, 3, 3, 2)},
        **TRANSPOSED,
    },
    "conv_transpose3d": lambda: {
        **{"input": torch.randn(2, 4, 5, 6, 3), "weight": torch.randn(4, 3, 3, 2, 2)},
        **TRANSPOSED,
    },
    "max_pool1d_with_switches": lambda: {"input": torch.randn(2, 3, 9), **WINDOWS, "ceil_mode": True},
    "max_pool2d_with_switches": lambda: {"input": torch.randn(2, 3, 9, 6), **WINDOWS, "ceil_mode": False},
    "max_unpool1d": lambda: unpooling(2, 3, 9),
    "max_unpool2d": lambda: unpooling(2, 3, 9, 6),
    "sparse_kl": lambda: {"activations": torch.rand(20, 5), "rho": 0.1, "beta": 3.0, "unit_dim": 1},
    "sparse_sigmoid": lambda: {"z": torch.randn(4, 5, 3), "rho": 0.1, "beta": 3.0, "unit_dim": 1},
}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_equivalent_lines_are_equivalent(name: str) -> None:
    """Run the lines below "Equivalent to"; what they end in, or assign, is what the operator gives."""
    lines = re.search(r"quivalent to::\n\n((?: +.*\n)+)", inspect.getdoc(getattr(deconvkit, name)) + "\n")
    assert lines is not None
    example = EXAMPLES[name]()
    got = getattr(deconvkit, name)(**example)
    names = {**vars(deconvkit), "torch": torch, "deconvkit": deconvkit, "group": None, **example}
    code = ast.parse(textwrap.dedent(lines[1]))
    last = code.body.pop() if isinstance(code.body[-1], ast.Expr) else None
    exec(compile(code, name, "exec"), names)
    if last is not None:
        expected = eval(compile(ast.Expression(last.value), name, "eval"), names)
    else:
        results = [name for name in ("output", "activations", "switches", "penalty") if name in names]
        expected = tuple(names[result] for result in results) if len(results) > 1 else names[results[0]]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", [*sorted(PUBLIC - set(OPERATORS)), *(f"nn.{name}" for name in sorted(MODULES))]
)
def test_docstring_exists(name: str) -> None:
    doc = inspect.getdoc(
        deconvkit.nn.__dict__[name[3:]] if name.startswith("nn.") else getattr(deconvkit, name)
    )
    assert doc is not None
    assert len(doc) > 40


def test_readme_code_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)


def test_readme_names_every_operator() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in [*PUBLIC, *MODULES]:
        assert name in readme, name


# ---- what importing does ----


def test_import_loads_nothing_beyond_numpy_and_torch() -> None:
    loaded = output_of("""
        import sys
        import numpy, torch
        before = set(sys.modules)
        import deconvkit
        new = set(sys.modules) - before
        print(*sorted({name.partition(".")[0] for name in new} - set(sys.stdlib_module_names)))
        print(*sorted(new & {"torch._dynamo", "torch._inductor", "torch.distributed.nn", "torch.onnx"}))
    """)
    assert loaded == "deconvkit"


def test_one_openmp_runtime() -> None:
    runtimes = output_of("""
        import deconvkit
        import torch
        deconvkit.max_pool2d_with_switches(torch.rand(8, 8, 64, 64), 2)
        with open("/proc/self/maps") as maps:
            print(*sorted({line.split()[-1] for line in maps if "gomp" in line or "iomp" in line}))
    """).split()
    assert len(runtimes) == 1, runtimes


def test_broken_native_module_is_diagnosed() -> None:
    done = run_python("""
        import sys

        class Broken:
            def find_spec(self, name, path=None, target=None):
                if name == "deconvkit._C":
                    raise ImportError("undefined symbol: _ZN3abc")

        sys.meta_path.insert(0, Broken())
        import deconvkit
    """)
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: ")
    for part in (
        "undefined symbol: _ZN3abc",
        f"deconvkit {deconvkit.__version__}",
        f"torch {torch.__version__}",
        f"Python {sys.version.split()[0]}",
        "Linux",
        "pip install --force-reinstall",
    ):
        assert part in message


# ---- the instruction set ----


@pytest.mark.parametrize("isa", _C.available_isas())
def test_environment_forces_an_instruction_set(isa: str) -> None:
    assert output_of("import deconvkit; print(deconvkit._C.isa())", DECONVKIT_ISA=isa) == isa


def test_unknown_instruction_set() -> None:
    done = run_python(
        """
        import deconvkit
        import torch
        deconvkit.max_pool2d_with_switches(torch.rand(1, 1, 4, 4), 2)
        """,
        DECONVKIT_ISA="avx1024",
    )
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ValueError: DECONVKIT_ISA: expected one of scalar")
    assert "got 'avx1024'" in message


# ---- the floating-point mode, which belongs to each thread ----

DENORMALS = """
    import deconvkit
    import torch

    torch.set_num_threads(3)
    tiny = torch.full((64, 4, 64, 64), 1e-40)
    weight = torch.eye(4).reshape(4, 4, 1, 1)

    def ours():  # the share of results that are not zero, over all threads
        return (deconvkit.conv2d(tiny, weight, algorithm="direct") != 0).double().mean().item()

    def torchs():
        return (torch.mul(tiny, 1.0) != 0).double().mean().item()
"""


def test_workers_flush_denormals_when_torch_does() -> None:
    printed = output_of(f"""{DENORMALS}
    print(ours())
    assert torch.set_flush_denormal(True)
    print(ours())
    torch.set_flush_denormal(False)
    print(ours())
    """)
    assert printed.split() == ["1.0", "0.0", "1.0"]


def test_floating_point_mode_is_restored() -> None:
    printed = output_of(f"""{DENORMALS}
    assert torch.set_flush_denormal(True)
    ours()
    print((torch.full((1,), 1e-40) * 1.0).item())  # the calling thread still flushes
    torch.set_flush_denormal(False)
    print(torchs())  # and no worker does
    """)
    assert printed.split() == ["0.0", "1.0"]
