"""Which algorithm a call would use and why, and what this installation computes with."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deconvkit import _C
from deconvkit._version import __version__
from deconvkit.ops import (
    _algorithm,
    conv2d,
    conv_transpose2d,
    conv_transpose3d,
    max_pool2d,
    max_unpool2d,
    sparse_kl,
    sparse_sigmoid,
    switches,
)
from deconvkit.ops import _convolution as common
from deconvkit.ops import _library as library
from deconvkit.ops._arguments import shown
from deconvkit.ops._windows import switch_dtype

_PREPARE: dict[str, tuple[str, int, Callable[..., Any]]] = {
    "conv1d": ("conv2d", 1, conv2d.prepare),
    "conv2d": ("conv2d", 2, conv2d.prepare),
    "conv_transpose1d": ("conv_transpose2d", 1, conv_transpose2d.prepare),
    "conv_transpose2d": ("conv_transpose2d", 2, conv_transpose2d.prepare),
}

_OPS: dict[str, Callable[..., Any]] = {
    op.__name__: op
    for op in (
        conv2d.conv1d,
        conv2d.conv2d,
        conv_transpose2d.conv_transpose1d,
        conv_transpose2d.conv_transpose2d,
        conv_transpose3d.conv_transpose3d,
        max_pool2d.max_pool1d_with_switches,
        max_pool2d.max_pool2d_with_switches,
        max_unpool2d.max_unpool1d,
        max_unpool2d.max_unpool2d,
        switches.indices_to_switches,
        switches.switches_to_indices,
        sparse_kl.sparse_kl,
        sparse_sigmoid.sparse_sigmoid,
    )
}

_BY_TORCH = ("indices_to_switches", "switches_to_indices")

_TENSORS = ("input", "weight", "bias", "switches", "indices", "activations", "z")


@dataclass(frozen=True)
class Plan:
    """What a call of ``op`` would run."""

    op: str
    algorithm: str
    """"direct", "winograd", "implicit_gemm", "implicit_gemm_mma" or "torch"."""
    isa: str
    """The instruction set of deconvkit's kernels, or of torch's."""
    dtype: str
    reason: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.op} ({self.dtype}): {self.algorithm} on {self.isa}, because {self.reason}"


def plan(op: str | Callable[..., Any], *args: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> Plan:
    """Tell which algorithm and instruction set a call would use, and why, without computing it.

    Example::

        deconvkit.plan("conv_transpose2d", (64, 256, 16, 16), (256, 128, 4, 4), stride=2, padding=1)

    Args:
        op: a public function of deconvkit, or its name; torch's ``max_pool1d`` and ``max_pool2d`` will do.
        *args: its arguments in order; in place of a tensor its shape serves.
        dtype: of the tensors given by their shape; torch's default dtype if None.
        **kwargs: its arguments by name.

    Returns:
        A :class:`Plan`; ``str()`` of it is one line. Backward decides for each of its ops by itself. A weight
        that requires a gradient asks for a call in training, where small layers over one image are torch's.

    Raises:
        TypeError: an argument that the op would not take.
        ValueError: an unknown op, or an argument that the op would not take.
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", repr(op))
    if f"{name}_with_switches" in _OPS:  # as torch has it
        name += "_with_switches"
    if name not in _OPS:
        raise ValueError(f"plan: op: expected one of {', '.join(sorted(_OPS))}, got {shown(name)}")
    bound = inspect.signature(_OPS[name]).bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = bound.arguments
    tensors = [value for key in _TENSORS if isinstance(value := arguments.get(key), Tensor)]
    on_cpu = all(tensor.device.type in ("cpu", "meta") for tensor in tensors)
    cuda = next((_cuda_capability(tensor.device) for tensor in tensors if tensor.is_cuda), None)
    isa, torch_isa = cuda or _C.isa(), cuda or _torch_isa()
    weight = arguments.get("weight")
    is_trained = torch.is_grad_enabled() and isinstance(weight, Tensor) and weight.requires_grad
    given = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    dtype = dtype or (given[0] if given else torch.get_default_dtype())
    for key in _TENSORS:
        if arguments.get(key) is not None:
            arguments[key] = _on_meta(name, key, arguments[key], dtype, arguments)
    dtype_name = str(dtype).removeprefix("torch.")

    if name not in _PREPARE:
        _OPS[name](*bound.args, **bound.kwargs)  # its own checks; meta tensors compute nothing
        if name == "conv_transpose3d":
            return Plan(name, "torch", torch_isa, dtype_name, "deconvkit has no kernel in three dimensions")
        if name in _BY_TORCH:
            return Plan(name, "torch", torch_isa, dtype_name, "a few of torch's operators suffice")
        return Plan(name, "direct", isa, dtype_name, f"it is the only algorithm{_but(isa)}")

    registered, dims, prepare = _PREPARE[name]
    input, weight, _, geometry = prepare(name, dims, *arguments.values())
    stride, padding, dilation, size, groups, _, _, algorithm = geometry
    shape = input.shape if input.dim() == dims + 2 else (1, *input.shape)
    layout = common.makes_channels_last(input, weight)
    problem = _algorithm.Problem(
        registered, on_cpu, input.dtype, layout, shape, weight.shape, size, stride, dilation, groups
    )
    reason = "it was asked for"
    if algorithm == "auto":
        algorithm, reason = _algorithm.choose(problem)
        if is_trained and _algorithm.is_trained_by_torch(problem):
            algorithm, reason = "torch", "so small a layer is trained faster in torch's own autograd"
    elif algorithm == "winograd" and not on_cpu:
        algorithm, reason = "direct", "winograd was asked for, and computes on the CPU only"
    elif algorithm == "winograd" and not _C.has_winograd(
        "transpose" in name, problem.small, problem.large, problem.kernel, stride, padding, dilation
    ):
        algorithm, reason = "direct", "winograd was asked for, and does not serve this kernel"
    elif algorithm in common.ON_TENSOR_CORES:
        by_any, by_hoppers_own = _C.implicit_gemms(
            "transpose" in name,
            input.dtype.itemsize,
            problem.batch,
            problem.small_channels,
            problem.large_channels,
            problem.small,
            problem.large,
            problem.kernel,
            stride,
            padding,
            dilation,
            groups,
        )
        served = _served_by(isa)
        if on_cpu or (isa == f"sm_{served}" and served < 80):
            reason = f"{algorithm} was asked for, and computes on CUDA only, from sm_80 on"
            algorithm = "direct"
        elif served < 80:
            reason = f"{algorithm} was asked for, and this build has sm_{served}'s kernels for {isa}"
            algorithm = "direct"
        elif (algorithm, isa, served) == ("implicit_gemm", "sm_90", 90) and by_hoppers_own:
            reason = "it was asked for; Hopper has a kernel of its own for it, not measured yet"
        elif not by_any:
            reason = f"{algorithm} was asked for, and does not serve this dtype or kernel"
            algorithm = "direct"
    if algorithm != "torch":
        reason += _but(isa)
    return Plan(name, algorithm, torch_isa if algorithm == "torch" else isa, dtype_name, reason)


def _capability(isa: str) -> tuple[int, int] | None:
    """Of a CUDA device by its "sm_90"; None: another instruction set."""
    return divmod(int(isa[3:]), 10) if isa.startswith("sm_") else None


def _cuda_problem(isa: str) -> str:
    """Why a call on such a device would raise; empty if it would not."""
    capability = _capability(isa)
    if capability is None:
        return ""
    try:
        module = library.cuda_module()
    except ImportError:
        return "deconvkit was built without CUDA kernels"
    return library.cuda_problem(module, capability) or ""


def _but(isa: str) -> str:
    """The end of a reason where the call would raise."""
    problem = _cuda_problem(isa)
    return f"; but {problem}" if problem else ""


def _served_by(isa: str) -> int:
    """The architecture whose kernels the device runs, or its own where none would."""
    capability = _capability(isa)
    if capability is None:
        return 90
    number = 10 * capability[0] + capability[1]
    if _cuda_problem(isa):
        return number
    return library.serving_architecture(library.cuda_module().architectures, capability) or number


def _on_meta(op: str, key: str, value: Any, dtype: torch.dtype, arguments: dict[str, Any]) -> Tensor:
    """The tensor, or one of the shape, without its data."""
    if isinstance(value, Tensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    if key == "indices":
        dtype = torch.int64
    elif key == "switches":
        dtype = _switch_dtype(op, arguments)
    try:
        return torch.empty(tuple(value), dtype=dtype, device="meta")
    except (TypeError, RuntimeError):
        raise ValueError(f"plan: {key}: expected a tensor or its shape, got {shown(value)}") from None


def _switch_dtype(op: str, arguments: dict[str, Any]) -> torch.dtype:
    """The dtype of the switches of the windows that these arguments describe."""
    kernel, size = arguments["kernel_size"], arguments.get("input_size", 0 if op.endswith("1d") else (0, 0))
    flat = isinstance(size, int) or len(size) == 1
    sides = (kernel,) if isinstance(kernel, int) else kernel
    return switch_dtype((sides[0], 1 if flat else sides[-1]))


def _torch_isa() -> str:
    return torch.backends.cpu.get_cpu_capability().lower()


class BackendInfo(dict[str, Any]):
    """What this installation computes with, by name."""

    def __str__(self) -> str:
        """One line for each fact."""
        width = max(map(len, self))
        rows = [(k, ", ".join(v) if isinstance(v, tuple) else v) for k, v in self.items()]
        return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def backend_info() -> BackendInfo:
    """Versions, instruction sets, threads and the CUDA module, or why it is missing. ``str()`` is a table.

    Returns:
        A dict of ``deconvkit``, ``torch``, ``python`` (versions), ``platform``, ``isa`` (the instruction
        set in use; the environment variable DECONVKIT_ISA forces one), ``available_isas``,
        ``vector_bytes``, ``threads`` and ``cuda``.
    """
    return BackendInfo(
        deconvkit=__version__,
        torch=torch.__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        isa=_C.isa(),
        available_isas=tuple(_C.available_isas()),
        vector_bytes=_C.vector_bytes(),
        threads=torch.get_num_threads(),
        cuda=_cuda_info(),
    )


def _cuda_info() -> str:
    """The CUDA module in a line, or why it computes nothing."""
    try:
        module = library.cuda_module()
    except ImportError:
        return "none: deconvkit was built without nvcc, so without CUDA kernels"
    runtime, driver = module.versions()
    built = f"CUDA {library.cuda_version(runtime)}, compute capabilities {module.architectures}"
    here = torch.cuda.is_available()
    problem = library.cuda_problem(module, torch.cuda.get_device_capability() if here else None)
    if problem is not None:
        return f"unusable: {problem}"
    if not here:
        return f"{built}; torch {torch.__version__} sees no CUDA device"
    device = torch.cuda.get_device_name()
    return f"{built}; driver for CUDA {library.cuda_version(driver)}; {device}"


def _cuda_capability(device: torch.device) -> str:
    """What stands for the instruction set of a CUDA device."""
    if not torch.cuda.is_available():  # a fake tensor's
        return "cuda"
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"
