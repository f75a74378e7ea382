"""Slow, obvious NumPy versions of every op, in float64: what the tests hold the kernels against."""

import math
from collections.abc import Iterator

import numpy as np

Array = np.ndarray
Pair = tuple[int, int]


# ---- pooling by switches; every tensor is (N, C, H, W), a switch of -1 says "no valid cell" ----


def window(
    oh: int, ow: int, size: Pair, k: Pair, s: Pair, p: Pair, d: Pair
) -> Iterator[tuple[int, int, int]]:
    """(switch, row, column) of every cell of window (oh, ow) that lies inside a plane of this size."""
    for kh in range(k[0]):
        for kw in range(k[1]):
            h, w = oh * s[0] - p[0] + kh * d[0], ow * s[1] - p[1] + kw * d[1]
            if 0 <= h < size[0] and 0 <= w < size[1]:
                yield kh * k[1] + kw, h, w


def max_pool2d(x: Array, out: Pair, k: Pair, s: Pair, p: Pair, d: Pair) -> tuple[Array, Array]:
    """Output and switches of the given size."""
    output = np.full((*x.shape[:2], *out), -math.inf)
    switches = np.full(output.shape, -1)
    for n, c, oh, ow in np.ndindex(*output.shape):
        for at, h, w in window(oh, ow, x.shape[2:], k, s, p, d):
            value = x[n, c, h, w]
            if switches[n, c, oh, ow] < 0 or value > output[n, c, oh, ow] or math.isnan(value):
                output[n, c, oh, ow], switches[n, c, oh, ow] = value, at
    return output, switches


def _targets(
    switches: Array, size: Pair, k: Pair, s: Pair, p: Pair, d: Pair
) -> Iterator[tuple[tuple, tuple]]:
    """(pooled position, position in the plane) of every switch that names a cell, in row-major order."""
    for n, c, oh, ow in np.ndindex(*switches.shape):
        for at, h, w in window(oh, ow, size, k, s, p, d):
            if at == switches[n, c, oh, ow]:
                yield (n, c, oh, ow), (n, c, h, w)


def max_pool2d_backward(grad: Array, switches: Array, size: Pair, *geometry: Pair) -> Array:
    """Sum over the windows of what each sends to its cell."""
    result = np.zeros((*grad.shape[:2], *size))
    for source, target in _targets(switches, size, *geometry):
        result[target] += grad[source]
    return result


def max_pool2d_gather(x: Array, switches: Array, *geometry: Pair) -> Array:
    """What each window's switch names, zero without a valid cell."""
    result = np.zeros(switches.shape)
    for target, source in _targets(switches, x.shape[2:], *geometry):
        result[target] = x[source]
    return result


def max_unpool2d(x: Array, switches: Array, size: Pair, *geometry: Pair) -> Array:
    """Every value in its cell, the last in row-major order where several share one."""
    result = np.zeros((*x.shape[:2], *size))
    for source, target in _targets(switches, size, *geometry):
        result[target] = x[source]
    return result


def max_unpool2d_backward(grad: Array, switches: Array, *geometry: Pair) -> Array:
    """The gradient of each cell, to the value that won it alone."""
    result = np.zeros(switches.shape)
    winner = {cell: at for at, cell in _targets(switches, grad.shape[2:], *geometry)}
    for cell, at in winner.items():
        result[at] = grad[cell]
    return result


# ---- sparsity ----


def sigmoid(z: Array) -> Array:
    """σ(z), without overflow."""
    t = np.exp(-np.abs(z))
    return np.where(z < 0, t / (1 + t), 1 / (1 + t))


def sparse_kl(activations: Array, rho: float, beta: float = 1.0, unit_dim: int = 1) -> float:
    """β Σ_j KL(ρ‖ρ̂_j), unit by unit as the lecture writes it."""
    total = 0.0
    for unit in np.moveaxis(activations, unit_dim, 0):
        rho_hat = unit.mean()
        total += rho * np.log(rho / rho_hat) + (1 - rho) * np.log((1 - rho) / (1 - rho_hat))
    return beta * total


def sparse_kl_backward(activations: Array, rho: float, beta: float = 1.0, unit_dim: int = 1) -> Array:
    """The derivative of sparse_kl by each activation: β (-ρ/ρ̂_j + (1-ρ)/(1-ρ̂_j)) / M."""
    units = np.moveaxis(activations, unit_dim, 0)
    gradient = np.empty_like(units)
    for j, unit in enumerate(units):
        rho_hat = unit.mean()
        gradient[j] = beta * (-rho / rho_hat + (1 - rho) / (1 - rho_hat)) / unit.size
    return np.moveaxis(gradient, 0, unit_dim)


def sparse_sigmoid_backward(
    z: Array, upstream: Array, rho: float, beta: float = 1.0, unit_dim: int = 1
) -> Array:
    """The lecture's δ = f'(z) (upstream + β (-ρ/ρ̂ + (1-ρ)/(1-ρ̂)) / M)."""
    activations = sigmoid(z)
    return sigmoid(z) * sigmoid(-z) * (upstream + sparse_kl_backward(activations, rho, beta, unit_dim))


# ---- convolutions; large (N, CL, H, W), small (N, CS, H, W), weight (CS, CL/groups, KH, KW) ----


def joints(small: Pair, large: Pair, kernel: Pair, s: Pair, p: Pair, d: Pair) -> Iterator[tuple]:
    """(small position, large position, kernel position) of every product whose large cell exists."""
    for h, w, kh, kw in np.ndindex(*small, *kernel):
        y, x = h * s[0] - p[0] + kh * d[0], w * s[1] - p[1] + kw * d[1]
        if 0 <= y < large[0] and 0 <= x < large[1]:
            yield (..., h, w), (..., y, x), (..., kh, kw)


def groups_of(small: Array, large: Array, groups: int) -> Iterator[tuple[slice, slice]]:
    """The channels of each group, on either side."""
    cs, cl = small.shape[1] // groups, large.shape[1] // groups
    for g in range(groups):
        yield slice(g * cs, (g + 1) * cs), slice(g * cl, (g + 1) * cl)


def conv2d(large: Array, weight: Array, size: Pair, s: Pair, p: Pair, d: Pair, groups: int) -> Array:
    """The small side, of the given size."""
    small = np.zeros((large.shape[0], weight.shape[0], *size))
    for cs, cl in groups_of(small, large, groups):
        for i, j, k in joints(size, large.shape[2:], weight.shape[2:], s, p, d):
            small[:, cs][i] += large[:, cl][j] @ weight[cs][k].T
    return small


def conv_transpose2d(
    small: Array, weight: Array, size: Pair, s: Pair, p: Pair, d: Pair, groups: int
) -> Array:
    """The large side, of the given size."""
    large = np.zeros((small.shape[0], weight.shape[1] * groups, *size))
    for cs, cl in groups_of(small, large, groups):
        for i, j, k in joints(small.shape[2:], size, weight.shape[2:], s, p, d):
            large[:, cl][j] += small[:, cs][i] @ weight[cs][k]
    return large


def conv_weight_grad(
    small: Array, large: Array, kernel: Pair, s: Pair, p: Pair, d: Pair, groups: int
) -> Array:
    """The weight's gradient, from one side and the gradient of the other."""
    weight = np.zeros((small.shape[1], large.shape[1] // groups, *kernel))
    for cs, cl in groups_of(small, large, groups):
        for i, j, k in joints(small.shape[2:], large.shape[2:], kernel, s, p, d):
            weight[cs][k] += small[:, cs][i].T @ large[:, cl][j]
    return weight


def activate(x: Array, activation: str | tuple[str, float] | None) -> Array:
    """The activation of a convolution's output."""
    if activation == "relu":
        return np.maximum(x, 0)
    if activation == "tanh":
        return np.tanh(x)
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-x))
    if activation is not None:
        slope = 0.2 if activation == "leaky_relu" else activation[1]
        return np.where(x > 0, x, slope * x)
    return x
