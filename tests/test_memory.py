"""keep_freed_memory, in processes of their own: what it sets cannot be taken back."""

import ctypes

import pytest

import deconvkit
from deconvkit import memory
from tests.test_package import output_of

COUNT_FAULTS = """
    import resource
    import torch
    import deconvkit

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(12 * 2**20)  # 48 MB: 12,288 pages of 4 KB
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    torch.set_num_threads(1)
    print(faults())
    deconvkit.keep_freed_memory()
    faults()
    print(faults())
    deconvkit.keep_freed_memory()
    print(faults())
"""


def test_large_outputs_stop_faulting() -> None:
    before, after, again = map(int, output_of(COUNT_FAULTS).split())
    assert after < before / 5
    assert again < before / 5


class Library:
    """A C library whose mallopt answers as told."""

    def __init__(self, answers: dict[int, int]) -> None:
        self.gnu_get_libc_version = None
        self.calls: list[tuple[int, int]] = []
        self.answers = answers

    def mallopt(self, option: int, value: int) -> int:
        self.calls.append((option, value))
        return self.answers.get(option, 1)


def test_another_c_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with pytest.raises(RuntimeError, match="keep_freed_memory: expected glibc"):
        deconvkit.keep_freed_memory()


def test_old_glibc_maps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = Library({memory._M_MMAP_THRESHOLD: 0})
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    deconvkit.keep_freed_memory()
    assert (memory._M_MMAP_MAX, 0) in libc.calls


def test_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library({memory._M_TRIM_THRESHOLD: 0}))
    with pytest.raises(RuntimeError, match="refused"):
        deconvkit.keep_freed_memory()
