"""Convolutions against cuDNN in both layouts, each with the activation that ours has in the same pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import deconvkit
from benchmarks.gpu.contest import DTYPES, Case, Contest, Run, is_tiny
from deconvkit.bench.layers import Conv
from deconvkit.ops._convolution import activate_, activation_of
from deconvkit.ops.conv_weight_grad import ConvWeightGrad

LAYOUTS = {"": torch.contiguous_format, "_channels_last": torch.channels_last}
L2_BYTES = 64 << 20  # of the largest cards
MOST_BUFFERS = 16


def deconv(*args: Any) -> Conv:
    """A transposed convolution."""
    return Conv("", *args, transposed=True)


# Kernel, stride, padding and output padding of DCGAN's layers, as the lecture draws them and as is usual.
DOUBLINGS = ((5, 2, 2, 1), (4, 2, 1))
LAST = tuple(deconv(128, 128, 3, (32, 32), *doubling) for doubling in DOUBLINGS)
MIDDLE = tuple(
    deconv(128, channels, channels // 2, (side, side), *doubling)
    for doubling in DOUBLINGS
    for channels, side in ((1024, 4), (512, 8), (256, 16))
)
UNET = deconv(8, 128, 64, (256, 256), 2, 2)
VGG = Conv("", 32, 64, 64, (224, 224), 3, 1, 1)
# One of each class that "auto" tells apart, and must choose an algorithm for.
CLASSES = (
    *LAST,
    *MIDDLE[::2],
    UNET,
    VGG,
    Conv("", 32, 256, 256, (56, 56), 3, 1, 1),
    Conv("", 32, 512, 512, (14, 14), 3, 1, 1),
    Conv("", 32, 256, 64, (56, 56), 1),
    Conv("", 32, 3, 64, (224, 224), 3, 1, 1),
    deconv(8, 21, 21, (28, 28), 16, 8, 4),
    deconv(8, 21, 21, (28, 28), 16, 8, 4, 0, 21),
)


def ours_of(dtype: str) -> tuple[str, ...]:
    """The kernels on tensor cores: of 16 bits Hopper has one of its own, beside that of all others."""
    return ("implicit_gemm", "implicit_gemm_mma") if dtype == "bfloat16" else ("implicit_gemm",)


def layers(dtype: str) -> list[Case]:
    """The layers of the lecture's networks, with their activations; without, only for the record."""
    if dtype == "float32":
        return [
            *(forward(layer, dtype, "tanh", goal=2) for layer in LAST),
            *(forward(layer, dtype, "relu", goal=1.3) for layer in MIDDLE),
            *(forward(layer, "tf32", "relu") for layer in MIDDLE),
        ]
    return [
        *(forward(layer, dtype, "tanh", goal=2) for layer in LAST),
        *(forward(layer, dtype, "relu", goal=1) for layer in MIDDLE),
        forward(UNET, dtype, "relu", goal=1.2),
        forward(VGG, dtype, "relu", goal=1.1),
        *(forward(layer, dtype) for layer in MIDDLE),
    ]


def small_batches(dtype: str) -> list[Case]:
    """DCGAN's layers where few pixels share the weights."""
    return [
        forward(dataclasses.replace(layer, batch=batch), dtype, "relu", goal=1.1)
        for batch in (1, 4, 16)
        for layer in MIDDLE
    ]


def algorithms(dtype: str) -> list[Case]:
    """What "auto" is to choose between: output, gradient of the input and of the weight of each class."""
    data = "direct", *ours_of(dtype)
    return [
        case
        for layer in CLASSES
        for case in (
            forward(layer, dtype, ours=data),
            forward(mirrored(layer), dtype, ours=data),
            weight_gradient(layer, dtype, ("direct", "implicit_gemm")),
        )
    ]


def mirrored(layer: Conv) -> Conv:
    """The layer's backward by its input."""
    return dataclasses.replace(
        layer,
        in_channels=layer.out_channels,
        out_channels=layer.in_channels,
        size=layer.output_shape[2:],
        output_padding=0,  # of ours a transposed convolution has none: none has a stride
        transposed=not layer.transposed,
    )


def shrunk(layer: Conv) -> Conv:
    """A few numbers of the layer."""
    channels = [min(n, 4) for n in (layer.in_channels, layer.out_channels)]
    groups = min(layer.groups, 4)
    return dataclasses.replace(
        layer,
        batch=min(layer.batch, 2),
        in_channels=channels[0],
        out_channels=channels[1],
        size=tuple([min(n, 8) for n in layer.size]),
        groups=groups,
    )


def op_of(layer: Conv) -> str:
    """The operator's name, here and in torch."""
    return "conv_transpose2d" if layer.transposed else "conv2d"


# ---- the contests ----


def forward(
    layer: Conv, dtype: str, activation: str | None = None, goal: float = 0, ours: tuple[str, ...] = ()
) -> Case:
    """An output; with an activation, a bias too unless that is tanh, before which DCGAN has none.

    Ours are those on tensor cores unless told.
    """
    bias = activation == "relu"
    text = layer.shape + ", bias" * bias + (f", {activation}" if activation else "")
    build = partial(_forward, layer, dtype, activation, bias, ours or ours_of(dtype))
    return Case(op_of(layer), text, dtype, {"cudnn": goal} if goal else {}, build)


def _forward(
    layer: Conv, dtype: str, activation: str | None, bias: bool, ours: tuple[str, ...], device: str
) -> Contest:
    buffers = buffers_of(layer, dtype)
    layer = shrunk(layer) if is_tiny(device) else layer
    op = op_of(layer)
    theirs: Callable[..., Tensor] = getattr(F, op)
    own: Callable[..., Tensor] = getattr(deconvkit, op)
    arguments, applied = layer.arguments, activation_of(op, activation)
    operands = [_operands(layer, dtype, device) for _ in range(buffers)]
    if not bias:
        operands = [(x, weight, None) for x, weight, _ in operands]
    runs: dict[str, Run] = {}
    for suffix, memory_format in LAYOUTS.items():
        placed = [
            (x.contiguous(memory_format=memory_format), w.contiguous(memory_format=memory_format), b)
            for x, w, b in operands
        ]
        runs[f"cudnn{suffix}"] = lambda i, t=placed: activate_(theirs(*t[i], **arguments), *applied)
        for algorithm in ours:
            runs[f"deconvkit_{algorithm}{suffix}"] = lambda i, t=placed, a=algorithm: own(
                *t[i], **arguments, activation=activation, algorithm=a
            )
    return Contest(runs, *_work(layer, dtype), buffers)


def weight_gradient(layer: Conv, dtype: str, ours: tuple[str, ...]) -> Case:
    """The gradient of the weight, from both sides."""
    return Case("conv_weight_grad", layer.shape, dtype, {}, partial(_weight_gradient, layer, dtype, ours))


def _weight_gradient(layer: Conv, dtype: str, ours: tuple[str, ...], device: str) -> Contest:
    buffers = buffers_of(layer, dtype)
    layer = shrunk(layer) if is_tiny(device) else layer
    convolution = mirrored(layer) if layer.transposed else layer
    stride, padding, groups = layer.stride, layer.padding, layer.groups
    kernel, shape = (layer.kernel,) * 2, convolution.weight_shape
    pairs = ((stride,) * 2, (padding,) * 2, (1, 1))
    sides = [
        [torch.randn(s, device=device, dtype=DTYPES[dtype]) for s in (layer.output_shape, layer.input_shape)]
        for _ in range(buffers)
    ]  # small and large
    if layer.transposed:
        sides = [side[::-1] for side in sides]
    runs: dict[str, Run] = {}
    for suffix, memory_format in LAYOUTS.items():
        placed = [[t.contiguous(memory_format=memory_format) for t in side] for side in sides]
        runs[f"cudnn{suffix}"] = lambda i, t=placed: torch.nn.grad.conv2d_weight(
            t[i][1], shape, t[i][0], stride, padding, 1, groups
        )
        last = memory_format == torch.channels_last
        for algorithm in ours:
            runs[f"deconvkit_{algorithm}{suffix}"] = lambda i, t=placed, a=algorithm, last=last: (
                ConvWeightGrad.call(*t[i], kernel, *pairs, groups, last, a)
            )
    return Contest(runs, *_work(layer, dtype), buffers)


def _operands(layer: Conv, dtype: str, device: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """Input, weight and bias; outputs are near 1."""
    x, weight, bias = (
        torch.randn(shape, device=device)
        for shape in (layer.input_shape, layer.weight_shape, (layer.out_channels,))
    )
    products = layer.forward_work(1).flops / 2 / torch.Size(layer.output_shape).numel()
    weight *= products**-0.5
    return x.to(DTYPES[dtype]), weight.to(DTYPES[dtype]), bias.to(DTYPES[dtype])


def _work(layer: Conv, dtype: str) -> tuple[int, int]:
    """Bytes and operations of a pass: each reads two of the same three tensors and writes one."""
    work = layer.forward_work(DTYPES[dtype].itemsize)
    return work.bytes, work.flops


def buffers_of(layer: Conv, dtype: str) -> int:
    """So many that what a call reads is in L2 no more when its turn comes again."""
    return min(MOST_BUFFERS, max(2, -(-2 * L2_BYTES // _work(layer, dtype)[0])))
