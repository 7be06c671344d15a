"""The process in which files are read: in the project's sandbox, or under kernel limits alone.

The libraries that read PDF, Office files and HTML are large and were not written for
enemies. In a box they have no network, no files and no secrets; where no box can be had
(no Linux, or a container that forbids it) the process still has bounds of memory and time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from r1.rewards.sandbox.sandbox import Sandbox, SandboxFailure, SandboxLimits

_PACKAGE = Path(__file__).resolve().parents[2]
_MODULES = ("__init__", "reading", "readers", "text_encoding")
_FILES = ("__init__.py", "serving/__init__.py", *(f"serving/files/{m}.py" for m in _MODULES))
_ENTRY = "import sys; sys.path[:0] = {paths!r}; from r1.serving.files.reading import main; main()"
_PROBE = "import sys; sys.path[:0] = {paths!r}; import lxml.etree, pypdf, openpyxl, mammoth"
# Files of all users that are read at once: each may take a core, and its whole memory.
_PLACES = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))


class ReadingStopped(Exception):
    """The process was ended at a limit, or died; the message ends a line about a file."""


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What reading one file may take."""

    memory_bytes: int
    cpu_seconds: int
    wall_seconds: int
    max_characters: int


@dataclass(frozen=True, slots=True)
class _Ending:
    stdout: bytes
    is_success: bool
    is_timed_out: bool = False


def read_in_child(data: bytes, request: Mapping[str, Any], limits: ProcessLimits) -> dict[str, Any]:
    """What `reading.main` says about the data. Raises ReadingStopped."""
    arguments = [json.dumps({**request, "limits": [limits.memory_bytes, limits.cpu_seconds]})]
    run = _run_boxed if _has_box() else _run_bare
    with _PLACES:
        ending = run(data, arguments, limits)
    if ending.is_timed_out:
        raise ReadingStopped(f"reading it took more than {limits.cpu_seconds} s; it is refused")
    try:
        reply = json.loads(ending.stdout) if ending.is_success else None
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        megabytes = limits.memory_bytes >> 20
        raise ReadingStopped(f"is broken, or reading it takes more than {megabytes} MiB of memory")
    return reply


@cache
def _has_box() -> bool:
    """Whether a box works here and its user may read the libraries."""
    paths = _library_paths()
    try:
        with Sandbox(SandboxLimits(wall_seconds=60), readable=paths).open() as box:
            return box.run([box.python, "-I", "-S", "-c", _PROBE.format(paths=paths)]).is_success
    except (SandboxFailure, OSError):
        return False


def _run_boxed(data: bytes, arguments: list[str], limits: ProcessLimits) -> _Ending:
    bounds = SandboxLimits(
        wall_seconds=limits.wall_seconds,
        cpu_seconds=limits.cpu_seconds,
        memory_bytes=limits.memory_bytes,
        address_space_bytes=limits.memory_bytes,
        folder_bytes=2**24,
        # JSON of a character that is not ASCII: up to 12 bytes.
        output_bytes=12 * limits.max_characters + 2**16,
        num_processes=4,
    )
    paths = _library_paths()
    entry = _ENTRY.format(paths=[".", *paths])
    sources = {f"r1/{name}": (_PACKAGE / name).read_bytes() for name in _FILES}
    try:
        with Sandbox(bounds, readable=paths).open(sources) as box:
            command = [box.python, "-I", "-S", "-c", entry, *arguments]
            result = box.run(command, stdin=data)
    except SandboxFailure as error:
        raise ReadingStopped(f"could not be read here ({error})") from None
    return _Ending(result.stdout, result.is_success, result.status == "timed_out")


def _run_bare(data: bytes, arguments: list[str], limits: ProcessLimits) -> _Ending:
    entry = _ENTRY.format(paths=[str(_PACKAGE.parent), *_library_paths()])
    command = [sys.executable, "-I", "-S", "-c", entry, *arguments]
    with tempfile.TemporaryDirectory(prefix="r1-file-") as folder:
        try:
            result = subprocess.run(
                command,
                input=data,
                capture_output=True,
                cwd=folder,
                env={},
                timeout=limits.wall_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _Ending(b"", is_success=False, is_timed_out=True)
    # SIGXCPU: the kernel's limit of CPU time.
    return _Ending(result.stdout, result.returncode == 0, result.returncode == -24)


def _library_paths() -> list[str]:
    """The folders of installed packages, of this environment."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
