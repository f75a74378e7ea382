"""``deconvkit VERB --checkpoint FILE --out DIR``: read, draw, and write whole pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from deconvkit.data.images import DataError
from deconvkit.folders import writable
from deconvkit.train.checkpoint import CheckpointError, Trained
from deconvkit.verbs import latents, seeing
from deconvkit.verbs.inputs import Drawn, Request, VerbError, read_model
from deconvkit.visualize import canvas

_CLASSIFIERS = ("VGG", *latents.CLASSES)

_MOST = 1000  # samples that a picture can hold

# The function, and the models that it knows.
_DRAW: dict[str, tuple[Callable[[Trained, Request], Drawn], tuple[str, ...]]] = {
    "sample": (
        latents.sample,
        (*latents.VARIATIONAL, *latents.CLASSES, *latents.GENERATORS, "ClassDecoder"),
    ),
    "reconstruct": (latents.reconstruct, ("SparseAutoencoder", *latents.VARIATIONAL, *latents.CLASSES)),
    "denoise": (latents.denoise, ("SparseAutoencoder",)),
    "traverse": (latents.traverse, (*latents.VARIATIONAL, *latents.CLASSES, *latents.GENERATORS)),
    "analogies": (latents.analogies, latents.CLASSES),
    "classify": (seeing.classify, _CLASSIFIERS),
    "segment": (seeing.segment, ("DeconvNet",)),
    "visualize": (seeing.visualize, ("VGG", "DeconvNet", "SparseAutoencoder")),
}


def run(verb: str, checkpoint: str, out: str, **options: Any) -> list[Path]:
    """Draw, and say what was written.

    Args:
        verb: one of ``table.VERBS``.
        checkpoint: a file of :func:`deconvkit.train.checkpoint.save_model`, or a VGG's weights.
        out: the folder, made if missing.
        options: of :class:`Request`.

    Returns:
        The pictures' files.

    Raises:
        CheckpointError, DataError, FolderError, VerbError: wrong usage, told in one line; nothing was
            written.
        OSError: writing failed.
    """
    draw, models = _DRAW[verb]
    request = Request(**{name: value for name, value in options.items() if value is not None})
    folder = writable(out)
    trained = read_model("--checkpoint", checkpoint, *models)
    if request.count > _MOST:
        raise VerbError(f"--count: expected at most {_MOST}, got {request.count}")
    _refuse_what_changes_nothing(verb, trained, request)
    try:
        with torch.no_grad():
            drawn = draw(trained, request)
    except (CheckpointError, DataError, VerbError):
        raise
    except ValueError as error:  # of sizes that do not go together
        raise VerbError(f"--checkpoint: {checkpoint} cannot be drawn ({error})") from error
    folder.mkdir(parents=True, exist_ok=True)
    written = [canvas.save_png(figure, folder / f"{name}.png") for name, figure in drawn.pictures.items()]
    if drawn.text:
        print(drawn.text)
    for path in written:
        print(path)
    return written


def _refuse_what_changes_nothing(verb: str, trained: Trained, request: Request) -> None:
    """Options that the verb takes for other models than this one.

    Raises:
        VerbError: one was given.
    """
    model = type(trained.model).__name__
    walks = model in latents.GENERATORS
    for option, given, useless in (
        ("input", bool(request.input), walks),
        ("invert", request.invert, walks or model == "VGG" or "patch" in trained.notes),
        (
            "names",
            request.names is not None,
            verb in ("sample", "traverse") and model not in (*latents.CLASSES, "ClassDecoder"),
        ),
    ):
        if given and useless:
            raise VerbError(f"--{option}: expected none for {verb} of a model of type {model}")


__all__ = ["CheckpointError", "DataError", "VerbError", "run"]
