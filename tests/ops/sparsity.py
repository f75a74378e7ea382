"""What the tests of the sparsity penalty share: tolerances, shapes, layouts, torch's formulas, a check."""

import numpy as np
import torch
from torch import Tensor

from deconvkit import sparse_sigmoid
from tests import reference

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# Largest error of σ, relative error of the penalty, relative error of a gradient.
TOLERANCE = {
    torch.float32: (1e-7, 2e-6, 1e-6),
    torch.float64: (3e-16, 1e-13, 1e-14),
    torch.bfloat16: (4e-3, 2e-6, 1e-2),
    torch.float16: (5e-4, 2e-6, 2e-3),
}
RHO, BETA = 0.05, 3.0

# (shape, unit_dim): matrices narrower and wider than vectors and tiles, rows over several runs and blocks,
# planes of every kind of length, few and many units.
SHAPES = [
    ((1, 1), 1),
    ((7, 3), 1),
    ((5, 8), 1),
    ((64, 25), 1),
    ((65, 17), 1),
    ((200, 196), -1),
    ((3, 2100), 1),
    ((64, 784), 1),  # one block, several tiles
    ((10, 8300), 1),
    ((4200, 5), 1),
    ((9, 6), 0),
    ((40, 33), 0),
    ((11,), 0),
    ((4, 5, 3), 1),
    ((4, 5, 3), 2),
    ((4, 5, 3), 0),
    ((2, 3, 15), 1),
    ((3, 4, 16), 1),
    ((2, 3, 7, 7), 1),
    ((2, 3, 33, 31), -3),
    ((1, 2, 70, 130), 1),
    ((70, 3, 5, 5), 1),
    ((2, 3, 4, 2, 3, 2), 3),
]


def torch_penalty(activations: Tensor, rho: float, beta: float, unit_dim: int, complement: Tensor) -> Tensor:
    """The obvious formula; complement: 1 - activations, without cancellation."""
    others = [d for d in range(activations.dim()) if d != unit_dim % activations.dim()]
    on = activations.mean(others) if others else activations
    off = complement.mean(others) if others else complement
    return beta * (rho * (rho / on).log() + (1 - rho) * ((1 - rho) / off).log()).sum()


def torch_sparse_sigmoid(
    z: Tensor, rho: float, beta: float = 1.0, unit_dim: int = 1
) -> tuple[Tensor, Tensor]:
    activations = torch.sigmoid(z)
    return activations, torch_penalty(activations, rho, beta, unit_dim, torch.sigmoid(-z))


def numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def check_sparse_sigmoid(z: Tensor, unit_dim: int, rho: float = RHO, beta: float = BETA) -> None:
    """Forward and backward against NumPy, with a random upstream gradient and a weighted penalty."""
    value, relative, gradient = TOLERANCE[z.dtype]
    z = z.detach().requires_grad_()
    activations, penalty = sparse_sigmoid(z, rho, beta, unit_dim=unit_dim)
    assert activations.dtype == z.dtype
    assert activations.stride() == torch.sigmoid(z).stride()
    assert penalty.dtype == (torch.float64 if z.dtype == torch.float64 else torch.float32)
    assert penalty.shape == ()
    exact = reference.sigmoid(numpy(z))
    np.testing.assert_allclose(numpy(activations), exact, rtol=0, atol=value)
    np.testing.assert_allclose(penalty.item(), reference.sparse_kl(exact, rho, beta, unit_dim), rtol=relative)
    upstream = torch.randn(z.shape).to(z.dtype)
    (grad,) = torch.autograd.grad([activations, penalty], [z], [upstream, torch.full_like(penalty, 0.5)])
    expected = reference.sparse_sigmoid_backward(numpy(z), numpy(upstream), rho, beta / 2, unit_dim)
    np.testing.assert_allclose(
        numpy(grad), expected, rtol=gradient, atol=gradient * (1 + abs(expected).max()) / 4
    )


def layouts(shape=(4, 6, 5, 7)):
    plain = torch.randn(shape)
    big = torch.randn([2 * n + 1 for n in shape])
    yield "contiguous", plain
    yield "channels_last", plain.to(memory_format=torch.channels_last)
    yield "strided", big[1::2, ::2, 1::2, 1::2][: shape[0], : shape[1], : shape[2], : shape[3]]
    yield "offset", torch.randn(plain.numel() + 3)[3:].view(shape)
    yield "expanded", torch.randn(shape[0], 1, 1, shape[3]).expand(shape)
    yield "scalar expanded", torch.randn(()).expand(shape)
    yield "transposed", plain.transpose(0, 3).contiguous().transpose(0, 3)
    yield "permuted", plain.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2)
