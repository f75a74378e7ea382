"""deconvkit bench from the command line: files, tables, and what it says of wrong arguments."""

import csv
import os
import sys
from pathlib import Path

import pytest
import torch

from deconvkit import _C, cli
from deconvkit.bench import cases, command, machine, results

TINY = ["--layers", "tiny", "--rounds", "2", "--budget", "0.1"]


@pytest.fixture(autouse=True)
def _small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ceilings", lambda dtype: machine.Ceilings(100.0, 10.0))


def bench(*arguments: str) -> int:
    return cli.main(["bench", *arguments])


def test_rows_table_and_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, plot = tmp_path / "a.csv", tmp_path / "a.png"
    arguments = ["--op", "max_pool2d,sparse_kl", *TINY, "--providers", "torch", "deconvkit"]
    assert bench(*arguments, "--csv", str(table), "--plot", str(plot), "--machine", "here") == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["op"], r["mode"], r["provider"]) for r in rows] == [
        (op, mode, provider)
        for op in ("max_pool2d", "sparse_kl")
        for mode in ("forward", "backward")
        for provider in ("torch", "deconvkit")
    ]
    for r in rows:
        assert float(r["p20_ms"]) <= float(r["p50_ms"]) <= float(r["p80_ms"])
        assert (r["layer"], r["dtype"], r["device"], r["memory"]) == ("tiny", "float32", "cpu", "fresh")
        assert (r["threads"], r["machine"]) == (str(torch.get_num_threads()), "here")
        assert torch.__version__ in r["versions"]
        assert int(r["peak_bytes"]) < 2**24
        assert (r["ceiling_gflops"], r["ceiling_gbs"]) == ("100", "10")
    assert rows[0]["bytes"] == "21"
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.png"]
    out, err = capsys.readouterr()
    assert "max_pool2d tiny: 1x1x2x2 <-> 1x1x1x1, 2x2 s2" in out
    assert out.count("deconvkit") == 1 + 4
    assert "100%" in err

    assert bench("--from-results", str(table), "--op", "sparse_kl", "--markdown") == 0
    out = capsys.readouterr().out
    assert "| tiny | 2x2 | backward |" in out
    assert "max_pool2d" not in out
    assert bench("--from-results", str(table), "--modes", "forward", "--providers", "torch") == 0
    out = capsys.readouterr().out
    assert out.count("forward") == 2
    assert "backward" not in out


def test_results_are_kept_for_each_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "results"
    arguments = ["--op", "max_unpool2d", *TINY, "--providers", "deconvkit", "--machine", "here"]
    for mode in ("forward", "both"):
        assert bench(*arguments, "--modes", mode, "--results", str(folder)) == 0
    (path,) = folder.iterdir()
    assert path.name == "max_unpool2d_here.csv"
    assert [r["mode"] for r in results.read(path)] == ["forward", "both"]
    assert f"rows in {path}" in capsys.readouterr().err


def test_memory_and_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    monkeypatch.setattr(command, "keep_freed_memory", lambda: seen.append("kept"))
    checks = []
    monkeypatch.setattr(cases, "check", lambda *arguments: checks.append(arguments))
    threads = torch.get_num_threads()
    path = tmp_path / "a.csv"
    arguments = ["--op", "sparse_kl", *TINY, "--providers", "torch", "--modes", "forward", "--csv", str(path)]
    try:
        assert bench(*arguments, "--memory", "reused,fresh", "--threads", "1") == 0
    finally:
        torch.set_num_threads(threads)
    rows = results.read(path)
    assert [(r["memory"], r["threads"], bool(r["peak_bytes"])) for r in rows] == [
        ("fresh", "1", True),
        ("reused", "1", False),
    ]
    assert seen == ["kept"]
    assert len(checks) == 1


def test_what_cannot_be_used_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.measure.__globals__["onnx_runtime"], "missing", lambda: "onnx")
    real = cases.setup

    def broken(*arguments: object) -> cases.Setup:
        made = real(*arguments)  # type: ignore[arg-type]

        def fail(*_: object) -> None:
            raise RuntimeError("no compiler\nat all")

        made.functions["torch_compile"] = fail
        return made

    monkeypatch.setattr(cases, "setup", broken)
    assert bench("--op", "max_pool2d", *TINY, "--providers", "torch,onnxruntime,torch_compile,deconvkit") == 0
    out, err = capsys.readouterr()
    assert "onnxruntime  " not in out
    assert "torch_compile" not in out
    assert "onnxruntime is left out: onnx is not installed; pip install 'deconvkit[bench]' brings it\n" in err
    assert "torch_compile is left out: no compiler\n" in err


def test_disagreement_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(*_: object) -> None:
        raise AssertionError("deconvkit, forward:\nfar away")

    monkeypatch.setattr(cases, "check", check)
    assert bench("--op", "sparse_kl", *TINY, "--providers", "deconvkit") == 1
    assert capsys.readouterr().err.endswith("deconvkit bench: results differ: deconvkit, forward: far away\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op", "conv9d"], "--op: expected conv_transpose2d, "),
        (["--layers", "vgg,bogus"], "got 'bogus'"),
        (
            ["--op", "conv2d", "--layers", "dcgan"],
            "--layers: expected names, or what they begin with, of vgg",
        ),
        (["--providers", "jax"], "--providers: expected torch, "),
        (["--op", "sparse_kl", "--providers", "deconvkit_folded"], "none of deconvkit_folded has sparse_kl"),
        (["--modes", "sideways"], "--modes: expected forward, backward, both; got 'sideways'"),
        (["--memory", "old"], "--memory: expected fresh, reused; got 'old'"),
        (["--isa", "avx1024"], "--isa: expected scalar"),
        (["--plot", "chart.bmp"], "--plot: expected a file that ends in .png, .svg, .pdf; got 'chart.bmp'"),
        (["--csv", "/nowhere/a.csv"], "--csv: /nowhere/a.csv cannot be written (No such file or directory)"),
        (["--csv", "/"], "--csv: / is a folder, not a file"),
        (["--results", "/proc/here"], "--results: /proc/here cannot be written"),
        (["--from-results", "/nowhere.csv"], "cannot be read (No such file or directory)"),
        (["--from-results", sys.executable], "--from-results: "),
    ],
)
def test_wrong_arguments_are_one_line_and_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("deconvkit bench: --")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("arguments", [["--dtype", "int8"], ["--rounds", "0"], ["--threads", "-1"]])
def test_wrong_values_are_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*arguments) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert arguments[0] in told


def test_avx2_is_forced_on_torch_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forced = []
    monkeypatch.setattr(_C, "available_isas", lambda: ["scalar", "avx2"])
    monkeypatch.setattr(_C, "select_isa", forced.append)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    command._select_isa("avx2")
    assert forced == ["avx2"]
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert bench("--isa", "avx2") == 2
    assert "start with ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2" in capsys.readouterr().err


def test_rows_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    results.write(path, [])
    assert bench("--from-results", str(path)) == 2
    assert capsys.readouterr().err == f"deconvkit bench: --from-results: no such rows in {path}\n"


def test_nothing_named_means_the_quick_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(command, "_measure", lambda work, *_: seen.extend(work) or [])
    assert bench() == 0
    assert seen
    assert all(layer.quick for _, layer in seen)
    quick = len(seen)
    assert bench("--op", "conv2d") == 0
    assert len(seen) - quick == len(command.LAYERS["conv2d"])
