"""VGG names what images show, DeconvNet what each pixel shows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from deconvkit.losses import IGNORED, pixel_cross_entropy
from deconvkit.models import VGG, DeconvNet
from deconvkit.models.vgg import normalise
from deconvkit.segmentation import aggregate, proposals
from deconvkit.train.measures import boundary_iou, mean_iou
from deconvkit.train.module import Recipe, Wanted
from deconvkit.train.muon import Muon
from deconvkit.visualize.grids import image_rows
from deconvkit.visualize.panels import label_colours, predictions

_OPTIMIZERS = ("sgd", "adam", "muon")
_REST = 4  # Muon's rate times this is SGD's, for the rest: DeconvNet learns well by 0.05 and 0.2

_BATCH = 64  # images that are looked at together when nothing is learned


class _Vision(Recipe):
    """Weight decay on all but biases and normalisations; a learning rate that rises, and falls to 0.

    Args:
        optimizer: "sgd", with momentum 0.9, "adam", or "muon" for the 3×3 convolutions' weights and, at four
            times its rate, SGD for the rest.
        learning_rate: the highest, reached after a tenth of the steps; from there it falls to 0 along half a
            cosine.
        weight_decay: of weights; Adam's, and Muon's of 3×3 weights, is apart from the gradient.
    """

    network: Any

    def __init__(self, optimizer: str, learning_rate: float, weight_decay: float) -> None:
        super().__init__()
        if optimizer not in _OPTIMIZERS:
            raise ValueError(f"optimizer: expected one of {', '.join(_OPTIMIZERS)}, got {optimizer!r}")
        for name, value in (("learning_rate", learning_rate), ("weight_decay", weight_decay)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: expected a finite number >= 0, got {value!r}")
        self.optimizer, self.learning_rate = optimizer, learning_rate
        self.weight_decay = weight_decay

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the optimiser, whose state another might take for its own."""
        checkpoint["optimizer"] = self.optimizer

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See that it is the same."""
        begun = checkpoint.get("optimizer", self.optimizer)
        if begun != self.optimizer:
            raise ValueError(
                f"--resume: the run was begun with --model.optimizer {begun}, not {self.optimizer}"
            )

    @property
    def data(self) -> Any:
        """The data module."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def configure_optimizers(self) -> Any:
        """The optimiser, and its rate."""
        parameters = list(self.network.parameters())
        weights = [p for p in parameters if p.dim() > 1]
        decay = self.weight_decay
        vectors: dict[str, Any] = {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}
        optimizer: torch.optim.Optimizer
        if self.optimizer == "muon":
            window, rate = torch.Size((3, 3)), _REST * self.learning_rate
            windows = [p for p in weights if p.shape[2:] == window]
            rest = [p for p in weights if p.shape[2:] != window]
            groups = [
                {"params": windows, "weight_decay": decay, "orthogonal": True},
                {"params": rest, "weight_decay": decay, "lr": rate},
                vectors | {"lr": rate},
            ]
            optimizer = Muon(groups, self.learning_rate)
        else:
            groups = [{"params": weights, "weight_decay": decay}, vectors]
            optimizer = (
                torch.optim.SGD(groups, self.learning_rate, momentum=0.9)
                if self.optimizer == "sgd"
                else torch.optim.AdamW(groups, self.learning_rate)
            )
        steps = self.trainer.estimated_stepping_batches

        def share(step: int) -> float:
            if math.isinf(steps):  # --trainer.max_epochs -1
                return 1.0
            done = (step + 1) / (steps + 1)
            return min(10 * done, (1 + math.cos(math.pi * (done - 0.1) / 0.9)) / 2)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def trained(self) -> Any:
        """The network."""
        return self.network

    def notes(self) -> dict[str, Any]:
        """Pixels a side, and the classes' names."""
        return {"size": self.data.size, "classes": self.data.classes}

    def scores(self, images: Tensor) -> Tensor:
        """Of images (N, 3, size, size), uint8, in batches."""
        parts = [self.network(normalise(part.to(self.device))).cpu() for part in images.split(_BATCH)]
        return torch.cat(parts)


class VGGRecipe(_Vision):
    """A VGG with batch normalisation.

    Args:
        depth: 16 or 19.
        width: channels of the first stage, 64 in the paper.
        dropout: of the linear layers.
        optimizer: "sgd", with momentum 0.9, "adam", or "muon" for the 3×3 convolutions' weights and, at four
            times its rate, SGD for the rest.
        learning_rate: the highest, reached after a tenth of the steps; from there it falls to 0 along half a
            cosine.
        weight_decay: of weights.
    """

    def __init__(
        self,
        depth: int = 16,
        width: int = 16,
        dropout: float = 0.5,
        optimizer: str = "sgd",
        learning_rate: float = 0.01,
        weight_decay: float = 5e-4,
    ) -> None:
        super().__init__(optimizer, learning_rate, weight_decay)
        self.depth, self.width, self.dropout = depth, width, dropout

    def setup(self, stage: str) -> None:
        """Build the network for the data's classes."""
        if not hasattr(self, "network"):
            classes = len(self.data.classes)
            self.network = VGG(self.depth, True, classes, self.width, self.dropout)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross entropy."""
        images, labels = batch
        scores = self.network(normalise(images))
        loss = functional.cross_entropy(scores, labels)
        self.report(loss=loss, train_accuracy=(scores.argmax(1) == labels).float().mean())
        return loss

    def figures(self) -> dict[str, float]:
        """Accuracy on images that were not trained on."""
        found = self.scores(self.data.test_images).argmax(1)
        return {"accuracy": (found == self.data.test_targets).float().mean().item()}

    def wanted(self) -> list[Wanted]:
        """Nearly all of the drawn shapes."""
        return [Wanted("accuracy", least=0.95)]

    def pictures(self) -> dict[str, Figure]:
        """Test images and their likeliest classes."""
        images, targets = self.data.test_images[:8], self.data.test_targets[:8]
        names = self.data.classes
        shown = [
            (names[target], image.permute(1, 2, 0).numpy() / 255)
            for image, target in zip(images, targets.tolist(), strict=True)
        ]
        chances = self.scores(images).softmax(1).double().numpy()
        note = "Images that were not trained on, with their true classes above them."
        return {"classes": predictions(shown, chances, names, "What the network sees", note)}


class DeconvNetRecipe(_Vision):
    """DeconvNet, in the data's two stages.

    All weights but the score's begin with a variance of 2 by inputs (He et al. 2015): the paper's N(0, 0.01)
    suits the width of its own.

    Args:
        width: channels of the first stage, 64 in the paper.
        unpooling: "switches", or "fixed" for comparison.
        encoder_weights: a model.pt of the recipe "vgg", or torchvision's file, of VGG-16 of this width.
        optimizer: "sgd", with momentum 0.9, "adam", or "muon" for the 3×3 convolutions' weights and, at four
            times its rate, SGD for the rest.
        learning_rate: the highest, reached after a tenth of the steps; from there it falls to 0 along half a
            cosine.
        weight_decay: of weights.
    """

    def __init__(
        self,
        width: int = 16,
        unpooling: str = "switches",
        encoder_weights: str | None = None,
        optimizer: str = "sgd",
        learning_rate: float = 0.01,
        weight_decay: float = 5e-4,
    ) -> None:
        super().__init__(optimizer, learning_rate, weight_decay)
        self.width, self.unpooling, self.encoder_weights = width, unpooling, encoder_weights

    def setup(self, stage: str) -> None:
        """Build the network for the data's classes and size."""
        if hasattr(self, "network"):
            return
        classes = len(self.data.classes)
        self.network = DeconvNet(classes, self.width, self.data.size, self.unpooling)
        for module in self.network.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module is not self.network.score:
                nn.init.kaiming_normal_(module.weight)
        if self.encoder_weights is not None:
            from deconvkit.train.checkpoint import load_model

            vgg = load_model(self.encoder_weights, "VGG").model
            assert isinstance(vgg, VGG)
            self.network.copy_encoder(vgg)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross entropy of the pixels."""
        images, labels = batch
        scores = self.network(normalise(images))
        loss = pixel_cross_entropy(scores, labels)
        counted = labels != IGNORED
        # argmax() over this axis would take a tenth of the step.
        labelled = scores.detach().gather(1, labels.where(counted, 0)[:, None])[:, 0]
        right = ((labelled == scores.detach().amax(1)) & counted).sum() / counted.sum().clamp(min=1)
        self.report(loss=loss, pixel_accuracy=right)
        return loss

    def figures(self) -> dict[str, float]:
        """Mean IoU of all pixels, and of those near boundaries, on proposals of scenes not trained on.

        And of whole scenes at their own size, with objects of all sizes: seen in one pass, and over proposals
        together.
        """
        found, labels = self.scores(self.data.test_images).argmax(1), self.data.test_targets
        classes = len(self.data.classes)
        return {
            "mean_iou": mean_iou(found, labels, classes),
            "boundary_iou": boundary_iou(found, labels, classes),
            **self._whole_scenes(classes),
        }

    def _whole_scenes(self, classes: int) -> dict[str, float]:
        """Scenes may differ in size, so their pixels are put in a row."""
        truth, once, together = [], [], []
        for scene in self.data.whole_scenes:
            image = normalise(torch.from_numpy(scene.image.transpose(2, 0, 1).copy())[None]).to(self.device)
            boxes = proposals(*scene.labels.shape)
            joined = aggregate(self.network, image[0], boxes, self.data.size, _BATCH)
            truth.append(torch.from_numpy(scene.labels.ravel()))
            once.append(self.network.predict(image).flatten().cpu())
            together.append(joined.argmax(0).flatten().cpu())
        labels = torch.cat(truth)[None]
        one_pass = mean_iou(torch.cat(once)[None], labels, classes)
        aggregated = mean_iou(torch.cat(together)[None], labels, classes)
        return {
            "one_pass_iou": one_pass,
            "aggregated_iou": aggregated,
            "aggregation_gain": aggregated - one_pass,
        }

    def wanted(self) -> list[Wanted]:
        """Of the drawn shapes; without switches it is less."""
        if self.unpooling != "switches":
            return []
        return [Wanted("mean_iou", least=0.85), Wanted("aggregation_gain", least=0.0)]

    def pictures(self) -> dict[str, Figure]:
        """Test images, their labels, and what the network says."""
        images, labels = self.data.test_images[:10], self.data.test_targets[:10].numpy()
        found = self.scores(images).argmax(1).numpy()
        colours = label_colours(256)
        rows = [
            ("image", images.permute(0, 2, 3, 1).numpy() / 255),
            ("labels", colours[labels]),
            ("network", colours[found]),
        ]
        names = dict(enumerate(self.data.classes)) | {IGNORED: "does not count"}
        seen = sorted({*np.unique(labels).tolist(), *np.unique(found).tolist()})
        legend = [(names[label], colours[label]) for label in seen]
        note = "Parts of scenes that were not trained on."
        return {"segmented": image_rows(rows, "What is where", note, legend)}
