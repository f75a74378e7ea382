"""benchmarks/gpu measures what it says and loses nothing: on the CPU, where its timings mean nothing."""

import csv
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch
from benchmarks.gpu import command, convolutions, dcgan, memory_bound, timing
from benchmarks.gpu.contest import Case, Contest, library_of

CASES = {
    f"{group}: {' '.join(case.name)}": case for group, cases in command.GROUPS.items() for case in cases()
}


@pytest.fixture(autouse=True)
def _compiled_is_eager(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    for name in ("benchmark", "allow_tf32"):  # which measuring sets
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is done before the others wake
    yield
    torch.set_num_threads(threads)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "cpu.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def flat(results: object) -> list[torch.Tensor]:
    return [results] if isinstance(results, torch.Tensor) else list(results)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_providers_compute_the_same(case):
    contest = case.build("cpu")
    assert set(case.goals) <= {library_of(name) for name in contest.runs}
    theirs = next(name for name in contest.runs if library_of(name) not in ("copy", "deconvkit"))
    for i in range(contest.buffers):
        expected = flat(contest.runs[theirs](i))
        for name, run in contest.runs.items():
            if name in ("copy", theirs):
                continue
            for ours, b in zip(flat(run(i)), expected, strict=True):
                if ours.is_floating_point():  # switches are no indices
                    assert (ours.float() - b.float()).abs().max() <= 3e-2 * b.float().abs().max(), name


def test_both_kernels_of_16_bits_are_timed():
    for case in CASES.values():
        if case.op in ("conv2d", "conv_transpose2d"):
            names = case.build("cpu").runs
            for suffix in ("", "_channels_last"):
                assert f"deconvkit_implicit_gemm{suffix}" in names
                assert (f"deconvkit_implicit_gemm_mma{suffix}" in names) == (case.dtype == "bfloat16")


def test_cases_have_names_of_their_own():
    names = [case.name for group, cases in command.GROUPS.items() for case in cases() if case.goals]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("layer", convolutions.CLASSES, ids=str)
def test_a_mirrored_layer_makes_the_input_of_the_output(layer):
    mirror = convolutions.mirrored(layer)
    assert (mirror.input_shape, mirror.output_shape) == (layer.output_shape, layer.input_shape)
    assert mirror.weight_shape == layer.weight_shape
    assert mirror.forward_work(2) == layer.forward_work(2)


def test_what_is_read_again_is_in_the_cache_no_more():
    for case in CASES.values():
        if case.op.startswith("conv"):
            layer, dtype = case.build.args[:2]
            buffers = convolutions.buffers_of(layer, dtype)
            assert buffers == 16 or buffers * convolutions._work(layer, dtype)[0] >= 2 * 64 << 20


def test_bytes_are_those_of_the_tensors():
    x = torch.randn(2, 4, 8, 8, dtype=torch.bfloat16)
    values, switches = memory_bound.pool(x)
    assert memory_bound.pooled_bytes(x) == x.nbytes + values.nbytes + switches.nbytes
    moves = memory_bound.copy(1000, "cpu")
    assert moves(0).nbytes == 500
    assert torch.equal(moves(1), moves(1))
    layer = convolutions.LAST[0]
    bytes, flops = convolutions._work(layer, "bfloat16")
    shapes = layer.input_shape, layer.weight_shape, layer.output_shape
    assert bytes == sum(torch.empty(s, dtype=torch.bfloat16, device="meta").nbytes for s in shapes)
    assert flops == 2 * 128 * 32 * 32 * 128 * 3 * 25


def test_a_training_step_trains_both():
    torch.manual_seed(0)
    players = dcgan.DCGANGenerator(5, 2, 16, 1), dcgan.DCGANDiscriminator(2, 16, 1)
    before = [p.detach().clone() for player in players for p in player.parameters()]
    step = dcgan.training_step(*players, torch.bfloat16)
    real, latents = torch.rand(4, 1, 16, 16) * 2 - 1, torch.rand(2, 4, 5)
    first, *_ = [step(real, *latents)[0] for _ in range(30)]
    after = [p for player in players for p in player.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert all(p.requires_grad for p in after)
    assert step(real, *latents)[0] < first  # D's loss


def test_a_ratio_is_the_providers_time_over_our_fastest(tmp_path, monkeypatch):
    case = Case("conv2d", "a layer", "float32", {"cudnn": 2.0, "copy": 0.85}, lambda device: contest)
    other = case._replace(case="another")
    contest = Contest({}, 4_000_000, 10**9)
    times = {
        "copy": 90.0,
        "cudnn": 250.0,
        "cudnn_channels_last": 180.0,
        "deconvkit_direct": 400.0,
        "deconvkit_implicit_gemm": 100.0,
    }
    monkeypatch.setattr(command, "GROUPS", {"one": lambda: [case, other]})
    for row in command.rows_of(case, contest, {name: (us, "graph") for name, us in times.items()}):
        command.write(tmp_path / "cpu.csv", row)
    copy, cudnn, last, direct, own = rows(tmp_path)
    assert (copy["ratio"], copy["goal"], copy["gb_s"]) == ("0.900", "0.85", "44.4")
    assert (cudnn["ratio"], cudnn["goal"], cudnn["tflop_s"]) == ("2.500", "2", "4.00")
    assert (last["ratio"], last["goal"]) == ("1.800", "2")
    assert (own["ratio"], own["goal"], own["us"]) == ("", "", "100.00")
    assert direct["ratio"] == ""
    lines, missing = command.report(tmp_path / "cpu.csv")
    assert missing == 2
    assert lines == [
        "conv2d a layer float32: against cudnn: goal 2, 1.800 NOT reached",
        "conv2d a layer float32: against copy: goal 0.85, 0.900 reached",
        "conv2d another float32: against cudnn: goal 2, not measured",
        "conv2d another float32: against copy: goal 0.85, not measured",
    ]


@pytest.mark.parametrize("group", command.GROUPS)
def test_a_group_leaves_rows_for_each_of_its_cases(group, tmp_path, capsys):
    assert command.main([group, "--device", "cpu", "--rounds", "1", "--out", str(tmp_path)]) == 0
    written = rows(tmp_path)
    cases = command.GROUPS[group]()
    goals = {(*case.name, library, f"{goal:g}") for case in cases for library, goal in case.goals.items()}
    columns = "op", "case", "dtype"
    assert goals == {
        (*(r[c] for c in columns), library_of(r["provider"]), r["goal"])
        for r in written
        if r["goal"] and r["ratio"]
    }
    assert {case.name for case in cases} == {tuple(r[c] for c in columns) for r in written}
    assert "failed" not in capsys.readouterr().out


def test_layers_may_use_tf32_in_their_rows_alone(tmp_path, monkeypatch):
    seen = {}

    def built(dtype, device):
        seen[dtype] = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
        return Contest({}, 0)

    cases = [Case("conv2d", "", dtype, {}, partial(built, dtype)) for dtype in ("tf32", "float32")]
    monkeypatch.setattr(command, "GROUPS", {"one": lambda: cases})
    command.measure("one", "cpu", 1, tmp_path / "cpu.csv", {})
    assert seen == {"tf32": (True, True), "float32": (False, True)}


def test_slow_contests_end_early(monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0)
    calls = []
    timing.medians(Contest({"torch": calls.append}, 0, buffers=1), "cpu", 40)
    assert len(calls) == timing.LEAST_ROUNDS


def test_what_fails_costs_itself_alone(tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("an illegal memory access was encountered")

    first, second, third, *_ = command.GROUPS["sparse-float32"]()

    def half_broken(device):
        contest = first.build(device)
        return contest._replace(runs=contest.runs | {"torch": broken})

    cases = [first._replace(build=half_broken), second._replace(build=broken), third]
    monkeypatch.setitem(command.GROUPS, "sparse-float32", lambda: cases)
    assert command.main(["sparse-float32", "--device", "cpu", "--rounds", "1", "--out", str(tmp_path)]) == 0
    assert [(r["op"], r["provider"]) for r in rows(tmp_path)] == [
        (first.op, "copy"),
        (first.op, "deconvkit"),
        (third.op, "copy"),
        (third.op, "torch"),
        (third.op, "deconvkit"),
    ]
    out = capsys.readouterr().out
    assert "torch failed: RuntimeError: an illegal memory access" in out
    assert f"{second.op} contiguous float32 failed" in out


def test_results_go_where_the_command_says(tmp_path, monkeypatch, capsys):
    assert command.RESULTS.relative_to(Path(__file__).parents[1]).as_posix() == "benchmarks/results/gpu"
    assert "benchmarks/results/gpu/<card>.csv" in command.__doc__
    monkeypatch.setattr(command, "RESULTS", tmp_path / "gpu")
    monkeypatch.setattr(command, "in_processes", lambda *_: [])
    monkeypatch.setattr(command, "report", lambda path: ([f"read {path}"], 0))
    assert command.main(["--device", "cpu"]) == 0
    assert f"read {tmp_path / 'gpu' / 'cpu.csv'}" in capsys.readouterr().out


def test_groups_run_in_processes_and_missing_figures_are_named(tmp_path, monkeypatch, capsys):
    commands = []

    def run(arguments, timeout, env):
        commands.append(arguments)
        if "sparse-float32" in arguments:
            raise subprocess.TimeoutExpired(arguments, timeout)
        return subprocess.CompletedProcess(arguments, "pooling-float32" in arguments)

    monkeypatch.setattr(subprocess, "run", run)
    arguments = ["--device", "cpu", "--out", str(tmp_path)]
    assert command.main(arguments) == 1
    assert [c[3:] for c in commands] == [[group, *arguments] for group in command.GROUPS]
    out = capsys.readouterr().out
    assert "failed: pooling-float32, sparse-float32" in out
    goals = [library for case in CASES.values() for library in case.goals]
    assert out.count("not measured\n") == len(goals)
    assert f"not measured: {len(goals)} figures" in out


def test_without_a_gpu_the_command_says_so(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert command.main([]) == 1
    assert "expected a CUDA device" in capsys.readouterr().out


def test_no_step_of_the_script_outlasts_its_limit(tmp_path):
    python = tmp_path / "python"  # every build and every measurement hangs
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)
    script = Path(__file__).parents[1] / ".ci" / "gpu"
    done = subprocess.run(
        [script, "--dry", "build", "tests"],
        env=os.environ | {"PYTHON": str(python), "LIMIT": "2"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode
    assert "failed: build tests" in done.stdout
    assert "left out" in done.stdout
