"""What several models are made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "softplus": nn.Softplus, "tanh": nn.Tanh}


def require_sizes(model: str, **sizes: Any) -> None:
    """Raise ValueError unless every size, or each of a sequence, is an int of at least 1."""
    for name, value in sizes.items():
        for size in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"{model}: {name}: expected an int >= 1, got {value!r}")


def require_choice(model: str, name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{model}: {name}: expected one of {', '.join(choices)}, got {value!r}")


def require_input(model: str, name: str, tensor: Tensor, *shape: int) -> None:
    """Raise ValueError unless the tensor is a batch of this shape."""
    if tuple(tensor.shape[1:]) != shape:
        wanted = ", ".join(("N", *map(str, shape)))
        raise ValueError(f"{model}: {name}: expected shape ({wanted}), got {tuple(tensor.shape)}")


def perceptron(sizes: Sequence[int], activation: str, **where: Any) -> nn.Sequential:
    """Linear layers from size to size, each followed by the activation."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, **where), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)
