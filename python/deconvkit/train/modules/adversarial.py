"""Adversarial training as the lecture has it: D first, then G with D frozen, then both against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from deconvkit.losses import adversarial_value, discriminator_loss, generator_loss
from deconvkit.models import DCGANDiscriminator, DCGANGenerator, MLPDiscriminator, MLPGenerator
from deconvkit.train.module import Recipe, Wanted
from deconvkit.visualize.grids import image_sheet


class AdversarialRecipe(Recipe):
    """Two players. D on its own learns data from the untrained generator's fakes.

    Args:
        discriminator_epochs: of D alone.
        generator_epochs: of G alone, D frozen: its weights and the buffers of its normalisations.
        saturating: whether G minimises ln(1 − D) instead of −ln D.
        learning_rate: of Adam, for both.
        beta1: of Adam.
    """

    generator: Any
    discriminator: Any

    def __init__(
        self,
        discriminator_epochs: int = 1,
        generator_epochs: int = 1,
        saturating: bool = False,
        learning_rate: float = 2e-4,
        beta1: float = 0.5,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.discriminator_epochs, self.generator_epochs = discriminator_epochs, generator_epochs
        self.saturating, self.learning_rate, self.beta1 = saturating, learning_rate, beta1

    @property
    def data(self) -> Any:
        """The data module."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    @property
    def phase(self) -> str:
        """Who plays in this epoch: "discriminator", "generator" or "both"."""
        if self.current_epoch < self.discriminator_epochs:
            return "discriminator"
        if self.current_epoch < self.discriminator_epochs + self.generator_epochs:
            return "generator"
        return "both"

    def configure_optimizers(self) -> Any:
        """Adam for each."""
        return [
            torch.optim.Adam(player.parameters(), self.learning_rate, (self.beta1, 0.999))
            for player in (self.discriminator, self.generator)
        ]

    def latents(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """z, uniform in (−1, 1)."""
        size = count, self.generator.latent_size
        return torch.rand(size, generator=generator, device=self.device) * 2 - 1

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One step of each who plays."""
        real = batch[0]
        optimizers: Any = self.optimizers()
        if self.phase != "generator":
            with torch.no_grad():
                fake = self.generator(self.latents(len(real)))
            self._step(optimizers[0], self._discriminator_loss(real, fake))
        if self.phase != "discriminator":
            with _frozen(self.discriminator):
                logits = self.discriminator(self.generator(self.latents(len(real))))
                loss = generator_loss(logits, saturating=self.saturating)
                self._step(optimizers[1], loss)
            self.report(g_loss=loss)

    def _discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        # Each through the normalisations by itself.
        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        self.report(
            value=adversarial_value(real_logits, fake_logits).detach(),
            d_real=torch.sigmoid(real_logits).mean().detach(),
            d_fake=torch.sigmoid(fake_logits).mean().detach(),
        )
        return discriminator_loss(real_logits, fake_logits)

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def trained(self) -> Any:
        """The generator."""
        return self.generator

    def figures(self) -> dict[str, float]:
        """V and D's answers; at the optimum −ln 4 and ½."""
        real = self.data.tensors[0][:512].to(self.device)
        fake = self._fakes(len(real))
        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        return {
            "value": adversarial_value(real_logits, fake_logits).item(),
            "value_at_optimum": -math.log(4),
            "d_real": torch.sigmoid(real_logits).mean().item(),
            "d_fake": torch.sigmoid(fake_logits).mean().item(),
        }

    def _fakes(self, count: int) -> Tensor:
        fakes: Tensor = self.generator(self.latents(count, torch.Generator().manual_seed(1)))
        return fakes


class _frozen:  # noqa: N801 - used as a function
    """No gradient for a network's weights and no change of its buffers, while gradients pass through it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __enter__(self) -> None:
        self.buffers = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        self.network.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        self.network.requires_grad_(True)
        with torch.no_grad():
            for name, buffer in self.network.named_buffers():
                buffer.copy_(self.buffers[name])


class DigitsGANRecipe(AdversarialRecipe):
    """Perceptrons on digits; how good the fakes are is measured by classes, a classifier and neighbours.

    Args:
        hidden: units of the layers of both.
        latent_size: of z.
        discriminator_epochs: of D alone.
        generator_epochs: of G alone.
        saturating: G's loss.
        learning_rate: of Adam.
        beta1: of Adam.
    """

    saturation: Tensor

    def __init__(
        self,
        hidden: Sequence[int] = (128, 128),
        latent_size: int = 16,
        discriminator_epochs: int = 15,
        generator_epochs: int = 1,
        saturating: bool = False,
        learning_rate: float = 1e-3,
        beta1: float = 0.5,
    ) -> None:
        super().__init__(discriminator_epochs, generator_epochs, saturating, learning_rate, beta1)
        self.hidden, self.latent_size = list(hidden), latent_size

    def setup(self, stage: str) -> None:
        """Build both for the data's size."""
        if not hasattr(self, "generator"):
            self.generator = MLPGenerator(self.latent_size, self.data.size**2, self.hidden)
            self.discriminator = MLPDiscriminator(self.data.size**2, self.hidden)
            # Of the two losses of G at the end of D's phase: how much larger the other gradient is.
            self.register_buffer("saturation", torch.zeros(()))

    def notes(self) -> dict[str, Any]:
        """Pixels a side."""
        return {"size": self.data.size}

    def on_train_epoch_end(self) -> None:
        """When D has learned alone, see what gradient each loss would give G."""
        if self.current_epoch + 1 != self.discriminator_epochs:
            return
        norms = []
        z = self.latents(512, torch.Generator().manual_seed(2))
        for saturating in (True, False):
            loss = generator_loss(self.discriminator(self.generator(z)), saturating=saturating)
            gradients = torch.autograd.grad(loss, list(self.generator.parameters()))
            norms.append(torch.stack([g.norm() for g in gradients]).norm())
        self.saturation.copy_(norms[1] / norms[0])

    def figures(self) -> dict[str, float]:
        """Classes, confidence, two-sample test by neighbours, saturation."""
        from deconvkit.train.measures import classes_of, one_nearest_neighbour

        real, labels = self.data.train_images, self.data.train_labels
        fake = self._fakes(len(real))
        shares, confidence = classes_of(real, labels, fake)
        own_real, own_fake = one_nearest_neighbour(real, fake)
        return super().figures() | {
            "classes": float((shares >= 0.02).sum()),
            "class_entropy": float(-(shares[shares > 0] * shares[shares > 0].log()).sum()),
            "confidence": confidence,
            "neighbour_accuracy": (own_real + own_fake) / 2,
            "saturation_ratio": self.saturation.item(),
        }

    def wanted(self) -> list[Wanted]:
        """All ten classes, digits that a classifier knows, and neighbours that are mixed."""
        return [
            Wanted("classes", least=10),
            Wanted("confidence", least=0.88),
            Wanted("neighbour_accuracy", most=0.90),
            Wanted("saturation_ratio", least=100),
        ]

    def pictures(self) -> dict[str, Figure]:
        """Generated digits."""
        images = self._fakes(60).numpy().reshape(-1, self.data.size, self.data.size)
        return {
            "samples": image_sheet(images, 12, "Digits by a generator", "Each from its own latent vector.")
        }


class DCGANRecipe(AdversarialRecipe):
    """The lecture's DCGAN on crops of photographs.

    Args:
        base_channels: 128 in the paper; 32 trains within minutes.
        latent_size: of z.
        kernel_size: 5 or 4.
        discriminator_epochs: of D alone.
        generator_epochs: of G alone.
        saturating: G's loss.
        learning_rate: of Adam.
        beta1: of Adam.
    """

    def __init__(
        self,
        base_channels: int = 32,
        latent_size: int = 100,
        kernel_size: int = 5,
        discriminator_epochs: int = 1,
        generator_epochs: int = 0,
        saturating: bool = False,
        learning_rate: float = 2e-4,
        beta1: float = 0.5,
    ) -> None:
        super().__init__(discriminator_epochs, generator_epochs, saturating, learning_rate, beta1)
        self.base_channels, self.latent_size, self.kernel_size = base_channels, latent_size, kernel_size

    def setup(self, stage: str) -> None:
        """Build both for the data's size."""
        if not hasattr(self, "generator"):
            size = self.data.size
            self.generator = DCGANGenerator(
                self.latent_size, self.base_channels, size, kernel_size=self.kernel_size
            )
            self.discriminator = DCGANDiscriminator(self.base_channels, size, kernel_size=self.kernel_size)

    def figures(self) -> dict[str, float]:
        """And how far the fakes' colours are from the photographs': of mean and spread of each channel."""
        real, fake = self.data.tensors[0][:512], self._fakes(256)

        def colours(images: Tensor) -> Tensor:
            flat = images.movedim(1, 0).flatten(1)
            return torch.stack((flat.mean(1), flat.std(1)))

        return super().figures() | {
            "colour_distance": (colours(real) - colours(fake)).abs().max().item(),
            "texture_ratio": (_roughness(fake) / _roughness(real)).item(),
        }

    def wanted(self) -> list[Wanted]:
        """The photographs' colours (of a range of 2), and neither smooth nor noise."""
        return [
            Wanted("colour_distance", most=0.3),
            Wanted("texture_ratio", least=0.5, most=2.0),
        ]

    def pictures(self) -> dict[str, Figure]:
        """Generated images over crops of the photographs."""
        real = self.data.tensors[0][:24]
        both = torch.cat((self._fakes(48), real)).clamp(-1, 1).permute(0, 2, 3, 1).numpy() / 2 + 0.5
        return {
            "samples": image_sheet(
                both,
                12,
                "Images by a generator",
                "Four rows generated; below them two of the photographs' crops.",
            )
        }


def _roughness(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels."""
    return images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean()
