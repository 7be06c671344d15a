"""The header of a GGUF file: its metadata, and where its tensors lie.

Read here and not with `gguf.GGUFReader`, which makes an array of every string (5 s for
49,152 tokens against 0.1 s) and follows whatever counts a damaged file claims. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_DIMENSIONS = 4
_MAX_NAME_LENGTH = 120
# llama.cpp's `llama_split_path`: the parts of a model, from 1 on.
_PART_NAME = re.compile(r"(.+)-0\d{4}-of-(0\d{4})\.gguf")

# Far above any model's, and low enough that what a file claims is refused at once.
_MAX_FIELDS = 10_000
_MAX_TENSORS = 100_000
_MAX_VALUES = 4_000_000

# GGUF's value types by number, as struct codes; 8 is a string and 9 an array.
_SCALARS = ("B", "b", "H", "h", "I", "i", "f", "?", "", "", "Q", "q", "d")
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Where a tensor lies: `kind` is its GGML type's number, `offset` its first byte.

    `shape` is numpy's, the row length last (GGUF writes it first).
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says before its tensors' data."""

    metadata: dict[str, Any]
    tensors: tuple[GgufTensor, ...]


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header of `path`; ValueError, in one line, when it is no sound GGUF file."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            return _HeaderReader(file, path.stat().st_size).read()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable GGUF file ({error})") from None


def gguf_parts(path: Path, header: GgufHeader) -> list[Path]:
    """All parts of a split file whose first is `path`, in their order, or the file itself.

    ValueError for a part that is not there, for one whose name does not say which it is,
    and for another than the first, which alone describes the model.
    """
    count = header.metadata.get("split.count", 0)
    if not isinstance(count, int) or count <= 1:
        return [path]
    parts = [path.with_name(name) for name in part_names(path.name)]
    if len(parts) != count:
        raise ValueError(
            f"{path}: one of {count} parts, but not named NAME-00001-of-{count:05d}.gguf"
        )
    if path != parts[0]:
        raise ValueError(f"{path}: one of {count} parts; name the first, {parts[0].name}")
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        rest = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"{path}: missing part {missing[0]}{rest}")
    return parts


def part_names(name: str) -> list[str]:
    """The names of all parts of the file that one named so is a part of; else itself alone."""
    named = _PART_NAME.fullmatch(name)
    if named is None:
        return [name]
    count = max(int(named[2]), 1)
    return [f"{named[1]}-{number:05d}-of-{named[2]}.gguf" for number in range(1, count + 1)]


def find_gguf(folder: Path) -> Path | None:
    """The one GGUF file of a folder, or the first part of its one split file; None if neither.

    ValueError where it holds several.
    """
    found = sorted(path.name for path in folder.glob("*.gguf"))
    models = {part_names(name)[0] for name in found}
    if len(models) > 1:
        raise ValueError(f"{folder}: holds {len(found)} .gguf files; name one of them")
    return folder / models.pop() if models else None


class _HeaderReader:
    """Takes values from a file of `size` bytes and never more than it has."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = self._size = size
        self._num_values = 0

    def read(self) -> GgufHeader:
        magic, version = self._take(4), self._number("<I")
        if magic != _MAGIC or version not in _VERSIONS:
            raise ValueError(f"it begins with {magic!r}, version {version}, not GGUF 2 or 3")
        num_tensors, num_fields = self._number("<Q"), self._number("<Q")
        _check_count("tensors", num_tensors, _MAX_TENSORS)
        _check_count("metadata fields", num_fields, _MAX_FIELDS)
        metadata: dict[str, Any] = {}
        for _ in range(num_fields):
            name = self._string()
            if name in metadata:
                raise ValueError(f"metadata {name!r} is there twice")
            metadata[name] = self._value(self._number("<I"))
        described = [self._tensor() for _ in range(num_tensors)]
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise ValueError(f"general.alignment is {alignment!r}")
        start = -(-(self._size - self._left) // alignment) * alignment
        tensors = {
            name: GgufTensor(name, kind, shape, start + offset)
            for name, kind, shape, offset in described
        }
        if len(tensors) != num_tensors:
            raise ValueError("two tensors have one name")
        return GgufHeader(metadata, tuple(tensors.values()))

    def _tensor(self) -> tuple[str, int, tuple[int, ...], int]:
        name = self._string()
        if not name.isprintable() or len(name) > _MAX_NAME_LENGTH:
            raise ValueError(f"a tensor is named {name!r:.{_MAX_NAME_LENGTH}}")
        num_dimensions = self._number("<I")
        if num_dimensions > _MAX_DIMENSIONS:
            raise ValueError(f"tensor {name!r} has {num_dimensions} dimensions")
        shape = tuple(self._number("<Q") for _ in range(num_dimensions))
        return name, self._number("<I"), shape[::-1], self._number("<Q")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            element, length = self._number("<I"), self._number("<Q")
            self._num_values += length
            _check_count("metadata values", self._num_values, _MAX_VALUES)
            if element == _ARRAY:
                raise ValueError("an array of arrays in the metadata")
            if element == _STRING:
                return [self._string() for _ in range(length)]
            return list(self._scalars(element, length))
        return self._scalars(kind, 1)[0]

    def _scalars(self, kind: int, length: int) -> tuple[Any, ...]:
        if kind >= len(_SCALARS):
            raise ValueError(f"unknown value type {kind}")
        layout = f"<{length}{_SCALARS[kind]}"
        return struct.unpack(layout, self._take(struct.calcsize(layout)))

    def _string(self) -> str:
        return self._take(self._number("<Q")).decode("utf-8")

    def _number(self, layout: str) -> int:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _take(self, size: int) -> bytes:
        if size > self._left:
            raise ValueError("the file ends in the middle of its header")
        self._left -= size
        return self._file.read(size)


def _check_count(what: str, count: int, most: int) -> None:
    if count > most:
        raise ValueError(f"it claims {count:,} {what}; {most:,} at most are read")
