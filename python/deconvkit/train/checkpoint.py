"""Trained models as files: what a model is, its arguments and its weights. Reading one runs no code of it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from deconvkit import models

FORMAT = "deconvkit model"


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
    """Read a file of :func:`save_model`.

    Args:
        path: the file.
        wanted: names of the models that will do; any unless given.

    Raises:
        CheckpointError: no such file, none of ours, another model, or weights that do not fit it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a trained model, got no file of that name")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path}: expected a trained model (model.pt of a run), got a file that cannot be read as one"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected a trained model (model.pt of a run), got another file")
    name = content["model"]
    if wanted and name not in wanted:
        raise CheckpointError(f"{path}: expected a model of type {' or '.join(wanted)}, got {name}")
    if name not in models.__all__:
        raise CheckpointError(f"{path}: expected one of this version's models, got {name}")
    try:
        model = getattr(models, name)(**content["config"])
        model.load_state_dict(content["state_dict"])
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: expected the weights of {name}, got others ({reason})") from error
    return Trained(model.eval(), content["recipe"], content["notes"])
