"""The one table of layer shapes: what real networks ask of the operators, and a tiny layer for the overhead.

``bytes`` is what must travel at the least: inputs read once, outputs written once, switches as one byte.
``flops`` is what the direct algorithm computes, a multiply-add as two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Work:
    """Least bytes and direct flops of one pass."""

    bytes: int
    flops: int

    def __add__(self, other: Work) -> Work:
        return Work(self.bytes + other.bytes, self.flops + other.flops)


@dataclass(frozen=True)
class Layer:
    """What all layers have: a name and whether it is quick enough to be run unasked."""

    name: str
    quick: bool = field(default=False, kw_only=True)

    @property
    def shape(self) -> str:
        """The shape as the tables show it."""
        raise NotImplementedError

    def forward_work(self, item: int) -> Work:
        """Work of the forward with ``item`` bytes a value."""
        raise NotImplementedError

    def backward_work(self, item: int) -> Work:
        """Work of the backward."""
        raise NotImplementedError


def _x(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


@dataclass(frozen=True)
class Conv(Layer):
    """A convolution or, with ``transposed``, a transposed one; square in its kernel, stride and padding."""

    batch: int
    in_channels: int
    out_channels: int
    size: tuple[int, ...]
    kernel: int
    stride: int = 1
    padding: int = 0
    output_padding: int = 0
    groups: int = 1
    transposed: bool = False

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The input's shape."""
        return (self.batch, self.in_channels, *self.size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The weight's shape."""
        window = (self.kernel,) * len(self.size)
        if self.transposed:
            return (self.in_channels, self.out_channels // self.groups, *window)
        return (self.out_channels, self.in_channels // self.groups, *window)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The output's shape."""
        if self.transposed:
            extra = self.kernel - 2 * self.padding + self.output_padding
            spatial = tuple((n - 1) * self.stride + extra for n in self.size)
        else:
            spatial = tuple((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in self.size)
        return (self.batch, self.out_channels, *spatial)

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the operator."""
        arguments = {"stride": self.stride, "padding": self.padding, "groups": self.groups}
        return arguments | ({"output_padding": self.output_padding} if self.transposed else {})

    @property
    def shape(self) -> str:
        """The shape as the tables show it."""
        return (
            f"{_x(self.input_shape)} -> {_x(self.output_shape)}"
            + f", k{self.kernel} s{self.stride} p{self.padding}"
            + (f" op{self.output_padding}" if self.output_padding else "")
            + (f" g{self.groups}" if self.groups > 1 else "")
        )

    def forward_work(self, item: int) -> Work:
        """Inputs, weight and output; a product and a sum for each pair."""
        sites = math.prod(self.input_shape if self.transposed else self.output_shape)
        channels = self.out_channels if self.transposed else self.in_channels
        values = sum(map(math.prod, (self.input_shape, self.weight_shape, self.output_shape)))
        return Work(item * values, 2 * sites * channels // self.groups * self.kernel ** len(self.size))

    def backward_work(self, item: int) -> Work:
        """Gradients of input, weight and bias: twice the forward's products."""
        values = sum(
            map(math.prod, (self.input_shape, self.weight_shape, self.input_shape, self.weight_shape))
        )
        return Work(item * (values + math.prod(self.output_shape)), 2 * self.forward_work(item).flops)


def _deconv(name: str, *args: Any, **kwargs: Any) -> Conv:
    return Conv(name, *args, **{"transposed": True, **kwargs})


CONV_TRANSPOSE2D = (
    # The generator of Radford et al. 2015, as the lecture draws it.
    _deconv("dcgan2", 64, 1024, 512, (4, 4), 5, 2, 2, 1),
    _deconv("dcgan3", 64, 512, 256, (8, 8), 5, 2, 2, 1),
    _deconv("dcgan4", 64, 256, 128, (16, 16), 5, 2, 2, 1),
    _deconv("dcgan5", 64, 128, 3, (32, 32), 5, 2, 2, 1, quick=True),
    # The kernels that avoid checkerboards.
    _deconv("k4", 64, 256, 128, (16, 16), 4, 2, 1),
    _deconv("unet", 4, 256, 128, (64, 64), 2, 2),
    _deconv("fcn8s", 1, 21, 21, (28, 28), 16, 8, 4, quick=True),
    _deconv("tiny", 1, 1, 1, (2, 2), 2, 2, quick=True),
)

CONV2D = (
    Conv("vgg224", 4, 64, 64, (224, 224), 3, 1, 1),
    Conv("vgg112", 4, 128, 128, (112, 112), 3, 1, 1),
    Conv("vgg56", 4, 256, 256, (56, 56), 3, 1, 1),
    Conv("vgg28", 4, 512, 512, (28, 28), 3, 1, 1),
    Conv("vgg14", 4, 512, 512, (14, 14), 3, 1, 1, quick=True),
    # DCGAN's discriminator: the lecture's with kernels of 5x5, and the usual one of 4x4.
    *(
        Conv(f"disc{i}{suffix}", 64, *channels, (size, size), kernel, 2, padding)
        for suffix, kernel, padding in (("", 5, 2), ("k4", 4, 1))
        for i, (channels, size) in enumerate(
            (((3, 128), 64), ((128, 256), 32), ((256, 512), 16), ((512, 1024), 8)), 1
        )
    ),
    # 5x5 at stride 1: AlexNet's second (Krizhevsky 2014) and Inception-v3's (Szegedy et al. 2016).
    Conv("alexnet2", 64, 64, 192, (27, 27), 5, 1, 2),
    Conv("inception5", 16, 48, 64, (35, 35), 5, 1, 2),
    Conv("tiny", 1, 1, 1, (3, 3), 3, quick=True),
)

# The four upsamplings of HiFi-GAN V1 (Kong et al. 2020) of 128 frames, one utterance and eight.
CONV_TRANSPOSE1D = (
    *(
        _deconv(f"vocoder{i}b{batch}", batch, *shape, quick=(batch, i) == (1, 4))
        for batch in (1, 8)
        for i, shape in enumerate(
            (
                (512, 256, (128,), 16, 8, 4),
                (256, 128, (1024,), 16, 8, 4),
                (128, 64, (8192,), 4, 2, 1),
                (64, 32, (16384,), 4, 2, 1),
            ),
            1,
        )
    ),
    _deconv("tiny", 1, 1, 1, (2,), 2, 2, quick=True),
)


@dataclass(frozen=True)
class Pool(Layer):
    """Max-pooling of maps (batch, channels, size), or with the same numbers the unpooling back to them."""

    batch: int
    channels: int
    size: tuple[int, int]
    kernel: int = 2
    stride: int = 2
    padding: int = 0

    @property
    def map_shape(self) -> tuple[int, ...]:
        """The shape of the maps."""
        return (self.batch, self.channels, *self.size)

    @property
    def pooled_shape(self) -> tuple[int, ...]:
        """The shape of the pooled maps."""
        return (
            self.batch,
            self.channels,
            *((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in self.size),
        )

    @property
    def shape(self) -> str:
        """The shape as the tables show it."""
        window = f"{self.kernel}x{self.kernel} s{self.stride}" + (f" p{self.padding}" if self.padding else "")
        return f"{_x(self.map_shape)} <-> {_x(self.pooled_shape)}, {window}"

    def forward_work(self, item: int) -> Work:
        """Maps, pooled maps and one-byte switches, whichever of them is written."""
        pooled = math.prod(self.pooled_shape)
        return Work(item * (math.prod(self.map_shape) + pooled) + pooled, 0)

    def backward_work(self, item: int) -> Work:
        """Work of the backward."""
        return self.forward_work(item)


MAX_POOL2D = (
    Pool("vgg224", 4, 64, (224, 224)),
    Pool("dcgan32", 64, 128, (32, 32), quick=True),
    Pool("resnet112", 4, 64, (112, 112), 3, 2, 1, quick=True),
    Pool("tiny", 1, 1, (2, 2), quick=True),
)

MAX_UNPOOL2D = (
    Pool("vgg224", 4, 64, (224, 224)),
    Pool("dcgan32", 64, 128, (32, 32), quick=True),
    Pool("tiny", 1, 1, (2, 2), quick=True),
)


@dataclass(frozen=True)
class Code(Layer):
    """Activations (samples, units) under the sparsity penalty."""

    samples: int
    units: int

    @property
    def shape(self) -> str:
        """The shape as the tables show it."""
        return f"{self.samples}x{self.units}"

    def forward_work(self, item: int) -> Work:
        """Inputs, weight and output; a product and a sum for each pair."""
        return Work(2 * item * self.samples * self.units, 0)

    def backward_work(self, item: int) -> Work:
        """Activations and upstream gradient in, gradient out."""
        return Work(3 * item * self.samples * self.units, 0)


SPARSE_KL = (
    Code("large", 8192, 4096),
    Code("middle", 4096, 1024, quick=True),
    Code("digits", 256, 196, quick=True),
    Code("tiny", 2, 2, quick=True),
)


@dataclass(frozen=True)
class Generator(Layer):
    """A whole model: deconvkit.models.DCGANGenerator with these arguments."""

    batch: int
    latent_size: int = 100
    base_channels: int = 128
    image_size: int = 64
    channels: int = 3

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the model."""
        return {
            "latent_size": self.latent_size,
            "base_channels": self.base_channels,
            "image_size": self.image_size,
            "channels": self.channels,
        }

    @property
    def shape(self) -> str:
        """The shape as the tables show it."""
        image = (self.batch, self.channels, self.image_size, self.image_size)
        return f"{_x((self.batch, self.latent_size))} -> {_x(image)}"

    def _layers(self) -> list[Conv]:
        """The projection, as a convolution of 1x1 maps, and the transposed convolutions."""
        size, width = 4, self.base_channels * self.image_size // 8
        layers = [_deconv("", self.batch, self.latent_size, width, (1, 1), 4)]
        while size < self.image_size:
            out = self.channels if 2 * size == self.image_size else width // 2
            layers.append(_deconv("", self.batch, width, out, (size, size), 5, 2, 2, 1))
            size, width = 2 * size, out
        return layers

    def forward_work(self, item: int) -> Work:
        """The sum over the layers; normalisation and activations are taken to cost nothing."""
        return sum((layer.forward_work(item) for layer in self._layers()), Work(0, 0))

    def backward_work(self, item: int) -> Work:
        """Work of the backward."""
        return sum((layer.backward_work(item) for layer in self._layers()), Work(0, 0))


DCGAN_GENERATOR = (
    Generator("lecture", 64),
    Generator("tiny", 2, 5, 2, 16, 1, quick=True),
)

LAYERS: dict[str, tuple[Layer, ...]] = {
    "conv_transpose2d": CONV_TRANSPOSE2D,
    "conv_transpose1d": CONV_TRANSPOSE1D,
    "conv2d": CONV2D,
    "max_pool2d": MAX_POOL2D,
    "max_unpool2d": MAX_UNPOOL2D,
    "sparse_kl": SPARSE_KL,
    "dcgan_generator": DCGAN_GENERATOR,
}


def named(names: Sequence[str], layers: Sequence[Layer]) -> list[Layer]:
    """Those of the layers that have one of the names or, where none has, that begin with it."""
    exact = {layer.name for layer in layers}
    return [
        layer
        for layer in layers
        if any(layer.name == name or (name not in exact and layer.name.startswith(name)) for name in names)
    ]
