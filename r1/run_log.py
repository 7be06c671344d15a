"""The run folder: config as resolved, metrics, samples, state to resume from, checkpoint.

Everything that a run leaves is a file in an open format, and survives a SIGKILL at any
moment: logs are appended line by line, everything else is renamed into place.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import resource
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from r1.atomic_files import (
    RunError,
    atomic_folder,
    explain_write_errors,
    recover_folder,
    remove_leftovers,
    to_json,
    write_json,
    write_jsonl,
    write_text,
)
from r1.config import Config, save_config
from r1.progress import Progress, StepTimer

__all__ = [
    "JsonlLog",
    "Progress",
    "RunError",
    "RunFolder",
    "StepTimer",
    "atomic_folder",
    "explain_write_errors",
    "peak_rss_bytes",
    "recover_folder",
    "versions",
    "write_json",
    "write_jsonl",
    "write_text",
]


class JsonlLog:
    """An append-only file of JSON rows.

    A row is one write to the system, so a killed process loses at most the row it was
    writing; a torn last line is ignored on reading and dropped by the next append.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._descriptor: int | None = None

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row; raises RunError when the disk is full, leaving the file as it was."""
        line = (to_json(row) + "\n").encode("utf-8")
        with explain_write_errors(self.path):
            descriptor = self._open()
            end = os.lseek(descriptor, 0, os.SEEK_END)
            try:
                num_written = os.write(descriptor, line)
                while num_written < len(line):
                    num_written += os.write(descriptor, line[num_written:])
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, end)
                raise

    def rows(self) -> list[dict[str, Any]]:
        """Every complete row; raises RunError for a broken line that is not the last."""
        if not self.path.exists():
            return []
        return list(self._parse(self.path.read_bytes()))

    def truncate(
        self,
        keep: Callable[[dict[str, Any]], bool] | int | None = None,
        *,
        max_step: int | None = None,
    ) -> None:
        """Keep the rows that `keep` accepts, or those whose `step` is at most `max_step`."""
        max_step = keep if isinstance(keep, int) else max_step
        accept = keep if callable(keep) else lambda row: row["step"] <= max_step
        rows = self.rows()
        kept = [row for row in rows if accept(row)]
        if not self.path.exists():
            return
        self.close()
        write_text(self.path, "".join(to_json(row) + "\n" for row in kept))

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()

    def _open(self) -> int:
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._drop_torn_line()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._descriptor = os.open(self.path, flags, 0o666)
        return self._descriptor

    def _drop_torn_line(self) -> None:
        if self.path.is_file():
            content = self.path.read_bytes()
            if content and not content.endswith(b"\n"):
                os.truncate(self.path, content.rfind(b"\n") + 1)

    def _parse(self, content: bytes) -> Iterator[dict[str, Any]]:
        lines = content.split(b"\n")
        # What follows the last newline is empty, or a row that a kill cut short.
        for number, line in enumerate(lines[:-1], start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise RunError(f"{self.path}: line {number} is not JSON: {error}") from None


class RunFolder:
    """One run's folder, held by one process at a time.

    `metrics.jsonl`, `samples.jsonl`, `config.json`, `state/` to resume from and
    `checkpoint/`, the result.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.metrics = JsonlLog(path / "metrics.jsonl")
        self.samples = JsonlLog(path / "samples.jsonl")
        self.state_path = path / "state"
        self.checkpoint_path = path / "checkpoint"
        self._lock: int | None = lock
        _close_in_forked_children(self)

    @classmethod
    def open(cls, path: Path, *, config: Config | None = None) -> RunFolder:
        """Take the folder, making it; with `config`, say at once if it holds another config.

        Raises RunError when another process holds the folder, when it cannot be written,
        or when its config.json differs from `config` in more than `output`; a run that
        ended before its first result (a mistake in the config) leaves the folder free.
        """
        path = Path(path)
        with explain_write_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        folder = cls(path, _take_lock(path))
        try:
            remove_leftovers(path)
            recover_folder(folder.state_path)
            recover_folder(folder.checkpoint_path)
            if config is not None:
                _refuse_other_config(path, config)
                save_config(config, path / "config.json")
        except BaseException:
            folder.close()
            raise
        return folder

    def close(self) -> None:
        """Let the folder go."""
        self.metrics.close()
        self.samples.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _take_lock(path: Path) -> int:
    with explain_write_errors(path):
        lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with explain_write_errors(path):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise RunError(
            f"{path}: another run is using this folder (process {holder}); "
            "wait for it to end, or choose another output"
        ) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _close_in_forked_children(folder: RunFolder) -> None:
    """A forked worker that outlives a killed run must not go on holding its folder."""
    reference = weakref.ref(folder)

    def close_lock() -> None:
        held = reference()
        if held is not None:
            held.close()

    os.register_at_fork(after_in_child=close_lock)


def _refuse_other_config(path: Path, config: Config) -> None:
    saved_path = path / "config.json"
    if not saved_path.exists() or _is_unused(path):
        return
    try:
        saved = _flatten(json.loads(saved_path.read_text(encoding="utf-8")))
    except ValueError:
        raise RunError(f"{saved_path}: not valid JSON; choose another output") from None
    current = _flatten(config.model_dump(mode="json"))
    differing = [k for k in {**saved, **current} if saved.get(k) != current.get(k)]
    differing = [key for key in differing if key.partition(".")[0] != "output"]
    if differing:
        key = differing[0]
        others = f" (and {len(differing) - 1} more keys)" if len(differing) > 1 else ""
        raise RunError(
            f"{path}: holds a run with another config: {key} was {saved.get(key)!r}, is now "
            f"{current.get(key)!r}{others}; choose another output, or remove the folder"
        )


def _is_unused(path: Path) -> bool:
    """Whether a run has left nothing here but what it writes before its first step."""
    return {entry.name for entry in path.iterdir()} <= {".lock", "config.json", "data.json"}


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat = {}
    for key, item in value.items():
        flat.update(_flatten(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def peak_rss_bytes() -> int:
    """The most memory that this process has held at once (its workers not included)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on; a package that is not installed is left out."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    packages = ("r1", "torch", "numpy", "safetensors", "tokenizers", "math-verify", "reasoning-gym")
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
