"""Turning arguments into their canonical form, with one message for each way in which they can be wrong.

``op`` is the public function's name and opens every message.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


MAX_INT = 2**31 - 1


def int_tuple(op: str, name: str, value: Any, length: int, minimum: int) -> tuple[int, ...]:
    """``value`` as ``length`` ints of at least ``minimum``; one int stands for all."""
    if type(value) is int:  # the usual case, quickly
        if minimum <= value <= MAX_INT:
            return (value,) * length
    elif isinstance(value, (tuple, list)):
        ints = tuple(map(_plain, value)) * (length if len(value) == 1 else 1)
        if len(ints) == length:
            for v in ints:
                if not (is_int(v) and minimum <= v <= MAX_INT):
                    break
            else:
                return ints
    elif is_int(value) and minimum <= value <= MAX_INT:
        return (_plain(value),) * length
    wanted = f"an int or {length} ints" if length > 1 else "an int"
    kind = ValueError if is_int(value) or isinstance(value, (tuple, list)) else TypeError
    raise kind(f"{op}: {name}: expected {wanted} of {minimum} to {MAX_INT}, got {shown(value)}")


def shown(value: Any) -> str:
    """A wrong value for a message: no tensor as a whole, no long list."""
    if isinstance(value, Tensor) or (hasattr(value, "__array__") and not isinstance(value, np.generic)):
        return type(value).__name__
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def is_int(value: Any) -> bool:
    """Whether it is an integer and no bool."""
    return isinstance(value, (int, torch.SymInt, np.integer)) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """NumPy's integers as Python's; anything else as it is."""
    return int(value) if isinstance(value, np.integer) else value


def check_float(op: str, name: str, tensor: Any) -> None:
    """Raise TypeError unless ``tensor`` is a tensor of a floating dtype."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: {name}: expected a torch.Tensor, got {type(tensor).__name__}")
    check_dense(op, name, tensor)
    if tensor.dtype not in FLOAT_DTYPES:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise TypeError(f"{op}: {name}: expected float32, float64, bfloat16 or float16, got {dtype}")


def check_dense(op: str, name: str, tensor: Tensor) -> None:
    """Raise TypeError unless the tensor has strides."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        layout = "a nested one" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        raise TypeError(f"{op}: {name}: expected a dense tensor, got {layout}; take its to_dense()")


def check_rank(op: str, name: str, tensor: Tensor, unbatched: int, layout: str) -> None:
    """Raise ValueError unless ``tensor`` has ``unbatched`` dimensions or one more (a batch)."""
    if tensor.dim() not in (unbatched, unbatched + 1):
        raise ValueError(f"{op}: {name}: expected shape {layout}, got {tuple(tensor.shape)}")
