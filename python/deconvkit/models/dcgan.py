"""The generator of the lecture's DCGAN (Radford et al. 2015)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from deconvkit.nn import ConvTranspose2d

_START = 4  # pixels a side of the first maps


class DCGANGenerator(nn.Module):
    """Latent vectors to images, by a projection and transposed convolutions that double the size.

    A linear layer without bias makes maps of 4×4, batch-normalised per unit, ReLU; then 5×5 kernels of
    stride 2 without bias, each halving the channels and followed by batch normalisation and ReLU; the last
    one makes the image and ends in tanh. With the defaults, the paper's sizes, that is 100 → 1024×4×4 →
    512×8² → 256×16² → 128×32² → 3×64²: 18,885,760 parameters.

    Args:
        latent_size: values of one latent vector.
        base_channels: channels of the maps before the image; the first maps have image_size / 8 times that.
        image_size: pixels a side, 4 times a power of two, at least 8.
        channels: of the image.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1, or an ``image_size`` that doubling 4 does not reach.

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
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("latent_size", latent_size),
            ("base_channels", base_channels),
            ("channels", channels),
        ):
            if value < 1:
                raise ValueError(f"DCGANGenerator: {name}: expected an int >= 1, got {value!r}")
        times, rest = divmod(image_size, _START)
        if rest or times < 2 or times & (times - 1):
            raise ValueError(f"DCGANGenerator: image_size: expected 8, 16, 32, 64, ..., got {image_size!r}")
        self.latent_size = latent_size
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        width = base_channels * times // 2
        units = width * _START**2
        self.project = nn.Sequential(
            nn.Linear(latent_size, units, bias=False, **where),
            nn.BatchNorm1d(units, **where),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (width, _START, _START)),
        )
        layers: list[nn.Module] = []
        while width > base_channels:
            layers += [
                ConvTranspose2d(width, width // 2, 5, 2, 2, 1, bias=False, **where),
                nn.BatchNorm2d(width // 2, **where),
                nn.ReLU(inplace=True),
            ]
            width //= 2
        layers.append(ConvTranspose2d(width, channels, 5, 2, 2, 1, bias=False, activation="tanh", **where))
        self.upsample = nn.Sequential(*layers)

    def forward(self, latent: Tensor) -> Tensor:
        """(N, latent_size) to images (N, channels, image_size, image_size) in (−1, 1)."""
        if latent.dim() != 2 or latent.shape[1] != self.latent_size:
            raise ValueError(
                f"DCGANGenerator: latent: expected shape (N, {self.latent_size}), got {tuple(latent.shape)}"
            )
        return self.upsample(self.project(latent))
