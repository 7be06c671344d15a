"""Rows of question-and-answer data from files: JSON Lines, JSON, CSV and Parquet.

Every row remembers where it came from, so that a mistake in it can be named by file
and line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1.tasks.task import TaskError

_BOMS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


@dataclass(frozen=True, slots=True)
class Row:
    """One record and the place it was read from, such as `data.jsonl:12`."""

    location: str
    data: Mapping[str, Any]

    def text(self, field: str) -> str:
        """A field that holds text or a number, as text. Raises TaskError for any other."""
        value = self.data.get(field)
        if not isinstance(value, str | int | float) or not str(value).strip():
            raise TaskError(f"{self.location}: {field} is {value!r}, not text")
        return str(value)


def read_rows(path: Path, kind: str | None = None) -> list[Row]:
    """All rows of a file, whose kind is `jsonl`, `json`, `csv` or `parquet`.

    Without `kind` the extension tells (`.gz` may follow it). Blank lines and a byte
    order mark are passed over.

    Raises:
        TaskError: for a missing file, an unknown extension, and anything in it that is
            not a record, with the line.
    """
    if path.is_dir():
        raise TaskError(f"{path}: a folder, not a file; it holds {_listing(path)}")
    if not path.exists():
        raise TaskError(f"{path}: no such file; {path.parent} holds {_listing(path.parent)}")
    kind = kind or file_kind(path)
    if kind is None:
        known = ", ".join(f".{name}" for name in READERS)
        raise TaskError(f"{path}: unknown kind of file; expected {known} (or the same with .gz)")
    try:
        return list(READERS[kind](path))
    except (OSError, EOFError, zlib.error) as error:
        raise TaskError(f"{path}: cannot be read: {error}") from None


def file_kind(path: Path) -> str | None:
    """The kind of file that the name tells, or None."""
    name = path.name.lower().removesuffix(".gz")
    suffix = name.rsplit(".", 1)[-1] if "." in name else ""
    return {"ndjson": "jsonl"}.get(suffix, suffix if suffix in READERS else None)


def _read_jsonl(path: Path) -> Iterator[Row]:
    content = _read_bytes(path)
    has_final_newline = content.endswith(b"\n")
    # Only \n ends a line: str.splitlines would also cut at U+2028 inside a string.
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        location = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            value = json.loads(_decode(line, location))
        except (ValueError, RecursionError) as error:
            if isinstance(error, TaskError):
                raise
            is_torn = number == len(lines) and not has_final_newline
            what = "the last line is torn" if is_torn else "not valid JSON"
            raise TaskError(f"{location}: {what}: {error}") from None
        yield _record(value, location)


def _read_json(path: Path) -> Iterator[Row]:
    text = _decode(_read_bytes(path), str(path))
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # data sets name JSON Lines .json too
            yield from _read_jsonl(path)
            return
        message = f"{path}:{error.lineno}: not valid JSON: {error.msg} (column {error.colno})"
        raise TaskError(message) from None
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(rows, list):
        raise TaskError(f"{path}: expected a list of objects, got {_json_type(rows)}")
    for number, value in enumerate(rows, start=1):
        yield _record(value, f"{path}: item {number}")


def _read_csv(path: Path) -> Iterator[Row]:
    text = _decode(_read_bytes(path), str(path))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    try:
        for values in reader:
            if not values:
                continue
            location = f"{path}:{reader.line_num}"
            if header is None:
                header = _csv_header(values, location)
            elif len(values) != len(header):
                wanted = f"{len(header)} as in the header"
                raise TaskError(f"{location}: {len(values)} fields, expected {wanted}")
            else:
                yield Row(location, dict(zip(header, values, strict=True)))
    except csv.Error as error:
        raise TaskError(f"{path}:{reader.line_num}: not valid CSV: {error}") from None


def _csv_header(names: list[str], location: str) -> list[str]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise TaskError(f"{location}: the header names {', '.join(repeated)} twice")
    return names


def _read_parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise TaskError(f"{path}: Parquet needs pyarrow: pip install 'r1[data]'") from None
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise TaskError(f"{path}: not valid Parquet: {_first_line(error)}") from None
    for number, value in enumerate(rows, start=1):
        yield Row(f"{path}: row {number}", value)


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "parquet": _read_parquet,
}


def _read_bytes(path: Path) -> bytes:
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            raise TaskError(f"{path}:1: {encoding} text; save the file as UTF-8")
    return content.removeprefix(b"\xef\xbb\xbf")


def _decode(content: bytes, location: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start)
        where = f"{location}:{line + 1}" if line else location
        raise TaskError(f"{where}: not UTF-8 text (byte {error.start})") from None


def _record(value: Any, location: str) -> Row:
    if not isinstance(value, dict):
        raise TaskError(f"{location}: expected an object, got {_json_type(value)}")
    return Row(location, value)


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return names.get(type(value), f"the value {value!r}")


def _listing(folder: Path, limit: int = 8) -> str:
    if not folder.is_dir():
        return "nothing (no such folder)"
    names = sorted(entry.name for entry in folder.iterdir())
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "nothing"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
