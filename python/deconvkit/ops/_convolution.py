"""What the convolution family shares: checks, activations, layouts, batching rules, the choice of algorithm.

The family is one bilinear form over a low-resolution side `small` (N, C_small, ...) and a high-resolution
side `large` (N, C_large, ...), joined by a weight (C_small, C_large/groups, KH, KW): kernel cell k joins the
small index i to the large index i·stride − padding + k·dilation, and an index outside a tensor reads as zero.
So the leading padding and all three sizes say everything; each op takes two of the three and makes the third:

    conv2d            (large, weight) -> small        conv_transpose2d (small, weight) -> large
    conv_weight_grad  (small, large)  -> weight

Each one's derivatives are the other two. The registered ops therefore take `output_size` (or `kernel_size`)
where torch takes output_padding: backward passes the size that it must return, and nothing is ambiguous. In
one dimension tensors are 3-d and the geometry still (vertical, horizontal), of height 1.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deconvkit.ops import _arguments as arguments
from deconvkit.ops import _library as library

Pair = tuple[int, int]
Activation = str | tuple[str, float] | None

ALGORITHMS = ("auto", "direct", "winograd", "implicit_gemm", "implicit_gemm_mma", "torch")
# csrc/conv_options.h; implicit_gemm_tf32 is implicit_gemm for float32 where torch allows it TF32.
ALGORITHM_CODES = {
    "direct": 0,
    "winograd": 1,
    "implicit_gemm": 2,
    "implicit_gemm_tf32": 3,
    "implicit_gemm_mma": 4,
}
ON_TENSOR_CORES = ("implicit_gemm", "implicit_gemm_mma")
ACTIVATION_CODES = {"none": 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "sigmoid": 4}  # csrc/conv_options.h

_ACTIVATIONS: dict[Any, tuple[str, float]] = {
    None: ("none", 0.0),
    "relu": ("relu", 0.0),
    "leaky_relu": ("leaky_relu", 0.2),
    "tanh": ("tanh", 0.0),
    "sigmoid": ("sigmoid", 0.0),
}

_MAX_BYTES = 2**63 - 1
_LAYOUTS = {1: "L", 2: "H, W", 3: "D, H, W"}
_KERNELS = {1: "K", 2: "KH, KW", 3: "KD, KH, KW"}


# ------------------------------------------------------------------------------------------------- arguments


def activation_of(op: str, value: Any) -> tuple[str, float]:
    """The activation's name and slope."""
    try:
        return _ACTIVATIONS[value]
    except (KeyError, TypeError):
        pass
    if isinstance(value, (tuple, list)) and len(value) == 2 and value[0] == "leaky_relu":
        slope = value[1]
        if isinstance(slope, (int, float)) and math.isfinite(slope) and slope >= 0:
            return "leaky_relu", float(slope)
        # A negative slope would let the output's sign differ from the input's, and the gradient is taken
        # from the output.
        raise ValueError(f"{op}: activation: expected a finite slope >= 0, got {arguments.shown(slope)}")
    raise ValueError(
        f'{op}: activation: expected None, "relu", "leaky_relu", ("leaky_relu", slope), "tanh" or "sigmoid", '
        f"got {arguments.shown(value)}"
    )


def code_on_cuda(algorithm: str, dtype: torch.dtype) -> int:
    """The native code of an algorithm for CUDA tensors, by torch's setting of the moment."""
    if algorithm in ON_TENSOR_CORES and dtype == torch.float32 and library.allows_tf32():
        algorithm = "implicit_gemm_tf32"
    return ALGORITHM_CODES[algorithm]


def check_algorithm(op: str, value: Any, algorithms: tuple[str, ...] = ALGORITHMS) -> None:
    """Raise ValueError unless the algorithm exists."""
    if value not in algorithms:
        known = ", ".join(repr(a) for a in algorithms)
        raise ValueError(f"{op}: algorithm: expected one of {known}, got {arguments.shown(value)}")


def check_tensors(
    op: str, dims: int, input: Tensor, weight: Tensor, bias: Tensor | None, groups: int, transposed: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check all but the geometry; return the operands, cast where autocast asks for it."""
    for name, tensor in (("input", input), ("weight", weight), ("bias", bias)):
        if not isinstance(tensor, Tensor) and (tensor is not None or name != "bias"):
            raise TypeError(f"{op}: {name}: expected a torch.Tensor, got {type(tensor).__name__}")
        if tensor is not None:
            arguments.check_dense(op, name, tensor)
    input, weight, bias = library.autocast(input, weight, bias)  # type: ignore[assignment]
    dtype = input.dtype
    if dtype not in arguments.FLOAT_DTYPES:
        arguments.check_float(op, "input", input)
    if weight.dtype != dtype or (bias is not None and bias.dtype != dtype):
        name, other = ("weight", weight) if weight.dtype != dtype or bias is None else ("bias", bias)
        raise TypeError(
            f"{op}: {name}: expected input's dtype, {dtype}, got {other.dtype}; "
            f"cast one of them, or use torch.autocast"
        )
    if weight.device != input.device or (bias is not None and bias.device != input.device):
        name, other = ("weight", weight) if weight.device != input.device or bias is None else ("bias", bias)
        raise ValueError(f"{op}: {name}: expected input's device, {input.device}, got {other.device}")

    rank = input.dim()
    if rank != dims + 2 and rank != dims + 1:
        layout = _LAYOUTS[dims]
        raise ValueError(
            f"{op}: input: expected shape (N, C_in, {layout}) or (C_in, {layout}), got {tuple(input.shape)}"
        )
    shape = weight.shape
    if len(shape) != dims + 2:
        first = "C_in, C_out/groups" if transposed else "C_out, C_in/groups"
        raise ValueError(f"{op}: weight: expected shape ({first}, {_KERNELS[dims]}), got {tuple(shape)}")
    for size in shape:
        if size < 1:
            raise ValueError(f"{op}: weight: expected every size >= 1, got {tuple(shape)}")
    sizes = input.shape
    for size in sizes[1:] if rank == dims + 2 else sizes:
        if size < 1:
            raise ValueError(f"{op}: input: expected every size but the batch >= 1, got {tuple(sizes)}")
    if type(groups) is not int or groups < 1:
        arguments.int_tuple(op, "groups", groups, 1, 1)

    channels = sizes[-dims - 1]
    if shape[0] % groups:
        raise ValueError(f"{op}: groups: expected a divisor of weight's first size, {shape[0]}, got {groups}")
    wanted = shape[0] if transposed else shape[1] * groups
    if channels != wanted:
        raise ValueError(
            f"{op}: input: expected {wanted} channels (weight {tuple(shape)}, groups {groups}), "
            f"got {channels}"
        )
    if bias is not None:
        out_channels = shape[1] * groups if transposed else shape[0]
        if bias.dim() != 1 or bias.shape[0] != out_channels:
            raise ValueError(f"{op}: bias: expected shape ({out_channels},), got {tuple(bias.shape)}")
    return input, weight, bias


def check_output(
    op: str, input: Tensor, weight: Tensor, out_channels: int, size: tuple[int, ...], **geometry: Any
) -> None:
    """Raise ValueError where the output would be empty or its bytes overflow int64."""
    elements = input.shape[0] * out_channels if input.dim() == weight.dim() else out_channels
    for length in size:
        if length < 1:
            break
        elements *= length
    else:
        if torch.compiler.is_compiling() or elements * 8 <= _MAX_BYTES:
            return
    dims = len(size)
    named = ", ".join(f"{name} {value}" for name, value in geometry.items())
    raise ValueError(
        f"{op}: input: expected sizes whose output is at least 1 everywhere and less than 2^63 bytes, "
        f"got {tuple(input.shape[-dims:])}, which gives {size} (kernel {tuple(weight.shape[2:])}, {named})"
    )


def transposed_size(
    op: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    output_padding: Any,
    groups: int,
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """The output size of a transposed convolution, checked."""
    extra = arguments.int_tuple(op, "output_padding", output_padding, dims, 0)
    for e, s, d in zip(extra, stride, dilation, strict=True):
        if e >= s and e >= d:
            raise ValueError(
                f"{op}: output_padding: expected less than stride {stride} or less than dilation {dilation}, "
                f"got {extra}"
            )
    sizes = input.shape[-dims:]
    size = tuple(
        [
            (n - 1) * s - 2 * p + d * (k - 1) + e + 1
            for n, k, s, p, e, d in zip(
                sizes, weight.shape[2:], stride, padding, extra, dilation, strict=True
            )
        ]
    )
    check_output(
        op,
        input,
        weight,
        weight.shape[1] * groups,
        size,
        stride=stride,
        padding=padding,
        output_padding=extra,
        dilation=dilation,
    )
    return size


def pairs(dims: int, stride: Any, padding: Any, dilation: Any, size: Any) -> tuple[Any, Any, Any, Any]:
    """The geometry as (vertical, horizontal): 1-d is 2-d of height 1."""
    if dims == 1:
        return (1, *stride), (0, *padding), (1, *dilation), (1, *size)
    return stride, padding, dilation, size


# ------------------------------------------------------------------------------------------------ activation


def activate_(output: Tensor, activation: str, slope: float) -> Tensor:
    """Apply the activation in place, by torch."""
    if activation == "relu":
        return torch.relu_(output)
    if activation == "leaky_relu":
        return torch.nn.functional.leaky_relu_(output, slope)
    if activation == "tanh":
        return torch.tanh_(output)
    if activation == "sigmoid":
        return torch.sigmoid_(output)
    return output


def activation_backward(grad_output: Tensor, output: Tensor, activation: str, slope: float) -> Tensor:
    """The gradient before the activation, from its output. Differentiable itself."""
    if activation == "none":
        return grad_output
    aten = torch.ops.aten
    if activation == "relu":
        return aten.threshold_backward(grad_output, output, 0)
    if activation == "leaky_relu":
        return aten.leaky_relu_backward(grad_output, output, slope, True)
    if activation == "tanh":
        return aten.tanh_backward(grad_output, output)
    return aten.sigmoid_backward(grad_output, output)


# -------------------------------------------------------------------------------------------------- layouts


def spatial(shape: Any) -> Pair:
    """(H, W) of a shape; height 1 for a 3-d one."""
    return (shape[2], shape[3]) if len(shape) == 4 else (1, shape[2])


def out_channels(weight: Tensor, groups: int, transposed: bool) -> int:
    """The output's channels."""
    return weight.shape[1] * groups if transposed else weight.shape[0]


def allocate(input: Tensor, weight: Tensor, channels: int, size: Pair) -> Tensor:
    """An output in torch's layout: channels_last where the input or the weight is.

    In one dimension, as in torch, the weight alone counts.
    """
    if input.dim() == 3:
        shape: tuple[int, ...] = (input.shape[0], channels, size[1])
    else:
        shape = (input.shape[0], channels, size[0], size[1])
    if is_usual(input, weight):
        return input.new_empty(shape)
    return empty(input, shape, makes_channels_last(input, weight))


def makes_channels_last(input: Tensor, weight: Tensor) -> bool:
    """Whether the output is in channels_last: where input or weight is; in one dimension, the weight."""
    return is_channels_last(weight) or (input.dim() == 4 and is_channels_last(input))


def is_usual(input: Tensor, weight: Tensor) -> bool:
    """Whether strides tell at a glance that neither is channels_last."""
    strides = weight.stride()
    if strides[-1] >= strides[1]:
        return False
    if len(strides) == 3:
        return True
    strides = input.stride()
    return strides[3] < strides[1]


def is_channels_last(tensor: Tensor) -> bool:
    """:func:`library.is_channels_last`, for 3-d tensors too."""
    return library.is_channels_last(tensor if tensor.dim() == 4 else tensor.unsqueeze(2))


def empty(like: Tensor, shape: tuple[int, ...], channels_last: bool) -> Tensor:
    """An uninitialised tensor; one without elements is contiguous, as torch's are."""
    if not channels_last or not shape[0]:
        return like.new_empty(shape)
    if len(shape) == 4:
        return library.empty(like, shape, True)
    return like.new_empty_strided(shape, (shape[1] * shape[2], 1, shape[1]))


def in_layout(result: Tensor, channels_last: bool) -> Tensor:
    """``result`` with the strides of :func:`empty`: copied only where they differ."""
    if not channels_last and result.is_contiguous():  # quickly
        return result
    blank = empty(result, tuple(result.shape), channels_last)
    return result if result.stride() == blank.stride() else blank.copy_(result)


def in_layout_of(blank: Tensor, result: Tensor) -> Tensor:
    """``result`` with the strides of ``blank``, a meta tensor: copied only where they differ."""
    if result.stride() == blank.stride():
        return result
    return result.new_empty_strided(blank.shape, blank.stride()).copy_(result)


def bias_grad(grad: Tensor, is_plain: bool = False) -> Tensor:
    """The sum over all but the channels; bfloat16 and float16 accumulate in float32.

    torch's sum takes ten to twenty times as long over planes of those two. Ours has no derivative:
    ``is_plain`` tells that none is wanted.
    """
    if is_plain and grad.is_cpu and grad.dtype.itemsize == 2 and grad.is_contiguous() and grad.numel():
        sums = grad.new_empty(grad.shape[1])
        library.native(grad).channel_sums(library.ref(grad), library.ref(sums), library.lane(grad))
        return sums
    return grad.sum((0, 2) if grad.dim() == 3 else (0, 2, 3))
