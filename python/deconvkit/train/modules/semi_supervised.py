"""M2, and M2 on M1's latents: digits of which few have labels."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from deconvkit.losses import weight_prior
from deconvkit.models import M2, StackedM1M2
from deconvkit.train.module import Wanted
from deconvkit.train.modules.variational import _Digits
from deconvkit.visualize.grids import image_rows


class M2Recipe(_Digits):
    """M2 beside a classifier of the same size that sees the labelled digits alone.

    All labelled digits are in every batch, beside the batch's own, whose labels are not used, and count for
    the batch's share of the data: the sum over an epoch is the paper's J.

    Args:
        labelled: digits with a label, as many of each class as can be.
        latent_size: Z.
        hidden: units of the hidden layers.
        learning_rate: of Adam.
        weight: α = weight · n / labelled for each labelled digit, n all digits. The paper has 0.1, with which
            20 labels of the 8×8 digits lose to the classifier.
        stacked: epochs for which M1 is trained first; 0: M2 on the pixels.
    """

    def __init__(
        self,
        labelled: int = 20,
        latent_size: int = 16,
        hidden: Sequence[int] = (128,),
        learning_rate: float = 1e-3,
        weight: float = 1.3,
        stacked: int = 0,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"weight: expected at least 0, got {weight}")
        self.labelled, self.latent_size, self.hidden = labelled, latent_size, list(hidden)
        self.learning_rate, self.weight, self.stacked = learning_rate, weight, stacked

    def setup(self, stage: str) -> None:
        """Build the networks, and choose the digits whose labels are known."""
        if hasattr(self, "network"):
            return
        features, labels = self.data.size**2, self.data.train_labels
        if not 10 <= self.labelled <= len(labels):
            raise ValueError(f"labelled: expected 10 to {len(labels)}, got {self.labelled}")
        generator = torch.Generator().manual_seed(self.data.seed)
        order = torch.randperm(len(labels), generator=generator)
        ranks = torch.empty_like(order)
        for y in range(10):
            of_class = order[labels[order] == y]
            ranks[of_class] = torch.arange(len(of_class))
        self.known = torch.argsort(ranks * 10 + labels)[: self.labelled]
        if self.stacked:
            self.network: Any = StackedM1M2(features, 10, 32, [256], self.latent_size, self.hidden)
            self.network.m1.requires_grad_(True)
        else:
            self.network = M2(features, 10, self.latent_size, self.hidden, "gaussian")
        self.supervised = copy.deepcopy(
            self.network.m2.classifier if self.stacked else self.network.classifier
        )
        if self.stacked:
            layers: list[nn.Module] = [nn.Linear(features, self.hidden[0]), nn.Softplus()]
            self.supervised = nn.Sequential(*layers, nn.Linear(self.hidden[0], 10))
            for later in (self.network.m2, self.supervised):
                later.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        """When M1 has learned, put M2 on those of its latents that are in use, and begin with that."""
        if not self.stacked or self.current_epoch != self.stacked:
            return
        with torch.no_grad():
            kept = self.network.m1.active_latents(self.data.train_images)
        self._keep(kept or self.network.kept)  # all, where M1 has learned too little to use any
        strategy: Any = self.trainer.strategy
        strategy.setup_optimizers(self.trainer)
        if isinstance(strategy, DDPStrategy):  # whose gradients are those of the networks it was given
            strategy.model = self
            strategy.configure_ddp()

    def _keep(self, kept: list[int]) -> None:
        config = self.network.config() | {"kept": kept}
        stacked = StackedM1M2(**config).to(self.device)
        stacked.m1.load_state_dict(self.network.m1.state_dict())
        self.network = stacked
        self.supervised.requires_grad_(True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Which latents M2 is on."""
        if self.stacked:
            checkpoint["kept"] = self.network.kept if self.current_epoch >= self.stacked else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put M2 on them."""
        if self.stacked and checkpoint.get("kept") is not None:
            self._keep(checkpoint["kept"])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """J of the batch and of all labelled digits, and the classifier's cross entropy."""
        images, labels = self.data.train_images[self.known], self.data.train_labels[self.known]
        count = len(self.data.train_images)
        if self.current_epoch < self.stacked:
            drawn = torch.bernoulli(batch[0])
            loss: Tensor = self.network.m1.loss(self.network.m1(drawn), drawn)
            self.report(m1_loss=loss)
            return loss
        alpha = self.weight * count / self.labelled
        objective = self.network.loss(images, labels, batch[0], alpha, len(batch[0]) / count)
        prior = weight_prior(p for p in self.network.parameters() if p.requires_grad) / count
        supervised = functional.cross_entropy(self.supervised(images), labels)
        self.report(objective=objective, supervised=supervised)
        return objective + prior + supervised + weight_prior(self.supervised.parameters()) / count

    def figures(self) -> dict[str, float]:
        """Accuracy on test digits, in percent."""
        images, labels = self.data.test_images, self.data.test_labels

        def percent(model: Any) -> float:
            return 100 * (model(images).argmax(1) == labels).float().mean().item()

        ours, supervised = percent(self.network), percent(self.supervised)
        found = {"accuracy": ours, "supervised_accuracy": supervised, "gain": ours - supervised}
        return found | ({"latents_kept": float(len(self.network.kept))} if self.stacked else {})

    def wanted(self) -> list[Wanted]:
        """Nothing of one split: see the paired test over several."""
        return []

    def pictures(self) -> dict[str, Figure]:
        """Analogies: the style of a row's digit, in all classes."""
        rows = []
        styles: Tensor
        for i in range(8):
            image, label = self.data.test_images[i : i + 1], self.data.test_labels[i : i + 1]
            if self.stacked:
                latent = self.network.m1.encode(image).mean[:, self.network.kept]
                styles = self.network.m2.encode(latent, label).mean
            else:
                styles = self.network.encode(image, label).mean
            drawn = self.network.generate(torch.arange(10), styles.expand(10, -1))
            rows.append(("the first digit, as" if i == 0 else "", self.images(torch.cat((image, drawn)))))
        note = "Each row: a digit that was not trained on, and its style with the classes 0 to 9."
        return {"analogies": image_rows(rows, "The same hand, other digits", note)}
