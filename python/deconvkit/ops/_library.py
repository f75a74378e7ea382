"""The one place that talks to torch.library and to the native modules.

An op is registered with :func:`register`: its schema, the function that allocates outputs and calls the
native module, its shape function for fake tensors and, where it can be vmapped, its batching rule. Autograd
lives outside, in the ``autograd.Function`` of each ``ops/<op>.py``, and every backward is an op of its own.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch._functorch import eager_transforms
from torch._functorch.autograd_function import (  # type: ignore[attr-defined]
    enable_single_level_autograd_function,
)
from torch.autograd import forward_ad

from deconvkit._version import __version__

# torch first: it loads the libgomp that _C then shares.
try:
    from deconvkit import _C
except ImportError as error:
    raise ImportError(
        f"deconvkit's native module cannot be imported ({error}). deconvkit {__version__}, "
        f"torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}. "
        "Mend it with: pip install --force-reinstall --no-deps deconvkit"
    ) from error

_LIBRARY = torch.library.Library("deconvkit", "DEF")

# csrc/tensor_ref.h, enum DType.
_DTYPES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.bfloat16: 2,
    torch.float16: 3,
    torch.uint8: 4,
    torch.uint16: 5,
    torch.int32: 6,
    torch.int64: 7,
}

PLAIN_TYPES = (Tensor, torch.nn.Parameter)

Ref = tuple[int, int, tuple[int, ...], tuple[int, ...]]


def ref(tensor: Tensor) -> Ref:
    """What the native modules take for a tensor: (data_ptr, dtype, sizes, strides)."""
    return tensor.data_ptr(), _DTYPES[tensor.dtype], tensor.shape, tensor.stride()


def optional_ref(tensor: Tensor | None) -> Ref | None:
    """:func:`ref`, or None for None."""
    return None if tensor is None else ref(tensor)


def native(tensor: Tensor) -> Any:
    """The native module that computes on the tensor's device."""
    if tensor.is_cpu:
        return _C
    if tensor.is_cuda:
        return _cuda_for(tensor.get_device())
    raise NotImplementedError(
        f"deconvkit has no kernels for device {tensor.device}; move the tensors to the CPU or a CUDA device"
    )


def check_one_device(op: str, tensors: tuple[Tensor | None, ...]) -> None:
    """Raise unless all lie on one device, which only the public functions see to: kernels take addresses."""
    device = tensors[0].device  # type: ignore[union-attr]  # the first tensor is never left out
    for tensor in tensors[1:]:
        if tensor is not None and tensor.device != device:
            raise ValueError(f"{op}: expected all tensors on one device, got {device} and {tensor.device}")


def lane(tensor: Tensor) -> Any:
    """Where a native function computes: the last argument of all of them.

    On the CPU the number of threads, on CUDA (device index, torch's current stream there).
    """
    if tensor.is_cpu:
        return torch.get_num_threads()
    device = tensor.get_device()
    return device, _raw_stream(device)


def scratch(like: Tensor, doubles: int) -> Tensor:
    """A workspace on the device of ``like``; the caller keeps it until its kernels are launched."""
    return torch.empty(doubles, dtype=torch.float64, device=like.device)


def allows_tf32() -> bool:
    """Whether torch lets float32 convolutions on CUDA round their operands to TF32."""
    conv = getattr(torch.backends.cudnn, "conv", None)  # not in torch 2.8
    return conv.fp32_precision == "tf32" if conv else torch.backends.cudnn.allow_tf32


def _raw_stream(device: int) -> int:
    raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    return torch.cuda.current_stream(device).cuda_stream if raw is None else raw(device)


@functools.cache
def cuda_module() -> Any:
    """``_C_cuda``, imported when it is first asked for.

    Raises:
        ImportError: it was not built, or cannot be loaded.
    """
    try:
        return importlib.import_module("deconvkit._C_cuda")
    except ImportError as error:
        raise ImportError(
            f"deconvkit {__version__} has no CUDA kernels here ({error}): the module is built where nvcc is "
            "found. Mend it with: pip install --no-binary deconvkit -C cmake.define.DECONVKIT_CUDA=ON "
            "deconvkit"
        ) from error


def driver_problem(runtime: int, driver: int) -> str | None:
    """Why a driver cannot serve a runtime, both as CUDA counts (13000 is 13.0); None if it can.

    Drivers serve the runtimes of their own major version and all before.
    """
    if driver // 1000 >= runtime // 1000:
        return None
    wanted = f"deconvkit's kernels were built with CUDA {cuda_version(runtime)}"
    if runtime // 1000 == 13:
        wanted += ", which needs an NVIDIA driver from 580 on"
    if driver == 0:
        return f"{wanted}; no driver was found"
    return f"{wanted}; the driver that was found serves CUDA {cuda_version(driver)}: update it"


def cuda_problem(module: Any, capability: tuple[int, int] | None) -> str | None:
    """Why ``_C_cuda`` serves no device of a capability (None: any), by its driver or how it was built."""
    problem = driver_problem(*module.versions())
    if problem is None and capability is not None:
        problem = architecture_problem(module.architectures, capability)
    return problem


def architecture_problem(architectures: str, capability: tuple[int, int]) -> str | None:
    """Why kernels built for some architectures ("80,90") serve no device of a capability; None if they do."""
    if serving_architecture(architectures, capability):
        return None
    major, minor = capability
    return (
        f"deconvkit's kernels were built for compute capabilities {architectures}, and the device has "
        f"{major}.{minor}: build them with DECONVKIT_CUDA_ARCHS={major}{minor} in the environment"
    )


def serving_architecture(architectures: str, capability: tuple[int, int]) -> int:
    """Which of the built architectures a device runs; 0: none.

    Machine code serves its own major version from its minor one on; PTX, of the newest, all later devices.
    """
    device = 10 * capability[0] + capability[1]
    built = sorted(int(name) for name in architectures.split(","))
    own = [number for number in built if number // 10 == device // 10 and number <= device]
    return own[-1] if own else built[-1] if built[-1] <= device else 0


def cuda_version(number: int) -> str:
    """13.0 for 13000."""
    return f"{number // 1000}.{number % 1000 // 10}"


@functools.cache
def _cuda_for(device: int) -> Any:
    """``_C_cuda``, its kernels loaded on the device: inside a graph's capture it would be too late."""
    module = cuda_module()
    problem = cuda_problem(module, torch.cuda.get_device_capability(device))
    if problem is not None:
        raise RuntimeError(f"deconvkit: {problem}")
    with torch.cuda.device(device):
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "deconvkit: the first call on a device loads its kernels, which cannot be captured; "
                "call the op once before the capture, as torch's warm-up does"
            )
        module.prepare(device)
    return module


def may_have_tangents() -> bool:
    """Whether forward-mode differentiation is at work. Asking each tensor for its tangent is slower."""
    return forward_ad._current_level >= 0


def not_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch.compiler.disable, which imports torch's compiler at once, put off to the first call."""

    @_disable_dynamo
    def call(*args: Any) -> Any:  # a bound method takes no attributes
        return function(*args)

    return call


def is_forward_mode() -> bool:
    """Whether it has a part in what runs now: inside a Function's forward and jvp it has none."""
    return forward_ad._current_level >= 0 and torch._C._is_fwd_grad_enabled()


def refuse_tracing() -> None:
    """Raise under torch.jit.trace, whose sizes are tensors and whose graphs would keep an output for good."""
    if torch._C._get_tracing_state() is not None:
        raise NotImplementedError(
            "deconvkit: torch.jit.trace is not supported; take torch.export or torch.compile"
        )


def is_plain(tensors: tuple[Tensor | None, ...], or_cuda: bool = False) -> bool:
    """Whether the dispatcher would have nothing to do but to call the CPU's implementation, or CUDA's."""
    for tensor in tensors:
        if tensor is not None and (
            type(tensor) not in PLAIN_TYPES
            or not (tensor.is_cpu or (or_cuda and tensor.is_cuda))
            or tensor.is_neg()
            or tensor.layout is not torch.strided
        ):
            return False
    return not is_observed()


def is_observed() -> bool:
    """Whether a mode, a transform, the profiler or a trace wants to see the ops themselves."""
    return bool(
        torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
        or torch._C._autograd._profiler_enabled()
        or is_forward_mode()
        or torch._C._get_tracing_state() is not None
    )


class Op:
    """A registered op. Plain CPU tensors outside every mode, transform and trace skip the dispatcher."""

    __slots__ = ("_op", "_tensors", "impl")

    def __init__(self, op: Callable[..., Any], impl: Callable[..., Any], tensors: int) -> None:
        self._op, self.impl, self._tensors = op, impl, tensors

    def __call__(self, *args: Any) -> Any:
        """Run the op; its tensors come first."""
        if not torch.compiler.is_compiling() and is_plain(args[: self._tensors]):
            return self.impl(*args)
        return self._op(*args)


def register(
    schema: str,
    impl: Callable[..., Any],
    fake: Callable[..., Any],
    vmap: Callable[..., Any] | int | None = None,
) -> Op:
    """Register ``deconvkit::<schema>`` and return the op to call.

    ``vmap`` is a batching rule, or how many tensors open the arguments of an op with one result, where all
    have the batch in dimension 0.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    tensors = schema.partition("->")[0].count("Tensor")

    def dispatched(*args: Any) -> Any:
        check_one_device(name, args[:tensors])
        # torch's guard makes no context on the former device; the module's own then has nothing to do.
        if args[0].is_cuda:
            with torch.cuda.device(args[0].get_device()):
                return impl(*args)
        return impl(*args)

    for key in ("CPU", "CUDA"):
        _LIBRARY.impl(name, dispatched, key)
    torch.library.register_fake(f"deconvkit::{name}", fake, lib=_LIBRARY)
    op = Op(getattr(torch.ops.deconvkit, name).default, impl, tensors)
    if vmap is not None:
        rule = _fold_vmap(op, vmap) if isinstance(vmap, int) else vmap
        torch.library.register_vmap(f"deconvkit::{name}", rule, lib=_LIBRARY)
    return op


class Function(torch.autograd.Function):
    """An ``autograd.Function`` whose :meth:`call` costs nothing where no gradient is wanted.

    Subclasses give ``forward``, ``setup_context`` and ``backward``, take all tensors first, and say how many
    of those may require a gradient in ``tensors``. vmap goes through the batching rules of the ops inside.

    A subclass whose forward is one op with the same arguments names it in ``op``: the op then has this
    gradient wherever it is dispatched, which torch.compile needs to see torch.func.grad through it.
    """

    generate_vmap_rule = True
    tensors = 1
    op: str | None = None
    _apply: Callable[..., Any]

    def __init_subclass__(cls) -> None:
        # torch's apply() binds default arguments by introspection first, 50 µs; ours are always positional.
        # This is the apply() of Function's own base class, which torch declares to have none.
        cls._apply = super(torch.autograd.Function, cls).apply  # type: ignore[misc]
        if cls.op is not None:
            _LIBRARY.impl(cls.op, cls._dispatched, "Autograd")
            if cls.jvp is torch.autograd.Function.jvp:
                cls.jvp = staticmethod(functools.partial(_no_jvp, cls.op))  # type: ignore[method-assign]

    @classmethod
    def _dispatched(cls, *args: Any) -> Any:
        """Run the op as the dispatcher does at its autograd key, at one level of functorch's transforms."""
        if cls._is_recorded(args):
            with enable_single_level_autograd_function():
                return cls._apply(*args)
        with torch._C._AutoDispatchBelowAutograd():
            return getattr(torch.ops.deconvkit, cls.op).default(*args)  # type: ignore[arg-type]

    @classmethod
    def call(cls, *args: Any) -> Any:
        """Run forward, recorded by autograd, functorch or the compiler if one of them is at work."""
        if torch.compiler.is_compiling():
            return cls.forward(*args) if cls.op is not None else cls.apply(*args)
        refuse_tracing()
        if torch._C._are_functorch_transforms_active():
            if eager_transforms.JVP_NESTING > 1:  # autograd.Function's jvp would miss the outer tangents
                raise NotImplementedError(
                    f"deconvkit::{cls.op}: forward-mode derivatives do not nest; "
                    "take torch.func.hessian, or jacrev for one of the two"
                )
            return cls.apply(*args)
        return cls._apply(*args) if cls._is_recorded(args) else cls.forward(*args)

    @classmethod
    def _is_recorded(cls, args: tuple[Any, ...]) -> bool:
        """Whether autograd has a part: one of the tensors may have a gradient or a tangent."""
        if torch.is_grad_enabled():
            for tensor in args[: cls.tensors]:
                if tensor is not None and tensor.requires_grad:
                    return True
        return is_forward_mode()


def _no_jvp(op: str, *_: Any) -> Any:
    raise NotImplementedError(
        f"deconvkit::{op}: no forward-mode derivative (jvp, jacfwd, dual numbers); "
        "take backward or torch.func.jacrev"
    )


def autocast(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Cast tensors on the device of the first as torch casts a convolution's in a torch.autocast region."""
    first = tensors[0]
    assert first is not None
    device = first.device.type
    if device not in ("cpu", "cuda") or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(
        t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64 else t
        for t in tensors
    )


def no_autocast(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Where torch computes for an op: operands are cast already, and a backward keeps its forward's dtype."""
    device = tensor.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


def is_channels_last(tensor: Tensor) -> bool:
    """Whether torch's operators would give their output for this 4-d input in channels_last.

    The rule is that of c10/core/MemoryFormat.h, ambiguous strides included.
    """
    n_stride, c_stride, h_stride, w_stride = tensor.stride()
    if c_stride > w_stride:  # the usual contiguous tensor, quickly
        return False
    n, c, h, w = tensor.shape
    least = c_stride * c
    if not (c_stride and n and c and h and w) or w_stride < least:
        return False
    least = w_stride * w
    if h_stride < least:
        return False
    least = h_stride * h
    return n_stride >= least and least != c_stride


def memory_format(tensor: Tensor) -> torch.memory_format:
    """The format torch's operators would give their output for this 4-d input."""
    return torch.channels_last if is_channels_last(tensor) else torch.contiguous_format


def empty(
    like: Tensor, shape: tuple[int, ...], channels_last: bool, dtype: torch.dtype | None = None
) -> Tensor:
    """Allocate a 4-d tensor of the device and, unless told, the dtype of ``like``: a quicker torch.empty."""
    _, c, h, w = shape
    if channels_last:
        stride = h * w * c, 1, w * c, c
    else:  # a dimension of size 0 counts as 1
        stride = (c or 1) * (h or 1) * (w or 1), (h or 1) * (w or 1), w or 1, 1
    return like.new_empty_strided(shape, stride, dtype=dtype)


def copied_to_layout(tensor: Tensor, channels_last: bool) -> Tensor:
    """A 4-d tensor on the CPU in channels_last or in NCHW, copied where it is not: torch's copy is slower."""
    if tensor.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format):
        return tensor
    result = empty(tensor, tuple(tensor.shape), channels_last)
    _C.change_layout(ref(tensor), ref(result), torch.get_num_threads())
    return result


def dense(tensor: Tensor, channels_last: bool) -> Tensor:
    """The 4-d tensor where kernels can walk it in this layout (unit stride along C or W), else a copy."""
    dim = 1 if channels_last else 3
    if tensor.stride()[dim] == 1 or tensor.shape[dim] == 1:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def fold(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """Move a vmapped dimension (None: expand to ``size``) to the front and fold it into dimension 0."""
    moved = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return moved.flatten(0, 1)


def unfold(tensor: Tensor, size: int) -> Tensor:
    """Undo :func:`fold`."""
    return tensor.unflatten(0, (size, -1)) if tensor.shape[0] else tensor.reshape(size, 0, *tensor.shape[1:])


def _fold_vmap(op: Callable[..., Tensor], tensors: int) -> Callable[..., Any]:

    def rule(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
        folded = [fold(args[i], in_dims[i], info.batch_size) for i in range(tensors)]
        return unfold(op(*folded, *args[tensors:]), info.batch_size), 0

    return rule
