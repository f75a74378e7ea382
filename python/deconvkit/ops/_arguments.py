"""Turning arguments into their canonical form, with one message for each way in which they can be wrong.

``op`` is the public function's name and opens every message.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def int_tuple(op: str, name: str, value: Any, length: int, minimum: int) -> tuple[int, ...]:
    """``value`` as ``length`` ints of at least ``minimum``; one int stands for all."""
    if type(value) is int:  # the usual case, quickly
        if value >= minimum:
            return (value,) * length
    elif isinstance(value, (tuple, list)):
        if len(value) == 1:
            value = tuple(value) * length
        if len(value) == length and all(_is_int(v) and v >= minimum for v in value):
            return tuple(value)
    elif _is_int(value) and value >= minimum:
        return (value,) * length
    wanted = f"an int or {length} ints" if length > 1 else "an int"
    kind = ValueError if _is_int(value) or isinstance(value, (tuple, list)) else TypeError
    raise kind(f"{op}: {name}: expected {wanted} >= {minimum}, got {value!r}")


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)


def check_float(op: str, name: str, tensor: Any) -> None:
    """Raise TypeError unless ``tensor`` is a tensor of a floating dtype."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: {name}: expected a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in FLOAT_DTYPES:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise TypeError(f"{op}: {name}: expected float32, float64, bfloat16 or float16, got {dtype}")


def check_rank(op: str, name: str, tensor: Tensor, unbatched: int, layout: str) -> None:
    """Raise ValueError unless ``tensor`` has ``unbatched`` dimensions or one more (a batch)."""
    if tensor.dim() not in (unbatched, unbatched + 1):
        raise ValueError(f"{op}: {name}: expected shape {layout}, got {tuple(tensor.shape)}")
