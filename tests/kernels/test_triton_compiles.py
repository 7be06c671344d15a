"""What the interpreter accepts, the compiler has to accept too: for real GPUs, without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("triton_compiles.py")
# A program's on the smallest GPUs that the kernels are for (capability 8.6).
MAX_SHARED_BYTES = 99 * 1024


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        (80, "bf16"),
        pytest.param(80, "fp32", marks=pytest.mark.slow),
        pytest.param(80, "fp16", marks=pytest.mark.slow),
        pytest.param(90, "bf16", marks=pytest.mark.slow),
        pytest.param(100, "bf16", marks=pytest.mark.slow),
    ],
)
def test_kernels_compile(capability: int, dtype: str, tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="triton is not installed (pip install triton)")
    paths = {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(PROGRAM.parents[2])}
    result = subprocess.run(
        [sys.executable, str(PROGRAM), str(capability), dtype],
        env={**os.environ, "TRITON_INTERPRET": "0", **paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = dict(line.split() for line in result.stdout.splitlines())
    assert list(found) == ["decode", "prefill", "join", "store", "rotate", "gate"]
    assert max(map(int, found.values())) <= MAX_SHARED_BYTES
