"""README's section "Measured" from the files in results/.

python -m benchmarks.readme
"""

from pathlib import Path

from deconvkit.bench import results, tables

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"


def section(folder: Path = RESULTS) -> str:
    """What stands between the markers; nothing where nothing has been measured."""
    text = tables.markdown(results.merge([], results.read(folder))) if folder.exists() else ""
    return f"{text}\n" if text else ""


def stated(readme: str) -> str:
    """What stands between README's markers."""
    return readme.partition(BEGIN)[2].partition(END)[0]


def update(readme: Path = README, folder: Path = RESULTS) -> None:
    """Write the section into README."""
    before, _, rest = readme.read_text().partition(BEGIN)
    readme.write_text(before + BEGIN + section(folder) + END + rest.partition(END)[2])


if __name__ == "__main__":
    update()
