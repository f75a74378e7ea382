"""``deconvkit info MODEL``."""

from pathlib import Path

import pytest
import torch
from torch import nn

from deconvkit import cli, models
from deconvkit.train.checkpoint import save_model
from deconvkit.verbs import layers

TOTALS = {
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
    "DeconvNet": 251_805_653,
    "DCGANGenerator": 18_885_760,
    "DCGANDiscriminator": 17_232_768,
    "SparseAutoencoder": 3_289,
    "VAE": 652_824,
    "M1": 1_361_884,
}


@pytest.mark.parametrize("name", layers.names())
def test_rows_add_up_to_the_total(name: str) -> None:
    lines = layers.table(name).splitlines()
    head = lines.index(next(line for line in lines if line.startswith("layer ")))
    counts = [line.split()[-1].replace(",", "") for line in lines[head + 2 : -2]]
    total = int(lines[-1].split()[0].replace(",", ""))
    assert sum(int(count) for count in counts if count != "–") == total
    assert total == TOTALS.get(name, total)


def test_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "dcgangenerator"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["upsample.0", "ConvTranspose2d", "512×8×8", "5/2/2/1", "13,107,200"] in lines
    assert lines[-1] == ["18,885,760", "parameters"]


def test_pools_of_deconvnet_by_their_sizes() -> None:
    rows = layers.layers(models.DeconvNet(device="meta").eval())
    assert [row.output for row in rows if row.kind == "MaxPool2d"] == [
        f"{channels}×{side}×{side}"
        for channels, side in ((64, 112), (128, 56), (256, 28), (512, 14), (512, 7))
    ]
    assert [row.output.split("×")[1] for row in rows if row.kind == "MaxUnpool2d"] == [
        "14",
        "28",
        "56",
        "112",
        "224",
    ]
    assert not any(row.kind == "ReLU" for row in rows)


def test_shared_layers_count_once_and_unused_ones_are_listed() -> None:
    class Odd(nn.Module):
        in_features = 3

        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 3, device="meta"), nn.Linear(3, 2, device="meta")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.used(self.used(x))
            return out

    assert [(row.name, row.output, row.parameters) for row in layers.layers(Odd())] == [
        ("used", "3", 12),
        ("used", "3", 0),
        ("unused", "–", 8),
    ]


def test_a_trained_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(tmp_path / "m.pt", models.VAE(9, 2, [5]), "vae", {})
    assert cli.main(["info", str(tmp_path / "m.pt")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("VAE(in_features=9, latent_size=2, hidden=[5]")
    assert out.endswith("143 parameters\n")
    (tmp_path / "text").write_text("text")
    for name, message in (
        ("nonsense", "expected one of ClassDecoder"),
        (str(tmp_path / "text"), "cannot be"),
    ):
        assert cli.main(["info", name]) == 2
        out, err = capsys.readouterr()
        assert not out
        assert err.startswith("deconvkit info: ")
        assert message in err
        assert err.count("\n") == 1
