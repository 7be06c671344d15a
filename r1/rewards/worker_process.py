"""What a worker of a `WorkerPool` does: answer JSON lines, within bounds of memory and time.

A worker is a process because sympy can hang in C code, or eat the memory, on an expression of
ten characters.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_MEMORY_LIMIT_BYTES = 2 << 30


def serve(answer: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    """Answer requests until the standard input ends.

    The command's argument limits the CPU seconds of one answer.
    """
    timeout_seconds = float(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    # The protocol keeps the real standard output; a library's prints go to stderr.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        with cpu_time_limit(timeout_seconds):
            reply = answer(json.loads(line))
        print(json.dumps(reply), file=replies, flush=True)


@contextlib.contextmanager
def cpu_time_limit(seconds: float) -> Iterator[None]:
    """End this process when the block takes more CPU time than `seconds`.

    The kernel ends it (SIGPROF, setitimer(2)), so also in C code that never returns.
    """
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-6))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
