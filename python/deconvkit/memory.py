"""How the process keeps its memory."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # glibc's malloc.h
_KEPT = 2**30


def keep_freed_memory() -> None:
    """Tell glibc to hand freed memory out again instead of returning it to the system.

    By default glibc maps every block above 32 MB anew and unmaps it when it is freed, so that each large
    output begins with thousands of page faults: filling a fresh tensor of 51 MB was measured at 18 ms, and a
    reused one at 1.2 ms. After this call blocks below 1 GiB come from the heap, and up to 1 GiB of free heap
    stays with the process, which therefore seems to use more memory than it has tensors.

    It holds for the whole process, for torch and NumPy too, until the process ends; a second call changes
    nothing. Call it early, before the large tensors are made. It is never called by deconvkit itself, but
    by ``deconvkit bench --memory reused``.

    Raises:
        RuntimeError: the C library is not glibc, or refuses.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        raise RuntimeError("keep_freed_memory: expected glibc as the C library, got another one")
    # Old versions refuse thresholds above 32 MB; there mapping is forbidden altogether.
    kept = libc.mallopt(_M_MMAP_THRESHOLD, _KEPT) or libc.mallopt(_M_MMAP_MAX, 0)
    if not (kept and libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)):
        raise RuntimeError("keep_freed_memory: glibc's mallopt refused the thresholds")
