"""Processes that compete: started when needed, asked in JSON lines, frozen while others work."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measurement import ContestantError
from peers import HOW_TO_GET, ROOT, python_of

WORKERS = Path(__file__).resolve().parent / "workers"
# Contestant -> its script and its environment (None: ours). What follows a comma is how it is set.
SCRIPTS: dict[str, tuple[str, str | None]] = {
    "ours": ("ours.py", None),
    "ours exact": ("ours.py", None),
    "ours int4": ("ours.py", None),
    "transformers": ("transformers_peer.py", "trl"),
    "TRL": ("trl_peer.py", "trl"),
    "vLLM": ("vllm_peer.py", "vllm"),
    "llama.cpp": ("llamacpp_peer.py", "llamacpp"),
    "llama.cpp Q4_1": ("llamacpp_peer.py", "llamacpp"),
}
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    # Everything in one process, so that it can be frozen and its memory read.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


class Worker:
    """One contestant's process. Stopped by SIGSTOP whenever it is not asked anything."""

    def __init__(
        self, name: str, command: list[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.started = time.perf_counter()
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output,
                env={**os.environ, **environment}, start_new_session=True,
            )  # fmt: skip

    def ask(self, operation: str, timeout_seconds: float = 600, **arguments: Any) -> dict[str, Any]:
        """The reply. Raises ContestantError when it fails, dies or takes too long."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self._signal(signal.SIGCONT)
        request = json.dumps({"operation": operation, **arguments}) + "\n"
        try:
            self.process.stdin.write(request.encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise ContestantError(f"its process has ended; see {self.log}") from None
        if not select.select([self.process.stdout], [], [], timeout_seconds)[0]:
            self.close()
            raise ContestantError(f"{operation} took more than {timeout_seconds:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise ContestantError(f"its process ended during {operation}; see {self.log}")
        self._signal(signal.SIGSTOP)
        reply = json.loads(line)
        if "error" in reply:
            raise ContestantError(f"{operation}: {reply['error']}")
        return reply

    def close(self) -> None:
        """End the process."""
        self._signal(signal.SIGKILL)
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.process.communicate()  # waits, and closes the pipes

    def _signal(self, number: int) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)


@dataclass
class Arena:
    """The contestants of a run: which are there, which are open, and what went wrong."""

    where: Path
    num_threads: int
    device: str
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    open_seconds: dict[str, float] = field(default_factory=dict)
    _open: dict[tuple[str, str], Worker | None] = field(default_factory=dict)

    def enter(
        self, name: str, model: str, operation: str = "open", **options: Any
    ) -> Worker | None:
        """The contestant with this model open; None, and a note, when it is missing or fails."""
        key = (name, f"{operation} {model} {options}")
        if key in self._open:
            return self._open[key]
        script, environment = SCRIPTS[name.partition(",")[0]]
        if environment is None:
            python: Path | None = Path(sys.executable)
        else:
            python = python_of(self.where, environment)
        self._open[key] = None
        if python is None:
            self.notes.append(f"{name} is missing: {HOW_TO_GET.format(name=environment)}")
            return None
        threads = {"OMP_NUM_THREADS": str(self.num_threads)}
        if environment is None:
            threads["PYTHONPATH"] = str(ROOT)
        command = [str(python), str(WORKERS / script)]
        log = self.where / "logs" / f"{name}.log"
        worker = Worker(name, command, log, {**ENVIRONMENT, **threads})
        try:
            reply = worker.ask(operation, model=model, device=self.device, **options)
        except ContestantError as error:
            worker.close()
            self.notes.append(f"{name} could not start: {error}")
            return None
        self.versions[name] = reply["version"]
        self.open_seconds[f"{name}, {Path(model).name}"] = time.perf_counter() - worker.started
        self._open[key] = worker
        return worker

    def leave(self) -> None:
        """End every process; what failed is not tried again."""
        for worker in self._open.values():
            if worker is not None:
                worker.close()
        self._open = {key: None for key, worker in self._open.items() if worker is None}
