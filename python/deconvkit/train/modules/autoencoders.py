"""The sparse autoencoder: of patches, and of noisy digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from deconvkit.gradient_check import gradient_error
from deconvkit.models import SparseAutoencoder
from deconvkit.train.module import Recipe, Wanted
from deconvkit.visualize.grids import image_rows
from deconvkit.visualize.receptive_fields import orientation_index, receptive_fields
from deconvkit.visualize.reconstructions import psnr
from deconvkit.visualize.sparsity import mean_activations


class SparseAutoencoderRecipe(Recipe):
    """Full-batch L-BFGS, some iterations an epoch.

    Args:
        code_size: units of the code.
        rho: ρ, the wanted mean activation.
        beta: β, the weight of the sparsity.
        weight_decay: λ.
        iterations: of L-BFGS in an epoch.
    """

    def __init__(
        self,
        code_size: int = 25,
        rho: float = 0.01,
        beta: float = 3.0,
        weight_decay: float = 1e-4,
        iterations: int = 20,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.code_size, self.rho, self.beta = code_size, rho, beta
        self.weight_decay, self.iterations = weight_decay, iterations

    def setup(self, stage: str) -> None:
        """Build the network for the data's size."""
        if hasattr(self, "network"):
            return
        data = self.trainer.datamodule.tensors[0]  # type: ignore[attr-defined]
        self.network = SparseAutoencoder(
            data.shape[1], self.code_size, self.rho, self.beta, self.weight_decay, dtype=data.dtype
        )
        self.untrained = self.network.encoder.weight.detach().clone()
        if self.trainer.world_size > 1:
            self.network.sparse_sigmoid.group = torch.distributed.group.WORLD

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """L-BFGS with strong Wolfe steps."""
        return torch.optim.LBFGS(
            self.parameters(),
            max_iter=self.iterations,
            max_eval=2 * self.iterations,
            tolerance_grad=0,
            tolerance_change=0,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One call of L-BFGS."""
        source, target = batch[0], batch[-1]
        if len(batch) == 1:
            target = source
        optimizer: Any = self.optimizers()
        # Of the mean over all samples, where processes have different numbers of them.
        share: Any = 1.0
        if self.trainer.world_size > 1:
            counts: Any = self.all_gather(torch.tensor(float(len(source)), dtype=source.dtype))
            share = len(source) / counts.mean()

        def cost() -> Tensor:
            optimizer.zero_grad()
            terms = self.network.loss_terms(self.network(source), target)
            loss = terms._replace(reconstruction=share * terms.reconstruction).total
            self.manual_backward(loss)
            # All processes must take the same steps: the cost of all samples, as the gradient is.
            if self.trainer.world_size == 1:
                return loss
            costs: Any = self.all_gather(loss.detach())
            average: Tensor = costs.mean()
            return average

        self.report(cost=optimizer.step(cost))

    def trained(self) -> SparseAutoencoder:
        """The autoencoder."""
        return self.network

    @property
    def data(self) -> Any:
        """The data module."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def _code(self) -> Tensor:
        return self.network.encode(self.data.tensors[0])


class PatchesRecipe(SparseAutoencoderRecipe):
    """On patches of photographs: units that look for edges. Arguments as :class:`SparseAutoencoderRecipe`."""

    def notes(self) -> dict[str, Any]:
        """How patches were scaled."""
        return {"patch": self.data.size, "limit": self.data.scale.limit}

    def figures(self) -> dict[str, float]:
        """Gradient check, range of ρ̂, orientation index, cost; of all samples, by one process."""
        self.network.sparse_sigmoid.group = None
        sample = self.data.tensors[0][:: max(1, len(self.data.tensors[0]) // 100)]
        rho_hat = self._code().mean(0)
        with torch.enable_grad():
            error = gradient_error(
                lambda: self.network.loss(self.network(sample), sample), list(self.network.parameters())
            )
            data = self.data.tensors[0]
            cost = self.network.loss(self.network(data), data).item()
        return {
            "gradient_error": error,
            "rho_hat_least": rho_hat.min().item(),
            "rho_hat_most": rho_hat.max().item(),
            "orientation_index": float(orientation_index(self._fields(self.network.encoder.weight)).mean()),
            "orientation_index_untrained": float(orientation_index(self._fields(self.untrained)).mean()),
            "cost": cost,
        }

    def wanted(self) -> list[Wanted]:
        """Those of the demo."""
        return [
            Wanted("gradient_error", most=1e-9),
            Wanted("rho_hat_least", least=self.rho - 0.002),
            Wanted("rho_hat_most", most=self.rho + 0.002),
            Wanted("orientation_index", least=0.5),
        ]

    def pictures(self) -> dict[str, Figure]:
        """Receptive fields and the histogram of ρ̂."""
        code = self._code().numpy()
        return {
            "receptive_fields": receptive_fields(
                self._fields(self.network.encoder.weight),
                self._fields(self.untrained),
                f"What the {self.code_size} units of the code look for",
                "Weights from the pixels of a patch into each unit of a sparse autoencoder.",
            ),
            "mean_activations": mean_activations(
                code.mean(0),
                code,
                self.rho,
                0.002,
                "How often the units are on",
                "The sparsity penalty pulls the mean activation ρ̂ of every unit towards ρ.",
            ),
        }

    def _fields(self, weight: Tensor) -> Any:
        return weight.detach().numpy().reshape(-1, self.data.size, self.data.size).copy()


class DenoiseRecipe(SparseAutoencoderRecipe):
    """On noisy digits, whose clean ones are wanted. Arguments as :class:`SparseAutoencoderRecipe`."""

    def notes(self) -> dict[str, Any]:
        """Size and noise."""
        return {"size": self.data.size, "noise": self.data.noise}

    def _restored(self) -> Tensor:
        # By this process alone: the forward's ρ̂ would wait for the others.
        return self.network.decode(self.network.encode(self.data.test_noisy)).clamp(0, 1)

    def figures(self) -> dict[str, float]:
        """Decibels of the noisy test digits, of ours and of the best PCA of several sizes."""
        clean = self.data.test_images.numpy()
        noisy, restored = self.data.test_noisy.numpy(), self._restored().numpy()
        source = self.data.tensors[0].numpy()
        mean = source.mean(0)
        directions = np.linalg.svd(source - mean, full_matrices=False)[2]
        by_pca = []
        for count in (8, 12, 16, 20, 25, 30):
            basis = directions[:count]
            by_pca.append(psnr((noisy - mean) @ basis.T @ basis + mean, clean))
        rho_hat = self._code().mean(0)
        result = {
            "noisy_db": psnr(noisy, clean),
            "restored_db": psnr(restored, clean),
            "pca_db": max(by_pca),
            "rho_hat_least": rho_hat.min().item(),
            "rho_hat_most": rho_hat.max().item(),
        }
        result["gain_db"] = result["restored_db"] - result["noisy_db"]
        result["above_pca_db"] = result["restored_db"] - result["pca_db"]
        return result

    def wanted(self) -> list[Wanted]:
        """Better than leaving the noise, and than the best PCA."""
        return [Wanted("gain_db", least=2.5), Wanted("above_pca_db", least=0.3)]

    def pictures(self) -> dict[str, Figure]:
        """Clean, noisy and restored test digits."""
        shape = (-1, self.data.size, self.data.size)
        rows = [
            ("clean", self.data.test_images[:12].numpy().reshape(shape)),
            ("noisy", self.data.test_noisy[:12].numpy().reshape(shape)),
            ("restored", self._restored()[:12].numpy().reshape(shape)),
        ]
        note = f"Digits that were not trained on, with noise of standard deviation {self.data.noise:g}."
        return {"denoised": image_rows(rows, "Noise taken away", note)}
