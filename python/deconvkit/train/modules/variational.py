"""Variational autoencoders of digits, and the decoder of a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from deconvkit.data.digits import CLASSES
from deconvkit.losses import gaussian_kl
from deconvkit.models import M1, VAE, ClassDecoder
from deconvkit.train.module import Recipe, Wanted
from deconvkit.visualize.grids import image_rows, image_sheet


class _Digits(Recipe):
    """On the vectors of a digits data module."""

    network: Any

    @property
    def data(self) -> Any:
        """The data module."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def trained(self) -> Any:
        """The network."""
        return self.network

    def notes(self) -> dict[str, Any]:
        """Pixels a side, and names of the classes."""
        return {"size": self.data.size, "classes": list(CLASSES)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), self.learning_rate)

    learning_rate: float

    def images(self, vectors: Tensor) -> Any:
        """(N, size²) as images in [0, 1]."""
        return vectors.clamp(0, 1).numpy().reshape(-1, self.data.size, self.data.size)


class VAERecipe(_Digits):
    """A VAE.

    Args:
        latent_size: Z.
        hidden: units of the encoder's layers.
        likelihood: "gaussian" or "bernoulli"; the pixels of each batch are drawn anew for the latter.
        learning_rate: of Adam.
        features: whether it is an M1, whose latents serve a classifier.
    """

    def __init__(
        self,
        latent_size: int = 16,
        hidden: Sequence[int] = (256,),
        likelihood: str = "gaussian",
        learning_rate: float = 1e-3,
        features: bool = False,
    ) -> None:
        super().__init__()
        self.latent_size, self.hidden, self.likelihood = latent_size, list(hidden), likelihood
        self.learning_rate, self.features = learning_rate, features

    def setup(self, stage: str) -> None:
        """Build the network for the data's size."""
        if not hasattr(self, "network"):
            make = M1 if self.features else VAE
            self.network = make(self.data.size**2, self.latent_size, self.hidden, self.likelihood)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Minus the bound."""
        images = batch[0]
        if self.likelihood == "bernoulli":
            images = torch.bernoulli(images)
        output = self.network(images)
        loss = self.network.loss(output, images)
        self.report(loss=loss, kl=gaussian_kl(*output.posterior).mean())
        return loss

    def figures(self) -> dict[str, float]:
        """Mean squared error of test digits against PCA of as many dimensions; latents in use; the bound."""
        test, train = self.data.test_images, self.data.train_images
        error = (self.network.reconstruct(test) - test).square().mean().item()
        mean = train.mean(0)
        basis = torch.linalg.svd(train - mean, full_matrices=False)[2][: self.latent_size]
        pca = ((test - mean) @ basis.T @ basis + mean - test).square().mean().item()
        bound = self.network.bound(self.network(test), test).mean().item()
        active = (self.network.encode(test).mean.std(0) > 0.1).sum().item()
        result = {"mse": error, "pca_mse": pca, "mse_over_pca": error / pca, "bound": bound, "active": active}
        if self.features:
            result |= self._classification()
        return result

    def _classification(self) -> dict[str, float]:
        """A linear classifier on the latents' means."""
        from sklearn.linear_model import LogisticRegression

        train, test = (
            self.network.encode(images).mean.numpy()
            for images in (self.data.train_images, self.data.test_images)
        )
        classifier = LogisticRegression(max_iter=2000).fit(train, self.data.train_labels.numpy())
        return {"accuracy": float(classifier.score(test, self.data.test_labels.numpy()))}

    def wanted(self) -> list[Wanted]:
        """Better than PCA by a fifth."""
        if self.features or self.likelihood != "gaussian":
            return []
        return [Wanted("mse_over_pca", most=0.8)]

    def pictures(self) -> dict[str, Figure]:
        """Test digits and their reconstructions; digits drawn from the prior; a walk through two latents."""
        test = self.data.test_images[:12]
        rows = [("original", self.images(test)), ("restored", self.images(self.network.reconstruct(test)))]
        drawn = self.network.sample(60, generator=torch.Generator().manual_seed(0))
        quantiles = torch.special.ndtri(torch.linspace(0.05, 0.95, 10))
        # The two latents that say most.
        strongest = self.network.encode(self.data.test_images).mean.std(0).argsort(descending=True)[:2]
        walk = torch.zeros(100, self.network.latent_size)
        walk[:, strongest[0]] = quantiles.repeat_interleave(10)
        walk[:, strongest[-1]] = quantiles.repeat(10)
        walked = self.network.likelihood.mean(self.network.decode(walk))
        return {
            "reconstructions": image_rows(
                rows, "Through the bottleneck", f"Digits not trained on, from {self.latent_size} latents."
            ),
            "samples": image_sheet(
                self.images(drawn),
                12,
                "Digits that nobody wrote",
                "Decoded from latents drawn from the prior.",
            ),
            "traversal": image_sheet(
                self.images(walked),
                10,
                "A walk through two latents",
                "Those that vary most, from the 5th to the 95th percentile of the prior; the others are 0.",
            ),
        }


class ClassDecoderRecipe(_Digits):
    """The lecture's decoder of a one-hot class, which must return the mean of each.

    Args:
        hidden: units of layers between; none by default.
        likelihood: "bernoulli" or "gaussian".
        learning_rate: of Adam.
    """

    def __init__(
        self, hidden: Sequence[int] = (), likelihood: str = "bernoulli", learning_rate: float = 0.05
    ) -> None:
        super().__init__()
        self.hidden, self.likelihood, self.learning_rate = list(hidden), likelihood, learning_rate

    def setup(self, stage: str) -> None:
        """Build the network for the data's size."""
        if not hasattr(self, "network"):
            self.network = ClassDecoder(10, self.data.size**2, self.hidden, self.likelihood)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """−ln p(x|y)."""
        loss: Tensor = self.network.loss(functional.one_hot(batch[1], 10), batch[0])
        self.report(loss=loss)
        return loss

    def _means(self) -> Tensor:
        images, labels = self.data.train_images, self.data.train_labels
        return torch.stack([images[labels == y].mean(0) for y in range(10)])

    def figures(self) -> dict[str, float]:
        """How far the decoded classes are from the means of the training digits."""
        difference = (self.network(torch.eye(10)) - self._means()).abs()
        return {"largest_difference": difference.max().item(), "mean_difference": difference.mean().item()}

    def wanted(self) -> list[Wanted]:
        """The means."""
        return [Wanted("largest_difference", most=0.02)]

    def pictures(self) -> dict[str, Figure]:
        """Decoded classes over the means; differences below."""
        decoded, means = self.network(torch.eye(10)), self._means()
        rows = [
            ("decoded", self.images(decoded)),
            ("mean", self.images(means)),
            ("|difference|", np.asarray(self.images((decoded - means).abs()))),
        ]
        note = "A class is all that the decoder is told: the best it can give is the mean of its digits."
        return {"classes": image_rows(rows, "What a class looks like", note)}
