"""What every run leaves in its folder: pictures, the model, and summary.json."""

from __future__ import annotations

import io
import json
import math
import platform
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from deconvkit._version import __version__
from deconvkit.train.checkpoint import save_model, write_whole
from deconvkit.train.module import Recipe
from deconvkit.visualize import canvas


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, whole or not at all.

    Its own are written to the folder for temporary files and moved: a copy where that is another disk, which
    a kill leaves half done over the last good one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it beside its place, and move it there."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_whole(path, buffer.getvalue())


class Interruption(pl.Callback):
    """The first Ctrl-C ends the run behind the batch; the second at once.

    An exception out of a signal handler may strike anywhere, and is lost in a destructor.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interruption:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            signal.default_int_handler(number, frame)
        self.asked = True

    def on_train_batch_end(self, *_: Any) -> None:
        """End the run where asked for."""
        if self.asked:
            raise KeyboardInterrupt


class RunFolder(pl.Callback):
    """Pictures every few epochs; at the end pictures, model.pt and summary.json.

    Args:
        recipe: its name.
        folder: of the run.
        every: epochs between pictures.
    """

    def __init__(self, recipe: str, folder: Path, every: int) -> None:
        self.recipe, self.folder, self.every = recipe, folder, max(1, every)
        self.seconds = 0.0
        self.summary: dict[str, Any] = {}
        self._begin = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """The recipe, and seconds of training so far, over all sittings of the run."""
        return {"recipe": self.recipe, "seconds": self.seconds + time.perf_counter() - self._begin}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.seconds = state_dict["seconds"]

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the folder with the curves, now that arguments and data are known to be good; and a bar.

        Where nobody watches, in a log, the bar moves seldom.
        """
        trainer.loggers = [TensorBoardLogger(self.folder, name="", version="tensorboard")]
        self.bar = tqdm(
            total=trainer.max_epochs,
            initial=trainer.current_epoch,
            desc=self.recipe,
            unit="epoch",
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
        )

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epoch's figures, and draw."""
        shown = {name: f"{float(value):.4g}" for name, value in trainer.callback_metrics.items()}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()
        epoch = trainer.current_epoch + 1
        last = trainer.max_epochs is not None and epoch >= trainer.max_epochs
        if epoch % self.every == 0 and not last:
            self._draw(pl_module, self.folder / "pictures", f"_epoch_{epoch:04d}")

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finish, but for a run that was broken off."""
        self.bar.close()
        self.finish(trainer, pl_module)

    @rank_zero_only
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """End the bar's line, before what went wrong is told."""
        if hasattr(self, "bar"):
            self.bar.close()

    def finish(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure, draw and save; also of a run that was killed when only this was left."""
        if trainer.interrupted or not isinstance(pl_module, Recipe):
            return
        training = self.seconds + time.perf_counter() - self._begin
        pl_module.eval()
        torch.manual_seed(pl_module.seed)
        with torch.no_grad():
            figures = pl_module.figures()
        self._draw(pl_module, self.folder, "")
        save_model(self.folder / "model.pt", pl_module.trained(), self.recipe, pl_module.notes())
        missed = [text for wanted in pl_module.wanted() if (text := wanted.missed(figures))]
        self.summary = {
            "recipe": self.recipe,
            "figures": figures,
            "wanted": {w.figure: {"least": w.least, "most": w.most} for w in pl_module.wanted()},
            "missed": missed,
            "epochs": trainer.current_epoch,
            "seconds": round(training, 1),
            "seed": pl_module.seed,
            "deconvkit": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        text = json.dumps(_finite(self.summary), indent=2, ensure_ascii=False)
        write_whole(self.folder / "summary.json", text.encode() + b"\n")

    def _draw(self, module: Any, folder: Path, suffix: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        training = module.training
        module.eval()
        with torch.no_grad():
            for name, figure in module.pictures().items():
                canvas.save_png(figure, folder / f"{name}{suffix}.png")
        module.train(training)


def _finite(value: Any) -> Any:
    """JSON knows neither infinity nor NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
