"""Check that no kernel object offers code under a name that other objects share.

The kernel files are compiled once per instruction set. An inline function of a shared header that is emitted
from an AVX-512 object under its shared name may be the copy that the linker keeps, and then crashes an older
processor. So every global symbol that such an object defines must carry the namespace of its set in its name.

usage: check_isolation.py BUILD_DIR
"""

import subprocess
import sys
from pathlib import Path


def foreign_symbols(isa: str, objects: list[Path]) -> list[str]:
    """Return the global symbols that these objects define outside ``deconvkit::<isa>``."""
    lines = subprocess.run(
        ["nm", "--defined-only", "--extern-only", "--print-file-name", *objects],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    own = f"9deconvkit{len(isa)}{isa}"
    return [
        line
        for line in lines
        # DW.ref.* are pointers to the runtime, not code.
        if own not in (symbol := line.split()[-1]) and not symbol.startswith("DW.ref.")
    ]


def main() -> int:
    """Check every instruction set's objects in the build directory."""
    root = Path(sys.argv[1]) / "CMakeFiles"
    checked = 0
    foreign = []
    for folder in sorted(root.glob("deconvkit_*.dir")):
        isa = folder.name.removeprefix("deconvkit_").removesuffix(".dir")
        objects = sorted(folder.rglob("*.o"))
        if isa in ("core", "cuda") or not objects:
            continue
        checked += len(objects)
        foreign += foreign_symbols(isa, objects)
    if foreign:
        subprocess.run(["c++filt"], input="\n".join(foreign) + "\n", text=True, check=True)
    if not checked:
        print(f"no kernel objects under {root}")
    print(f"isolation: {checked} kernel objects, {len(foreign)} shared symbols")
    return 1 if foreign or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
