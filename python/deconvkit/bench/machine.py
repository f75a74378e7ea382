"""The machine under the figures: name, versions, ceilings, and the memory that a call takes."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

import deconvkit
from deconvkit import timing


def processor() -> str:
    """The processor's name as the kernel gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1].strip() if found else platform.processor() or platform.machine()


def name() -> str:
    """A short name for files: the processor without its decorations, and the processors we may use."""
    short = re.sub(r"\(\w+\)|@.*|\b(cpu|processor|\d+-core)\b", " ", processor().lower())
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return re.sub(r"[^a-z0-9]+", "-", short).strip("-") + f"-{cpus}cpu"


def commit() -> str:
    """The commit that is measured, "+" behind it where files differ from it; empty outside a repository."""
    here = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(("git", *arguments), cwd=here, capture_output=True, text=True, check=False)
        except OSError:
            return ""
        return done.stdout.strip()

    if not git("ls-files", "--", "bench/machine.py"):  # installed somewhere in another repository
        return ""
    top = git("rev-parse", "--show-toplevel")
    sources = (f"{top}/csrc", f"{top}/python", f"{top}/CMakeLists.txt")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *sources)
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def versions() -> str:
    """The versions that decide the figures."""
    parts = [f"deconvkit {deconvkit.__version__}", f"torch {torch.__version__}"]
    for package in ("onnxruntime",):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return "; ".join([*parts, " ".join(platform.libc_ver())])


class Ceilings(NamedTuple):
    """What torch reaches on this machine at its best."""

    gflops: float  # of a large matrix product
    copy_gbs: float  # read and written by a large copy

    def least_seconds(self, bytes: int, flops: int) -> float:
        """Time that the work takes at the ceiling that binds it."""
        return max(bytes / (1e9 * self.copy_gbs), flops / (1e9 * self.gflops))


def ceilings(dtype: torch.dtype, size: int = 2048, copied: int = 2**28, rounds: int = 7) -> Ceilings:
    """Measure them: a product of size×size matrices, and a copy of ``copied`` bytes; the 20th percentiles."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    source = torch.zeros(copied, dtype=torch.uint8)
    target = torch.zeros_like(source)
    seconds = timing.interleaved(
        {"mm": lambda: torch.mm(a, b), "copy": lambda: target.copy_(source)}, rounds=rounds
    )
    return Ceilings(2e-9 * size**3 / seconds["mm"].p20, 2e-9 * copied / seconds["copy"].p20)


def peak_memory(call: Callable[[], Any]) -> int | None:
    """Bytes by which the resident memory rises at most during a call; None where the kernel does not tell.

    What the process holds before the call, workspaces that were kept from earlier calls among it, does not
    count.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before = _status("VmRSS")
        call()
        return max(0, _status("VmHWM") - before)
    except (OSError, KeyError):
        return None


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(dict(line.split(":", 1) for line in lines)[key].split()[0])
