"""Variational autoencoders (Kingma and Welling 2014), of vectors and of images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deconvkit.losses import bernoulli_log_likelihood, gaussian_kl, gaussian_log_likelihood
from deconvkit.models._layers import ACTIVATIONS, perceptron, require_choice, require_input, require_sizes
from deconvkit.nn import Conv2d, ConvTranspose2d

LIKELIHOODS = ("bernoulli", "gaussian")


class Gaussian(NamedTuple):
    """q(z|x) of a batch: independent normal latents."""

    mean: Tensor  # (N, Z)
    log_variance: Tensor  # (N, Z)

    def sample(self) -> Tensor:
        """μ + σ ε, differentiable in both: (N, Z)."""
        return self.mean + torch.exp(self.log_variance / 2) * torch.randn_like(self.mean)


class VAEOutput(NamedTuple):
    """What a forward pass gives."""

    parameters: Tensor  # of p(x|z): logits or means, of the input's shape
    posterior: Gaussian
    latent: Tensor  # (N, Z), the sample that was decoded


class GaussianHead(nn.Module):
    """Features to each latent's mean and logarithm of variance; the latter's weights start at 0."""

    def __init__(self, in_features: int, latent_size: int, **where: Any) -> None:
        super().__init__()
        self.mean = nn.Linear(in_features, latent_size, **where)
        self.log_variance = nn.Linear(in_features, latent_size, **where)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.zeros_(self.log_variance.bias)

    def forward(self, features: Tensor) -> Gaussian:
        """(N, F) to two (N, Z)."""
        return Gaussian(self.mean(features), self.log_variance(features))


class Likelihood(nn.Module):
    """p(x|parameters): Bernoulli of logits, or Gaussian of means with one learned σ."""

    def __init__(self, model: str, kind: str, **where: Any) -> None:
        super().__init__()
        require_choice(model, "likelihood", kind, LIKELIHOODS)
        self.kind = kind
        if kind == "gaussian":
            self.log_scale = nn.Parameter(torch.full((), -1.0, **where))

    def forward(self, parameters: Tensor, target: Tensor) -> Tensor:
        """ln p(target|parameters) of each sample: (N,)."""
        if self.kind == "bernoulli":
            return bernoulli_log_likelihood(parameters, target)
        return gaussian_log_likelihood(parameters, self.log_scale, target)

    def mean(self, parameters: Tensor) -> Tensor:
        """E x: σ(logits), or the means themselves."""
        return torch.sigmoid(parameters) if self.kind == "bernoulli" else parameters

    def extra_repr(self) -> str:
        """The kind."""
        return self.kind


class _Variational(nn.Module):
    """What the two have in common: everything but the shapes."""

    latent_size: int
    encoder: nn.Module
    head: GaussianHead
    decoder: nn.Module
    likelihood: Likelihood

    def encode(self, input: Tensor) -> Gaussian:
        """q(z|x)."""
        raise NotImplementedError

    def decode(self, latent: Tensor) -> Tensor:
        """(N, latent_size) to the parameters of p(x|z): logits or means, of the input's shape."""
        require_input(type(self).__name__, "latent", latent, self.latent_size)
        parameters: Tensor = self.decoder(latent)
        return parameters

    def forward(self, input: Tensor) -> VAEOutput:
        """Encode, draw one latent of each sample, decode."""
        posterior = self.encode(input)
        latent = posterior.sample()
        return VAEOutput(self.decode(latent), posterior, latent)

    def reconstruct(self, input: Tensor) -> Tensor:
        """E p(x|z) at the mean of q(z|x)."""
        return self.likelihood.mean(self.decode(self.encode(input).mean))

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """E p(x|z) of ``count`` latents drawn from the prior."""
        parameter = next(self.parameters())
        shape = count, self.latent_size
        latent = torch.randn(shape, generator=generator, dtype=parameter.dtype, device=parameter.device)
        return self.likelihood.mean(self.decode(latent))

    def bound(self, output: VAEOutput, target: Tensor) -> Tensor:
        """ln p(x|z) − KL(q(z|x)‖p(z)) of each sample, with the one z that was drawn: (N,)."""
        return self.likelihood(output.parameters, target) - gaussian_kl(*output.posterior)

    def loss(self, output: VAEOutput, target: Tensor) -> Tensor:
        """Minus the mean of :meth:`bound`, a scalar."""
        return -self.bound(output, target).mean()


class VAE(_Variational):
    """A variational autoencoder of vectors: x → hidden → (μ, ln σ²) → z → hidden reversed → p(x|z).

    With 784 values, 20 latents and one hidden layer of 400 it has 652,824 parameters (a Gaussian likelihood
    has one more, ln σ).

    Args:
        in_features: D, the values of a sample.
        latent_size: Z.
        hidden: units of the encoder's layers; the decoder has them in reverse.
        likelihood: "bernoulli", for x in [0, 1], or "gaussian", with one learned σ.
        activation: "relu", "softplus" or "tanh".
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1, or an unknown likelihood or activation.

    Example:
        >>> model = VAE(784, 20, hidden=[400])
        >>> output = model(images)  # (N, 784)
        >>> model.loss(output, images).backward()

    Source: Kingma and Welling 2014, appendix C.
    """

    def __init__(
        self,
        in_features: int,
        latent_size: int,
        hidden: Sequence[int] = (400,),
        likelihood: str = "bernoulli",
        activation: str = "relu",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        hidden = list(hidden)
        require_sizes(name, in_features=in_features, latent_size=latent_size, hidden=hidden)
        require_choice(name, "activation", activation, list(ACTIVATIONS))
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_features, self.latent_size, self.hidden = in_features, latent_size, hidden
        self.activation = activation
        self.encoder = perceptron([in_features, *hidden], activation, **where)
        self.head = GaussianHead(hidden[-1] if hidden else in_features, latent_size, **where)
        self.decoder = perceptron([latent_size, *hidden[::-1]], activation, **where)
        self.decoder.append(nn.Linear(hidden[0] if hidden else latent_size, in_features, **where))
        self.likelihood = Likelihood(name, likelihood, **where)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "in_features": self.in_features,
            "latent_size": self.latent_size,
            "hidden": self.hidden,
            "likelihood": self.likelihood.kind,
            "activation": self.activation,
        }

    def encode(self, input: Tensor) -> Gaussian:
        """q(z|x): (N, in_features) to two (N, latent_size)."""
        require_input(type(self).__name__, "input", input, self.in_features)
        posterior: Gaussian = self.head(self.encoder(input))
        return posterior


class ConvVAE(_Variational):
    """A variational autoencoder of images, by strided convolutions down and transposed ones up.

    Each of ``depth`` 4×4 convolutions of stride 2 halves the size and doubles the channels, with ReLU; the
    decoder mirrors them.

    Args:
        image_size: pixels a side, a multiple of 2**depth.
        channels: of the image.
        latent_size: Z.
        base_channels: channels after the first convolution.
        depth: convolutions.
        likelihood: "bernoulli", for x in [0, 1], or "gaussian", with one learned σ.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1, an ``image_size`` that cannot be halved so often, or an unknown
            likelihood.

    Source: as :class:`VAE`; the layers are those of the lecture's deconvolution.
    """

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        latent_size: int = 20,
        base_channels: int = 32,
        depth: int = 2,
        likelihood: str = "bernoulli",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_sizes(
            "ConvVAE",
            image_size=image_size,
            channels=channels,
            latent_size=latent_size,
            base_channels=base_channels,
            depth=depth,
        )
        if image_size % 2**depth:
            raise ValueError(
                f"ConvVAE: image_size: expected a multiple of 2**depth = {2**depth}, got {image_size!r}"
            )
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.image_size, self.channels, self.latent_size = image_size, channels, latent_size
        self.base_channels, self.depth = base_channels, depth
        widths = [channels, *(base_channels * 2**i for i in range(depth))]
        end = image_size // 2**depth
        features = widths[-1] * end**2
        down = [Conv2d(a, b, 4, 2, 1, activation="relu", **where) for a, b in itertools.pairwise(widths)]
        self.encoder = nn.Sequential(*down, nn.Flatten())
        self.head = GaussianHead(features, latent_size, **where)
        up: list[nn.Module] = [
            ConvTranspose2d(b, a, 4, 2, 1, activation="relu" if i else None, **where)
            for i, (a, b) in reversed(list(enumerate(itertools.pairwise(widths))))
        ]
        self.decoder = nn.Sequential(
            nn.Linear(latent_size, features, **where),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (widths[-1], end, end)),
            *up,
        )
        self.likelihood = Likelihood("ConvVAE", likelihood, **where)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "image_size": self.image_size,
            "channels": self.channels,
            "latent_size": self.latent_size,
            "base_channels": self.base_channels,
            "depth": self.depth,
            "likelihood": self.likelihood.kind,
        }

    def encode(self, input: Tensor) -> Gaussian:
        """q(z|x): (N, channels, image_size, image_size) to two (N, latent_size)."""
        require_input("ConvVAE", "input", input, self.channels, self.image_size, self.image_size)
        posterior: Gaussian = self.head(self.encoder(input))
        return posterior
