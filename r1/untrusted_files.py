"""Files that came from elsewhere, read within bounds: a model is often a stranger's folder.

Nothing is read that is no regular file, that is larger than its kind ever is, or that a
link takes out of its folder; what is wrong ends in a ValueError of one line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

# The largest index in use (DeepSeek-V3's, 91,991 tensors) has 9 MB.
MAX_JSON_BYTES = 50_000_000
MAX_TEXT_BYTES = 4_000_000


def check_file(path: Path, max_bytes: int | None = None) -> int:
    """The size of a regular file that lies where its name says; ValueError otherwise.

    A link may point within the folder, or into the blobs of the hub's own cache, which
    keeps every file of a snapshot that way.
    """
    if not path.is_file():
        problem = "not a regular file" if path.exists() else "no such file"
        raise ValueError(f"{path}: {problem}")
    if path.is_symlink():
        _check_link(path)
    size = path.stat().st_size
    if max_bytes is not None and size > max_bytes:
        raise ValueError(f"{path}: {size:,} bytes; such a file has {max_bytes:,} at most")
    return size


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a UTF-8 file; ValueError names what is wrong with it."""
    check_file(path, max_bytes)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable text ({error})") from None


def read_json_object(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The JSON object in a file; ValueError names what is wrong with it.

    NaN and infinities, which Python reads and JSON does not have, are refused.
    """
    text = read_text(path, max_bytes)
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{path}: not readable JSON (nested too deeply)") from None
    except ValueError as error:
        raise ValueError(f"{path}: not readable JSON ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return values


def _check_link(path: Path) -> None:
    try:
        target, folder = path.resolve(strict=True), path.parent.resolve()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: a link that leads nowhere ({error})") from None
    is_cached = folder.parent.name == "snapshots"
    blobs = folder.parent.parent / "blobs"
    if target.is_relative_to(folder) or (is_cached and target.is_relative_to(blobs.resolve())):
        return
    raise ValueError(f"{path}: a link out of the folder, to {target}; put the file itself there")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
