"""What all recipes' modules have in common."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from deconvkit.train.errors import TrainingError


class Wanted(NamedTuple):
    """A limit for one of the figures."""

    figure: str
    least: float = -math.inf
    most: float = math.inf

    def missed(self, figures: dict[str, float]) -> str:
        """What is wrong with it, or nothing."""
        value = figures[self.figure]
        if self.least <= value <= self.most:
            return ""
        limit = f">= {self.least:g}" if self.least > -math.inf else f"<= {self.most:g}"
        return f"{self.figure} {value:.4g} ({limit})"


class Recipe(pl.LightningModule):
    """A network in training, and what a run of it leaves behind.

    Every batch begins with random numbers of its own, by seed, epoch, batch and process: a run that is taken
    up again from a checkpoint goes on as if it had never stopped.
    """

    seed: int = 0  # set by the command
    idle_weights: bool = False  # whether a step may leave some without a gradient

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Begin the batch's own random numbers."""
        torch.manual_seed(hash((self.seed, self.current_epoch, batch_idx, self.global_rank)) % 2**63)

    def report(self, **values: Tensor | float) -> None:
        """Log values of a batch, and stop where one of them is no number.

        Raises:
            TrainingError: NaN or infinity.
        """
        for name, value in values.items():
            if isinstance(value, Tensor):
                value = value.detach()
            if not math.isfinite(float(value)):
                kept = "the last checkpoint is kept: " if self.current_epoch else ""
                raise TrainingError(
                    f"{name} became {float(value)} in epoch {self.current_epoch}; {kept}try again with a "
                    "smaller learning rate or another --seed_everything"
                )
            self.log(name, value, on_step=False, on_epoch=True, batch_size=1)

    def trained(self) -> Any:
        """The model to save, of ``deconvkit.models``."""
        raise NotImplementedError

    def notes(self) -> dict[str, Any]:
        """What the verbs must know beside the model."""
        return {}

    def pictures(self) -> dict[str, Figure]:
        """Drawn every few epochs and at the end, by name."""
        return {}

    def figures(self) -> dict[str, float]:
        """Measured at the end."""
        return {}

    def wanted(self) -> list[Wanted]:
        """What the figures of a run with the default arguments and data must reach."""
        return []
