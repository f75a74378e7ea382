"""benchmarks/gpu.py measures what it says and loses nothing: on the CPU, where its timings mean nothing."""

import csv
import subprocess
from pathlib import Path

import pytest
import torch
from benchmarks import gpu

OPS = [(build, family) for family, (_, builders) in gpu.FAMILIES.items() for build in builders]


def small(layout: str, dtype: torch.dtype, *_: object) -> list[torch.Tensor]:
    """In place of gpu.tensors."""
    x = torch.randn(gpu.BUFFERS, 40, 16, 4, 6)
    tensors = x[:, :, :, 0, 0] if layout == "matrix" else x[:, :2]
    return [
        t.to(dtype).clone(
            memory_format=torch.channels_last if layout == "channels_last" else torch.contiguous_format
        )
        for t in tensors
    ]


@pytest.fixture(autouse=True)
def _not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda f: f)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "cpu.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def flat(results: object) -> list[torch.Tensor]:
    return [results] if isinstance(results, torch.Tensor) else list(results)


@pytest.mark.parametrize("dtype", gpu.DTYPES.values())
@pytest.mark.parametrize(("build", "family"), OPS)
def test_providers_compute_the_same(build, family, dtype):
    for layout in gpu.FAMILIES[family][0]:
        contest = build(small(layout, dtype))
        assert set(gpu.GOALS[build.__name__]) - {"copy"} <= set(contest.runs)
        for i in range(gpu.BUFFERS):
            theirs, ours = (flat(contest.runs[name](i)) for name in ("torch", "deconvkit"))
            for a, b in zip(theirs, ours, strict=True):
                if a.is_floating_point():  # switches are no indices
                    torch.testing.assert_close(b, a, rtol=2e-2, atol=2e-2)


def test_bytes_are_those_of_the_tensors():
    x = torch.randn(2, 4, 8, 8, dtype=torch.bfloat16)
    values, switches = gpu.pool(x)
    assert gpu.pooled_bytes(x) == x.nbytes + values.nbytes + switches.nbytes
    moves = gpu.copy(1000, "cpu")
    assert moves(0).nbytes == 500
    assert torch.equal(moves(1), moves(1))


def test_a_ratio_is_the_providers_time_over_ours(tmp_path, capsys):
    measured = {"copy": (90.0, "graph"), "torch": (250.0, "graph"), "deconvkit": (100.0, "graph")}
    for row in gpu.rows_of("max_unpool2d", "channels_last", "float32", 4_000_000, measured):
        gpu.write(tmp_path / "cpu.csv", row)
    copy, eager, own = rows(tmp_path)
    assert (copy["ratio"], copy["goal"], copy["gb_s"]) == ("0.900", "0.85", "44.4")
    assert (eager["ratio"], eager["goal"]) == ("2.500", "4")
    assert (own["ratio"], own["goal"], own["us"]) == ("", "", "100.00")
    lines, missing = gpu.report(tmp_path / "cpu.csv")
    assert missing == len(lines) - 2
    assert [line.split()[-2:] for line in lines if "0.900" in line] == [["0.900", "reached"]]
    assert [line.split()[-3:] for line in lines if "2.500" in line] == [["2.500", "NOT", "reached"]]


@pytest.mark.parametrize("group", gpu.GROUPS)
def test_a_group_leaves_a_row_for_each_of_its_goals(group, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "tensors", small)
    assert gpu.main([group, "--device", "cpu", "--rounds", "2", "--out", str(tmp_path)]) == 0
    family, dtype = group.split("-")
    layouts, builders = gpu.FAMILIES[family]
    ops = {build.__name__ for build in builders}
    wanted = {(op, layout, dtype, rival) for op in ops for layout in layouts for rival in gpu.GOALS[op]}
    reported = [r for r in rows(tmp_path) if r["goal"] and r["ratio"]]
    found = {(r["op"], r["layout"], r["dtype"], r["provider"]) for r in reported}
    assert found == wanted
    assert "failed" not in capsys.readouterr().out


def test_what_fails_costs_itself_alone(tmp_path, monkeypatch, capsys):
    def broken(x):
        raise RuntimeError("an illegal memory access was encountered")

    def half_broken(z):
        nbytes, runs = gpu.sparse_kl(z)
        return gpu.Contest(nbytes, runs | {"torch": lambda i: broken(i)})

    half_broken.__name__ = "sparse_kl"
    broken.__name__ = "sparse_sigmoid"
    monkeypatch.setitem(gpu.FAMILIES, "sparse", (("matrix",), (half_broken, broken, gpu.sparse_sigmoid_both)))
    monkeypatch.setattr(gpu, "tensors", small)
    assert gpu.main(["sparse-float32", "--device", "cpu", "--rounds", "1", "--out", str(tmp_path)]) == 0
    assert [(r["op"], r["provider"]) for r in rows(tmp_path)] == [
        ("sparse_kl", "copy"),
        ("sparse_kl", "deconvkit"),
        ("sparse_sigmoid_both", "torch"),
        ("sparse_sigmoid_both", "compile"),
        ("sparse_sigmoid_both", "deconvkit"),
    ]
    out = capsys.readouterr().out
    assert "torch failed: RuntimeError: an illegal memory access" in out
    assert "sparse_sigmoid matrix float32 failed" in out


def test_groups_run_in_processes_and_missing_figures_are_named(tmp_path, monkeypatch, capsys):
    commands = []

    def run(command, timeout, env):
        commands.append(command)
        if "sparse-float32" in command:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, "pooling-float32" in command)

    monkeypatch.setattr(subprocess, "run", run)
    arguments = ["--device", "cpu", "--out", str(tmp_path)]
    assert gpu.main(arguments) == 1
    assert [c[3:] for c in commands] == [[group, *arguments] for group in gpu.GROUPS]
    out = capsys.readouterr().out
    assert "failed: pooling-float32, sparse-float32" in out
    assert out.count("not measured\n") == sum(
        len(gpu.GOALS[b.__name__]) * len(layouts) * len(gpu.DTYPES)
        for layouts, builders in gpu.FAMILIES.values()
        for b in builders
    )


def test_without_a_gpu_the_command_says_so(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert gpu.main([]) == 1
    assert "expected a CUDA device" in capsys.readouterr().out
