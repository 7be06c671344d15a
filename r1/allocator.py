"""Memory that was freed is used again, rather than given back and asked for anew.

glibc gives every block above 32 MB back to the kernel when it is freed, and the end of its
heap too. Training and generation free and ask for the same gigabytes at each step; every
page of them is then cleared by the kernel again. That took half the time of a training
step of a 135M model on two cores (183 tokens a second against 335).
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from pathlib import Path

# malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -3, -4, -8
_TOP_PAD_BYTES = 64 * 2**20
_LARGE_BLOCK_BYTES, _MAX_LARGE_BLOCKS = 128 * 2**10, 2**16


def keep_freed_memory() -> bool:
    """Let the process keep what it frees; False where the C library is not glibc.

    One heap serves all threads (a thread's own is limited to 64 MB), grows in steps of
    64 MB and never shrinks: the process stays at its peak. Environment variables of
    malloc(3) that are set before the start are overruled.
    """
    return _set(
        {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: _TOP_PAD_BYTES, _M_ARENA_MAX: 1}
    )


def give_back_large_blocks() -> bool:
    """Let the kernel have each block of 128 KiB or more as soon as it is freed.

    As glibc does before it has seen larger ones freed. Memory is then what is alive, with no
    holes between: 0.24 of 0.43 GB of a micro-batch of a 135M model were holes. The kernel
    clears every block's pages: that model's step takes half as long again. False where the C
    library is not glibc.
    """
    return _set({_M_MMAP_THRESHOLD: _LARGE_BLOCK_BYTES, _M_MMAP_MAX: _MAX_LARGE_BLOCKS})


def _set(settings: Mapping[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(name, value) == 1 for name, value in settings.items()])


def give_back_freed_memory() -> None:
    """Let the kernel have every page that is free now, wherever in the heap it lies.

    What is asked for next the kernel clears again. Does nothing without glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int | None:
    """Memory that the process has now, in pages; None where the system does not tell."""
    statm = Path("/proc/self/statm")  # proc(5); its second number counts pages
    return int(statm.read_text().split()[1]) * mmap.PAGESIZE if statm.exists() else None
