"""Adversarial training as the lecture has it: D first, then G with D frozen, then both against each other."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from deconvkit.losses import adversarial_value, discriminator_loss, generator_loss
from deconvkit.models import DCGANDiscriminator, DCGANGenerator, MLPDiscriminator, MLPGenerator
from deconvkit.train.module import Recipe, Wanted
from deconvkit.train.priors import PRIORS, draw_latents
from deconvkit.visualize.grids import image_sheet

_JUDGED = 5000  # digits, of data and made, that are compared at most


class AdversarialRecipe(Recipe):
    """Two players. D on its own learns data from the untrained generator's fakes.

    Args:
        discriminator_epochs: of D alone.
        generator_epochs: of G alone, D frozen: its weights and the buffers of its normalisations.
        saturating: whether G minimises ln(1 − D) instead of −ln D.
        learning_rate: of Adam, for both.
        beta1: of Adam.
        averaging: of G's weights and buffers, the share that their average keeps at each of its steps; the
            average is what is kept, drawn and judged. 0: G itself.
        prior: what z is drawn from: "uniform", U(−1, 1), or "normal", N(0, 1).
    """

    generator: Any
    discriminator: Any
    idle_weights = True  # those of the player who waits

    def __init__(
        self,
        discriminator_epochs: int = 1,
        generator_epochs: int = 1,
        saturating: bool = False,
        learning_rate: float = 2e-4,
        beta1: float = 0.5,
        averaging: float = 0.0,
        prior: str = "uniform",
    ) -> None:
        super().__init__()
        if prior not in PRIORS:
            raise ValueError(f"prior: expected one of {', '.join(PRIORS)}, got {prior!r}")
        if not 0 <= averaging < 1:
            raise ValueError(f"averaging: expected 0 to below 1, got {averaging}")
        self.automatic_optimization = False
        self.discriminator_epochs, self.generator_epochs = discriminator_epochs, generator_epochs
        self.saturating, self.learning_rate, self.beta1 = saturating, learning_rate, beta1
        self.averaging, self.prior = averaging, prior

    def players(self) -> tuple[nn.Module, nn.Module]:
        """G and D for the data's size."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Build both."""
        if hasattr(self, "generator"):
            return
        self.generator, self.discriminator = self.players()
        if self.averaging:
            average = get_ema_multi_avg_fn(self.averaging)
            self.average = AveragedModel(self.generator, multi_avg_fn=average, use_buffers=True)
            self.average.requires_grad_(False)

    def seen(self, images: Tensor) -> Tensor:
        """The data's images as D sees them and G makes them."""
        return images

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
        """z of the prior."""
        return draw_latents(self.prior, count, self.generator.latent_size, generator, self.device)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One step of each who plays."""
        real = self.seen(batch[0])
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
            if self.averaging:
                self.average.update_parameters(self.generator)
            self.report(g_loss=loss)
            if self.phase == "generator":
                self.report(d_fake=torch.sigmoid(logits).mean())

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
        """The generator, or its average."""
        return self.average.module if self.averaging else self.generator

    def notes(self) -> dict[str, Any]:
        """What the latents are drawn from."""
        return {"prior": self.prior}

    def figures(self) -> dict[str, float]:
        """V and D's answers; at the optimum −ln 4 and ½."""
        real = self.seen(self.data.tensors[0][:512])
        fake = self._fakes(len(real))
        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        return {
            "value": adversarial_value(real_logits, fake_logits).item(),
            "value_at_optimum": -math.log(4),
            "d_real": torch.sigmoid(real_logits).mean().item(),
            "d_fake": torch.sigmoid(fake_logits).mean().item(),
            "d_at_optimum": 0.5,
        }

    def _fakes(self, count: int) -> Tensor:
        fakes: Tensor = self.trained()(self.latents(count, torch.Generator().manual_seed(1)))
        return fakes


@contextlib.contextmanager
def _frozen(network: nn.Module, weights: bool = True) -> Iterator[None]:
    """No change of a network's buffers, and no gradient for its weights while gradients pass through it."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.requires_grad_(not weights)
    try:
        yield
    finally:
        network.requires_grad_(True)
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])


class _Digits(AdversarialRecipe):
    """Digits, and how good the fakes are: by classes, a classifier and neighbours."""

    saturation: Tensor

    def setup(self, stage: str) -> None:
        """Build both."""
        if not hasattr(self, "generator"):
            # Of the two losses of G at the end of D's phase: how much larger the other gradient is.
            self.register_buffer("saturation", torch.zeros(()))
        super().setup(stage)

    def vectors(self, fakes: Tensor) -> Tensor:
        """Fakes as the data's images are: (N, size²) in [0, 1]."""
        return fakes

    def notes(self) -> dict[str, Any]:
        """And pixels a side."""
        return super().notes() | {"size": self.data.size}

    def on_train_epoch_end(self) -> None:
        """When D has learned alone, see what gradient each loss would give G."""
        if self.current_epoch + 1 != self.discriminator_epochs:
            return
        norms = []
        z = self.latents(512, torch.Generator().manual_seed(2))
        with _frozen(self.discriminator), _frozen(self.generator, weights=False):
            for saturating in (True, False):
                loss = generator_loss(self.discriminator(self.generator(z)), saturating=saturating)
                gradients = torch.autograd.grad(loss, list(self.generator.parameters()))
                norms.append(torch.stack([g.norm() for g in gradients]).norm())
        self.saturation.copy_(norms[1] / norms[0])

    def figures(self) -> dict[str, float]:
        """Classes, confidence, two-sample test by neighbours, saturation."""
        from deconvkit.train.measures import classes_of, one_nearest_neighbour

        # In an order of their own already; all pairs of MNIST's would not fit into the memory.
        real, labels = self.data.train_images[:_JUDGED], self.data.train_labels[:_JUDGED]
        fake = self.vectors(self._fakes(len(real)))
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
        images = self.vectors(self._fakes(60)).numpy().reshape(-1, self.data.size, self.data.size)
        return {
            "samples": image_sheet(images, 12, "Digits by a generator", "Each from its own latent vector.")
        }


class DigitsGANRecipe(_Digits):
    """Perceptrons on digits.

    Args:
        hidden: units of the layers of both.
        latent_size: of z.
        discriminator_epochs: of D alone.
        generator_epochs: of G alone.
        saturating: G's loss.
        learning_rate: of Adam.
        beta1: of Adam.
        averaging: of G's weights.
        prior: of z.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128, 128),
        latent_size: int = 16,
        discriminator_epochs: int = 15,
        generator_epochs: int = 1,
        saturating: bool = False,
        learning_rate: float = 1e-3,
        beta1: float = 0.5,
        averaging: float = 0.0,
        prior: str = "uniform",
    ) -> None:
        super().__init__(
            discriminator_epochs, generator_epochs, saturating, learning_rate, beta1, averaging, prior
        )
        self.hidden, self.latent_size = list(hidden), latent_size

    def players(self) -> tuple[nn.Module, nn.Module]:
        """Perceptrons."""
        features = self.data.size**2
        return MLPGenerator(self.latent_size, features, self.hidden), MLPDiscriminator(features, self.hidden)


class DigitsDCGANRecipe(_Digits):
    """A small DCGAN on digits, in a black frame up to 16, 32, ... pixels.

    Doubling reaches those only, and for 8 pixels G would have one layer behind its projection: too few for
    what lies between two digits to be rare.

    Args:
        base_channels: of the maps before the image.
        latent_size: of z.
        kernel_size: 5 or 4.
        discriminator_epochs: of D alone.
        generator_epochs: of G alone.
        saturating: G's loss.
        learning_rate: of Adam.
        beta1: of Adam.
        averaging: of G's weights.
        prior: of z.
    """

    def __init__(
        self,
        base_channels: int = 32,
        latent_size: int = 16,
        kernel_size: int = 5,
        discriminator_epochs: int = 15,
        generator_epochs: int = 1,
        saturating: bool = False,
        learning_rate: float = 1e-3,
        beta1: float = 0.5,
        averaging: float = 0.999,
        prior: str = "uniform",
    ) -> None:
        super().__init__(
            discriminator_epochs, generator_epochs, saturating, learning_rate, beta1, averaging, prior
        )
        self.base_channels, self.latent_size, self.kernel_size = base_channels, latent_size, kernel_size

    @property
    def frame(self) -> tuple[int, int]:
        """Pixels before and behind the digits, in both directions."""
        more = (1 << max(4, (self.data.size - 1).bit_length())) - self.data.size
        return more // 2, more - more // 2

    def players(self) -> tuple[nn.Module, nn.Module]:
        """DCGANs of one channel."""
        size = self.data.size + sum(self.frame)
        generator = DCGANGenerator(
            self.latent_size, self.base_channels, size, channels=1, kernel_size=self.kernel_size
        )
        return generator, DCGANDiscriminator(self.base_channels, size, 1, self.kernel_size)

    def seen(self, images: Tensor) -> Tensor:
        """(N, size²) in [0, 1] → (N, 1, framed size, framed size) in [−1, 1]."""
        square = images.view(-1, 1, self.data.size, self.data.size)
        return functional.pad(square * 2 - 1, self.frame * 2, value=-1.0)

    def vectors(self, fakes: Tensor) -> Tensor:
        """Without the frame."""
        before, size = self.frame[0], self.data.size
        return fakes[:, 0, before : before + size, before : before + size].flatten(1) / 2 + 0.5


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
        averaging: of G's weights.
        prior: of z.
    """

    def __init__(
        self,
        base_channels: int = 32,
        latent_size: int = 100,
        kernel_size: int = 5,
        discriminator_epochs: int = 1,
        generator_epochs: int = 1,
        saturating: bool = False,
        learning_rate: float = 2e-4,
        beta1: float = 0.5,
        averaging: float = 0.99,
        prior: str = "uniform",
    ) -> None:
        super().__init__(
            discriminator_epochs, generator_epochs, saturating, learning_rate, beta1, averaging, prior
        )
        self.base_channels, self.latent_size, self.kernel_size = base_channels, latent_size, kernel_size

    def players(self) -> tuple[nn.Module, nn.Module]:
        """DCGANs of three channels."""
        size = self.data.size
        generator = DCGANGenerator(self.latent_size, self.base_channels, size, kernel_size=self.kernel_size)
        return generator, DCGANDiscriminator(self.base_channels, size, kernel_size=self.kernel_size)

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
            Wanted("colour_distance", most=0.2),
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
