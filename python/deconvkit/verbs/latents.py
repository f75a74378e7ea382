"""The verbs of autoencoders and generators: what is behind their latents."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from deconvkit.data import photographs
from deconvkit.models import (
    M2,
    ClassDecoder,
    ConvVAE,
    DCGANGenerator,
    MLPGenerator,
    SparseAutoencoder,
    StackedM1M2,
)
from deconvkit.train.checkpoint import Trained
from deconvkit.train.priors import draw_latents
from deconvkit.verbs.inputs import (
    LARGEST,
    Drawn,
    Request,
    VerbError,
    class_names,
    colours_for,
    digits_for,
    noted_number,
    page_name,
    pictures_for,
    shrunk,
    side_of,
)
from deconvkit.visualize.grids import image_rows, image_sheet
from deconvkit.visualize.panels import Panel, panels
from deconvkit.visualize.reconstructions import psnr

Array = NDArray[Any]

VARIATIONAL = ("VAE", "M1", "ConvVAE")
CLASSES = ("M2", "StackedM1M2")
GENERATORS = ("DCGANGenerator", "MLPGenerator")
_STEPS = 10  # of a walk
_ROW = 12  # images of a row
_GROUPS = 4  # of rows in a picture


def sample(trained: Trained, request: Request) -> Drawn:
    """What the model makes up."""
    model: Any = trained.model
    generator = torch.Generator().manual_seed(request.seed)
    if isinstance(model, ClassDecoder):
        names = class_names(request, trained.notes, model.classes)
        means = _shown(model, model(torch.eye(model.classes)))
        note = "The decoder is told the class alone: it draws the mean of what it has seen of it."
        each = [Panel(image, name) for image, name in zip(means, names, strict=True)]
        columns = 5 if len(each) <= 10 else 8
        return Drawn({"samples": panels(each, columns, "What a class looks like", note, 1.6)})
    if isinstance(model, (M2, StackedM1M2)):
        classes, size = _classes_and_style(model)
        names = class_names(request, trained.notes, classes)
        columns = max(1, math.ceil(request.count / classes))
        styles = torch.randn(columns, size, generator=generator)
        rows = [
            (name, _shown(model, model.generate(torch.full((columns,), label), styles)))
            for label, name in enumerate(names)
        ]
        note = "A row for each class; each column is one style, drawn from the prior."
        return Drawn({"samples": image_rows(rows, "Digits that nobody wrote", note)})
    if isinstance(model, (DCGANGenerator, MLPGenerator)):
        made = model(_prior(trained, request.count, generator))
        note = f"Each from its own {model.latent_size} random numbers, drawn as in training."
    else:
        made = model.sample(request.count, generator=generator)
        note = f"Decoded from {model.latent_size} latents each, drawn from the prior."
    shown = _shown(model, made)
    columns = min(request.count, max(4, math.ceil(math.sqrt(1.5 * request.count))))
    return Drawn({"samples": image_sheet(shown, columns, "Images that nobody made", note)})


def reconstruct(trained: Trained, request: Request) -> Drawn:
    """Images and what is left of them behind the bottleneck."""
    model: Any = trained.model
    if isinstance(model, SparseAutoencoder) and "patch" in trained.notes:
        return _photographs(model, trained.notes, request)
    given = _given(model, request)
    if isinstance(model, SparseAutoencoder):
        restored, size = model(given).reconstruction, model.encoder.out_features
    elif isinstance(model, M2):
        labels = model(given).argmax(1)
        restored, size = model.generate(labels, model.encode(given, labels).mean), model.latent_size
    else:
        bottom = model.m1 if isinstance(model, StackedM1M2) else model
        restored, size = bottom.reconstruct(given), bottom.latent_size
    error = (restored.clamp(0, 1) - given).square().mean().item()
    note = f"{size} numbers each; mean squared error {error:.4f}."
    rows = [("original", given), ("restored", restored)]
    return Drawn(_rows(model, "reconstructions", rows, "Through the bottleneck", note))


def denoise(trained: Trained, request: Request) -> Drawn:
    """Noisy images and what the model makes of them."""
    model: Any = trained.model
    if "patch" in trained.notes:
        raise VerbError("--checkpoint: expected a model that was trained on noisy digits, got one of patches")
    given = _given(model, request)
    if request.input:
        rows = [("given", given), ("restored", model(given).reconstruction)]
        return Drawn(_rows(model, "denoised", rows, "Noise taken away", "The images given."))
    sigma = noted_number(trained.notes, "noise", 0.25)
    draw = torch.randn(given.shape, generator=torch.Generator().manual_seed(request.seed))
    noisy = (given + sigma * draw.to(given.dtype)).clamp(0, 1)
    restored = model(noisy).reconstruction
    before, after = (psnr(found.numpy(), given.numpy()) for found in (noisy, restored))
    note = f"Noise of standard deviation {sigma:g}: {before:.1f} dB before, {after:.1f} dB after."
    rows = [("clean", given), ("noisy", noisy), ("restored", restored)]
    return Drawn(_rows(model, "denoised", rows, "Noise taken away", note))


def traverse(trained: Trained, request: Request) -> Drawn:
    """Walks through the latents."""
    model: Any = trained.model
    generator = torch.Generator().manual_seed(request.seed)
    if isinstance(model, (DCGANGenerator, MLPGenerator)):
        ends = _prior(trained, 16, generator).view(8, 2, -1)
        rows = []
        for i, (first, last) in enumerate(ends):
            walk = torch.lerp(first, last, torch.linspace(0, 1, _STEPS)[:, None])
            rows.append((f"walk {i + 1}", _shown(model, model(walk))))
        note = "Each row leads from one random latent to another in a straight line."
        return Drawn({"traversal": image_rows(rows, "From one image to another", note)})
    quantiles = torch.special.ndtri(torch.linspace(0.05, 0.95, _STEPS))
    if isinstance(model, (M2, StackedM1M2)):
        classes, size = _classes_and_style(model)
        start = torch.zeros(size)
        if request.input:
            given = _single(model, request)
            start = _style(model, given, model(given).argmax(1))[0]
        every = torch.arange(classes)

        def generate(styles: Tensor) -> Tensor:
            made: Tensor = model.generate(every.repeat_interleave(len(styles)), styles.repeat(classes, 1))
            return made

        strongest = _strongest(generate, start, quantiles)[0]
        made = _shown(model, generate(_walk(start, strongest, quantiles)))
        names = class_names(request, trained.notes, classes)
        rows = [(name, made[i * _STEPS : (i + 1) * _STEPS]) for i, name in enumerate(names)]
        note = (
            "The strongest latent of style, from the 5th to the 95th percentile of its prior, in each class."
        )
        return Drawn({"traversal": image_rows(rows, "One style, all classes", note)})
    start = model.encode(_single(model, request)).mean[0] if request.input else torch.zeros(model.latent_size)

    def decode(latents: Tensor) -> Tensor:
        means: Tensor = model.likelihood.mean(model.decode(latents))
        return means

    order = _strongest(decode, start, quantiles)
    rows = [
        (f"latent {i}", _shown(model, decode(_walk(start, i, quantiles))))
        for i in order[: min(10, len(order))]
    ]
    others = "those of the image" if request.input else "0"
    note = f"From the 5th to the 95th percentile of the prior, the others {others}; strongest first."
    pictures: dict[str, Figure] = {"traversal": image_rows(rows, "What each latent changes", note)}
    if len(order) > 1:
        grid = start.repeat(_STEPS * _STEPS, 1)
        grid[:, order[0]] = quantiles.repeat_interleave(_STEPS)
        grid[:, order[1]] = quantiles.repeat(_STEPS)
        note = f"Latent {order[0]} down, latent {order[1]} across, from the 5th to the 95th percentile."
        pictures["plane"] = image_sheet(
            _shown(model, decode(grid)), _STEPS, "A walk through two latents", note
        )
    return Drawn(pictures)


def analogies(trained: Trained, request: Request) -> Drawn:
    """The style of each image in all classes."""
    model: Any = trained.model
    classes, _ = _classes_and_style(model)
    names = class_names(request, trained.notes, classes)
    given = _given(model, request, 10)
    labels = model(given).argmax(1)
    styles = _style(model, given, labels)
    pictures = {}
    for page in range(0, len(given), _ROW):
        rows = []
        for i in range(page, min(page + _ROW, len(given))):
            drawn = model.generate(torch.arange(classes), styles[i].expand(classes, -1))
            rows.append(
                (f"taken for {names[labels[i]]}", _shown(model, torch.cat((given[i : i + 1], drawn))))
            )
        listed = ", ".join(names)
        note = f"Each row: an image, then its style as {listed if len(listed) <= 60 else 'each class'}."
        pictures[page_name("analogies", page // _ROW)] = image_rows(
            rows, "The same hand, other classes", note
        )
    return Drawn(pictures)


def _photographs(model: SparseAutoencoder, notes: dict[str, Any], request: Request) -> Drawn:
    """Photographs in grey, patch by patch."""
    size = side_of(model.encoder.in_features)
    scale = photographs.PatchScale(noted_number(notes, "limit", 1.0))
    pictures = {}
    for i, (name, picture) in enumerate(pictures_for(request)):
        grey = photographs.grey(shrunk(picture) / 255)
        rows, columns = (side // size * size for side in grey.shape)
        if not rows or not columns:
            tall, wide = picture.shape[:2]
            raise VerbError(
                f"--input: expected at least {size}x{size} pixels, as drawn with {LARGEST} at most a side, "
                f"got {wide}x{tall} in {name}"
            )
        grey = grey[:rows, :columns]
        tiles = photographs.tile(grey, size)
        means = tiles.mean(1, keepdims=True)
        inputs = torch.from_numpy(scale.apply(tiles - means)).to(model.encoder.weight.dtype)
        restored = scale.undo(model(inputs).reconstruction.double().numpy()) + means
        whole = np.clip(photographs.untile(restored, rows, columns, size), 0, 1)
        flat = photographs.untile(np.broadcast_to(means, tiles.shape), rows, columns, size)
        units = model.encoder.out_features
        shown = [
            Panel(grey, name),
            Panel(whole, f"restored: {psnr(whole, grey):.1f} dB"),
            Panel(flat, f"the patches' means alone: {psnr(flat, grey):.1f} dB"),
        ]
        note = f"Every patch of {size}×{size} pixels through a code of {units} units, its mean kept beside."
        pictures[page_name("reconstruction", i)] = panels(shown, 3, "Through the bottleneck", note)
    return Drawn(pictures)


def _given(model: Any, request: Request, most: int = _ROW) -> Tensor:
    """Images as the model wants them."""
    if isinstance(model, ConvVAE):
        if model.channels == 3:
            return colours_for(model, request, model.image_size)
        if model.channels != 1:
            raise VerbError(f"--checkpoint: expected a model of images, got one of {model.channels} channels")
        flat = digits_for(model, request, model.image_size, most)
        return flat.view(-1, 1, model.image_size, model.image_size)
    return digits_for(model, request, side_of(_features(model)), most)


def _single(model: Any, request: Request) -> Tensor:
    given = _given(model, request)
    if len(given) != 1:
        raise VerbError(f"--input: expected one image to start from, got {len(given)}")
    return given


def _features(model: Any) -> int:
    if isinstance(model, SparseAutoencoder):
        return model.encoder.in_features
    inner = model.m1 if isinstance(model, StackedM1M2) else model
    features: int = inner.in_features
    return features


def _classes_and_style(model: Any) -> tuple[int, int]:
    inner = model.m2 if isinstance(model, StackedM1M2) else model
    return inner.classes, inner.latent_size


def _style(model: Any, given: Tensor, labels: Tensor) -> Tensor:
    if isinstance(model, StackedM1M2):
        means: Tensor = model.m2.encode(model.m1.encode(given).mean[:, model.kept], labels).mean
    else:
        means = model.encode(given, labels).mean
    return means


def _walk(start: Tensor, latent: int, values: Tensor) -> Tensor:
    walk = start.repeat(len(values), 1)
    walk[:, latent] = values
    return walk


def _strongest(decode: Any, start: Tensor, values: Tensor) -> list[int]:
    """The latents, those first whose walk changes the images most."""
    changes = []
    for latent in range(len(start)):
        made = decode(_walk(start, latent, values))
        made = made.view(-1, len(values), *made.shape[1:])
        changes.append(made.std(1).mean())
    return [int(i) for i in torch.stack(changes).argsort(descending=True)]


def _prior(trained: Trained, count: int, generator: torch.Generator) -> Tensor:
    """Latents of the prior that is noted with a generator; uniform, the lecture's, where none is."""
    model: Any = trained.model
    try:
        return draw_latents(trained.notes.get("prior", "uniform"), count, model.latent_size, generator)
    except ValueError as error:
        raise VerbError(f"--checkpoint: {error}") from error


def _shown(model: Any, made: Tensor) -> Array:
    """What a model made as images in [0, 1], (N, h, w) or (N, h, w, 3)."""
    signed = isinstance(model, DCGANGenerator) or getattr(model, "output", "") == "tanh"
    made = (made / 2 + 0.5 if signed else made).clamp(0, 1)
    if made.dim() == 2:
        side = side_of(made.shape[1])
        return made.view(-1, side, side).numpy()
    if made.shape[1] not in (1, 3):
        raise VerbError(f"--checkpoint: expected a model of images, got one of {made.shape[1]} channels")
    return made[:, 0].numpy() if made.shape[1] == 1 else made.permute(0, 2, 3, 1).numpy()


def _rows(model: Any, name: str, named: list[tuple[str, Tensor]], title: str, note: str) -> dict[str, Figure]:
    """Pictures of rows of at most twelve images, those that belong together below each other."""
    pictures = {}
    count = len(named[0][1])
    for page, begin in enumerate(range(0, count, _GROUPS * _ROW)):
        rows = []
        for first in range(begin, min(begin + _GROUPS * _ROW, count), _ROW):
            for label, images in named:
                row = _shown(model, images[first : first + _ROW])
                missing = min(count, _ROW) - len(row)  # white, so that the last row is aligned
                rows.append(
                    (label, np.pad(row, [(0, missing), *[(0, 0)] * (row.ndim - 1)], constant_values=1))
                )
        pictures[page_name(name, page)] = image_rows(rows, title, note)
    return pictures
