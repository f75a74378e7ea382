"""Hold nvcc's PTX against what the memory-bound kernels are to store: 16 bytes at once.

nvcc may take a group of elements apart and store them one by one, which no result shows.

usage: store_gate.py PTX ...
"""

import re
import subprocess
import sys
from pathlib import Path

# Stores of 16 bytes that each of these kernels has at least, where groups of so many elements as its last
# parameter says fill them; in the kernels of ANY, whose parameter is of their loads, at any. (The cells of a
# window are a loop, samples are unrolled.)
STORES = {
    "CollectChannels": 1,
    "CollectFlat": 1,
    "PoolFlat": 1,
    "PoolWindows": 1,
    "SigmoidBackward": 4,
    "SpreadCells": 1,
    "SpreadFlat": 4,
    "SpreadWindows": 1,
    "SumSamples<deconvkit::cuda::Sigmoid": 4,
}
ANY = ("CollectFlat", "PoolFlat")
WIDE = re.compile(r"\bst\.global\S*\.(?:v4\.[fub]32|v2\.[fub]64)\b")


def main() -> int:
    """Report every kernel that has fewer."""
    entries = re.split(r"\.entry (\w+)", "\n".join(Path(path).read_text() for path in sys.argv[1:]))
    names = subprocess.run(
        ["c++filt"], input="\n".join(entries[1::2]), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    narrow, seen = [], dict.fromkeys(STORES, 0)
    for name, body in zip(names, entries[2::2], strict=True):
        kernel = re.search(r"run_steps<deconvkit::cuda::(\w+<[^<>]*)>", name)
        stem = kernel and next((stem for stem in STORES if re.match(rf"{stem}\b", kernel[1])), None)
        whole = re.search(r"\b(double\b.* 2|float\b.* 4|B?Float16\b.* 8)$", kernel[1]) if kernel else None
        if not stem or not (whole or stem in ANY):
            continue
        seen[stem] += 1
        if (found := len(WIDE.findall(body))) < STORES[stem]:
            narrow.append(f"{kernel[1]}>: {found} stores of 16 bytes, expected {STORES[stem]}")
    narrow += [f"{stem}: no such kernel" for stem, count in seen.items() if not count]
    print("\n".join(narrow), end="\n" if narrow else "")
    print(f"stores: {sum(seen.values())} kernels, {len(narrow)} problems")
    return 1 if narrow else 0


if __name__ == "__main__":
    sys.exit(main())
