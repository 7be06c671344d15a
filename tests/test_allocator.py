from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import resource, torch
from r1.allocator import give_back_freed_memory, keep_freed_memory, resident_bytes
def faults():
    for _ in range(16): torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4): torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
plain = faults()
print(keep_freed_memory(), plain, faults())
held = [torch.ones(2**20) for _ in range(64)]
before = resident_bytes()
del held[::2]
kept = resident_bytes()
give_back_freed_memory()
print(before - kept, before - resident_bytes(), held[0].sum().item())
"""

_BOUNDED_SCRIPT = """
import torch
from r1.allocator import give_back_large_blocks, keep_freed_memory, resident_bytes
print(keep_freed_memory() and give_back_large_blocks())
held = [torch.ones(2**20) for _ in range(64)]
before = resident_bytes()
del held[::2]
print(before - resident_bytes())
"""


def run(script: str) -> list[str]:
    """What it prints, in a process of its own: the settings last as long as the process."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_memory_that_is_freed_is_not_asked_for_again():
    out = run(_SCRIPT)
    if out[0] == "False":  # another C library
        return
    assert int(out[2]) < 1000 < int(out[1]) / 10  # 4 x 16,384 pages, or none
    # Of 64 x 1,024 pages every other block is free, between two that are not.
    assert abs(int(out[3])) < 2**22 < 2**26 < int(out[4]) and float(out[5]) == 2**20


def test_under_a_bound_what_is_freed_goes_back_at_once():
    out = run(_BOUNDED_SCRIPT)
    assert out[0] == "False" or int(out[1]) > 2**26  # of the 2**27 that are freed
