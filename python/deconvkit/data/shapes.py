"""Drawn shapes on photographs: scenes for segmentation whose labels are exact and need no download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deconvkit.data.images import random_crops, sample_photographs_in_colour
from deconvkit.data.scenes import Bytes, Scene
from deconvkit.losses.segmentation import IGNORED

CLASSES = ("background", "disc", "square", "triangle", "star")

SMALLEST_SCENE = 8  # pixels a side

_SMALLEST = 5  # pixels a shape is wide
_FINE = 4  # lines of a mask for each of the image
_TRIES = 12  # to find a free place
_HUES = 0.05  # of the circle of hues, the spread within a class; their means are a quarter apart


def draw_scenes(
    count: int,
    size: int,
    generator: np.random.Generator,
    *,
    most: int = 2,
    sides: tuple[float, float] = (0.25, 0.65),
    ring: bool = False,
    photographs: Sequence[Bytes] | None = None,
) -> list[Scene]:
    """Scenes of one to ``most`` shapes, of all sizes, turned, coloured and shaded, on crops of photographs.

    A class has its outline, and leans to hues that hardly overlap with its neighbours' and that the
    photographs have too.

    Args:
        count: scenes.
        size: pixels a side, at least ``SMALLEST_SCENE``.
        generator: what draws.
        most: objects of a scene. They hardly hide each other.
        sides: the smallest and largest diameter of a shape, as shares of the scene's side; uniform in its
            logarithm.
        ring: whether pixels where labels meet get 255, as in PASCAL VOC.
        photographs: (H, W, 3); None: those that ship.
    """
    if photographs is None:
        photographs = list(sample_photographs_in_colour().values())
    return [
        _scene(background, generator, most, sides, ring)
        for background in random_crops(photographs, count, size, generator)
    ]


def _scene(
    background: Bytes, generator: np.random.Generator, most: int, sides: tuple[float, float], ring: bool
) -> Scene:
    size = background.shape[0]
    image = background.astype(np.float32)
    labels, objects = np.zeros((2, size, size), np.uint8)
    wanted = int(generator.integers(1, most + 1))
    diameters = size * sides[0] * (sides[1] / sides[0]) ** generator.random(wanted)
    # The large first: what is drawn later lies above.
    for number, diameter in enumerate(sorted(diameters, reverse=True), 1):
        label = int(generator.integers(1, len(CLASSES)))
        cover = _mask(label, max(_SMALLEST, round(diameter)), generator)
        side = cover.shape[0]
        for _ in range(_TRIES):
            top, left = generator.integers(0, size - side + 1, 2)
            place = slice(top, top + side), slice(left, left + side)
            inside = cover >= 0.5
            if (objects[place][inside] > 0).mean() < 0.1:
                image[place] += cover[..., None] * (_surface(label, image[place], generator) - image[place])
                labels[place][inside], objects[place][inside] = label, number
                break
    if ring:
        from scipy.ndimage import maximum_filter, minimum_filter

        labels = np.where(maximum_filter(labels, 3) != minimum_filter(labels, 3), np.uint8(IGNORED), labels)
    return Scene(image.round().clip(0, 255).astype(np.uint8), labels, objects)


def _mask(label: int, side: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """How much of each pixel a turned shape covers, (side, side)."""
    from PIL import Image, ImageDraw

    corners = _outline(CLASSES[label])
    # A little wider than tall, or the other way round, before it is turned.
    stretch = 1.25 ** generator.uniform(-1, 1)
    corners = corners * [stretch**0.5, stretch**-0.5]
    turn = generator.uniform(0, 2 * np.pi)
    corners = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corners = (corners / np.abs(corners).max() + 1) / 2 * (side * _FINE - 1)
    canvas = Image.new("L", (side * _FINE, side * _FINE))
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in corners], fill=255)
    return np.asarray(canvas.resize((side, side), Image.Resampling.BOX), np.float32) / np.float32(255)


def _outline(name: str) -> NDArray[np.float64]:
    """The corners of a shape about 0, (n, 2)."""
    corners = {"disc": 48, "square": 4, "triangle": 3, "star": 10}[name]
    angles = 2 * np.pi * np.arange(corners) / corners
    radii = np.where(np.arange(corners) % 2, 0.5, 1.0) if name == "star" else np.ones(corners)
    return np.stack((radii * np.cos(angles), radii * np.sin(angles)), axis=1)


def _surface(label: int, behind: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """A colour of the class's hues that is not the one behind it, shaded across, with some noise."""
    mean = behind.mean((0, 1))
    hues = (label / (len(CLASSES) - 1) + generator.normal(0, _HUES, 8)) % 1
    saturations, values = generator.uniform(0.4, 1, 8), generator.uniform(0.4, 1, 8)
    # Hue to red, green and blue: each is a trapezium over the hues.
    ramps = (hues[:, None] * 6 + [5, 3, 1]) % 6
    pure = np.clip(np.minimum(ramps, 4 - ramps), 0, 1)
    colours = 255 * values[:, None] * (1 - saturations[:, None] * pure)
    distances = np.linalg.norm(colours - mean, axis=1)
    colour = colours[int(np.argmax(distances > 100))]  # the first that is far enough
    side = behind.shape[0]
    ramp = np.linspace(-1, 1, side)
    down, across = generator.uniform(-25, 25, 2)
    shade = down * ramp[:, None] + across * ramp
    noise = generator.normal(0, 3, (side, side))
    return (colour + (shade + noise)[..., None]).clip(0, 255).astype(np.float32)
