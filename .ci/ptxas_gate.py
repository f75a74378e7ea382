"""Hold ptxas's report against csrc/cuda/budget.toml: no spill, no stack, registers and shared memory inside.

A launch's shared memory is in its kernel's name (csrc/cuda/launch.cuh); what ptxas finds besides is added.
Nor may it say that it runs a warpgroup's products one by one, for registers that something else touches.

usage: ptxas_gate.py BUDGET LOG [ARCHITECTURE ...]
    LOG: what nvcc -Xptxas=-v printed, mangled names as they are; it must speak of each of the architectures
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path


def kernels(log: str) -> list[tuple[str, str, str]]:
    """(mangled name, architecture, report) of every kernel in the log."""
    parts = re.split(r"Compiling entry function '(\S+)' for '(\S+)'", log)
    return list(zip(parts[1::3], parts[2::3], parts[3::3], strict=True))


def excess(name: str, arch: str, report: str, budget: dict) -> list[str]:
    """Say what of one kernel is over the budget; ``name`` is demangled."""
    found = re.search(r"run_(?:steps|roles)<deconvkit::cuda::(\w+).*, (\d+)l>\(", name)
    stem = found[1] if found else name
    limit = budget["registers"].get(stem)
    if found is None or limit is None:
        return [f"{stem}: no budget"]

    def number(pattern: str) -> int:
        # A function that is called and not inlined has lines of its own.
        return max((int(match) for match in re.findall(pattern, report)), default=0)

    counts = {
        "registers": (number(r"Used (\d+) registers"), limit),
        "bytes of stack": (number(r"(\d+) bytes stack frame"), 0),
        "bytes of spill stores": (number(r"(\d+) bytes spill stores"), 0),
        "bytes of spill loads": (number(r"(\d+) bytes spill loads"), 0),
        "bytes of shared memory": (
            number(r"(\d+) bytes smem") + int(found[2]),
            budget["shared"].get(stem, 0),
        ),
    }
    if not counts["registers"][0]:
        return [f"{stem} ({arch}): ptxas did not say how many registers"]
    if stem in budget["exact"] and counts["registers"][0] != limit:
        return [f"{stem} ({arch}): {counts['registers'][0]} registers, expected {limit}"]
    return [
        f"{name} ({arch}): {got} {what}, budget {most}" for what, (got, most) in counts.items() if got > most
    ]


def main() -> int:
    """Report every kernel that is over its budget."""
    budget = tomllib.loads(Path(sys.argv[1]).read_text())
    log = Path(sys.argv[2]).read_text()
    found = kernels(log)
    names = subprocess.run(
        ["c++filt"], input="\n".join(k[0] for k in found), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    over = [
        line
        for name, (_, arch, report) in zip(names, found, strict=True)
        for line in excess(name, arch, report, budget)
    ]
    over += [line for line in log.splitlines() if "wgmma" in line and "serialized" in line]
    over += [line for line in log.splitlines() if "setmaxnreg" in line and "ignored" in line]
    archs = sorted({arch for _, arch, _ in found})
    over += [f"{arch}: no kernel in the report" for arch in sys.argv[3:] if arch not in archs]
    print("\n".join(over), end="\n" if over else "")
    print(f"ptxas: {len(found)} kernels on {', '.join(archs) or 'nothing'}, {len(over)} over budget")
    return 1 if over or not found else 0


if __name__ == "__main__":
    sys.exit(main())
