"""``deconvkit info MODEL``: a network's layers as a table, without its weights in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deconvkit import models
from deconvkit.train.checkpoint import CheckpointError, load_model
from deconvkit.verbs.inputs import VerbError

# What the models that have no default sizes are shown with: those of their papers.
_SIZES: dict[str, dict[str, Any]] = {
    "SparseAutoencoder": {"in_features": 64, "code_size": 25},
    "VAE": {"in_features": 784, "latent_size": 20},
    "ClassDecoder": {"classes": 10, "out_features": 784},
    "M1": {"in_features": 784},
    "M2": {"in_features": 784, "classes": 10},
    "StackedM1M2": {"in_features": 784, "classes": 10},
}
_FUNCTIONS = ("vgg16", "vgg16_bn", "vgg19", "vgg19_bn")


class Layer(NamedTuple):
    """A row."""

    name: str
    kind: str
    output: str
    geometry: str  # kernel/stride/padding
    parameters: int


def names() -> list[str]:
    """The models that can be shown."""
    classes = [
        name
        for name in models.__all__
        if isinstance(getattr(models, name), type) and issubclass(getattr(models, name), nn.Module)
    ]
    return sorted([*classes, *_FUNCTIONS], key=str.lower)


def table(name: str) -> str:
    """The layers of a model of ``deconvkit.models`` with its default sizes, or of a trained one's file.

    Raises:
        VerbError: no such model.
        CheckpointError: a file that holds none.
    """
    known = {known.lower(): known for known in names()}
    if name.lower() in known:
        name = known[name.lower()]
        model = getattr(models, name)(**_SIZES.get(name, {}), device="meta")
    elif Path(name).is_file():
        model = load_model(name).model.to("meta")
        name = type(model).__name__
    else:
        raise VerbError(f"MODEL: expected one of {', '.join(names())}, or a file, got {name!r}")
    rows = layers(model.eval())
    head = ("layer", "kind", "output", "k/s/p", "parameters")
    cells = [head, *((*row[:4], f"{row.parameters:,}" if row.parameters else "–") for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(5)]
    rule = "  ".join("-" * width for width in widths)
    lines = [
        "  ".join(
            [
                *(cell.ljust(width) for cell, width in zip(line[:4], widths, strict=False)),
                line[4].rjust(widths[4]),
            ]
        )
        for line in cells
    ]
    total = sum(parameter.numel() for parameter in model.parameters())
    config = ", ".join(f"{key}={_brief(value)}" for key, value in model.config().items())
    legend = (
        "output: without the batch; k/s/p: kernel, stride, padding, and output padding where there is some"
    )
    return "\n".join(
        [f"{name}({config})", legend, "", lines[0], rule, *lines[1:], rule, f"{total:,} parameters"]
    )


def layers(model: Any) -> list[Layer]:
    """A row for each call of a layer in a forward pass that has parameters or changes the shape.

    The model's parameters are on the meta device. Parameters of what a pass does not call come last.
    """
    rows: list[Layer] = []
    called: set[nn.Module] = set()
    leaves = [(name, m) for name, m in model.named_modules() if not any(m.children())]
    hooks = [leaf.register_forward_hook(_recorder(name, rows, called)) for name, leaf in leaves]
    try:
        with torch.no_grad():
            _pass(model)
    finally:
        for hook in hooks:
            hook.remove()
    for name, leaf in leaves:
        count = _count(leaf)
        if count and leaf not in called:
            rows.append(Layer(name, type(leaf).__name__, "–", "", count))
    return rows


def _recorder(name: str, rows: list[Layer], called: set[nn.Module]) -> Callable[..., None]:
    def record(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        given, made = inputs[0], output[0] if isinstance(output, tuple) else output
        count = 0 if layer in called else _count(layer)  # shared ones count once
        if not _count(layer) and given.shape == made.shape:
            return
        called.add(layer)
        size = "×".join(map(str, made.shape[1:])) or "1"
        rows.append(Layer(name, type(layer).__name__, size, _geometry(layer), count))

    return record


def _brief(value: Any) -> str:
    long = isinstance(value, list) and len(value) > 8
    return f"[{value[0]}, ..., {value[-1]}]" if long else repr(value)


def _count(layer: nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters(recurse=False))


def _geometry(layer: Any) -> str:
    if not all(hasattr(layer, name) for name in ("kernel_size", "stride", "padding")):
        return ""

    def text(value: Any) -> str:
        values = value if isinstance(value, tuple) else (value,)
        return "×".join(map(str, values if len(set(values)) > 1 else values[:1]))

    parts = [text(layer.kernel_size), text(layer.stride), text(layer.padding)]
    extra = getattr(layer, "output_padding", 0)
    if extra not in (0, (0, 0)):
        parts.append(text(extra))
    return "/".join(parts)


def _pass(model: Any) -> None:
    """Call every layer once."""

    def empty(*shape: int) -> Tensor:
        return torch.empty(2, *shape, device="meta")

    labels = torch.zeros(2, dtype=torch.int64, device="meta")
    if isinstance(model, models.M2):
        model(empty(model.in_features))
        model.decode(labels, model.encode(empty(model.in_features), labels).mean)
    elif isinstance(model, models.StackedM1M2):
        model.m1(empty(model.m1.in_features))
        _pass(model.m2)
    else:
        model(empty(*_input_shape(model)))


def _input_shape(model: Any) -> tuple[int, ...]:
    if isinstance(model, models.VGG):
        return 3, 224, 224
    if isinstance(model, models.DeconvNet):
        return 3, model.input_size, model.input_size
    if isinstance(model, (models.ConvVAE, models.DCGANDiscriminator)):
        return model.channels, model.image_size, model.image_size
    if isinstance(model, (models.DCGANGenerator, models.MLPGenerator)):
        return (model.latent_size,)
    if isinstance(model, models.ClassDecoder):
        return (model.classes,)
    if isinstance(model, models.SparseAutoencoder):
        return (model.encoder.in_features,)
    return (model.in_features,)


__all__ = ["CheckpointError", "Layer", "layers", "names", "table"]
