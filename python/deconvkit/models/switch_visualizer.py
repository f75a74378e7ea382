"""Seeing through a network: an activation taken back down to the pixels (Zeiler and Fergus 2014)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deconvkit.models._layers import require_choice
from deconvkit.ops.conv_transpose2d import conv_transpose2d
from deconvkit.ops.max_pool2d import max_pool2d_with_switches

RECTIFIERS = ("relu", "mask")


class Projection(NamedTuple):
    """What one activation looks like in the image."""

    image: Tensor  # (N, C, H, W), of the input's shape
    channel: Tensor  # (N,), the channel that was followed
    position: Tensor  # (N, 2), row and column of its strongest activation


class _Step(NamedTuple):
    """What the way up leaves for the way down."""

    module: nn.Module
    size: tuple[int, int]  # of the module's input
    kept: Tensor | None  # a pool's switches, a rectifier's mask


class SwitchVisualizer:
    """Follows one activation of a convolutional network back to the pixels that caused it.

    Up, every max-pool records its switches. At the layer one activation is kept (or a whole channel) and
    everything else set to zero. Down again: each pool is undone by the recorded switches (what overlapping
    windows take to one cell is added up), each rectifier rectifies the signal, each convolution is undone by
    its transposed filters, without biases; batch normalisation, in its state of inference, by its gain. With
    ``rectifier="mask"`` a rectifier lets through what it let through on the way up, and the projection is the
    gradient of the activation by the input.

    Args:
        model: an ``nn.Sequential`` of convolutions, ReLUs, max-pools, batch normalisations and dropout, or a
            model that has one as ``features`` (the VGGs).
        rectifier: "relu", the paper's, or "mask".

    Raises:
        TypeError: a layer of another kind.
        ValueError: an unknown ``rectifier``.

    Example:
        >>> seen = SwitchVisualizer(vgg16(weights=path))
        >>> seen.project(images, layer=29).image  # the strongest channel of the last ReLU

    Source: Zeiler and Fergus 2014, section 2.1; the lecture's bicycle.
    """

    def __init__(self, model: nn.Module, *, rectifier: str = "relu") -> None:
        require_choice("SwitchVisualizer", "rectifier", rectifier, RECTIFIERS)
        layers = getattr(model, "features", model)
        if not isinstance(layers, nn.Sequential):
            raise TypeError(
                "SwitchVisualizer: model: expected an nn.Sequential or a model with one as features, "
                f"got {type(model).__name__}"
            )
        for index, layer in enumerate(layers):
            known = isinstance(
                layer, (nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d)
            )
            if not known or getattr(layer, "activation", None) not in (None, "relu"):
                raise TypeError(
                    "SwitchVisualizer: model: expected convolutions, ReLUs, max-pools, batch normalisations "
                    f"and dropout, got {layer} as layer {index}"
                )
        self.layers = layers
        self.rectifier = rectifier

    def pools(self) -> list[int]:
        """The layers that are max-pools: the last of each stage."""
        return [index for index, layer in enumerate(self.layers) if isinstance(layer, nn.MaxPool2d)]

    @torch.no_grad()
    def project(
        self,
        images: Tensor,
        layer: int,
        channel: int | None = None,
        position: tuple[int, int] | None = None,
        *,
        whole_channel: bool = False,
    ) -> Projection:
        """Take one activation of each image down to its pixels.

        Args:
            images: (N, C, H, W), as the model wants them.
            layer: index of the layer whose output is looked at; negative ones count from the end.
            channel: which channel; the one with the strongest activation of each image unless given.
            position: (row, column) in the layer's maps; the strongest of the channel unless given.
            whole_channel: keep all of the channel's activations; with "mask" that gives the gradient of half
                the sum of their squares.

        Returns:
            The projection, the channels and the positions.

        Raises:
            ValueError: a layer, channel or position that does not exist, or images of another rank.
        """
        count = len(self.layers)
        if not -count <= layer < count:
            raise ValueError(f"SwitchVisualizer: layer: expected {-count} to {count - 1}, got {layer!r}")
        if images.dim() != 4:
            raise ValueError(
                f"SwitchVisualizer: images: expected shape (N, C, H, W), got {tuple(images.shape)}"
            )
        maps, steps = self._up(images, layer % count)
        channels, positions = _choose(maps, channel, position)
        signal = torch.zeros_like(maps)
        sample = torch.arange(len(maps), device=maps.device)
        if whole_channel:
            signal[sample, channels] = maps[sample, channels]
        else:
            where = sample, channels, positions[:, 0], positions[:, 1]
            # The gradient is that of the activation itself; the paper takes its value down.
            signal[where] = maps[where] if self.rectifier == "relu" else torch.ones_like(maps[where])
        return Projection(self._down(signal, steps), channels, positions)

    def _up(self, maps: Tensor, last: int) -> tuple[Tensor, list[_Step]]:
        steps = []
        for layer in list(self.layers)[: last + 1]:
            size = (maps.shape[-2], maps.shape[-1])
            kept = None
            if isinstance(layer, nn.MaxPool2d):
                maps, kept = max_pool2d_with_switches(maps, *_pooling(layer), ceil_mode=layer.ceil_mode)
            elif isinstance(layer, nn.BatchNorm2d):
                gain, shift = _affine(layer)
                maps = maps * gain + shift
            elif isinstance(layer, nn.ReLU):
                maps = maps.relu()  # not in place
                kept = maps > 0
            elif isinstance(layer, nn.Conv2d):
                maps = layer(maps)
                kept = maps > 0 if getattr(layer, "activation", None) else None
            steps.append(_Step(layer, size, kept))
        return maps, steps

    def _down(self, signal: Tensor, steps: list[_Step]) -> Tensor:
        for layer, size, kept in reversed(steps):
            if isinstance(layer, nn.MaxPool2d):
                assert kept is not None
                # Unpooling that adds up where overlapping windows chose the same cell, in place of the last's
                # value alone.
                signal = torch.ops.deconvkit.max_pool2d_backward(signal, kept, size, *_pooling(layer))
            elif isinstance(layer, nn.BatchNorm2d):
                signal = signal * _affine(layer)[0]
            else:
                if kept is not None:
                    signal = signal.relu() if self.rectifier == "relu" else signal * kept
                if isinstance(layer, nn.Conv2d):
                    signal = _transposed(layer, signal, size)
        return signal


def _pooling(layer: nn.MaxPool2d) -> tuple[Any, Any, Any, Any]:
    return layer.kernel_size, layer.stride, layer.padding, layer.dilation


def _affine(layer: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    gain = (layer.running_var + layer.eps).rsqrt()
    gain = gain if layer.weight is None else gain * layer.weight
    shift = -layer.running_mean * gain
    shift = shift if layer.bias is None else shift + layer.bias
    return gain.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)


def _transposed(layer: nn.Conv2d, signal: Tensor, size: tuple[int, int]) -> Tensor:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise TypeError(f"SwitchVisualizer: model: expected convolutions padded with zeros, got {layer}")
    stride, padding, dilation, kernel = (
        _pair(layer, name) for name in ("stride", "padding", "dilation", "kernel_size")
    )
    # What the transposed convolution would make, and what came in.
    made = [
        (signal.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + 1
        for i in (0, 1)
    ]
    extra = (size[0] - made[0], size[1] - made[1])
    return conv_transpose2d(signal, layer.weight, None, stride, padding, extra, layer.groups, dilation)


def _pair(layer: nn.Conv2d, name: str) -> tuple[int, int]:
    first, second = getattr(layer, name)
    return first, second


def _choose(maps: Tensor, channel: int | None, position: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
    count, channels, height, width = maps.shape
    if channel is not None and not 0 <= channel < channels:
        raise ValueError(f"SwitchVisualizer: channel: expected 0 to {channels - 1}, got {channel!r}")
    if position is not None and not (0 <= position[0] < height and 0 <= position[1] < width):
        raise ValueError(
            f"SwitchVisualizer: position: expected a row below {height} and a column below {width}, "
            f"got {position!r}"
        )
    if position is None:
        strength, flat = maps.flatten(2).max(2)
    else:
        flat = torch.full((count, channels), position[0] * width + position[1], device=maps.device)
        strength = maps[:, :, position[0], position[1]]
    every = strength.argmax(1)
    chosen = every if channel is None else torch.full_like(every, channel)
    at = flat.gather(1, chosen[:, None]).squeeze(1)
    return chosen, torch.stack((at // width, at % width), 1)
