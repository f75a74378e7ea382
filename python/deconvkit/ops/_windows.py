"""Pooling windows: the checks of their geometry, their sizes, and what their switches look like."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from deconvkit.ops import _arguments as arguments
from deconvkit.ops import _library as library

Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair, Pair]  # kernel, stride, padding, dilation

# Window cells must fit a switch, and every position int64, with room to spare.
_LARGEST = 2**31 - 2


def switch_dtype(kernel: Pair) -> torch.dtype:
    """uint8 where a window's cells and the sentinel fit, else int32.

    Not uint16: torch has no comparison, addition, gather, masked_fill or index_put for it, and a switch of so
    large a window is less than 1 % of what the window reads.
    """
    return torch.uint8 if kernel[0] * kernel[1] <= 255 else torch.int32


def no_switch(dtype: torch.dtype) -> int:
    """Return the switch that says "no valid cell"."""
    return 255 if dtype is torch.uint8 else 2**31 - 1


def check_geometry(
    op: str, dims: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> Geometry:
    """The windows' geometry as pairs (height, width); one dimension is height 1."""
    # Plain ints are by far the most usual: remembered, by their types too, for True is no 1.
    if (
        type(kernel_size) is int
        and type(padding) is int
        and type(dilation) is int
        and (stride is None or type(stride) is int)
        and not torch.compiler.is_compiling()
    ):
        return _geometry_of_ints(op, dims, kernel_size, stride, padding, dilation)
    return _geometry(op, dims, kernel_size, stride, padding, dilation)


def _geometry(op: str, dims: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> Geometry:
    kernel = arguments.int_tuple(op, "kernel_size", kernel_size, dims, 1)
    strides = kernel if stride is None else arguments.int_tuple(op, "stride", stride, dims, 1)
    pads = arguments.int_tuple(op, "padding", padding, dims, 0)
    dilations = arguments.int_tuple(op, "dilation", dilation, dims, 1)
    for k, s, p, d in zip(kernel, strides, pads, dilations, strict=True):
        reach = (k - 1) * d + 1
        if 2 * p > reach:
            raise ValueError(
                f"{op}: padding: expected at most half of the effective kernel size "
                f"dilation * (kernel_size - 1) + 1 = {reach}, got {arguments.shown(padding)}"
            )
        if reach > _LARGEST or s > _LARGEST:
            raise ValueError(
                f"{op}: {'stride' if s > _LARGEST else 'kernel_size'}: expected an extent of at most "
                f"{_LARGEST}, got kernel_size {kernel_size!r}, stride {stride!r}, dilation {dilation!r}"
            )
    if dims == 1:
        return (1, kernel[0]), (1, strides[0]), (0, pads[0]), (1, dilations[0])
    if kernel[0] * kernel[1] > _LARGEST:
        raise ValueError(
            f"{op}: kernel_size: expected at most {_LARGEST} cells in a window, "
            f"got {arguments.shown(kernel_size)}"
        )
    return kernel, strides, pads, dilations  # type: ignore[return-value]


_geometry_of_ints = functools.lru_cache(maxsize=512)(_geometry)


def pooled_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """torch's output size of one axis: with ceil_mode the last window still starts inside the input."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    out = -(-room // stride) + 1
    return out - 1 if (out - 1) * stride >= size + padding else out


def check_unpooled_size(
    op: str, pooled: tuple[int, ...], geometry: Geometry, output_size: Any, name: str = "output_size"
) -> Pair:
    """Height and width to unpool to: torch's default for None, else ``output_size``'s last two, if they fit.

    They fit within a stride of the default, as torch has it. Every size that pools to ``pooled``, with or
    without ceil_mode, lies there.
    """
    kernel, stride, padding, dilation = geometry
    h = (pooled[0] - 1) * stride[0] - 2 * padding[0] + dilation[0] * (kernel[0] - 1) + 1
    w = (pooled[1] - 1) * stride[1] - 2 * padding[1] + dilation[1] * (kernel[1] - 1) + 1
    size = (h, w) if output_size is None else output_size
    if (
        size[0] >= 1
        and size[1] >= 1
        and h - stride[0] < size[0] < h + stride[0]
        and w - stride[1] < size[1] < w + stride[1]
    ):
        return size
    least = max(1, h - stride[0] + 1), max(1, w - stride[1] + 1)
    most = h + stride[0] - 1, w + stride[1] - 1
    raise ValueError(
        f"{op}: {name}: expected a (height, width) between {least} and {most} for a pooled size of "
        f"{tuple(pooled)}, got {tuple(size)}"
    )


def check_switches(op: str, switches: Any, kernel: Pair, like: Tensor | None) -> None:
    """Raise unless ``switches`` can be those of windows of this kernel, in the shape of ``like``."""
    if not isinstance(switches, Tensor):
        raise TypeError(f"{op}: switches: expected a torch.Tensor, got {type(switches).__name__}")
    dtype = switch_dtype(kernel)
    if switches.dtype is not dtype:
        mend = ""
        if switches.dtype is torch.int64:
            mend = "; turn torch's indices into switches with deconvkit.indices_to_switches"
        raise TypeError(
            f"{op}: switches: expected {str(dtype).removeprefix('torch.')} for kernel_size {tuple(kernel)}, "
            f"got {str(switches.dtype).removeprefix('torch.')}{mend}"
        )
    if like is not None:
        if switches.shape != like.shape:
            raise ValueError(
                f"{op}: switches: expected the input's shape {tuple(like.shape)}, got {tuple(switches.shape)}"
            )
        if switches.device != like.device:
            raise ValueError(
                f"{op}: switches: expected the input's device {like.device}, got {switches.device}"
            )


def run_by_switches(
    op: str,
    source: Tensor,
    switches: Tensor,
    result: Tensor,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> None:
    """Call the native ``op``, which moves values by switches and says whether it could use them all.

    On CUDA, where to know would mean to wait, one that points outside is skipped.
    """
    channels_last = library.is_channels_last(result)
    source, switches = library.dense(source, channels_last), library.dense(switches, channels_last)
    if not getattr(library.native(source), op)(
        library.ref(source),
        library.ref(switches),
        library.ref(result),
        kernel,
        stride,
        padding,
        dilation,
        library.lane(source),
    ):
        raise bad_switch(op)


def bad_switch(op: str) -> ValueError:
    """Return the error for a switch that a kernel could not use."""
    return ValueError(
        f"{op}: switches: expected offsets inside the window and the input, got one that points outside; "
        "were they recorded with this kernel_size, stride, padding, dilation and input size?"
    )
