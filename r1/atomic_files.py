"""Files and folders that are there completely or not at all.

Everything is written beside its place, synced, and renamed into it, so that neither
a kill nor a full disk leaves half of it behind.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any


class RunError(ValueError):
    """What stops a run and the user can mend; its text is one line."""


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn a failure to write `path` into a RunError of one line: what, where, and what to do."""
    try:
        yield
    except RunError:
        raise
    except OSError as error:
        raise RunError(_write_failure(path, error)) from error
    except Exception as error:
        # safetensors reports the system's errors as its own exception, with the code as text.
        if f"os error {errno.ENOSPC}" in str(error):
            disk_full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise RunError(_write_failure(path, disk_full)) from error
        raise


def _write_failure(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: disk full; free some space and run the same command again to resume"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: not writable ({error.strerror}); choose another folder or its permissions"
    return f"{path}: cannot be written: {error.strerror or error}"


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically, making its folder; raises RunError."""
    path = Path(path)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.new-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_current_umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        _sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; paths, dataclasses and scalar arrays are converted."""
    write_text(path, to_json(value, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write rows as one JSONL file, atomically."""
    write_text(path, "".join(to_json(row) + "\n" for row in rows))


def to_json(value: Any, indent: int | None = None) -> str:
    """Standard JSON: NaN and infinities, which it does not have, become null.

    Lone surrogates, which UTF-8 does not have, are written as JSON's escapes.
    """
    try:
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, default=_jsonable, indent=indent
        )
    except ValueError:
        as_python = json.loads(json.dumps(value, default=_jsonable), parse_constant=lambda _: None)
        text = json.dumps(as_python, ensure_ascii=False, indent=indent)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _jsonable(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if callable(dump := getattr(value, "model_dump", None)):  # a config
        return dump(mode="json")
    if callable(item := getattr(value, "item", None)):  # a scalar of numpy or torch
        return item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a fresh folder to fill; it takes the place of `path` when the block succeeds.

    A folder already at `path` stays whole until then. A kill between the two renames
    leaves it aside, where `recover_folder` finds it. Raises RunError.
    """
    path = Path(path)
    with explain_write_errors(path):
        recover_folder(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.new-", dir=path.parent))
        try:
            os.chmod(temporary, 0o777 & ~_current_umask())
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():  # safetensors makes files that only their owner reads
                    os.chmod(file, 0o666 & ~_current_umask())
                _sync(file)
            _sync(temporary)
            if path.exists():
                os.rename(path, _aside(path))
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            recover_folder(path)
            raise
        shutil.rmtree(_aside(path), ignore_errors=True)
        _sync(path.parent)


def recover_folder(path: Path) -> None:
    """Put back the old folder when a kill came between the two renames of `atomic_folder`."""
    aside = _aside(Path(path))
    if not aside.exists():
        return
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.rename(aside, path)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left in `folder`; only while no other process writes there."""
    for leftover in folder.glob(".*.new-*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    path = Path(os.path.abspath(path))  # `.` has no name of its own
    return path.parent / f".{path.name}.old"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _current_umask() -> int:
    # The only portable way to read it is to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
