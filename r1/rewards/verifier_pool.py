"""Worker processes that may hang or die: asked over pipes, killed and started anew.

Requests and replies are JSON lines, so nothing is pickled and a worker is any
command. A worker is started when it is first needed, by subprocess and not by fork,
which is safe beside threads and CUDA. The limit of a request is CPU time, which the
worker measures, so that a busy machine turns no verdict into a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_STARTUP_SECONDS = 120.0
# Wall-clock time for a request, in limits: for a worker that waits, or a machine that crawls.
_WALL_CLOCK_FACTOR = 10.0


class WorkerFailure(Exception):
    """A worker hung, died or would not start; the text says which."""


class WorkerPool:
    """Up to `num_workers` processes of `command`, each asked by one thread at a time.

    The command writes a first JSON line when it is ready, and then one for each JSON
    line it reads (`worker_process.serve`), within `timeout_seconds` of CPU time; ten times as long
    on the clock it is killed. Thread-safe: as many threads as there are workers run at once,
    the others wait. `close`, or the end of this process, kills the workers.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        num_workers: int,
        timeout_seconds: float,
        num_attempts: int = 3,
    ) -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers must be 1 or more, not {num_workers}")
        if num_attempts < 1:
            raise ValueError(f"num_attempts must be 1 or more, not {num_attempts}")
        if timeout_seconds <= 0:
            raise ValueError(f"timeout_seconds must be above 0, not {timeout_seconds}")
        self._workers = [_Worker(command) for _ in range(num_workers)]
        # The last one used is taken first: a single thread starts a single worker.
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self.num_workers = num_workers
        self.timeout_seconds = timeout_seconds
        self.num_attempts = num_attempts
        self._finalizer = weakref.finalize(self, _kill_all, self._workers)

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and return its reply.

        A request that kills its worker or its time is sent again to a new one, up to
        `num_attempts` times in all: a death by chance changes no verdict.

        Raises:
            WorkerFailure: when every attempt failed, with the reason of the last.
        """
        for attempt in range(1, self.num_attempts + 1):
            try:
                return self._ask_once(request)
            except WorkerFailure:
                if attempt == self.num_attempts or not self._finalizer.alive:
                    raise
        raise AssertionError("num_attempts is 1 or more")

    def _ask_once(self, request: Mapping[str, Any]) -> dict[str, Any]:
        worker = self._idle.get()
        try:
            if not self._finalizer.alive:
                raise WorkerFailure("the verifier is closed")
            return worker.ask(request, self.timeout_seconds)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """Kill the workers; later requests fail."""
        self._finalizer()


class _Worker:
    """One process; started, and after a failure started again, when it is asked."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: Mapping[str, Any], timeout_seconds: float) -> dict[str, Any]:
        process = self._running_process()
        line = json.dumps(request) + "\n"
        try:
            return self._exchange(process, line, timeout_seconds * _WALL_CLOCK_FACTOR)
        except WorkerFailure:
            if process.returncode == -signal.SIGPROF:
                message = f"timeout after {timeout_seconds:g} s of CPU time"
                raise WorkerFailure(message) from None
            raise

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # an unsent request has nowhere to go
                    pipe.close()

    def _running_process(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.kill()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=_worker_environment(),
        )
        self._exchange(self._process, "", _STARTUP_SECONDS)
        return self._process

    def _exchange(
        self, process: subprocess.Popen[str], line: str, timeout_seconds: float
    ) -> dict[str, Any]:
        """Write a line, read a line; the timer's kill ends the reading when it takes too long."""
        assert process.stdin is not None and process.stdout is not None
        is_late = threading.Event()

        def kill_late() -> None:
            is_late.set()
            process.kill()

        timer = threading.Timer(timeout_seconds, kill_late)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(line)
            process.stdin.flush()
            reply = process.stdout.readline()
        except (OSError, ValueError):  # the pipe broke, or was closed by another thread
            reply = ""
        finally:
            timer.cancel()
        if reply and not is_late.is_set():
            return json.loads(reply)
        self.kill()
        if is_late.is_set():
            raise WorkerFailure(f"timeout after {timeout_seconds:g} s")
        raise WorkerFailure(f"the worker died (exit status {process.returncode})")


def _kill_all(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.kill()


def _worker_environment() -> dict[str, str]:
    """Ours, with this package importable and one thread for each process."""
    package_root = str(Path(__file__).resolve().parents[2])
    paths = [package_root, os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
    }


def python_module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this interpreter."""
    return [sys.executable, "-m", module, *arguments]
