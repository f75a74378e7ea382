"""The semi-supervised models M1, M2 and M1+M2 (Kingma, Rezende, Mohamed and Welling 2014)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from deconvkit.losses import gaussian_kl, m2_labelled, m2_objective, m2_unlabelled
from deconvkit.models._layers import perceptron, require_input, require_sizes
from deconvkit.models.vae import VAE, Gaussian, GaussianHead, Likelihood


class M1(VAE):
    """Latent features: a VAE whose latents a classifier reads.

    784-500-500-50, softplus: 1,361,884 parameters.

    Args:
        in_features: D, the values of a sample.
        latent_size: Z.
        hidden: units of the encoder's layers; the decoder has them in reverse.
        likelihood: "bernoulli" or "gaussian".
        activation: "softplus", "relu" or "tanh".
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: as :class:`VAE`.

    Source: Kingma et al. 2014, section 2.
    """

    def __init__(
        self,
        in_features: int,
        latent_size: int = 50,
        hidden: Sequence[int] = (500, 500),
        likelihood: str = "bernoulli",
        activation: str = "softplus",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, latent_size, hidden, likelihood, activation, device=device, dtype=dtype)

    def features(self, input: Tensor) -> Tensor:
        """A latent drawn anew for each sample, (N, Z): what a classifier trains on."""
        return self.encode(input).sample()

    def active_latents(self, input: Tensor, threshold: float = 0.1) -> list[int]:
        """The latents in use: those whose means vary by more than ``threshold`` over the batch."""
        deviation = self.encode(input).mean.std(0)
        return [int(i) for i in torch.nonzero(deviation > threshold).flatten()]


class M2(nn.Module):
    """A class y and a style z behind every sample: q(y|x), q(z|x,y) and p(x|y,z), one hidden layer each.

    Args:
        in_features: D, the values of a sample.
        classes: C.
        latent_size: Z, of the style.
        hidden: units of the hidden layers of each of the three networks.
        likelihood: "bernoulli", for x in [0, 1], or "gaussian", with one learned σ.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1, or an unknown likelihood.

    Example:
        >>> model = M2(784, 10)
        >>> model.loss(labelled, labels, unlabelled, classification=0.1 * n / n_labelled).backward()

    Source: Kingma et al. 2014, section 2; softplus as there.
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        latent_size: int = 50,
        hidden: Sequence[int] = (500,),
        likelihood: str = "bernoulli",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.hidden = list(hidden)
        require_sizes(
            "M2", in_features=in_features, classes=classes, latent_size=latent_size, hidden=self.hidden
        )
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_features, self.classes, self.latent_size = in_features, classes, latent_size

        def network(inputs: int) -> tuple[nn.Sequential, int]:
            sizes = [inputs, *self.hidden]
            return perceptron(sizes, "softplus", **where), sizes[-1]

        body, width = network(in_features)
        self.classifier = body.append(nn.Linear(width, classes, **where))
        self.encoder, width = network(in_features + classes)
        self.head = GaussianHead(width, latent_size, **where)
        body, width = network(classes + latent_size)
        self.decoder = body.append(nn.Linear(width, in_features, **where))
        self.likelihood = Likelihood("M2", likelihood, **where)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "in_features": self.in_features,
            "classes": self.classes,
            "latent_size": self.latent_size,
            "hidden": self.hidden,
            "likelihood": self.likelihood.kind,
        }

    def forward(self, input: Tensor) -> Tensor:
        """Logits of q(y|x): (N, D) → (N, C)."""
        require_input("M2", "input", input, self.in_features)
        logits: Tensor = self.classifier(input)
        return logits

    def encode(self, input: Tensor, labels: Tensor) -> Gaussian:
        """q(z|x,y) of samples (N, D) and classes (N,)."""
        posterior: Gaussian = self.head(self.encoder(torch.cat((input, self._one_hot(labels, input)), -1)))
        return posterior

    def decode(self, labels: Tensor, latent: Tensor) -> Tensor:
        """The parameters of p(x|y,z) of classes (N,) and styles (N, Z): (N, D)."""
        parameters: Tensor = self.decoder(torch.cat((self._one_hot(labels, latent), latent), -1))
        return parameters

    def generate(self, labels: Tensor, latent: Tensor) -> Tensor:
        """E p(x|y,z): (N, D). The same styles with other classes are analogies."""
        return self.likelihood.mean(self.decode(labels, latent))

    def labelled_loss(self, input: Tensor, labels: Tensor) -> Tensor:
        """L(x, y) of each sample, with one drawn z and a uniform p(y): (N,)."""
        posterior = self.encode(input, labels)
        log_likelihood = self.likelihood(self.decode(labels, posterior.sample()), input)
        return m2_labelled(log_likelihood, -math.log(self.classes), gaussian_kl(*posterior))

    def unlabelled_loss(self, input: Tensor) -> Tensor:
        """U(x) of each sample, the sum over all classes: (N,)."""
        count = input.shape[0]
        # Sample by sample, class by class: the order of the view below.
        repeated = input.repeat_interleave(self.classes, 0)
        labels = torch.arange(self.classes, device=input.device).repeat(count)
        labelled = self.labelled_loss(repeated, labels).view(count, self.classes)
        return m2_unlabelled(labelled, functional.log_softmax(self(input), -1))

    def loss(
        self,
        labelled: Tensor,
        labels: Tensor,
        unlabelled: Tensor,
        classification: float,
        labelled_weight: float = 1.0,
    ) -> Tensor:
        """J of a batch of labelled samples (N_l, D), their classes (N_l,) and unlabelled ones (N_u, D).

        Args:
            labelled: may be empty, as ``unlabelled``.
            labels: 0 to C − 1.
            unlabelled: samples whose class nobody knows.
            classification: α, the weight of −ln q(y|x).
            labelled_weight: how much a labelled sample counts; below 1 where it is in every batch.

        Returns:
            A scalar, the mean over all samples (:func:`deconvkit.losses.m2_objective`).
        """
        log_q = functional.log_softmax(self(labelled), -1).gather(1, labels[:, None]).squeeze(1)
        return m2_objective(
            self.labelled_loss(labelled, labels),
            self.unlabelled_loss(unlabelled),
            log_q,
            classification,
            labelled_weight,
        )

    def _one_hot(self, labels: Tensor, like: Tensor) -> Tensor:
        return functional.one_hot(labels, self.classes).to(like.dtype)


class StackedM1M2(nn.Module):
    """M1 below, trained first and then frozen; M2 above it, on the latents of M1 that are in use.

    Args:
        in_features: D, the values of a sample.
        classes: C.
        m1_latent_size: Z of M1.
        m1_hidden: M1's hidden layers.
        m2_latent_size: Z of M2.
        m2_hidden: M2's hidden layers.
        likelihood: of M1; M2's is Gaussian, as M1's latents are.
        kept: which of M1's latents M2 sees (:meth:`M1.active_latents`); all unless given.
        device: where the parameters live.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1, an unknown likelihood, or ``kept`` empty or outside M1's latents.

    Source: Kingma et al. 2014, section 2, "stacked generative semi-supervised model".
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        m1_latent_size: int = 50,
        m1_hidden: Sequence[int] = (500, 500),
        m2_latent_size: int = 50,
        m2_hidden: Sequence[int] = (500,),
        likelihood: str = "bernoulli",
        kept: Sequence[int] | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.m1 = M1(in_features, m1_latent_size, m1_hidden, likelihood, **where)
        self.kept = list(range(m1_latent_size)) if kept is None else sorted(set(kept))
        if not self.kept or not 0 <= self.kept[0] <= self.kept[-1] < m1_latent_size:
            raise ValueError(
                f"StackedM1M2: kept: expected latents from 0 to {m1_latent_size - 1}, got {kept!r}"
            )
        self.m2 = M2(len(self.kept), classes, m2_latent_size, m2_hidden, "gaussian", **where)
        self.m1.requires_grad_(False)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "in_features": self.m1.in_features,
            "classes": self.m2.classes,
            "m1_latent_size": self.m1.latent_size,
            "m1_hidden": self.m1.hidden,
            "m2_latent_size": self.m2.latent_size,
            "m2_hidden": self.m2.hidden,
            "likelihood": self.m1.likelihood.kind,
            "kept": self.kept,
        }

    def features(self, input: Tensor) -> Tensor:
        """M1's kept latents, drawn anew: (N, D) → (N, len(kept))."""
        with torch.no_grad():
            return self.m1.features(input)[:, self.kept]

    def forward(self, input: Tensor) -> Tensor:
        """Logits of q(y|z) at the means of M1's latents: (N, D) → (N, C)."""
        logits: Tensor = self.m2(self.m1.encode(input).mean[:, self.kept])
        return logits

    def generate(self, labels: Tensor, latent: Tensor) -> Tensor:
        """E p(x|y,z) through both models; latents of M1 that are not kept are 0. (N,), (N, Z) → (N, D)."""
        means = latent.new_zeros(latent.shape[0], self.m1.latent_size)
        means[:, self.kept] = self.m2.generate(labels, latent)
        return self.m1.likelihood.mean(self.m1.decode(means))

    def loss(
        self,
        labelled: Tensor,
        labels: Tensor,
        unlabelled: Tensor,
        classification: float,
        labelled_weight: float = 1.0,
    ) -> Tensor:
        """:meth:`M2.loss` of the latents of both batches."""
        latents = self.features(labelled), labels, self.features(unlabelled)
        return self.m2.loss(*latents, classification, labelled_weight)
