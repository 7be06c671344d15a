from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from r1.long_lived import untouched_zeros

# In a process of its own: what other tests free and keep would be counted too.
_MEASURE = """
import json, re, torch
from r1.long_lived import untouched_zeros

def resident_bytes():
    return 1024 * int(re.search(r"VmRSS:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

found = [resident_bytes()]
zeros = untouched_zeros((64, 2**20), torch.bfloat16)
found.append(resident_bytes())
zeros[:32] = 1
found.append(resident_bytes())
kept = zeros[31]
del zeros
assert kept.min() == 1
del kept
found.append(resident_bytes())
print(json.dumps([size - found[0] for size in found[1:]]))
"""


def test_zeros_take_memory_when_they_are_written() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True
    )
    made, written, freed = json.loads(done.stdout)
    other = 2**24  # what torch loads with its first operations
    assert made < other
    assert 2**26 <= written < 2**26 + other
    assert freed < other


@pytest.mark.parametrize("shape", [(0, 3), (), (5,), (4096, 1)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    zeros = untouched_zeros(shape, torch.float32)
    assert zeros.shape == shape
    assert not zeros.any()


def test_more_than_there_can_be() -> None:
    with pytest.raises(RuntimeError, match="no memory for a tensor of 140,737,488,355,328 bytes"):
        untouched_zeros((2**45,), torch.float32)
