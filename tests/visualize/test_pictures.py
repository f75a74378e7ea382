"""The pictures: what is computed for them, and that nothing they say is cut off."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from deconvkit.data.voc import CLASSES
from deconvkit.visualize import canvas
from deconvkit.visualize.grids import image_rows
from deconvkit.visualize.panels import Panel, label_colours, label_map, panels, predictions
from deconvkit.visualize.receptive_fields import mosaic, orientation_index, receptive_fields
from deconvkit.visualize.reconstructions import psnr, reconstructions
from deconvkit.visualize.sparsity import mean_activations
from deconvkit.visualize.unpooling import UnpooledPicture, dots, in_place, spread, unpooling

RANDOM = np.random.default_rng(0)


def fields_figure() -> Figure:
    return receptive_fields(
        RANDOM.standard_normal((25, 8, 8)),
        RANDOM.standard_normal((25, 8, 8)),
        "Title",
        "a note\nof two lines",
    )


def reconstructions_figure() -> Figure:
    image = RANDOM.random((64, 96))
    patches = RANDOM.random((16, 8, 8))
    return reconstructions(
        [("one", image), ("two", image), ("three", image)], patches, patches, "Title", "note"
    )


def activations_figure() -> Figure:
    code = RANDOM.random((500, 25)) * 0.02
    return mean_activations(code.mean(0), code, 0.01, 0.002, "Title", "note")


def unpooling_figure() -> Figure:
    picture = RANDOM.random((32, 48))
    rows = [
        UnpooledPicture("a name", picture, picture[::8, ::8], picture, picture, as_dots)
        for as_dots in (False, True)
    ]
    return unpooling(rows, (slice(0, 32), slice(0, 48)), "Title", "a note\nof two lines")


def panels_figure() -> Figure:
    shown = [Panel(RANDOM.random((32, 48)), f"panel {i}: a name of it" * (1 + i)) for i in range(5)]
    return panels(shown, 3, "Title", "a note\nof two lines")


def label_map_figure() -> Figure:
    labels = RANDOM.integers(0, 21, (30, 60))
    names = [f"class {i} with a long name, longer than fits" for i in range(21)]
    note = "a photograph of a long name: " + "seen in this way and in that, " * 8
    return label_map(RANDOM.random((30, 60, 3)), labels, names, label_colours(21), "Title", note)


def predictions_figure() -> Figure:
    pictures = [(f"a file with a long name {i}.jpg", RANDOM.random((8, 8))) for i in range(5)]
    names = [f"class {i} with a long name" for i in range(12)]
    return predictions(pictures, RANDOM.dirichlet(np.ones(12), 5), names, "Title", "note")


def rows_figure() -> Figure:
    images = RANDOM.random((10, 16, 16, 3))
    names = [*CLASSES, "does not count"]
    legend = list(zip(names, label_colours(len(names)), strict=True))
    rows = [("image", images), ("taken for a class with a long name", images), ("network", images)]
    return image_rows(rows, "Title", "note", legend)


FIGURES = [
    *(fields_figure, reconstructions_figure, activations_figure, unpooling_figure),
    *(panels_figure, label_map_figure, predictions_figure, rows_figure),
]


@pytest.mark.parametrize("make", FIGURES)
def test_texts_lie_inside_the_figure_and_apart(make: Callable[[], Figure]) -> None:
    figure = make()
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    boxes = []
    texts = [*figure.texts]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        legend = axes.get_legend()
        texts += legend.get_texts() if legend else []
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    for text in texts:
        if text.get_text().strip() and text.get_visible():
            box = text.get_window_extent()
            assert box.x0 >= 0, text
            assert box.y0 >= 0, text
            assert box.x1 <= width, text
            assert box.y1 <= height, text
            boxes.append((text.get_text(), box))
    assert len(boxes) >= 5
    for i, (name, box) in enumerate(boxes):
        for other, there in boxes[i + 1 :]:
            overlap = (
                min(box.x1, there.x1) - max(box.x0, there.x0),
                min(box.y1, there.y1) - max(box.y0, there.y0),
            )
            assert min(overlap) <= 1, (name, other)


@pytest.mark.parametrize("make", FIGURES)
def test_saved_as_png(make: Callable[[], Figure], tmp_path: Path) -> None:
    path = canvas.save_png(make(), tmp_path / "picture.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width >= 1000
        assert len(image.convert("L").getcolors()) > 50
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_save_replaces_whole_files_or_leaves_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = canvas.new_figure(3, 2, "Title", "note")
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")

    def interrupted(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            canvas.save_png(figure, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]
    canvas.save_png(figure, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OSError, match="no-folder"):
        canvas.save_png(figure, tmp_path / "no-folder" / "picture.png")


def test_no_global_state() -> None:
    import matplotlib.pyplot as plt

    fields_figure()
    assert plt.get_fignums() == []


def test_orientation_index() -> None:
    y, x = np.mgrid[:8, :8] / 8
    angles = np.arange(6) * np.pi / 6
    gratings = np.stack([np.sin(9 * (np.cos(a) * x + np.sin(a) * y)) for a in angles])
    assert orientation_index(gratings).min() > 0.95
    assert orientation_index(RANDOM.standard_normal((2000, 8, 8))).mean() == pytest.approx(0.16, abs=0.03)
    blob = np.exp(-20 * ((x - 7 / 16) ** 2 + (y - 7 / 16) ** 2))
    assert orientation_index(np.stack([blob, np.zeros((8, 8))])) == pytest.approx([0, 0], abs=1e-9)


def test_label_colours_are_those_of_voc() -> None:
    colours = (label_colours(21) * 255).round().astype(int).tolist()
    assert colours[:5] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert colours[15] == [192, 128, 128]  # person
    assert colours[20] == [0, 64, 128]


def test_mosaic() -> None:
    fields = np.array([[[1.0, -2.0]], [[0.0, 0.0]], [[3.0, 1.5]]])
    np.testing.assert_array_equal(
        mosaic(fields, 2),
        [
            [0.5, -1.0, np.nan, 0.0, 0.0],
            [np.nan] * 5,
            [1.0, 0.5, np.nan, np.nan, np.nan],
        ],
    )


def test_psnr() -> None:
    assert psnr(np.full((4, 4), 0.6), np.full((4, 4), 0.5)) == pytest.approx(20)


def test_unpooled_values_in_place_dots_and_spread() -> None:
    original = np.arange(1.0, 26).reshape(5, 5)
    unpooled = np.zeros((5, 5))
    unpooled[1, 1] = original[1, 1]
    unpooled[3, 4] = 99
    assert in_place(unpooled, original) == 0.5
    assert in_place(np.zeros((5, 5)), original) == 0
    drawn = dots(unpooled)
    assert (drawn[:3, :3] == original[1, 1]).all()
    assert (drawn[2:, 3:] == 99).all()
    assert drawn[0, 4] == 0
    filled = spread(np.where(unpooled, 3.0, 0.0))
    np.testing.assert_allclose(filled, 3.0)
    assert spread(unpooled, 0.5)[0, 0] == pytest.approx(original[1, 1], rel=0.1)
