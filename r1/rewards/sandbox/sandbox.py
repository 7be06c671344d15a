"""Running programs that nobody has read: in a box without network, secrets or a way out.

    with Sandbox(SandboxLimits(wall_seconds=6)).open({"main.cpp": source}) as box:
        box.run(["g++", "-O2", "main.cpp"])
        result = box.run(["./a.out"], stdin=b"3 4")

A box is one supervisor (`supervisor`) behind the strongest walls that work here:

- `namespaces`: its own network, processes, IPC and files. Of the machine's files a program
  sees the system's and Python's, read-only; it writes to a memory file system of bounded
  size. As root it runs as a user that exists nowhere else, otherwise in a user namespace.
- `bubblewrap`: the same view, built by `bwrap`, where only that may make namespaces for users
  other than root.
- `dropped-user`: root only, for containers that refuse namespaces. A user of its own, which
  may open the system's files alone (`landlock`; on kernels before 5.13 whatever
  everybody may read), sees the list of processes, and is kept from the disk by looking.

Always: no capabilities, no new privileges, a system call filter (`seccomp`), resource
limits, limits on the memory, time and number of all its processes together, an empty
environment, and nothing left behind. A level is used after a self-test in this process has
shown that it holds; where none does, nothing runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Literal

from r1.rewards.sandbox.launch import Isolation, Launch, kill_user, plan_launch

RunStatus = Literal[
    "exited",
    "signalled",
    "timed_out",
    "out_of_memory",
    "too_much_output",
    "too_many_processes",
    "disk_full",
]

_MIB = 1 << 20
# The supervisor ends a program at its limit; one that does not answer soon after is broken.
_GRACE_SECONDS = 15.0
_SETUP_SECONDS = 60.0


class SandboxFailure(Exception):
    """The sandbox itself failed or cannot be had here: no verdict on any program."""


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one program, with all processes it starts, may use.

    `address_space_bytes` is the kernel's limit for each process (None for runtimes that
    reserve much more than they use: Java, Go, Node); `memory_bytes` holds for all of them
    together. `folder_bytes` bounds all that is written in a box.
    """

    wall_seconds: float = 20.0
    cpu_seconds: float = 10.0
    memory_bytes: int = 1024 * _MIB
    address_space_bytes: int | None = 4096 * _MIB
    stack_bytes: int = 64 * _MIB
    file_bytes: int = 64 * _MIB
    folder_bytes: int = 256 * _MIB
    output_bytes: int = 8 * _MIB
    num_processes: int = 64
    num_open_files: int = 256

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}")


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """How one program ended, and what it wrote (cut at the output limit).

    `exit_code` is None where a signal ended it: its own (`signalled`), or the sandbox's at
    a limit, which `status` then names.
    """

    status: RunStatus
    exit_code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    wall_seconds: float
    cpu_seconds: float
    max_memory_bytes: int
    isolation: Isolation

    @property
    def is_success(self) -> bool:
        """It ended by itself with exit code 0."""
        return self.status == "exited" and self.exit_code == 0


class Sandbox:
    """Opens boxes, at most `num_parallel` at a time (one for each core by default).

    `readable` paths are shown in the box, read-only. `isolation` asks for one level instead
    of the strongest that works. Thread-safe; starts nothing before it is used.
    """

    def __init__(
        self,
        limits: SandboxLimits | None = None,
        *,
        isolation: Isolation | None = None,
        readable: Sequence[str] = (),
        num_parallel: int | None = None,
    ) -> None:
        self.limits = limits or SandboxLimits()
        self._readable = tuple(os.path.realpath(path) for path in readable)
        self._isolation: Isolation | None = isolation
        self._places = threading.BoundedSemaphore(num_parallel or os.cpu_count() or 1)

    @property
    def isolation(self) -> Isolation:
        """The level that its boxes have. Raises SandboxFailure where none works."""
        from r1.rewards.sandbox.self_check import strongest_isolation, verify_isolation

        if self._isolation is None:
            return strongest_isolation()
        verify_isolation(self._isolation)
        return self._isolation

    @contextlib.contextmanager
    def open(self, files: Mapping[str, bytes] | None = None) -> Iterator[Box]:
        """A fresh box whose folder holds `files`, named by relative paths.

        Programs run in it share the folder and nothing else. Raises SandboxFailure when it
        cannot be set up.
        """
        isolation = self.isolation
        with self._places, Box(isolation, self.limits, files or {}, self._readable) as box:
            yield box

    def run(
        self,
        command: Sequence[str],
        *,
        files: Mapping[str, bytes] | None = None,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> SandboxResult:
        """Run one command in a fresh box. Raises SandboxFailure; see `Box.run`."""
        with self.open(files) as box:
            return box.run(command, stdin=stdin, environment=environment)


class Box:
    """One sandbox that is set up; made by `Sandbox.open`, used by one thread."""

    def __init__(
        self,
        isolation: Isolation,
        limits: SandboxLimits,
        files: Mapping[str, bytes],
        readable: Sequence[str] = (),
    ) -> None:
        self.isolation: Isolation = isolation
        self.limits = limits
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"{name!r} is not a path inside the box")
        self._launch: Launch = plan_launch(isolation, limits.folder_bytes, readable)
        is_bare = isolation == "dropped-user"
        self._folder = tempfile.mkdtemp(prefix="r1-box-") if is_bare else None
        self._process = subprocess.Popen(
            self._launch.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="ascii",
            env={},
            cwd="/",
            start_new_session=True,
        )
        setup = {
            "level": isolation,
            "user_id": self._launch.user_id,
            "readable": self._launch.readable,
            "hidden": self._launch.hidden,
            "folder_bytes": limits.folder_bytes,
            "folder": self._folder,
            "files": {name: content.decode("latin-1") for name, content in files.items()},
        }
        try:
            self._ask(setup, _SETUP_SECONDS)
        except SandboxFailure:
            self.close()
            raise

    @property
    def python(self) -> str:
        """The Python interpreter that programs of this box can run."""
        return self._launch.python

    def __enter__(self) -> Box:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        limits: SandboxLimits | None = None,
    ) -> SandboxResult:
        """Run one program in the box's folder, and end all that it started.

        `environment` is added to a small fixed one; a command that does not exist exits
        with 127, as in a shell. Raises SandboxFailure when the sandbox fails.
        """
        limits = replace(limits or self.limits, folder_bytes=self.limits.folder_bytes)
        request = {
            "command": list(command),
            "stdin": stdin.decode("latin-1"),
            "environment": {**self._launch.environment, **(environment or {})},
            "limits": asdict(limits),
        }
        reply = self._ask(request, limits.wall_seconds + _GRACE_SECONDS)
        texts = {name: reply.pop(name).encode("latin-1") for name in ("stdout", "stderr")}
        return SandboxResult(**reply, **texts, isolation=self.isolation)

    def close(self) -> None:
        """End the box, with whatever runs in it. Safe to call twice."""
        process = self._process
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):  # an unsent request has nowhere to go
                    pipe.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._folder is not None:
            if process.returncode != 0 and self._launch.user_id is not None:
                kill_user(self._launch.user_id)
            shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self, request: Mapping[str, Any], timeout_seconds: float) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(timeout_seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except (OSError, ValueError):  # the pipe broke: it died
            line = ""
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            raise SandboxFailure(self._last_words())
        reply = json.loads(line)
        if "error" in reply:
            raise SandboxFailure(f"{self.isolation}: {reply['error']}")
        return reply

    def _last_words(self) -> str:
        process = self._process
        process.kill()
        process.wait()
        assert process.stderr is not None
        lines = process.stderr.read().strip().splitlines() or [f"status {process.returncode}"]
        return f"{self.isolation}: the supervisor died: {lines[-1]}"
