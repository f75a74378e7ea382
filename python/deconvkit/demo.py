"""``deconvkit demo``: the operators at work on real pictures, with the figures that show that they work.

The network and its recipe are the lecture's: a sparse autoencoder of 25 units on 8×8 patches of photographs,
all 10,000 of them in one batch, by L-BFGS in float64. Needs the extra [demo].
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

import deconvkit
from deconvkit import timing
from deconvkit.data import photographs
from deconvkit.folders import writable
from deconvkit.gradient_check import gradient_error
from deconvkit.models import SparseAutoencoder
from deconvkit.visualize import canvas
from deconvkit.visualize.receptive_fields import orientation_index, receptive_fields
from deconvkit.visualize.reconstructions import psnr, reconstructions
from deconvkit.visualize.sparsity import mean_activations
from deconvkit.visualize.unpooling import UnpooledPicture, unpooling

Array = NDArray[np.float64]

PATCH = 8
UNITS = 25
RHO = 0.01
BETA = 3.0
WEIGHT_DECAY = 1e-4

# What the figures must reach.
GRADIENT_LIMIT = 1e-9
RHO_TOLERANCE = 0.002
ORIENTATION_LEAST = 0.5


@dataclass
class LayerTime:
    """One row of the table: seconds of torch and of deconvkit, and how far their results lie apart."""

    layer: str
    torch: timing.Seconds
    deconvkit: timing.Seconds
    difference: float  # largest, relative to the largest value


@dataclass
class Report:
    """What the demo found."""

    gradient_error: float = 0.0
    cost_before: float = 0.0
    cost_after: float = 0.0
    rho_hat: tuple[float, float] = (0.0, 0.0)  # smallest, largest
    orientation: float = 0.0
    orientation_untrained: float = 0.0
    layers: list[LayerTime] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)

    def missed(self) -> list[str]:
        """Which of the figures are not what they should be."""
        low, high = self.rho_hat
        missed = []
        if not self.gradient_error < GRADIENT_LIMIT:
            missed.append(f"gradient error {self.gradient_error:.1e} (< {GRADIENT_LIMIT:g})")
        if not max(RHO - low, high - RHO) <= RHO_TOLERANCE:
            missed.append(f"ρ̂ {low:.4f} to {high:.4f} ({RHO:g} ± {RHO_TOLERANCE:g})")
        if not self.orientation >= ORIENTATION_LEAST:
            missed.append(f"orientation index {self.orientation:.2f} (>= {ORIENTATION_LEAST:g})")
        return missed


def run(
    out: str | os.PathLike[str],
    seed: int = 0,
    *,
    iterations: int = 400,
    patches: int = 10_000,
    rounds: int = 15,
) -> Report:
    """Train, draw and time; prints what it finds and shows progress on stderr.

    Args:
        out: folder for the pictures, made if missing.
        seed: decides the patches and the first weights.
        iterations: of L-BFGS.
        patches: 8×8 patches to train on.
        rounds: of the timings.

    Raises:
        FolderError: ``out`` is no folder or cannot be written.
    """
    begin = time.perf_counter()
    folder = writable(out)
    folder.mkdir(parents=True, exist_ok=True)
    report = Report()
    photos = photographs.sample_photographs()
    centred = photographs.random_patches(list(photos.values()), patches, PATCH, np.random.default_rng(seed))
    scale = photographs.PatchScale.of(centred)
    data = torch.from_numpy(scale.apply(centred))
    torch.manual_seed(seed)
    model = SparseAutoencoder(PATCH * PATCH, UNITS, RHO, BETA, WEIGHT_DECAY, dtype=torch.float64)
    untrained = _fields(model)
    _say("patches", f"{patches:,} of {PATCH}x{PATCH} pixels from {len(photos)} photographs")

    report.gradient_error = _check_gradient(model, data)
    _say("gradient", f"{report.gradient_error:.1e} from central differences, wanted < {GRADIENT_LIMIT:g}")

    start = time.perf_counter()
    report.cost_before, report.cost_after = train(model, data, iterations)
    _say(
        "training",
        f"cost {report.cost_before:.2f} -> {report.cost_after:.4f} in {iterations} iterations, "
        f"{time.perf_counter() - start:.1f} s",
    )
    with torch.no_grad():
        code = model.encode(data).numpy()
    rho_hat = code.mean(0)
    report.rho_hat = float(rho_hat.min()), float(rho_hat.max())
    low, high = report.rho_hat
    _say(
        "mean activation",
        f"{low:.4f} to {high:.4f} over the {UNITS} units, wanted {RHO:g} ± {RHO_TOLERANCE:g}",
    )
    report.orientation = float(orientation_index(_fields(model)).mean())
    report.orientation_untrained = float(orientation_index(untrained).mean())
    _say(
        "orientation",
        f"index {report.orientation:.2f}, wanted >= {ORIENTATION_LEAST:g}; "
        f"random weights {report.orientation_untrained:.2f}",
    )

    drawings: dict[str, Callable[[], Figure]] = {
        "receptive_fields.png": lambda: _draw_fields(_fields(model), untrained),
        "reconstruction.png": lambda: _draw_reconstruction(model, photos["china"], scale, data, code),
        "mean_activations.png": lambda: mean_activations(
            rho_hat,
            code,
            RHO,
            RHO_TOLERANCE,
            "How often the units are on",
            f"The sparsity penalty pulls the mean activation ρ̂ of every unit towards ρ; {patches:,} patches.",
        ),
        "unpooling.png": lambda: _draw_unpooling(photos["china"]),
    }
    for name in _bar(drawings, "drawing"):
        report.pictures.append(canvas.save_png(drawings[name](), folder / name))

    report.layers = _time_layers(rounds)
    _print_table(report.layers)
    print(f"pictures in {folder.resolve()}: {', '.join(path.name for path in report.pictures)}")
    print(f"{time.perf_counter() - begin:.0f} s in all", flush=True)
    return report


def train(model: SparseAutoencoder, data: Tensor, iterations: int) -> tuple[float, float]:
    """Minimise the model's loss over all of ``data`` at once by L-BFGS; returns the cost before and after."""
    optimiser = torch.optim.LBFGS(
        model.parameters(),
        max_iter=iterations,
        max_eval=2 * iterations,
        tolerance_grad=0,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    state = optimiser.state[next(model.parameters())]
    with _bar(None, "training", total=iterations) as bar:

        def cost() -> float:
            optimiser.zero_grad()
            loss = model.loss(model(data), data)
            loss.backward()
            bar.set_postfix(cost=f"{loss.item():.4f}", refresh=False)
            bar.update(state.get("n_iter", 0) - bar.n)
            return loss.item()

        before = float(optimiser.step(cost))
    with torch.no_grad():
        return before, model.loss(model(data), data).item()


def _check_gradient(model: SparseAutoencoder, data: Tensor) -> float:
    sample = data[:: max(1, len(data) // 100)]
    parameters = list(model.parameters())
    with _bar(None, "gradient check", sum(p.numel() for p in parameters), "weight") as bar:

        def counted(places: range) -> Iterator[int]:
            for i in places:
                yield i
                bar.update()

        # Thousands of tiny passes: threads would only wait for one another.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return gradient_error(lambda: model.loss(model(sample), sample), parameters, progress=counted)
        finally:
            torch.set_num_threads(threads)


def _fields(model: SparseAutoencoder) -> Array:
    return model.encoder.weight.detach().numpy().reshape(-1, PATCH, PATCH).copy()


def _draw_fields(learned: Array, untrained: Array) -> Figure:
    return receptive_fields(
        learned,
        untrained,
        f"What the {UNITS} units of the code look for",
        f"Weights from {PATCH}×{PATCH} pixels into each unit of a sparse autoencoder trained on patches "
        "of two photographs.\nThe orientation index is 1 for straight bars and edges, near 0.15 for noise.",
    )


def _draw_reconstruction(
    model: SparseAutoencoder, photo: Array, scale: photographs.PatchScale, data: Tensor, code: Array
) -> Figure:
    tiles = photographs.tile(photo, PATCH)
    means = tiles.mean(axis=1, keepdims=True)
    # From the patch that excites the code most to the one that excites it least, ever larger steps.
    ranks = np.geomspace(10, len(data) + 9, 16).astype(int) - 10
    chosen = np.argsort(-code.max(axis=1))[ranks]
    with torch.no_grad():
        tiles_out = model(torch.from_numpy(scale.apply(tiles - means))).reconstruction.numpy()
        restored = model(data[chosen]).reconstruction.numpy()
    height, width = photo.shape
    original, blurred, with_code = (
        photographs.untile(t, height, width, PATCH)
        for t in (tiles, np.broadcast_to(means, tiles.shape), scale.undo(tiles_out) + means)
    )
    return reconstructions(
        [
            ("original", original),
            (f"the mean of every patch: {psnr(blurred, original):.1f} dB", blurred),
            (f"mean and {UNITS} sparse units: {psnr(with_code, original):.1f} dB", with_code),
        ],
        data[chosen].numpy().reshape(-1, PATCH, PATCH),
        restored.reshape(-1, PATCH, PATCH),
        "What the code remembers",
        f"Above: a photograph cut into {PATCH}×{PATCH} patches, each restored from its mean and its sparse "
        "code.\nBelow: patches without their means, from that which excites the code most to the least.",
    )


def pool_and_unpool(picture: Tensor, times: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pool (N, C, H, W) by 2×2 ``times`` times, and unpool it again.

    Returns:
        The pooled maps; those unpooled by their switches; and unpooled to the first cell of every window.
    """
    pooled, way = picture, []
    for _ in range(times):
        size = pooled.shape[2:]
        pooled, switches = deconvkit.max_pool2d_with_switches(pooled, 2)
        way.append((switches, size))
    by_switches = corners = pooled
    for switches, size in reversed(way):
        by_switches = deconvkit.max_unpool2d(by_switches, switches, 2, output_size=size)
        corners = deconvkit.max_unpool2d(corners, torch.zeros_like(switches), 2, output_size=size)
    return pooled, by_switches, corners


def _draw_unpooling(photo: Array) -> Figure:
    photo = photo[: photo.shape[0] // 8 * 8, : photo.shape[1] // 8 * 8]
    down, across = np.gradient(photo)
    edges = np.hypot(down, across)
    edges = np.clip(edges / np.quantile(edges, 0.998), 0, 1)
    rows = []
    for name, image, as_dots in (("the photograph", photo, False), ("its edges", edges, True)):
        results = pool_and_unpool(torch.from_numpy(image)[None, None], 3)
        pooled, by_switches, corners = (result[0, 0].numpy() for result in results)
        rows.append(UnpooledPicture(name, image, pooled, by_switches, corners, as_dots))
    return unpooling(
        rows,
        (slice(104, 296), slice(168, 456)),
        "What switches are worth",
        "A photograph max-pooled three times by 2×2 and unpooled again. Switches put every value back where "
        "it came from; without them all go to a corner.\nAbove, the values are spread over the gaps between "
        "them; below, each is a dot.",
    )


def _layers() -> Iterator[tuple[str, Callable[[], Tensor], Callable[[], Tensor]]]:
    """Name, torch's way, ours; both return what is compared."""
    maps = torch.randn(4, 64, 112, 112)
    pooled, indices = F.max_pool2d(maps, 2, return_indices=True)
    switches = deconvkit.max_pool2d_with_switches(maps, 2)[1]
    yield (
        "max_pool2d, 4x64x112x112, 2x2",
        lambda: F.max_pool2d(maps, 2, return_indices=True)[0],
        lambda: deconvkit.max_pool2d_with_switches(maps, 2)[0],
    )
    yield (
        "max_unpool2d, 4x64x56x56, 2x2",
        lambda: F.max_unpool2d(pooled, indices, [2, 2]),
        lambda: deconvkit.max_unpool2d(pooled, switches, 2),
    )

    z = torch.randn(4096, 1024, requires_grad=True)
    upstream = torch.randn(4096, 1024)

    def backward(activations: Tensor, penalty: Tensor) -> Tensor:
        return torch.autograd.grad((activations, penalty), z, (upstream, torch.ones(())))[0]

    def sparse_torch() -> Tensor:
        activations = torch.sigmoid(z)
        mean = activations.mean(0)
        penalty = RHO * torch.log(RHO / mean) + (1 - RHO) * torch.log((1 - RHO) / (1 - mean))
        return backward(activations, BETA * penalty.sum())

    yield (
        "sparse_sigmoid, 4096x1024, with backward",
        sparse_torch,
        lambda: backward(*deconvkit.sparse_sigmoid(z, RHO, BETA)),
    )

    for batch, channels, out, size, kernel, padding, extra in (
        (16, 256, 128, 16, 4, 1, 0),
        (16, 128, 3, 32, 5, 2, 1),
    ):
        tensors = torch.randn(batch, channels, size, size), torch.randn(channels, out, kernel, kernel)
        options: dict[str, Any] = {"stride": 2, "padding": padding, "output_padding": extra}
        yield (
            f"conv_transpose2d, {batch}x{channels}x{size}x{size} to {out}, {kernel}x{kernel}, stride 2",
            partial(F.conv_transpose2d, *tensors, **options),
            partial(deconvkit.conv_transpose2d, *tensors, **options),
        )


def _time_layers(rounds: int) -> list[LayerTime]:
    rows = []
    for name, theirs, ours in _bar(list(_layers()), "timing"):
        expected = theirs()
        difference = ((ours() - expected).abs().max() / expected.abs().max()).item()
        times = timing.interleaved({"torch": theirs, "deconvkit": ours}, rounds=rounds, budget=2.0)
        rows.append(LayerTime(name, times["torch"], times["deconvkit"], difference))
    return rows


def _print_table(rows: list[LayerTime]) -> None:
    width = max((len(row.layer) for row in rows), default=5)
    print(f"\nfloat32, {torch.get_num_threads()} threads, medians of interleaved runs")
    print(f"{'layer':<{width}}  {'torch':>9}  {'deconvkit':>9}  {'faster':>7}  difference")
    for row in rows:
        theirs, ours = row.torch.p50, row.deconvkit.p50
        print(
            f"{row.layer:<{width}}  {1e3 * theirs:>6.2f} ms  {1e3 * ours:>6.2f} ms  {theirs / ours:>6.2f}x  "
            f"{row.difference:.0e}"
        )
    print()


def _bar(items: Any, what: str, total: int | None = None, unit: str = "it") -> Any:
    """A progress bar on stderr; where nobody watches, in a log, it moves seldom."""
    return tqdm(items, desc=what, total=total, unit=unit, mininterval=0.1 if sys.stderr.isatty() else 5.0)


def _say(name: str, text: str) -> None:
    print(f"{name:<16}{text}", flush=True)
