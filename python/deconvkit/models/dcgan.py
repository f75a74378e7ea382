"""Generator and discriminator of the lecture's DCGAN (Radford, Metz and Chintala 2015)."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from deconvkit.models._layers import require_choice, require_input, require_sizes
from deconvkit.nn import Conv2d, ConvTranspose2d

_START = 4  # pixels a side of the first maps
_SLOPE = ("leaky_relu", 0.2)


def _stages(model: str, base_channels: int, image_size: int, kernel_size: int) -> list[int]:
    """Channels of the maps of 4², 8², ..., image_size / 2 pixels."""
    times, rest = divmod(image_size, _START)
    if rest or times < 2 or times & (times - 1):
        raise ValueError(f"{model}: image_size: expected 8, 16, 32, 64, ..., got {image_size!r}")
    if kernel_size not in (4, 5):
        raise ValueError(f"{model}: kernel_size: expected 4 or 5, got {kernel_size!r}")
    count = times.bit_length() - 1
    return [base_channels * 2 ** (count - 1 - i) for i in range(count)]


def _initialise(model: nn.Module) -> None:
    """Weights N(0, 0.02), gains of batch normalisation N(1, 0.02), biases 0."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class DCGANGenerator(nn.Module):
    """Latent vectors to images, by a projection and transposed convolutions that double the size.

    A linear layer without bias makes maps of 4×4, batch-normalised per unit, ReLU; then 5×5 kernels of
    stride 2 without bias, each halving the channels and followed by batch normalisation and ReLU; the last
    one makes the image and ends in tanh. With the defaults, the paper's sizes, that is 100 → 1024×4×4 →
    512×8² → 256×16² → 128×32² → 3×64²: 18,885,760 parameters. With ``kernel_size=4`` and
    ``base_channels=64`` it is the widespread variant of 3,576,704: 4×4 kernels, whose first one makes the
    maps of 4×4 from one pixel.

    Args:
        latent_size: values of one latent vector.
        base_channels: channels of the maps before the image; the first maps have image_size / 8 times that.
        image_size: pixels a side, 4 times a power of two, at least 8.
        channels: of the image.
        kernel_size: 5 or 4.
        projection_norm: whether the projection is normalised per "unit" or per "channel"; 4×4 kernels know
            channels only.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1, an ``image_size`` that doubling 4 does not reach, or an unknown kernel or
            normalisation.

    Example:
        >>> generator = DCGANGenerator()
        >>> generator(torch.rand(64, 100) * 2 - 1).shape
        torch.Size([64, 3, 64, 64])
    """

    def __init__(
        self,
        latent_size: int = 100,
        base_channels: int = 128,
        image_size: int = 64,
        channels: int = 3,
        kernel_size: int = 5,
        projection_norm: str = "unit",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = "DCGANGenerator"
        require_sizes(name, latent_size=latent_size, base_channels=base_channels, channels=channels)
        require_choice(name, "projection_norm", projection_norm, ("unit", "channel"))
        widths = _stages(name, base_channels, image_size, kernel_size)
        self.latent_size, self.base_channels, self.image_size = latent_size, base_channels, image_size
        self.channels, self.kernel_size, self.projection_norm = channels, kernel_size, projection_norm
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        width = widths[0]
        if kernel_size == 4:
            self.project = nn.Sequential(
                nn.Unflatten(1, (latent_size, 1, 1)),
                ConvTranspose2d(latent_size, width, _START, bias=False, **where),
                nn.BatchNorm2d(width, **where),
                nn.ReLU(inplace=True),
            )
        else:
            units = width * _START**2
            self.project = nn.Sequential(nn.Linear(latent_size, units, bias=False, **where))
            maps = nn.Unflatten(1, (width, _START, _START))
            if projection_norm == "unit":
                self.project.extend([nn.BatchNorm1d(units, **where), nn.ReLU(inplace=True), maps])
            else:
                self.project.extend([maps, nn.BatchNorm2d(width, **where), nn.ReLU(inplace=True)])
        geometry: dict[str, Any] = {
            "kernel_size": kernel_size,
            "stride": 2,
            "padding": (kernel_size - 1) // 2,
        }
        geometry |= {"output_padding": kernel_size % 2, "bias": False} | where
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [
                ConvTranspose2d(a, b, **geometry),
                nn.BatchNorm2d(b, **where),
                nn.ReLU(inplace=True),
            ]
        layers.append(ConvTranspose2d(widths[-1], channels, **geometry, activation="tanh"))
        self.upsample = nn.Sequential(*layers)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights N(0, 0.02), gains of batch normalisation N(1, 0.02), as the paper has them."""
        _initialise(self)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "latent_size": self.latent_size,
            "base_channels": self.base_channels,
            "image_size": self.image_size,
            "channels": self.channels,
            "kernel_size": self.kernel_size,
            "projection_norm": self.projection_norm,
        }

    def forward(self, latent: Tensor) -> Tensor:
        """(N, latent_size) to images (N, channels, image_size, image_size) in (−1, 1)."""
        require_input("DCGANGenerator", "latent", latent, self.latent_size)
        images: Tensor = self.upsample(self.project(latent))
        return images


class DCGANDiscriminator(nn.Module):
    """Images to one logit each, by strided convolutions with LeakyReLU of slope 0.2; the generator's mirror.

    Batch normalisation after all but the first; no biases. With the defaults, the paper's sizes, that is
    3×64² → 128×32² → 256×16² → 512×8² → 1024×4² → 1: 17,232,768 parameters. With ``kernel_size=4`` and
    ``base_channels=64``, the widespread variant, 2,765,568.

    Args:
        base_channels: channels after the first convolution; they double with every further one.
        image_size: pixels a side, 4 times a power of two, at least 8.
        channels: of the image.
        kernel_size: 5 or 4.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1, an ``image_size`` that halving does not bring to 4, or another kernel.
    """

    def __init__(
        self,
        base_channels: int = 128,
        image_size: int = 64,
        channels: int = 3,
        kernel_size: int = 5,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = "DCGANDiscriminator"
        require_sizes(name, base_channels=base_channels, channels=channels)
        widths = _stages(name, base_channels, image_size, kernel_size)[::-1]
        self.base_channels, self.image_size = base_channels, image_size
        self.channels, self.kernel_size = channels, kernel_size
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        geometry: dict[str, Any] = {
            "kernel_size": kernel_size,
            "stride": 2,
            "padding": (kernel_size - 1) // 2,
        }
        geometry |= {"bias": False} | where
        layers: list[nn.Module] = [Conv2d(channels, widths[0], **geometry, activation=_SLOPE)]
        for a, b in itertools.pairwise(widths):
            layers += [Conv2d(a, b, **geometry), nn.BatchNorm2d(b, **where), nn.LeakyReLU(0.2, inplace=True)]
        self.downsample = nn.Sequential(*layers)
        self.classify = nn.Sequential(nn.Flatten(), nn.Linear(widths[-1] * _START**2, 1, bias=False, **where))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights N(0, 0.02), gains of batch normalisation N(1, 0.02), as the paper has them."""
        _initialise(self)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "base_channels": self.base_channels,
            "image_size": self.image_size,
            "channels": self.channels,
            "kernel_size": self.kernel_size,
        }

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, image_size, image_size) to logits (N,): how sure D is that an image is data."""
        require_input("DCGANDiscriminator", "images", images, self.channels, self.image_size, self.image_size)
        logits: Tensor = self.classify(self.downsample(images)).squeeze(1)
        return logits
