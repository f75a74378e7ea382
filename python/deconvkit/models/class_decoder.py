"""The lecture's decoder of a binary code: Y → X̂, with no latent beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deconvkit.models._layers import perceptron, require_input, require_sizes
from deconvkit.models.vae import Likelihood


class ClassDecoder(nn.Module):
    """A binary code of classes or attributes to the expected sample.

    All that a code says of a sample is its class: trained on one-hot codes, with either likelihood, the best
    decoder returns the mean of each class.

    Args:
        classes: bits of the code.
        out_features: values of a sample.
        hidden: units of layers between them, with ReLU; none by default.
        likelihood: "bernoulli", for samples in [0, 1], or "gaussian", with one learned σ.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1, or an unknown likelihood.

    Source: the lecture's decoder of a binary Y to X̂.
    """

    def __init__(
        self,
        classes: int,
        out_features: int,
        hidden: Sequence[int] = (),
        likelihood: str = "bernoulli",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.hidden = list(hidden)
        require_sizes("ClassDecoder", classes=classes, out_features=out_features, hidden=self.hidden)
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.classes, self.out_features = classes, out_features
        sizes = [classes, *self.hidden]
        self.decoder = perceptron(sizes, "relu", **where).append(nn.Linear(sizes[-1], out_features, **where))
        self.likelihood = Likelihood("ClassDecoder", likelihood, **where)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "classes": self.classes,
            "out_features": self.out_features,
            "hidden": self.hidden,
            "likelihood": self.likelihood.kind,
        }

    def decode(self, code: Tensor) -> Tensor:
        """(N, classes) of 0 and 1 to the parameters of p(x|y), (N, out_features)."""
        require_input("ClassDecoder", "code", code, self.classes)
        parameters: Tensor = self.decoder(code.to(next(self.parameters()).dtype))
        return parameters

    def forward(self, code: Tensor) -> Tensor:
        """X̂, the expected sample of each code: (N, classes) → (N, out_features)."""
        return self.likelihood.mean(self.decode(code))

    def loss(self, code: Tensor, target: Tensor) -> Tensor:
        """−ln p(target|code), the mean over the samples: a scalar."""
        return -self.likelihood(self.decode(code), target).mean()
