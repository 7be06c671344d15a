"""The workers that OpenMP keeps for a thread which computes, given back while it is idle."""

from __future__ import annotations

import ctypes

import torch

_SOFT_PAUSE = 1  # omp_pause_soft (OpenMP 5.0): settings stay, and the next region starts anew


def release_workers() -> None:
    """End the OpenMP workers of the calling thread; its next computation starts new ones.

    GNU's runtime has its threads wait in a loop only while there are no more of them than
    cores, and counts those of idle teams: beside one, a parallel region takes several times as
    long (libgomp: `gomp_managed_threads`, `gomp_throttled_spin_count_var`). Does nothing where
    torch has another runtime: there a pause would be for all threads.
    """
    runtime = ctypes.CDLL(torch._C.__file__)  # and what it was linked with
    if hasattr(runtime, "omp_pause_resource_all") and not hasattr(runtime, "kmp_set_blocktime"):
        runtime.omp_pause_resource_all(_SOFT_PAUSE)
