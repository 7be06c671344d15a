"""The workers of an idle thread are gone, and come back with its next computation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import os, threading, torch
from r1.serving.api.worker_team import release_workers

def count():
    return len(os.listdir("/proc/self/task"))

def compute():
    return (torch.arange(400_000) * 1.5).sum().item()

def work():
    before, first, busy = count(), compute(), count()
    release_workers()
    release_workers()
    idle, second, again = count(), compute(), count()
    print(busy - before, idle - before, again - before, first == second)

compute()
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_released_workers_end_and_come_back() -> None:
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", _PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    num_busy, num_idle, num_again, is_same = done.stdout.split()
    assert int(num_busy) > 0
    assert (num_idle, num_again, is_same) == ("0", num_busy, "True")
