"""Histograms of how often units are on."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deconvkit.visualize import canvas

Array = NDArray[np.float64]


def mean_activations(
    rho_hat: Array, code: Array, rho: float, tolerance: float, title: str, note: str
) -> Figure:
    """Two histograms: ρ̂ of the N units around the wanted ρ, and the activations (M, N) behind those means."""
    figure = canvas.new_figure(9.2, 4.4, title, note, left=0.75, bottom=0.62)
    means, values = figure.subplots(1, 2, gridspec_kw={"wspace": 0.28})

    reach = 1.5 * max(tolerance, float(np.abs(rho_hat - rho).max()))
    means.axvspan(rho - tolerance, rho + tolerance, color=canvas.ACCENT, alpha=0.1, lw=0)
    means.hist(rho_hat, bins=np.linspace(rho - reach, rho + reach, 31).tolist(), color=canvas.BARS)
    means.axvline(rho, color=canvas.ACCENT, lw=1.5)
    means.set_title(f"mean activation of each of the {len(rho_hat)} units", fontsize=10, color=canvas.INK)
    canvas.plain_axes(means, "ρ̂, mean over the samples", "units")
    means.yaxis.get_major_locator().set_params(integer=True)
    top = means.get_ylim()[1]
    means.set_ylim(0, 1.15 * top)
    means.text(rho, 1.08 * top, f"  ρ = {rho:g}", color=canvas.ACCENT, fontsize=9)
    means.text(rho - tolerance, 1.08 * top, f" ±{tolerance:g}", color=canvas.ACCENT, fontsize=9, alpha=0.8)

    values.hist(code.ravel(), bins=np.linspace(0, 1, 41).tolist(), color=canvas.BARS, log=True)
    values.set_title("all activations: nearly always off", fontsize=10, color=canvas.INK)
    canvas.plain_axes(values, "activation of a unit for a sample", "activations (log scale)")
    return figure
