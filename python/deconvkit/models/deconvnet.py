"""The deconvolution network for segmentation: VGG-16 and its mirror image (Noh, Hong and Han 2015)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from deconvkit.models._layers import require_choice, require_sizes
from deconvkit.models.vgg import VGG, vgg16, vgg16_bn
from deconvkit.nn import Conv2d, ConvTranspose2d, MaxPool2d, MaxUnpool2d

UNPOOLING = ("switches", "fixed")

# Channels of each stage's layers, as multiples of the width; the decoder's last of each leads to the next.
_ENCODER = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))
_DECODER = ((8, 8, 8), (8, 8, 4), (4, 4, 2), (2, 1), (1, 1))


def _unit(layer: nn.Module, channels: int, **where: Any) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(channels, **where), nn.ReLU(inplace=True))


class DeconvNet(nn.Module):
    """Down by VGG-16 to one pixel, and up again by unpooling with the switches and transposed convolutions.

    Every layer is a convolution or a transposed one with bias, batch normalisation and ReLU; the scores are
    made by a 1×1 convolution without either. For 21 classes it has 251,805,653 parameters, 33,408 of them of
    batch normalisations.

    | stage | layers | size |
    | --- | --- | --- |
    | conv1 to conv5 | 2, 2, 3, 3, 3 of 3×3, 64 to 512; a 2×2 pool with switches after each | 224 → 7 |
    | fc6, fc7, fc6_deconv | 7×7 to 4096, 1×1, 7×7 to 512 | 1, 1, 7 |
    | unpool5, deconv5 | 512, 512, 512 | 14 |
    | unpool4, deconv4 | 512, 512, 256 | 28 |
    | unpool3, deconv3 | 256, 256, 128 | 56 |
    | unpool2, deconv2 | 128, 64 | 112 |
    | unpool1, deconv1 | 64, 64 | 224 |
    | score | 1×1 | 224 |

    Args:
        num_classes: of the scores, the background among them.
        width: channels of the first stage, 64 in the paper; all others keep their proportion to it.
        input_size: pixels a side, a multiple of 32.
        unpooling: "switches", or "fixed": every value into the first corner of its window, for comparison.
        encoder_weights: a file of VGG-16 (with or without batch normalisation, of the same width), whose
            convolutions and first two linear layers become the encoder; fc6 only for 224 pixels, else a
            warning says that it is left out.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1, an ``input_size`` that is no multiple of 32, an unknown ``unpooling``, or
            a weights file that is not VGG-16's.

    Source: Noh, Hong and Han 2015, section 3 and table 2.
    """

    def __init__(
        self,
        num_classes: int = 21,
        width: int = 64,
        input_size: int = 224,
        unpooling: str = "switches",
        encoder_weights: str | Path | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_sizes("DeconvNet", num_classes=num_classes, width=width, input_size=input_size)
        require_choice("DeconvNet", "unpooling", unpooling, UNPOOLING)
        if input_size % 32:
            raise ValueError(f"DeconvNet: input_size: expected a multiple of 32, got {input_size!r}")
        self.num_classes, self.width, self.input_size = num_classes, width, input_size
        self.unpooling = unpooling
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        channels = 3
        self.encoder = nn.ModuleList()
        for multiples in _ENCODER:
            stage = nn.Sequential()
            for multiple in multiples:
                stage.append(
                    _unit(
                        Conv2d(channels, width * multiple, 3, padding=1, **where), width * multiple, **where
                    )
                )
                channels = width * multiple
            self.encoder.append(stage)
        self.pool = MaxPool2d(2, 2, return_indices=True)
        hidden, smallest = 64 * width, input_size // 32
        self.fc6 = _unit(Conv2d(channels, hidden, smallest, **where), hidden, **where)
        self.fc7 = _unit(Conv2d(hidden, hidden, 1, **where), hidden, **where)
        self.fc6_deconv = _unit(ConvTranspose2d(hidden, channels, smallest, **where), channels, **where)
        self.unpool = MaxUnpool2d(2, 2)
        self.decoder = nn.ModuleList()
        for multiples in _DECODER:
            stage = nn.Sequential()
            for multiple in multiples:
                layer = ConvTranspose2d(channels, width * multiple, 3, padding=1, **where)
                stage.append(_unit(layer, width * multiple, **where))
                channels = width * multiple
            self.decoder.append(stage)
        self.score = Conv2d(channels, num_classes, 1, **where)
        self.reset_parameters()
        if encoder_weights is not None:
            self.load_encoder(encoder_weights)

    def reset_parameters(self) -> None:
        """Weights N(0, 0.01), biases 0; gains of batch normalisation 1, shifts 0.001."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(module.weight, 0, 0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
                nn.init.constant_(module.bias, 0.001)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, but for weights."""
        return {
            "num_classes": self.num_classes,
            "width": self.width,
            "input_size": self.input_size,
            "unpooling": self.unpooling,
        }

    def load_encoder(self, path: str | Path) -> None:
        """Take the encoder's weights from a file of VGG-16, with or without batch normalisation.

        Raises:
            ValueError: the file is neither's.
        """
        from deconvkit.models._weights import read_state_dict

        names = read_state_dict("DeconvNet", path)
        batch_norm = "features.1.running_mean" in names
        last = names.get("classifier.6.bias")
        make = vgg16_bn if batch_norm else vgg16
        classes = 1000 if last is None else last.shape[0]
        self.copy_encoder(make(weights=path, num_classes=classes, width=self.width, dropout=0.0))

    def copy_encoder(self, vgg: VGG) -> None:
        """Copy a VGG-16's convolutions, their normalisations, and its first two linear layers as fc6 and fc7.

        fc6 reads the 7×7 maps of 224 pixels: for another input size it keeps its own weights, and a warning
        says so.

        Raises:
            ValueError: another depth or width.
        """
        if (vgg.depth, vgg.width) != (16, self.width):
            raise ValueError(
                f"DeconvNet: encoder_weights: expected VGG-16 of width {self.width}, "
                f"got VGG-{vgg.depth} of width {vgg.width}"
            )
        sources = [module for module in vgg.features if isinstance(module, nn.Conv2d)]
        norms = [module for module in vgg.features if isinstance(module, nn.BatchNorm2d)]
        units = [unit for stage in self.encoder for unit in _children(stage)]
        for index, (source, unit) in enumerate(zip(sources, units, strict=True)):
            unit[0].load_state_dict(source.state_dict())
            if norms:
                unit[1].load_state_dict(norms[index].state_dict())
        first, second = vgg.classifier[0], vgg.classifier[3]
        with torch.no_grad():
            for linear, unit in ((first, self.fc6), (second, self.fc7)):
                convolution = unit[0]
                assert isinstance(linear, nn.Linear)
                assert isinstance(convolution, Conv2d)
                assert convolution.bias is not None
                if linear.weight.numel() != convolution.weight.numel():
                    side = convolution.kernel_size[0]
                    warnings.warn(
                        f"DeconvNet: encoder_weights: fc6 not loaded: VGG's reads 7x7 maps, of 224 pixels; "
                        f"for {self.input_size} pixels it reads {side}x{side}",
                        stacklevel=2,
                    )
                    continue
                convolution.weight.copy_(linear.weight.view_as(convolution.weight))
                convolution.bias.copy_(linear.bias)

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """The maps on the way up, by stage: "fc6_deconv", "deconv5", ..., "deconv1", "score".

        For 224 pixels these have 7, 14, 28, 56, 112, 224 and 224 a side: the lecture's pictures of how an
        image comes back, coarse to fine.

        Args:
            images: (N, 3, input_size, input_size), normalised as VGG's.

        Raises:
            ValueError: another shape.
        """
        expected = (3, self.input_size, self.input_size)
        if images.dim() != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"DeconvNet: images: expected shape (N, 3, {self.input_size}, {self.input_size}), "
                f"got {tuple(images.shape)}"
            )
        maps, switches = images, []
        for stage in self.encoder:
            maps, chosen = self.pool(stage(maps))
            switches.append(chosen if self.unpooling == "switches" else torch.zeros_like(chosen))
        maps = self.fc6_deconv(self.fc7(self.fc6(maps)))
        found = {"fc6_deconv": maps}
        for number, stage in zip(range(5, 0, -1), self.decoder, strict=True):
            maps = stage(self.unpool(maps, switches.pop()))
            found[f"deconv{number}"] = maps
        found["score"] = self.score(maps)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S), S = input_size, to the scores before the softmax, (N, num_classes, S, S)."""
        return self.activations(images)["score"]

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """The probabilities of the classes of every pixel, seen in one pass.

        Args:
            images: (N, 3, H, W) of any size, normalised as VGG's; resized to the network's and the scores
                back, bilinearly.

        Returns:
            (N, num_classes, H, W).
        """
        size = (self.input_size, self.input_size)
        training = self.training
        self.eval()
        try:
            scores = self(_resized(images, size))
        finally:
            self.train(training)
        return _resized(scores, (images.shape[-2], images.shape[-1])).softmax(1)

    def predict(self, images: Tensor) -> Tensor:
        """The most likely class of every pixel, (N, H, W), int64, of images as ``probabilities`` takes."""
        return self.probabilities(images).argmax(1)


def _children(stage: nn.Module) -> Iterator[nn.Sequential]:
    for unit in stage.children():
        assert isinstance(unit, nn.Sequential)
        yield unit


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[2:]) == size:
        return maps
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False)
