"""The verbs of networks of photographs: what they say of them, and what they see in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvkit.data import voc
from deconvkit.data.images import square
from deconvkit.models import M2, VGG, DeconvNet, SparseAutoencoder, StackedM1M2, SwitchVisualizer
from deconvkit.train.checkpoint import Trained
from deconvkit.verbs.inputs import (
    Drawn,
    Request,
    VerbError,
    class_names,
    digits_for,
    files,
    normalised,
    noted_number,
    page_name,
    pictures_for,
    shrunk,
    side_of,
)
from deconvkit.verbs.segmentation import Segmenter
from deconvkit.visualize import canvas
from deconvkit.visualize.panels import Panel, label_colours, label_map, panels, predictions
from deconvkit.visualize.receptive_fields import fields_sheet, orientation_index

Array = NDArray[Any]

_PAGE = 12  # images of a picture of predictions


def classify(trained: Trained, request: Request) -> Drawn:
    """The likeliest classes of each image."""
    model: Any = trained.model
    if isinstance(model, VGG):
        classes, size = model.num_classes, _size(trained, 224)
        found = [(name, square(picture, size)) for name, picture in pictures_for(request)]
        scores = torch.cat([model(normalised(picture)) for _, picture in found])
        shown = [(name, picture / 255) for name, picture in found]
    else:
        assert isinstance(model, (M2, StackedM1M2))
        inner = model.m2 if isinstance(model, StackedM1M2) else model
        classes = inner.classes
        side = side_of(model.m1.in_features if isinstance(model, StackedM1M2) else model.in_features)
        given = digits_for(model, request, side, 10)
        scores = model(given)
        named = [file.name for file in files(request.input)] if request.input else []
        if len(named) != len(given):  # digits that ship, or MNIST's
            named = [f"digit {i + 1}" for i in range(len(given))]
        shown = list(zip(named, given.view(-1, side, side).numpy(), strict=True))
    names = class_names(request, trained.notes, classes)
    chances = scores.softmax(1).double().numpy()
    lines = []
    for (name, _), row in zip(shown, chances, strict=True):
        best = np.argsort(-row, kind="stable")[:3]
        lines.append(f"{name}: " + ", ".join(f"{names[i]} {row[i]:.1%}" for i in best))
    pictures = {}
    for page in range(0, len(shown), _PAGE):
        part = slice(page, page + _PAGE)
        note = f"The likeliest of {classes} classes and their probabilities."
        pictures[page_name("classes", page // _PAGE)] = predictions(
            shown[part], chances[part], names, "What the network sees", note
        )
    return Drawn(pictures, "\n".join(lines))


def segment(trained: Trained, request: Request) -> Drawn:
    """The class of every pixel."""
    model: Any = trained.model
    names = class_names(request, trained.notes, model.num_classes)
    if model.num_classes == len(voc.CLASSES) and request.names is None and "classes" not in trained.notes:
        names = list(voc.CLASSES)
    colours = label_colours(model.num_classes)
    pictures, lines = {}, []
    found = pictures_for(request)
    look = Segmenter(model, request, len(found))
    for i, (name, picture) in enumerate(found):
        small = shrunk(picture)
        labels, how = look(name, small, picture.shape[:2])
        of = canvas.short(name, 40)
        note = f"{of}: the likeliest class of each pixel, {how}; the background is left clear."
        pictures[page_name("labels", i)] = label_map(
            small / 255, labels, names, colours, "What is where", note
        )
        shares = np.bincount(labels.ravel(), minlength=len(names)) / labels.size
        best = [j for j in np.argsort(-shares, kind="stable") if shares[j] > 0]
        lines.append(f"{name}: " + ", ".join(f"{names[j]} {shares[j]:.1%}" for j in best[:5]))
    return Drawn(pictures, "\n".join(lines))


def visualize(trained: Trained, request: Request) -> Drawn:
    """What the strongest channels see, or what units look for."""
    model: Any = trained.model
    if isinstance(model, SparseAutoencoder):
        if request.input:
            raise VerbError("--input: expected none for a sparse autoencoder, whose weights are drawn")
        return _fields(model)
    look = _through_switches if isinstance(model, VGG) else _way_up
    size = model.input_size if isinstance(model, DeconvNet) else _size(trained, 224)
    return Drawn(
        {
            page_name("seen", i): look(model, name, square(picture, size))
            for i, (name, picture) in enumerate(pictures_for(request))
        }
    )


def _through_switches(model: VGG, name: str, picture: Array) -> Any:
    """The strongest channel behind each pool, taken down to the pixels by the switches."""
    seen = SwitchVisualizer(model)
    images = normalised(picture)
    shown = [Panel(picture / 255, name)]
    size = picture.shape[0]
    for number, layer in enumerate(seen.pools(), 1):
        found = seen.project(images, layer, whole_channel=True)
        channel, side = int(found.channel[0]), size // 2**number
        shown.append(Panel(_contrast(found.image[0]), f"pool {number}: channel {channel}, {side}×{side}"))
    note = (
        "Behind each pool the channel with the strongest activation, all else set to 0, taken down to the "
        "pixels:\nunpooled by the recorded switches, rectified, through the transposed filters. Grey is 0."
    )
    return panels(shown, 3, "Seen through the network", note)


def _way_up(model: DeconvNet, name: str, picture: Array) -> Any:
    """The channel of each stage of the decoder that varies most over the picture."""
    maps = model.activations(normalised(picture))
    shown = [Panel(picture / 255, name)]
    for stage in ("deconv5", "deconv4", "deconv3", "deconv2", "deconv1"):
        found = maps[stage][0]
        channel = int(found.flatten(1).std(1).argmax())
        strongest = found[channel].numpy()
        top = float(np.quantile(strongest, 0.995)) or float(strongest.max()) or 1.0
        side = found.shape[-1]
        image = np.clip(strongest / top, 0, 1)
        shown.append(Panel(image, f"{stage}: channel {channel}, {side}×{side}", "magma"))
    note = "On the way up the channel of each stage that varies most over the picture; black is 0."
    return panels(shown, 3, "How the picture comes back, coarse to fine", note)


def _fields(model: SparseAutoencoder) -> Drawn:
    side = side_of(model.encoder.in_features)
    fields = model.encoder.weight.double().numpy().reshape(-1, side, side)
    index = orientation_index(fields)
    fields = fields[np.argsort(-index)]
    note = f"Weights into each unit, grey is 0; mean orientation index {index.mean():.2f}."
    sheet = fields_sheet(fields, f"What the {len(fields)} units look for", note)
    return Drawn({"receptive_fields": sheet})


def _contrast(image: Tensor) -> Array:
    """A signed image (3, H, W) around grey, stretched to its strongest half percent."""
    values = image.permute(1, 2, 0).double().numpy()
    top = float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
    return np.clip(0.5 + 0.5 * values / top, 0, 1)


def _size(trained: Trained, default: int) -> int:
    """Pixels a side of a VGG's images."""
    return max(32, int(noted_number(trained.notes, "size", default)))
