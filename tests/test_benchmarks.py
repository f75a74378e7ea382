"""The table of layers and the bookkeeping of the comparison; nothing is timed in earnest."""

import csv
from pathlib import Path

import pytest
import torch
from benchmarks import cases, compare
from benchmarks.layers import CONV_TRANSPOSE2D, LAYERS, MAX_POOL2D, SPARSE_KL, Code, Conv, Layer, Pool

EVERY = [
    pytest.param(op, layer, id=f"{op}-{layer.name}") for op, layers in LAYERS.items() for layer in layers
]


@pytest.mark.parametrize(("op", "layer"), EVERY)
def test_shapes_are_what_torch_computes(op: str, layer: Layer) -> None:
    with torch.device("meta"):
        if isinstance(layer, Conv):
            function = getattr(torch.nn.functional, op)
            output = function(
                torch.empty(layer.input_shape), torch.empty(layer.weight_shape), **layer.arguments
            )
            assert output.shape == layer.output_shape
        elif isinstance(layer, Pool):
            maps = torch.empty(layer.map_shape)
            output = torch.nn.functional.max_pool2d(maps, layer.kernel, layer.stride, layer.padding)
            assert output.shape == layer.pooled_shape
        else:
            assert isinstance(layer, Code)


def test_work_by_hand() -> None:
    dcgan2 = CONV_TRANSPOSE2D[0]
    assert dcgan2.forward_work(4).flops == 2 * 64 * 16 * 1024 * 512 * 25
    assert dcgan2.forward_work(4).bytes == 4 * (64 * 1024 * 16 + 1024 * 512 * 25 + 64 * 512 * 64)
    assert dcgan2.backward_work(4).flops == 2 * dcgan2.forward_work(4).flops
    vgg56 = next(layer for layer in LAYERS["conv2d"] if layer.name == "vgg56")
    assert vgg56.forward_work(4).flops == 2 * 4 * 56 * 56 * 256 * 256 * 9
    assert MAX_POOL2D[0].forward_work(4).bytes == 64 * 4 * (224 * 224 * 4 + 112 * 112 * (4 + 1))
    both = SPARSE_KL[0].forward_work(4) + SPARSE_KL[0].backward_work(4)
    assert both.bytes == 5 * 4 * 8192 * 4096


@pytest.mark.parametrize("op", LAYERS)
def test_names_are_unique_and_some_layers_are_quick(op: str) -> None:
    names = [layer.name for layer in LAYERS[op]]
    assert len(set(names)) == len(names)
    assert any(layer.quick for layer in LAYERS[op])


@pytest.mark.parametrize("op", LAYERS)
def test_tiny_layers_agree_in_every_layout(op: str) -> None:
    layer = next(layer for layer in LAYERS[op] if layer.name == "tiny")
    layouts = {cases.PROVIDERS[name][1] for name in cases.providers(op)}
    for layout in layouts:
        cases.check(cases.setup(op, layer, torch.float32, layout), torch.float32)


def test_disagreement_is_seen() -> None:
    made = cases.setup("sparse_kl", SPARSE_KL[2], torch.float32, "contiguous")
    made.functions["deconvkit"] = lambda z: tuple(1.01 * t for t in made.functions["torch"](z))
    with pytest.raises(AssertionError, match="deconvkit, forward"):
        cases.check(made, torch.float32)


def row(**changes: str) -> compare.Row:
    made = dict.fromkeys(compare.COLUMNS, "0")
    made |= {
        "op": "max_pool2d",
        "layer": "vgg224",
        "dtype": "float32",
        "layout": "contiguous",
        "device": "cpu",
    }
    made |= {"provider": "torch", "mode": "forward", "memory": "fresh", "shape": "s", "p50_ms": "10"}
    return made | changes


def test_merge_replaces_and_keeps() -> None:
    old = [row(), row(provider="deconvkit", p50_ms="5"), row(layer="tiny")]
    new = [row(p50_ms="12"), row(mode="both")]
    merged = compare.merge(old, new)
    assert [(r["layer"], r["mode"], r["provider"], r["p50_ms"]) for r in merged] == [
        ("vgg224", "forward", "torch", "12"),
        ("vgg224", "forward", "deconvkit", "5"),
        ("vgg224", "both", "torch", "10"),
        ("tiny", "forward", "torch", "10"),
    ]


def test_markdown_shows_wins_and_losses() -> None:
    rows = [
        row(),
        row(layout="channels_last", p50_ms="4"),
        row(provider="deconvkit", p50_ms="2.504"),
        row(mode="both", p50_ms="123.4"),
        row(mode="both", provider="deconvkit", p50_ms="246.8"),
    ]
    lines = compare.markdown(rows).splitlines()
    assert (
        lines[0]
        == "| op | layer | shape | pass | memory | torch | torch channels last | deconvkit | faster |"
    )
    assert lines[2] == "| max_pool2d | vgg224 | s | forward | fresh | 10 | 4 | 2.5 | 1.60× |"
    assert lines[3] == "| max_pool2d | vgg224 | s | both | fresh | 123 |  | 247 | 0.50× |"


def test_compare_writes_tidy_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--op", "max_pool2d", "--layers", "tiny", "--results", str(tmp_path), "--machine", "here"]
    arguments += ["--providers", "torch", "deconvkit", "--memory", "fresh"]
    threads = str(torch.get_num_threads())
    assert compare.main([*arguments, "--rounds", "2", "--markdown"]) == 0
    with (tmp_path / "max_pool2d_here.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["provider"], r["mode"]) for r in rows] == [
        ("torch", "forward"),
        ("deconvkit", "forward"),
        ("torch", "both"),
        ("deconvkit", "both"),
    ]
    for r in rows:
        assert float(r["p20_ms"]) <= float(r["p50_ms"]) <= float(r["p80_ms"])
        assert (r["layer"], r["dtype"], r["device"], r["threads"]) == ("tiny", "float32", "cpu", threads)
        assert torch.__version__ in r["versions"]
        assert r["bytes"] == {"forward": "21", "both": "42"}[r["mode"]]
    assert "| max_pool2d | tiny |" in capsys.readouterr().out

    assert compare.main([*arguments, "--from-results", "--modes", "both"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("tiny both fresh" in line for line in lines)


def test_unknown_layer_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["--op", "conv2d", "--layers", "bogus"]) == 2
    assert "bogus" in capsys.readouterr().err


def test_machine_name_suits_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "processor", lambda: "AMD EPYC 7B13 64-Core Processor @ 3.5GHz")
    assert compare.machine_name().startswith("amd-epyc-7b13-")
    monkeypatch.setattr(compare, "processor", lambda: "Intel(R) Xeon(R) CPU @ 2.20GHz")
    assert compare.machine_name().startswith("intel-xeon-")
