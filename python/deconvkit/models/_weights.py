"""Weights from files, which may come from anywhere: nothing in them is ever run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def read_state_dict(owner: str, path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file saved by ``torch.save`` (a state dict) or by safetensors.

    Raises:
        ValueError: the file does not exist or is none of the two, in one line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{owner}: weights: expected a file, got {str(path)!r}, which does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{owner}: weights: expected a state dict saved by torch.save or safetensors, got {str(path)!r}, "
            f"which cannot be read ({reason[0]})"
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(
            f"{owner}: weights: expected a state dict, names to tensors, in {str(path)!r}, "
            f"got {type(content).__name__}"
        )
    return dict(content)


def load_weights(owner: str, model: nn.Module, path: str | Path, last: Sequence[str] = ()) -> None:
    """Load a file into the model; all of it, but for a last layer of another size.

    Args:
        owner: whose weights they are, for messages.
        model: what to fill; untouched if anything is wrong.
        path: the file.
        last: the names of the layer that depends on the number of classes. Where the file has it in another
            size it stays as it is, and a warning names it.

    Raises:
        ValueError: as :func:`read_state_dict`; names that are missing or too many; other shapes.
    """
    given, wanted = read_state_dict(owner, path), model.state_dict()
    missing, extra = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    # torch's files from before 0.4.1 do not count batches.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or extra:
        parts = [_some("missing", missing), _some("unknown", extra)]
        raise ValueError(
            f"{owner}: weights: expected the names of this model in {str(path)!r}, got "
            + "; ".join(part for part in parts if part)
        )
    differ = [name for name in given if given[name].shape != wanted[name].shape]
    skipped = [name for name in differ if name in last]
    if len(skipped) < len(differ):
        name = next(name for name in differ if name not in last)
        raise ValueError(
            f"{owner}: weights: {name}: expected shape {tuple(wanted[name].shape)}, "
            f"got {tuple(given[name].shape)} in {str(path)!r}"
        )
    if skipped:
        skipped = list(last)
        warnings.warn(
            f"{owner}: weights: {', '.join(skipped)} not loaded: {given[skipped[0]].shape[0]} classes in "
            f"{str(path)!r}, {wanted[skipped[0]].shape[0]} wanted",
            stacklevel=3,
        )
    model.load_state_dict({name: value for name, value in given.items() if name not in skipped}, strict=False)


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
