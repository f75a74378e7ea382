"""Switches to torch's indices and back, without loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deconvkit.ops import _arguments as arguments
from deconvkit.ops import _library as library
from deconvkit.ops._windows import (
    Geometry,
    Pair,
    bad_switch,
    check_geometry,
    check_switches,
    check_unpooled_size,
    no_switch,
    switch_dtype,
)

_SCHEMA = (
    "(Tensor {0}, SymInt[2] input_size, int[2] kernel_size, int[2] stride, int[2] padding, "
    "int[2] dilation) -> Tensor"
)


def _starts(tensor: Tensor, stride: Pair, padding: Pair) -> tuple[Tensor, Tensor]:
    """First row (OH, 1) and first column (OW) of every window, before clipping."""
    h, w = tensor.shape[2:]
    rows = torch.arange(h, device=tensor.device).mul_(stride[0]).sub_(padding[0])
    columns = torch.arange(w, device=tensor.device).mul_(stride[1]).sub_(padding[1])
    return rows.unsqueeze_(1), columns


def _inside(cell: Tensor, size: int) -> Tensor:
    return (cell >= 0) & (cell < size)


def _to_indices_impl(
    switches: Tensor, input_size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    empty = switches == no_switch(switches.dtype)
    offset = switches.to(torch.int64)
    rows, columns = _starts(switches, stride, padding)
    row = offset.div(kernel[1], rounding_mode="floor").mul_(dilation[0]).add_(rows)
    column = offset.remainder(kernel[1]).mul_(dilation[1]).add_(columns)
    good = (
        _inside(offset, kernel[0] * kernel[1]) & _inside(row, input_size[0]) & _inside(column, input_size[1])
    )
    if not bool((good | empty).all()):
        raise bad_switch("switches_to_indices")
    return row.mul_(input_size[1]).add_(column).masked_fill_(empty, -1)


def _to_switches_impl(
    indices: Tensor, input_size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    rows, columns = _starts(indices, stride, padding)
    dh, dw = dilation
    # A window without a valid cell has no index either; what torch writes there is no cell.
    empty = (indices == -1) | (
        _empty(rows, input_size[0], kernel[0], dh) | _empty(columns, input_size[1], kernel[1], dw)
    )
    row = indices.div(input_size[1], rounding_mode="floor").sub_(rows)
    column = indices.remainder(input_size[1]).sub_(columns)
    good = (
        _inside(indices, input_size[0] * input_size[1])
        & _inside(row, (kernel[0] - 1) * dh + 1)
        & _inside(column, (kernel[1] - 1) * dw + 1)
        & (row.remainder(dh) == 0)
        & (column.remainder(dw) == 0)
    )
    if not bool((good | empty).all()):
        raise ValueError(
            "indices_to_switches: indices: expected flat positions inside each window and the input, got one "
            "that lies outside; were they recorded with this kernel_size, stride, padding, dilation and "
            "input size?"
        )
    dtype = switch_dtype(kernel)
    switches = (
        row.div_(dh, rounding_mode="floor").mul_(kernel[1]).add_(column.div_(dw, rounding_mode="floor"))
    )
    return switches.masked_fill_(empty, no_switch(dtype)).to(dtype)


def _empty(start: Tensor, size: int, kernel: int, dilation: int) -> Tensor:
    """Which windows have no cell inside [0, size)."""
    first = start + (-start).clamp(min=0).add_(dilation - 1).div_(dilation, rounding_mode="floor").mul_(
        dilation
    )
    return (first >= size) | (first > start + (kernel - 1) * dilation)


def _like(dtype: Any) -> Any:
    def fake(tensor: Tensor, input_size: Pair, kernel: Pair, *_: Any) -> Tensor:
        return torch.empty_like(tensor, dtype=dtype or switch_dtype(kernel))

    return fake


_to_indices = library.register(
    "switches_to_indices" + _SCHEMA.format("switches"),
    _to_indices_impl,
    _like(torch.int64),
    1,
)
_to_switches = library.register(
    "indices_to_switches" + _SCHEMA.format("indices"),
    _to_switches_impl,
    _like(None),
    1,
)


def _prepare(
    op: str,
    name: str,
    tensor: Tensor,
    input_size: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
) -> tuple[int, Pair, Geometry]:
    """Check everything but the dtype: number of spatial dimensions, spatial size as a pair, geometry."""
    if arguments.is_int(input_size):
        dims = 1
    elif isinstance(input_size, (tuple, list)):
        dims = len(input_size)
    else:
        raise TypeError(
            f"{op}: input_size: expected the spatial size, an int or a tuple, "
            f"got {arguments.shown(input_size)}"
        )
    if dims not in (1, 2):
        raise ValueError(
            f"{op}: input_size: expected the spatial size, (L,) or (H, W), got {arguments.shown(input_size)}"
        )
    size = arguments.int_tuple(op, "input_size", input_size, dims, 1)
    geometry = check_geometry(op, dims, kernel_size, stride, padding, dilation)
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: {name}: expected a torch.Tensor, got {type(tensor).__name__}")
    arguments.check_rank(
        op, name, tensor, dims + 1, "(N, C, OL) or (C, OL)" if dims == 1 else "(N, C, OH, OW) or (C, OH, OW)"
    )
    if dims == 1:
        size = (1, size[0])
    pooled = (1, tensor.shape[-1]) if dims == 1 else tuple(tensor.shape[-2:])
    return dims, check_unpooled_size(op, pooled, geometry, size, "input_size"), geometry


def _as_4d(run: Any, dims: int, tensor: Tensor, *args: Any) -> Tensor:
    """Run an op of 4-d tensors on one that may lack its batch or its height."""
    batched = tensor.dim() == dims + 2
    if dims == 1:
        tensor = tensor.unsqueeze(-2)
    result = run(tensor if batched else tensor.unsqueeze(0), *args)
    if not batched:
        result = result.squeeze(0)
    return result.squeeze(-2) if dims == 1 else result


def switches_to_indices(
    switches: Tensor,
    input_size: Any,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
) -> Tensor:
    """Turn switches into torch's int64 flat positions in the input plane, h * W + w.

    Lossless: :func:`indices_to_switches` undoes it, and the result equals what torch's max_pool returns, but
    for windows without a valid cell: -1 here, out of range there.

    Equivalent to::

        _, indices = torch.nn.functional.max_pool2d(..., return_indices=True)

    Args:
        switches: (N, C, OH, OW) or (C, OH, OW), or (N, C, OL) or (C, OL) for one dimension.
        input_size: The spatial size of the pooling's input: (H, W); an int or (L,) for one dimension.
        kernel_size: Window size in cells, as in the pooling.
        stride: Distance of neighbouring windows; None means ``kernel_size``.
        padding: Cells that the pooling added on each side.
        dilation: Distance of neighbouring cells of a window.

    Returns:
        int64, of the shape of ``switches``.

    Raises:
        ValueError: ``input_size`` cannot pool to this shape, or a switch points outside its window or the
            input.
        TypeError: ``switches`` are not of the switches' dtype.
    """
    op = "switches_to_indices"
    dims, size, geometry = _prepare(
        op, "switches", switches, input_size, kernel_size, stride, padding, dilation
    )
    check_switches(op, switches, geometry[0], None)
    return _as_4d(_to_indices, dims, switches, size, *geometry)


def indices_to_switches(
    indices: Tensor,
    input_size: Any,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
) -> Tensor:
    """Turn torch's int64 flat positions, as its max_pool returns them, into switches.

    Undoes :func:`switches_to_indices`; -1 stands for a window without a valid cell. So indices that torch
    recorded serve :func:`max_unpool2d`.

    Equivalent to::

        _, switches = deconvkit.max_pool2d_with_switches(...)

    Args:
        indices: int64; (N, C, OH, OW) or (C, OH, OW), or (N, C, OL) or (C, OL) for one dimension.
        input_size: The spatial size of the pooling's input: (H, W); an int or (L,) for one dimension.
        kernel_size: Window size in cells, as in the pooling.
        stride: Distance of neighbouring windows; None means ``kernel_size``.
        padding: Cells that the pooling added on each side.
        dilation: Distance of neighbouring cells of a window.

    Returns:
        uint8 for windows of up to 255 cells, else int32; of the shape of ``indices``.

    Raises:
        ValueError: ``input_size`` cannot pool to this shape, or an index lies outside its window.
        TypeError: ``indices`` are not int64.
    """
    op = "indices_to_switches"
    dims, size, geometry = _prepare(
        op, "indices", indices, input_size, kernel_size, stride, padding, dilation
    )
    if indices.dtype is not torch.int64:
        raise TypeError(f"{op}: indices: expected int64, got {str(indices.dtype).removeprefix('torch.')}")
    return _as_4d(_to_switches, dims, indices, size, *geometry)
