"""Rows, files and tables."""

from pathlib import Path

import pytest

from deconvkit.bench import chart, machine, results, tables
from deconvkit.bench.results import Row


def row(**changes: str) -> Row:
    made = dict.fromkeys(results.COLUMNS, "0")
    made |= {
        "op": "max_pool2d",
        "layer": "vgg224",
        "dtype": "float32",
        "layout": "contiguous",
        "device": "cpu",
    }
    made |= {"provider": "torch", "mode": "forward", "memory": "fresh", "shape": "s", "isa": "avx2"}
    made |= {"p20_ms": "9", "p50_ms": "10", "p80_ms": "11", "peak_bytes": "2500000", "bytes": "20000000"}
    made |= {"ceiling_gflops": "100", "ceiling_gbs": "4", "versions": "v", "commit": "c", "machine": "m"}
    return made | {"threads": "2"} | changes


ROWS = [
    row(),
    row(layout="channels_last", p50_ms="4"),
    row(provider="onnxruntime", p50_ms="8"),
    row(provider="deconvkit", p50_ms="2.504"),
    row(provider="deconvkit", layout="channels_last", p50_ms="5"),
    row(memory="reused", p50_ms="3"),
    row(memory="reused", provider="deconvkit", p50_ms="2", peak_bytes=""),
    row(mode="backward", p50_ms="123.4"),
    row(mode="backward", provider="deconvkit", p50_ms="246.8"),
    row(layer="dcgan32", p50_ms="20"),
    row(layer="dcgan32", provider="deconvkit", p50_ms="20"),
]


def test_merge_replaces_and_keeps() -> None:
    old = [row(), row(provider="deconvkit", p50_ms="5"), row(layer="tiny"), row(isa="avx512", p50_ms="3")]
    new = [row(p50_ms="12"), row(mode="both")]
    merged = results.merge(old, new)
    assert [(r["layer"], r["mode"], r["provider"], r["isa"], r["p50_ms"]) for r in merged] == [
        ("vgg224", "forward", "torch", "avx2", "12"),
        ("vgg224", "forward", "deconvkit", "avx2", "5"),
        ("vgg224", "forward", "torch", "avx512", "3"),
        ("vgg224", "both", "torch", "avx2", "10"),
        ("tiny", "forward", "torch", "avx2", "10"),
    ]


def test_files_keep_and_replace(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert results.keep(folder, [row(), row(op="conv2d", layer="vgg56")]) == [
        folder / "max_pool2d_m.csv",
        folder / "conv2d_m.csv",
    ]
    results.keep(folder, [row(p50_ms="7"), row(mode="both")])
    assert sorted(path.name for path in folder.iterdir()) == ["conv2d_m.csv", "max_pool2d_m.csv"]
    assert [(r["op"], r["mode"], r["p50_ms"]) for r in results.read(folder)] == [
        ("conv2d", "forward", "10"),
        ("max_pool2d", "forward", "7"),
        ("max_pool2d", "both", "10"),
    ]


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected the columns"):
        results.read(file)


def test_text_shows_every_provider() -> None:
    lines = tables.text(ROWS).splitlines()
    assert lines[0] == "m, 2 threads, float32, avx2; v; commit c"
    assert lines[1] == "ceilings in this run: 100 GF/s (torch.mm), 4.0 GB/s (copy)"
    assert lines[3] == "max_pool2d vgg224: s"
    cells = [line.split() for line in lines]
    assert ["forward", "fresh", "torch", "9.00", "10.0", "11.0", "2.5", "2.0", "50", "%", "0.40x"] in cells
    ours = ["forward", "reused", "deconvkit", "9.00", "2.00", "11.0", "10.0", "250", "%", "1.50x"]
    assert ours in cells
    assert len({line.index("p50 ms") for line in lines if "p50 ms" in line}) == 1


def test_share_of_peak_takes_the_ceiling_that_binds() -> None:
    assert tables.share_of_peak(row()) == pytest.approx(0.5)
    assert tables.share_of_peak(row(flops="900000000")) == pytest.approx(0.9)


def test_markdown_shows_wins_and_losses() -> None:
    lines = tables.markdown(ROWS).splitlines()
    assert lines[0] == "**m**, 2 threads, avx2; v; commit c; torch.mm 100 GF/s, copy 4 GB/s."
    assert lines[2] == (
        "| `max_pool2d` | shape | pass | torch ms | deconvkit ms | faster | than ONNX Runtime "
        "| in channels_last | memory kept |"
    )
    assert lines[4:] == [
        "| vgg224 | s | forward | 4.00 | 2.50 | 1.60× | 3.19× | 0.80× | 1.50× |",
        "| vgg224 | s | backward | 123 | 247 | 0.50× |  |  |  |",
        "| dcgan32 | s | forward | 20.0 | 20.0 | 1.00× |  |  |  |",
        "| geometric mean |  | forward |  |  | 1.26× | 3.19× | 0.80× | 1.50× |",
    ]


def test_markdown_of_other_dtypes_and_folded_models() -> None:
    rows = [row(), row(dtype="bfloat16", p50_ms="6"), row(dtype="bfloat16", provider="deconvkit", p50_ms="3")]
    assert tables.markdown(rows).splitlines()[-1] == "| vgg224 | s | forward | 10.0 |  | 2.00× |"
    rows = [row(), row(provider="torch_folded", p50_ms="8"), row(provider="deconvkit_folded", p50_ms="4")]
    assert tables.markdown(rows).splitlines()[-1] == "| vgg224 | s | forward | 10.0 |  | 2.00× |"


@pytest.mark.parametrize("ending", chart.FORMATS)
def test_chart_is_drawn(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"chart{ending}"
    figure = chart.draw(ROWS)
    bars = {round(bar.get_width() + 1, 2) for bar in figure.axes[0].patches}
    assert {1.6, 0.5, 1.0, 0.4} <= bars
    chart.save(figure, path)
    assert path.stat().st_size > 1000
    assert list(tmp_path.iterdir()) == [path]


def test_machine_name_suits_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "processor", lambda: "AMD EPYC 7B13 64-Core Processor @ 3.5GHz")
    assert machine.name().startswith("amd-epyc-7b13-")
    monkeypatch.setattr(machine, "processor", lambda: "Intel(R) Xeon(R) CPU @ 2.20GHz")
    assert machine.name().startswith("intel-xeon-")


def test_ceilings_and_peak_memory() -> None:
    import torch

    found = machine.ceilings(torch.float32, size=64, copied=2**20, rounds=1)
    assert found.gflops > 0
    assert found.copy_gbs > 0
    size = 2**26
    peak = machine.peak_memory(lambda: torch.ones(size, dtype=torch.uint8))
    assert peak is not None
    assert 0.9 * size < peak < 1.5 * size
