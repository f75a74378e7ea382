"""README quotes what the committed results make, and the runs that make them are valid."""

from pathlib import Path

import pytest
from benchmarks import measure, readme

from deconvkit.bench import cases, command, results
from tests.bench.test_results import ROWS


def test_readme_quotes_the_results() -> None:
    assert readme.stated(readme.README.read_text()) == readme.section(), "run python -m benchmarks.readme"


def test_update_replaces_the_section_alone(tmp_path: Path) -> None:
    text = f"before\n{readme.BEGIN}old\n{readme.END}after\n"
    file = tmp_path / "README.md"
    file.write_text(text)
    readme.update(file, tmp_path / "results")
    assert file.read_text() == f"before\n{readme.BEGIN}{readme.END}after\n"
    results.keep(tmp_path / "results", ROWS)
    for _ in range(2):
        readme.update(file, tmp_path / "results")
    text = file.read_text()
    assert readme.stated(text) == readme.section(tmp_path / "results")
    assert "| vgg224 | s | backward | 123 | 247 | 0.50× |" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


@pytest.mark.parametrize("arguments", measure.RUNS)
def test_runs_are_valid(
    arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deconvkit import cli

    seen = []
    monkeypatch.setattr(command, "_measure", lambda work, asked, *_: seen.append((work, asked)) or [])
    monkeypatch.setattr(command, "_select_isa", lambda isa: None)
    assert cli.main(["bench", *arguments.split()]) == 0, capsys.readouterr().err
    ((work, asked),) = seen
    assert set(asked) <= set(cases.PROVIDERS)
    assert len(work) > 1
