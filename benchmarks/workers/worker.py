"""What every contestant's process shares: JSON lines in and out, time, peak memory, steps.

Standard library only, because it runs in each peer's own environment. A request is
{"operation": name, **arguments}; the reply is what the operation returns and `seconds`
(wall clock) and `peak_bytes` (of memory while it ran), or `error`.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Operation = Callable[..., Mapping[str, Any]]


def serve(operations: Mapping[str, Operation]) -> None:
    """Answer requests until the input ends. What libraries print goes to stderr."""
    # A frozen process would outlive a killed parent: PR_SET_PDEATHSIG of prctl(2).
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        operation = operations.get(request.pop("operation"))
        try:
            if operation is None:
                raise ValueError("this contestant cannot do that")
            reply = run_measured(operation, request)
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        print(json.dumps(reply), file=replies, flush=True)


def run_measured(operation: Operation, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The operation's reply with its seconds and the peak of memory while it ran."""
    reset_peak()
    started = time.perf_counter()
    result = dict(operation(**arguments))
    synchronize()
    return {"seconds": time.perf_counter() - started, "peak_bytes": peak_bytes(), **result}


def synchronize() -> None:
    """Wait for the GPU, where one is at work."""
    if is_on_gpu():
        sys.modules["torch"].cuda.synchronize()


def is_on_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()


def reset_peak() -> None:
    """Start the peaks anew: the GPU's, and the resident set's (Linux, proc(5))."""
    if is_on_gpu():
        sys.modules["torch"].cuda.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The GPU's peak where one is at work, or else the process's resident memory's."""
    if is_on_gpu():
        return sys.modules["torch"].cuda.max_memory_allocated()
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


class SteppedRun:
    """A whole training run in a thread, let go on one step at a time.

    `train` gets a function to call where a step begins; there it waits for its turn.
    """

    def __init__(self, train: Callable[[Callable[[], None]], object]) -> None:
        self._turns: queue.Queue[None] = queue.Queue()
        self._reports: queue.Queue[BaseException | None] = queue.Queue()
        threading.Thread(target=self._run, args=(train,), daemon=True).start()
        self._wait()

    def step(self) -> None:
        """From the beginning of a step to that of the next."""
        self._turns.put(None)
        self._wait()

    def _begin_step(self) -> None:
        self._reports.put(None)
        self._turns.get()

    def _run(self, train: Callable[[Callable[[], None]], object]) -> None:
        try:
            train(self._begin_step)
            self._reports.put(RuntimeError("the run is over"))
        except BaseException as error:
            traceback.print_exc()
            self._reports.put(error)

    def _wait(self) -> None:
        report = self._reports.get()
        if report is not None:
            raise RuntimeError(f"{type(report).__name__}: {report}")
