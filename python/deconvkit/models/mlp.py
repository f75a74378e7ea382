"""A generator and a discriminator of vectors, for adversarial training on small images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deconvkit.models._layers import perceptron, require_choice, require_input, require_sizes

_OUTPUTS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "identity": nn.Identity}


class MLPGenerator(nn.Module):
    """Latent vectors to samples: linear layers with ReLU. 16-128-128-64 for 8×8 digits.

    Args:
        latent_size: values of a latent vector.
        out_features: values of a sample.
        hidden: units of the layers between.
        output: "sigmoid", for samples in (0, 1), "tanh" or "identity".
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1, or an unknown ``output``.
    """

    def __init__(
        self,
        latent_size: int = 16,
        out_features: int = 64,
        hidden: Sequence[int] = (128, 128),
        output: str = "sigmoid",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.hidden = list(hidden)
        require_sizes("MLPGenerator", latent_size=latent_size, out_features=out_features, hidden=self.hidden)
        require_choice("MLPGenerator", "output", output, list(_OUTPUTS))
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.latent_size, self.out_features, self.output = latent_size, out_features, output
        sizes = [latent_size, *self.hidden]
        self.layers = perceptron(sizes, "relu", **where)
        self.layers.extend([nn.Linear(sizes[-1], out_features, **where), _OUTPUTS[output]()])

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "latent_size": self.latent_size,
            "out_features": self.out_features,
            "hidden": self.hidden,
            "output": self.output,
        }

    def forward(self, latent: Tensor) -> Tensor:
        """(N, latent_size) → (N, out_features)."""
        require_input("MLPGenerator", "latent", latent, self.latent_size)
        samples: Tensor = self.layers(latent)
        return samples


class MLPDiscriminator(nn.Module):
    """Samples to one logit each: linear layers with LeakyReLU of slope 0.2.

    Args:
        in_features: values of a sample.
        hidden: units of the layers between.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        in_features: int = 64,
        hidden: Sequence[int] = (128, 128),
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.hidden = list(hidden)
        require_sizes("MLPDiscriminator", in_features=in_features, hidden=self.hidden)
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_features = in_features
        layers: list[nn.Module] = []
        sizes = [in_features, *self.hidden]
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs, **where), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 1, **where))

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"in_features": self.in_features, "hidden": self.hidden}

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_features) to logits (N,): how sure D is that a sample is data."""
        require_input("MLPDiscriminator", "input", input, self.in_features)
        logits: Tensor = self.layers(input).squeeze(1)
        return logits
