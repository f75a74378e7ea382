"""The command line: what it says, and its exit codes."""

import builtins
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import deconvkit
from deconvkit import cli

ENVIRONMENT = os.environ | {"PYTHONUNBUFFERED": "1"}


def main(*arguments: str) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in cli.COMMANDS)])
def test_help_has_examples(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(*arguments) == 0
    text = capsys.readouterr().out
    assert "examples:\n  deconvkit" in text
    for name, command in cli.COMMANDS.items():
        if len(arguments) == 1:
            assert name in text
            assert command.summary.split()[0] in text
    if arguments == ["demo", "--help"]:
        assert "--out" in text
        assert "--seed" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("--version") == 0
    assert deconvkit.__version__ in capsys.readouterr().out


SAMPLE = ["sample", "--checkpoint", "x", "--out", "y"]
ALL = ", ".join(cli.COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], f"deconvkit: COMMAND: expected one of {ALL}, got none;"),
        (["bogus"], f"deconvkit: COMMAND: expected one of {ALL}, got 'bogus';"),
        (["--bogus"], "deconvkit: --bogus: expected one of --help, --version;"),
        (["demo", "--seed", "x"], "deconvkit demo: --seed: expected an int from 0 to 2\\^63 - 1, got x;"),
        (["demo", "--seed", "-1"], "deconvkit demo: --seed: expected an int from 0 to 2\\^63 - 1, got -1;"),
        (["demo", "--seed", str(2**63)], f"deconvkit demo: --seed: expected an int .*, got {2**63};"),
        (["demo", "--out"], "deconvkit demo: --out: expected OUT, got none;"),
        (["demo", "more"], r"deconvkit demo: expected options \(--help, --out, --seed\), got 'more';"),
        (["demo", "--bogus"], "deconvkit demo: --bogus: expected one of --help, --out, --seed;"),
        (["info", "--out", "x"], "deconvkit info: --out: expected one of --help;"),
        (["info", "vgg16", "vgg19"], r"deconvkit info: expected options \(--help\), got 'vgg19';"),
        (["bench", "--op"], r"deconvkit bench: --op: expected NAME\[,NAME\], got none;"),
        (["bench", "--dtype", "int8"], "deconvkit bench: --dtype: expected one of float32, .*, got 'int8';"),
        (["bench", "--budget", "x"], "deconvkit bench: --budget: expected a number above 0, got x;"),
        ([*SAMPLE, "--count", "0"], "deconvkit sample: --count: expected an int above 0, got 0;"),
        (
            [*SAMPLE, "--cuont", "3"],
            "deconvkit sample: --cuont: expected one of .*; did you mean --count\\?;",
        ),
        ([*SAMPLE, "--input", "z"], "deconvkit sample: --input: expected one of --help, --checkpoint, .*;"),
        (["reconstruct", "--input"], "deconvkit reconstruct: --input: expected IMAGE, got none;"),
        (["segment", "--crf", "maybe"], "deconvkit segment: expected options .*, got 'maybe';"),
        (["train", "--data"], "deconvkit train: --data: expected PATH, got none;"),
        (["train", "vae", "--out", "--resume"], "deconvkit train: --out: expected DIR, got none;"),
        (["train", "vae", "--resume=x"], "deconvkit train: --resume: expected no value, got 'x';"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line that says what, what was expected, what came, and where to look."""
    assert main(*arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert re.fullmatch(rf"{line} deconvkit .*--help tells .*\n", err)


def test_info_tells_what_backend_info_tells(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("info") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [name.split()[0] for name in deconvkit.backend_info()]
    assert any(deconvkit.__version__ in line for line in lines)


@pytest.mark.parametrize("missing", ["jsonargparse", "matplotlib", "sklearn", "tqdm"])
def test_missing_extra_is_one_line(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "deconvkit.demo", raising=False)
    monkeypatch.delattr(deconvkit, "demo", raising=False)
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main("demo", "--out", str(tmp_path)) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[-1].endswith(
        f"{missing} is not installed; mend it with: pip install 'deconvkit[demo]'"
    )
    assert main("info") == 0


def test_out_that_is_a_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    assert main("demo", "--out", str(file)) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err == f"deconvkit demo: --out: {file} is a file, not a folder\n"
    assert main("demo", "--out", str(file / "below")) == 2
    assert (
        capsys.readouterr().err
        == f"deconvkit demo: --out: {file / 'below'} cannot be written (Not a directory)\n"
    )


def test_out_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid() == 0:
        folder = Path("/proc/deconvkit")  # not even root makes folders there
    else:
        tmp_path.chmod(0o500)
        folder = tmp_path / "pictures"
    assert main("demo", "--out", str(folder)) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"deconvkit demo: --out: {folder} cannot be written (")
    assert err.count("\n") == 1


def test_missed_figures_are_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deconvkit import demo

    monkeypatch.setattr(demo, "run", lambda out, seed: demo.Report(gradient_error=1.0, rho_hat=(0.01, 0.01)))
    assert main("demo") == 1
    assert capsys.readouterr().err == (
        "deconvkit demo: missed what was wanted: gradient error 1.0e+00 (< 1e-09); "
        "orientation index 0.00 (>= 0.5)\n"
    )


def test_arguments_reach_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    from deconvkit import demo

    seen = []

    def run(out: str, seed: int) -> demo.Report:
        seen.append((out, seed))
        return demo.Report(gradient_error=0.0, rho_hat=(0.01, 0.01), orientation=0.7)

    monkeypatch.setattr(demo, "run", run)
    assert main("demo") == 0
    assert main("demo", "--seed", "7", "--out", "there") == 0
    assert seen == [("demo_out", 0), ("there", 7)]


def test_verbs_need_their_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More of them in tests/verbs."""
    assert main("sample", "--checkpoint", str(tmp_path / "x.pt"), "--out", str(tmp_path / "out")) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err == (
        f"deconvkit sample: {tmp_path / 'x.pt'}: expected a trained model, got no file of that name\n"
    )
    assert not (tmp_path / "out").exists()


def test_what_a_verb_must_be_given_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("sample", "--checkpoint", "x") == 2
    assert (
        capsys.readouterr().err
        == "deconvkit sample: expected --out, got none; deconvkit sample --help tells more\n"
    )
    assert main("sample") == 2
    assert capsys.readouterr().err.startswith("deconvkit sample: expected --checkpoint, --out, got none; ")


def interruptible() -> None:
    """Undo what a shell does to the programs that it starts in the background: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: str, **streams: Any) -> subprocess.Popen[str]:
    """Start the command as a program of its own."""
    command = [sys.executable, "-m", "deconvkit", *arguments]
    return subprocess.Popen(command, text=True, env=ENVIRONMENT, preexec_fn=interruptible, **streams)


def test_interrupted_is_one_line_and_130(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with start("demo", "--out", str(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("patches")
        time.sleep(0.5)  # the work is under way
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "deconvkit demo: interrupted"
    assert "Traceback" not in err
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("command", [["-m", "deconvkit"], [str(Path(sys.executable).parent / "deconvkit")]])
def test_interrupted_while_importing_is_no_traceback(command: list[str], tmp_path: Path) -> None:
    command = [sys.executable, *command, "demo", "--out", str(tmp_path)]
    with subprocess.Popen(
        command, text=True, stderr=subprocess.PIPE, env=ENVIRONMENT, preexec_fn=interruptible
    ) as process:
        while "libc10" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.01)  # torch is about to be imported
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with start("info", stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        _, err = process.communicate()
    assert process.returncode == 1
    assert err == ""
