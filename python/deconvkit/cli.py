"""The ``deconvkit`` command.

A verb is an entry of ``COMMANDS``: what it takes and what it runs. The work is imported when the verb runs,
so that ``--help`` and ``info`` need none of it.

Exit codes: 0 done, 1 an error, told in one line, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from deconvkit._version import __version__
from deconvkit.folders import FolderError
from deconvkit.usage import told
from deconvkit.verbs.table import OPTIONS, VERBS

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


class CommandError(Exception):
    """What went wrong, in one line for the user."""

    code = 1


class UsageError(CommandError):
    """An argument that names nothing, or a file that cannot be written."""

    code = 2


class Command(NamedTuple):
    """A verb of the command line."""

    summary: str
    examples: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[..., None]  # takes the arguments by name
    extra: str  # the optional dependencies it needs


def _seed() -> Any:
    from jsonargparse.typing import restricted_number_type

    return restricted_number_type("Seed", int, [(">=", 0), ("<", 2**63)], docstring="0 to 2^63 - 1")


def _demo_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=str, default="demo_out", help="folder for the pictures, made if missing"
    )
    parser.add_argument("--seed", type=_seed(), default=0, help="seed of patches and weights")


def _demo(out: str, seed: int) -> None:
    from deconvkit import demo

    if missed := demo.run(out, seed).missed():
        raise CommandError("missed what was wanted: " + "; ".join(missed))


def _bench_arguments(parser: ArgumentParser) -> None:
    from jsonargparse.typing import PositiveFloat, PositiveInt

    from deconvkit.bench.layers import LAYERS
    from deconvkit.bench.results import DTYPES, MEMORY, MODES

    add = parser.add_argument
    names: dict[str, Any] = {"nargs": "+", "type": str, "metavar": "NAME[,NAME]"}
    add("--op", **names, help=f"operators: {', '.join(LAYERS)}; all of them unless given")
    add(
        "--layers",
        **names,
        help="layers, by name or by what their names begin with: dcgan, vgg, vocoder, vgg56; all of --op "
        "unless given; the quick ones if neither is",
    )
    add(
        "--providers",
        **names,
        help="torch, torch_compile, torch_folded, onnxruntime, deconvkit, deconvkit_folded, or an algorithm "
        "by force, deconvkit_direct, deconvkit_winograd, deconvkit_torch; all but onnxruntime also with "
        '"_channels_last" behind; all that are installed, but no forced algorithms, unless given',
    )
    add("--modes", **names, help=f"passes: {', '.join(MODES)}; forward and backward unless given")
    add(
        "--memory",
        **names,
        help=f"{', '.join(MEMORY)}: outputs in memory that is new to the process each time, as glibc has "
        "it, or in memory that it keeps (keep_freed_memory); fresh unless given",
    )
    add("--dtype", choices=DTYPES, default="float32", help="of all tensors")
    add("--threads", type=PositiveInt, help="threads of every provider; torch's choice unless given")
    add("--isa", type=str, metavar="NAME", help="force an instruction set; avx2 on torch as well")
    add("--rounds", type=PositiveInt, default=15, help="samples of each provider")
    add(
        "--budget",
        type=PositiveFloat,
        default=5.0,
        help="seconds for a layer and pass, after which no round begins; at least 5 rounds are run",
    )
    add("--csv", type=str, metavar="FILE", help="write one row for each layer, provider and pass")
    add("--plot", type=str, metavar="FILE", help="draw a chart: FILE.png, .svg or .pdf")
    add(
        "--results",
        type=str,
        metavar="FOLDER",
        help="put the rows into the files kept for each machine there",
    )
    add("--machine", type=str, metavar="NAME", help="name of this machine in rows and --results")
    add("--from-results", type=str, metavar="PATH", help="measure nothing, read this CSV file or folder")
    add("--markdown", action="store_true", help="print README's tables instead of every provider")


def _bench(results: str | None, machine: str | None, **arguments: Any) -> None:
    from deconvkit.bench import command

    try:
        command.run(results_folder=results, machine_name=machine, **arguments)
    except command.UsageError as error:
        raise UsageError(str(error)) from error
    except AssertionError as error:
        raise CommandError(f"results differ: {' '.join(str(error).split())}") from error


def _train_arguments(parser: ArgumentParser) -> None:
    from deconvkit.train import command

    command.add_arguments(parser)


def _train(arguments: Sequence[str]) -> None:
    """With the arguments as they came: Lightning reads those that the command does not know."""
    from deconvkit.train import command

    try:
        command.main(arguments)
    except (command.RunFolderError, command.DataError) as error:
        raise UsageError(str(error)) from error
    except command.TrainingError as error:
        raise CommandError(str(error)) from error


def _verb_arguments(verb: str, parser: ArgumentParser) -> None:
    from jsonargparse.typing import NonNegativeInt, PositiveInt

    add = parser.add_argument
    add("--checkpoint", type=str, required=True, metavar="FILE", help="model.pt of a run, or a VGG's weights")
    kinds: dict[str, dict[str, Any]] = {
        "input": {"nargs": "+", "type": str, "default": [], "metavar": "IMAGE"},
        "invert": {"action": "store_true"},
        "count": {"type": PositiveInt, "default": 60},
        "seed": {"type": _seed(), "default": 0},
        "names": {"type": str, "metavar": "FILE"},
        "proposals": {"type": NonNegativeInt, "default": 0},
        "boxes": {"type": str, "metavar": "FILE"},
        "ensemble": {"type": str, "metavar": "FILE"},
        "crf": {"action": "store_true"},
    }
    for option in VERBS[verb].options:
        add(f"--{option}", **kinds[option], help=OPTIONS[option])
    add("--out", type=str, required=True, metavar="DIR", help="folder for the pictures, made if missing")


def _verb(verb: str, **arguments: Any) -> None:
    from deconvkit.verbs import command

    try:
        command.run(verb, **arguments)
    except (command.CheckpointError, command.DataError, command.VerbError) as error:
        raise UsageError(str(error)) from error


def _info_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", type=str, help="a model of deconvkit.models, or a model.pt")


def _info(model: str | None = None) -> None:
    if model is None:
        import deconvkit

        print(deconvkit.backend_info())
        return
    from deconvkit.verbs import layers
    from deconvkit.verbs.inputs import VerbError

    try:
        print(layers.table(model))
    except (layers.CheckpointError, VerbError) as error:
        raise UsageError(str(error)) from error


COMMANDS = {
    "demo": Command(
        "Train a sparse autoencoder on two photographs, draw what it learned, time a few layers.",
        "  deconvkit demo\n  deconvkit demo --out pictures --seed 3",
        _demo_arguments,
        _demo,
        "demo",
    ),
    "bench": Command(
        "Compare the operators with torch and others on the layers of real networks.",
        "  deconvkit bench\n"
        "  deconvkit bench --op conv_transpose2d --layers dcgan --csv dcgan.csv --plot dcgan.png\n"
        "  deconvkit bench --layers vgg56,vgg14 --providers torch,deconvkit --modes forward --threads 1",
        _bench_arguments,
        _bench,
        "bench",
    ),
    "train": Command(
        "Train one of the lecture's networks; --list names them. Everything of a recipe can be changed: "
        "--trainer.max_epochs 10 --model.learning_rate 0.001 --data.batch_size 64 --seed_everything 3.",
        "  deconvkit train --list\n"
        "  deconvkit train vae --out runs/vae\n"
        "  deconvkit train dcgan --data photographs --model.base_channels 128 --trainer.max_epochs 50\n"
        "  deconvkit train gan-mlp --resume",
        _train_arguments,
        _train,
        "train",
    ),
    **{
        name: Command(
            verb.summary,
            "\n".join(f"  deconvkit {name} {example}" for example in verb.examples),
            partial(_verb_arguments, name),
            partial(_verb, name),
            "train",
        )
        for name, verb in VERBS.items()
    },
    "info": Command(
        "Versions, instruction set and threads: what to put into a bug report. With MODEL, its layers: "
        "output size, kernel/stride/padding, parameters.",
        "  deconvkit info\n  deconvkit info vgg16\n  deconvkit info runs/vae/model.pt",
        _info_arguments,
        _info,
        "demo",
    ),
}


def _make(description: str, examples: str, **options: Any) -> ArgumentParser:
    from argparse import RawDescriptionHelpFormatter

    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
        pass

    return ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=Formatter,
        exit_on_error=False,
        **options,
    )


def _verb_parser(name: str) -> ArgumentParser:
    parser = _make(COMMANDS[name].summary, COMMANDS[name].examples)
    COMMANDS[name].arguments(parser)
    return parser


def _parser() -> ArgumentParser:
    parser = _make(
        "Transposed convolution, pooling with switches and the sparsity penalty for PyTorch.",
        "\n".join(command.examples for command in COMMANDS.values()),
        prog="deconvkit",
        version=__version__,
    )
    verbs = parser.add_subcommands(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        verbs.add_subcommand(name, _verb_parser(name), help=command.summary)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # __init__.py's doing
        signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = sys.argv[1:] if argv is None else list(argv)
    name = "deconvkit"
    extra = "demo"
    try:
        if arguments == ["info"]:  # works without any extra
            _info()
            return 0
        if arguments[:1] == ["train"] and not {"-h", "--help"} & set(arguments):
            name, extra = "deconvkit train", "train"
            _train(arguments[1:])
            return 0
        values: dict[str, Any] = _parser().parse_args(arguments).as_dict()
        chosen = values["command"]
        name, extra = f"deconvkit {chosen}", COMMANDS[chosen].extra
        COMMANDS[chosen].run(**values[chosen])
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        return _fail(name, str(error) or "interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output has gone: say nothing, and keep Python from flushing into the pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        return _fail(
            name, f"{error.name} is not installed; mend it with: pip install 'deconvkit[{extra}]'", 1
        )
    except CommandError as error:
        return _fail(name, str(error), error.code)
    except FolderError as error:
        return _fail(name, str(error), 2)
    except ArgumentError as error:
        chosen = arguments[0] if arguments else ""
        if chosen not in COMMANDS:
            return _fail(name, f"{told(error, _parser())}; deconvkit --help tells what there is", 2)
        line = f"{told(error, _verb_parser(chosen))}; deconvkit {chosen} --help tells more"
        return _fail(f"{name} {chosen}", line, 2)
    except ValueError as error:
        if not str(error).startswith("DECONVKIT_ISA:"):
            raise
        return _fail(name, str(error), 2)
    except (ImportError, OSError, MemoryError) as error:
        return _fail(name, str(error) or type(error).__name__, 1)
    return 0


def _fail(name: str, message: str, code: int) -> int:
    sys.stdout.flush()
    print(f"{name}: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
