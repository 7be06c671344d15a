from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from r1.long_lived import untouched_zeros


def resident_bytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_zeros_take_memory_when_they_are_written() -> None:
    before = resident_bytes()
    zeros = untouched_zeros((64, 2**20), torch.bfloat16)
    assert zeros.shape == (64, 2**20)
    assert resident_bytes() - before < 2**22
    zeros[:32] = 1
    assert 2**26 <= resident_bytes() - before < 2**26 + 2**22
    assert zeros.sum(dtype=torch.float32) == 2**25
    kept = zeros[31]
    del zeros
    assert kept.min() == 1
    del kept
    assert resident_bytes() - before < 2**22


@pytest.mark.parametrize("shape", [(0, 3), (), (5,), (4096, 1)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    zeros = untouched_zeros(shape, torch.float32)
    assert zeros.shape == shape
    assert not zeros.any()


def test_more_than_there_can_be() -> None:
    with pytest.raises(RuntimeError, match="no memory for a tensor of 140,737,488,355,328 bytes"):
        untouched_zeros((2**45,), torch.float32)
