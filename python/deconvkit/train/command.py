"""``deconvkit train``: a recipe's YAML, the user's changes, Lightning's trainer."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import itertools
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from deconvkit import usage
from deconvkit.data.images import DataError
from deconvkit.folders import nearest, writable
from deconvkit.train.errors import RunFolderError, TrainingError

_ROOM = 256 << 20  # bytes that a run must find free


def recipes() -> dict[str, str]:
    """The recipes and what the first line of each says of it."""
    folder = resources.files("deconvkit.train") / "recipes"
    found = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            found[file.name.removesuffix(".yaml")] = file.read_text().splitlines()[0].lstrip("# ")
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments; all others go to Lightning."""
    parser.add_argument("recipe", nargs="?", help="what to train; --list names them")
    parser.add_argument("--list", action="store_true", help="describe the recipes")
    parser.add_argument("--data", metavar="PATH", help="your data; without, what ships with the dependencies")
    parser.add_argument("--out", metavar="DIR", help="folder of the run; runs/RECIPE unless given")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's last checkpoint")


def main(arguments: Sequence[str]) -> None:
    """Train.

    Raises:
        FolderError, RunFolderError, DataError: wrong usage, or data that are none; nothing was written.
        TrainingError: a run that failed, or missed what a default run must reach.
        KeyboardInterrupt: the user's; the last checkpoint is kept.
    """
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    add_arguments(parser)
    try:
        chosen, overrides = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise RunFolderError(f"{usage.told(error, parser)}; deconvkit train --help tells more") from error
    known = recipes()
    if chosen.list:
        width = max(map(len, known))
        for name, description in known.items():
            print(f"{name:<{width}}  {description}")
        return
    if chosen.recipe not in known:
        raise RunFolderError(f"RECIPE: expected one of {', '.join(known)}, got {chosen.recipe or 'nothing'}")
    if chosen.data == "":
        raise RunFolderError("--data: expected a file or folder, got an empty name")
    if chosen.data is not None and not Path(chosen.data).exists():
        raise RunFolderError(f"--data: expected a file or folder, got {chosen.data!r}, which does not exist")
    folder = writable(Path("runs") / chosen.recipe if chosen.out is None else chosen.out)
    last = _prepare(folder, chosen.resume)
    run(chosen.recipe, folder, chosen.data, overrides, last)


def run(
    recipe: str,
    folder: Path,
    data: str | None = None,
    overrides: Sequence[str] = (),
    last: Path | None = None,
) -> dict[str, Any]:
    """Train a recipe into its folder; returns the summary."""
    with _quiet():
        from lightning.pytorch.callbacks import ModelCheckpoint
        from lightning.pytorch.strategies import DDPStrategy

        from deconvkit.memory import keep_freed_memory
        from deconvkit.train.callbacks import Interruption, RunFolder, WholeCheckpoints

        keep_freed_memory()
        cli = _parsed(recipe, data, overrides)
        module: Any = cli.model
        module.seed = int(cli.config["seed_everything"] or 0)
        trainer = cli.trainer
        every = max(1, (trainer.max_epochs or 1) // 5)
        keeper = RunFolder(recipe, folder, every)
        trainer.callbacks[:] = [
            *(callback for callback in trainer.callbacks if not isinstance(callback, ModelCheckpoint)),
            interruption := Interruption(),
            keeper,
            ModelCheckpoint(
                folder / "checkpoints",
                "last",
                every_n_epochs=1,
                save_top_k=1,
                save_on_train_epoch_end=True,
                enable_version_counter=False,
            ),
        ]
        if isinstance(trainer.strategy, DDPStrategy):
            trainer.strategy._ddp_kwargs["find_unused_parameters"] = module.idle_weights
        trainer.strategy.checkpoint_io = WholeCheckpoints()
        if last is not None:
            _see_that_it_fits(last, recipe, trainer.max_epochs)
        trainer.loggers = []  # the keeper's, once training begins
        try:
            with interruption:
                trainer.fit(module, cli.datamodule, ckpt_path=last, weights_only=True if last else None)
                if last and trainer.is_global_zero and not keeper.summary:
                    keeper.finish(trainer, module)
        except SystemExit as error:  # Lightning's way to end what Ctrl-C broke off
            raise _broken_off(folder) from error
        except RuntimeError as error:
            if "allocate" in str(error) or "out of memory" in str(error):
                raise TrainingError(
                    f"{recipe}: expected a network and batches that fit into the memory, got too large ones; "
                    "try smaller sizes or --data.batch_size"
                ) from error
            if "state_dict" not in str(error):
                raise
            raise RunFolderError(
                f"--resume: {last} is of other --model arguments; give those that it was begun with"
            ) from error
        except ValueError as error:  # of a network or data that cannot be built
            if last is not None and "parameter group" in str(error):
                raise RunFolderError(
                    f"--resume: {last} is of another --model.optimizer; give that which it was begun with"
                ) from error
            if trainer.global_step > 0:
                raise
            raise RunFolderError(f"{recipe}: {error}") from error
        except OSError as error:
            raise TrainingError(f"{error.filename or folder}: {error.strerror or error}") from error
        if trainer.interrupted:
            raise _broken_off(folder)
    if trainer.is_global_zero and not keeper.summary:
        raise RunFolderError(f"{recipe}: nothing was trained; --trainer.* leaves no batch to do")
    if trainer.is_global_zero:
        for name, value in keeper.summary.get("figures", {}).items():
            print(f"{name:<28}{value:.6g}")
        print(
            f"{keeper.summary['seconds']:.0f} s; model, pictures and summary in {folder.resolve()}",
            flush=True,
        )
        if keeper.summary["missed"]:
            missed = "missed what was wanted: " + "; ".join(keeper.summary["missed"])
            if not overrides and data is None:
                raise TrainingError(missed)
            print(missed, flush=True)
    return keeper.summary


def _broken_off(folder: Path) -> KeyboardInterrupt:
    if not (folder / "checkpoints" / "last.ckpt").exists():
        return KeyboardInterrupt("interrupted before the first checkpoint")
    return KeyboardInterrupt(f"interrupted; --resume --out {folder} goes on with it")


def _parsed(recipe: str, data: str | None, overrides: Sequence[str]) -> Any:
    """LightningCLI with the recipe's YAML and the user's changes."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.cli import LightningCLI

    source = resources.files("deconvkit.train") / "recipes" / f"{recipe}.yaml"
    _see_that_each_has_a_value(recipe, overrides)
    with resources.as_file(source) as path, _no_arguments():
        arguments = ["--config", str(path), *overrides]
        if data is not None:
            arguments += ["--data.path", data]
        try:
            return LightningCLI(
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=None,
                args=arguments,
                run=False,
                parser_kwargs={"exit_on_error": False},
            )
        except (argparse.ArgumentError, ValueError, TypeError, MisconfigurationException) as error:
            raise RunFolderError(f"{recipe}: {_told(' '.join(str(error).split()))}") from error


def _see_that_each_has_a_value(recipe: str, overrides: Sequence[str]) -> None:
    """Of --model.x jsonargparse would say that --model has none."""
    for word, after in itertools.pairwise([*overrides, "--"]):
        bare = (
            word.startswith(("--model.", "--data.", "--trainer.", "--seed_everything"))
            and "=" not in word
            and not word.endswith(("help", "print_config"))
        )
        if bare and after.startswith("--"):
            raise RunFolderError(f"{recipe}: {word}: expected a value, got none")


def _told(message: str) -> str:
    """What jsonargparse and Lightning say of an argument, without the types that they tried."""
    if seed := re.match(r"(\S+) is not in bounds, numpy accepts from (\d+) to (\d+)", message):
        return f"--seed_everything: expected {seed[2]} to {seed[3]}, got {seed[1]}"
    if trainers := re.match(r"`(\w+)` must be (.*?)\. You passed in (\S+?)\.?$", message):
        return f"--trainer.{trainers[1]}: expected {trainers[2]}, got {trainers[3]}"
    if words := re.fullmatch(r"unrecognized arguments: (\S+).*", message):
        if words[1].startswith("--trainer."):
            import lightning.pytorch as pl

            known = [f"--trainer.{key}" for key in inspect.signature(pl.Trainer).parameters]
            return usage.unknown(words[1], known)
        sections = ["--data", "--out", "--resume", "--list", "--seed_everything"]
        return usage.unknown(words[1], [*sections, "--model.NAME", "--data.NAME", "--trainer.NAME"])
    if ours := re.match(r".*? Errors: - (\w+: expected .*?)( - Expected a|$)", message):
        section = "data" if "LightningDataModule" in message else "model"
        return f"--{section}.{ours[1]}"
    pattern = r"""Parser key "(\w+)": .*?given class_path '([\w.]+)': (.*?)( - Expected a|$)"""
    problem = re.search(pattern, message)
    if problem is None:
        return _wrong_value("", message)
    section, path, reason = problem[1], problem[2], problem[3]
    name, _, kind = path.rpartition(".")
    known = [f"--{section}.{key}" for key in inspect.signature(getattr(import_module(name), kind)).parameters]
    if unknown := re.search(r"Option '([\w.]+)' is not accepted", reason):
        return usage.unknown(f"--{section}.{unknown[1]}", known)
    return _wrong_value(f"{section}.", reason)


def _wrong_value(section: str, message: str) -> str:
    """As 'Parser key "x": Does not validate ... Expected a <class 'int'> ... Given value: many' tells it."""
    key = re.match(r'Parser key "([\w.]+)": (.*)', message)
    if key is None:
        return message[:300]
    kinds = re.findall(r"<class '(?:\w+\.)*(\w+)'>", key[2].partition("Given value")[0])
    value = re.search(r"Given value: (.*)", key[2]) or re.search(r"[Gg]ot value: (.*)", key[2])
    if not kinds or value is None:
        return f"--{section}{key[1]}: {key[2][:300]}"
    expected = " or ".join(dict.fromkeys("None" if kind == "NoneType" else kind for kind in kinds))
    return f"--{section}{key[1]}: expected {expected}, got {value[1][:60]!r}"


def _see_that_it_fits(last: Path, recipe: str, epochs: int | None) -> None:
    """That a checkpoint can be read, is of this recipe, and leaves something to do."""
    import torch

    try:
        content = torch.load(last, map_location="cpu", weights_only=True)
        done, begun = content["epoch"] + 1, content["callbacks"]["RunFolder"]["recipe"]
    except Exception as error:
        raise RunFolderError(
            f"--resume: {last}: expected a checkpoint of a run, got a file that is none; start again in "
            "another folder"
        ) from error
    if begun != recipe:
        raise RunFolderError(f"--resume: {last} is of recipe {begun}, not {recipe}")
    if epochs is not None and 0 <= epochs <= done and (last.parents[1] / "summary.json").exists():
        raise RunFolderError(
            f"--resume: the run of {done} epochs has ended; for more, --trainer.max_epochs MORE"
        )


def _prepare(folder: Path, resume: bool) -> Path | None:
    """See that the folder can hold a run before work is done; its last checkpoint where one is asked for."""
    last, summary = folder / "checkpoints" / "last.ckpt", folder / "summary.json"
    if resume and not folder.exists():
        raise RunFolderError(f"--resume: expected the folder of a run, got {folder}, which does not exist")
    if resume and summary.exists() and not last.exists():
        raise RunFolderError(f"--resume: {folder} holds a run without {last}; name another folder by --out")
    if not resume and (last.exists() or summary.exists()):
        raise RunFolderError(
            f"--out: {folder} holds a run already; go on with it by --resume, or name another folder"
        )
    free = shutil.disk_usage(nearest(folder)).free
    if free < _ROOM:
        raise RunFolderError(f"--out: {folder}: expected {_ROOM >> 20} MB free on the disk, got {free >> 20}")
    return last if resume and last.exists() else None


@contextlib.contextmanager
def _no_arguments() -> Iterator[None]:
    """LightningCLI warns of arguments in sys.argv beside those that it is given."""
    saved, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = saved


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep away what Lightning says of accelerators, workers and itself; other warnings get a line each."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from lightning.pytorch.utilities import rank_zero_only  # lightning sets the levels of its loggers
    from tqdm import tqdm

    @rank_zero_only
    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        # Above the bar, not behind it.
        tqdm.write(f"deconvkit train: {' '.join(str(message).split())}", file=sys.stderr)

    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning(\.|$)")
        warnings.filterwarnings("ignore", message=r".*(does not have many workers|isinstance\(treespec).*")
        warnings.showwarning = show
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


__all__ = ["DataError", "RunFolderError", "TrainingError", "main", "recipes", "run"]
