"""Trained models as files: what a model is, its arguments and its weights. Reading one runs no code of it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from deconvkit import models
from deconvkit.models._weights import load_weights, read_state_dict

FORMAT = "deconvkit model"

_KEYS = {"model": str, "config": dict, "state_dict": dict, "recipe": str, "notes": dict}
_REFUSED = {"device", "dtype", "encoder_weights", "group", "weights"}  # a file says sizes, not what to read
_VGG = {"features.0.weight", "classifier.6.bias"}


class Trained(NamedTuple):
    """A trained model and what is known of it."""

    model: nn.Module  # in eval mode
    recipe: str
    notes: dict[str, Any]  # of the recipe: how data were scaled, names of classes


class CheckpointError(ValueError):
    """A file that is no model of ours, told in one line."""


def save_model(path: str | os.PathLike[str], model: Any, recipe: str, notes: dict[str, Any]) -> None:
    """Write a model of ``deconvkit.models``; whole or not at all.

    Args:
        path: the file.
        model: has ``config()``.
        recipe: what trained it.
        notes: numbers, strings, lists and dicts of them.
    """
    buffer = io.BytesIO()
    content = {
        "format": FORMAT,
        "model": type(model).__name__,
        "config": model.config(),
        "state_dict": model.state_dict(),
        "recipe": recipe,
        "notes": notes,
    }
    torch.save(content, buffer)
    write_whole(path, buffer.getvalue())


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file beside its place and move it there, so that nobody ever sees half of it."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_model(path: str | os.PathLike[str], *wanted: str) -> Trained:
    """Read a file of :func:`save_model`, or one of a VGG's weights alone (torch.save or safetensors).

    Args:
        path: the file.
        wanted: names of the models that will do; any unless given.

    Raises:
        CheckpointError: no such file, none of ours, another model, or weights that do not fit it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a trained model, got no file of that name")
    content = _read(path)
    if isinstance(content, Mapping) and _VGG.issubset(content):
        trained = Trained(_bare_vgg(path, content), "", {})
        return _one_of(path, trained, wanted)
    expected = f"{path}: expected a trained model (model.pt of a run)"
    if isinstance(content, dict) and "pytorch-lightning_version" in content:
        raise CheckpointError(f"{expected}, got the state of a run; model.pt is written when a run ends")
    if isinstance(content, Mapping) and content and all(map(torch.is_tensor, content.values())):
        lacking = ", ".join(sorted(_VGG.difference(content)))
        raise CheckpointError(f"{expected} or the weights of a VGG, got weights without {lacking}")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{expected}, got another file")
    for key, kind in _KEYS.items():
        if not isinstance(content.get(key), kind):
            raise CheckpointError(f"{expected}, got one without a proper {key!r}")
    name, config = content["model"], content["config"]
    make = getattr(models, name) if name in models.__all__ else None
    if not isinstance(make, type) or not issubclass(make, nn.Module):
        raise CheckpointError(f"{path}: expected one of this version's models, got {name}")
    refused = sorted(map(str, _REFUSED.intersection(config)))
    if refused:
        raise CheckpointError(f"{path}: expected the sizes of {name}, got {', '.join(refused)} among them")
    try:
        model = make(**config)
        model.load_state_dict(content["state_dict"])
    except Exception as error:  # whatever a file may make of the arguments and names
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: expected the weights of {name}, got others ({reason})") from error
    return _one_of(path, Trained(model, content["recipe"], content["notes"]), wanted)


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return read_state_dict("", path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path}: expected a trained model (model.pt of a run), got a file that cannot be read as one"
        ) from error


def _bare_vgg(path: Path, content: Mapping[str, Any]) -> models.VGG:
    """A VGG from weights alone, as torchvision has them: its sizes are those of the weights."""
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    convolutions = sum(value.dim() == 4 for value in tensors.values())
    try:
        model = models.VGG(
            19 if convolutions == 16 else 16,
            any(name.endswith("running_mean") for name in tensors),
            tensors["classifier.6.bias"].shape[0],
            tensors["features.0.weight"].shape[0],
        )
        load_weights("VGG", model, path)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: expected the weights of a VGG, got others ({reason})") from error
    return model


def _one_of(path: Path, trained: Trained, wanted: tuple[str, ...]) -> Trained:
    name = type(trained.model).__name__
    if wanted and name not in wanted:
        raise CheckpointError(f"{path}: expected a model of type {' or '.join(wanted)}, got {name}")
    trained.model.eval()
    return trained
