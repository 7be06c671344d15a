"""Reading one file or web page to text: whatever it holds ends in a text or one clear line."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from r1.config import Config
from r1.serving.files.limited_process import ProcessLimits, ReadingStopped, read_in_child
from r1.serving.files.reading import Request, is_plain, read_safely

FILE_SUFFIXES = (
    *(".txt", ".md", ".pdf", ".docx", ".xlsx", ".csv", ".tsv", ".html", ".htm", ".json", ".jsonl"),
    *(".xml", ".yaml", ".yml", ".toml", ".ini", ".log", ".tex", ".rst", ".srt", ".sql", ".diff"),
    *(".py", ".ipynb", ".js", ".ts", ".tsx", ".jsx", ".css", ".c", ".h", ".cpp", ".hpp", ".cs"),
    *(".java", ".kt", ".go", ".rs", ".rb", ".php", ".swift", ".scala", ".r", ".jl", ".lua", ".sh"),
)
"""What a file picker should offer; text under any other name is read too."""

_MAX_NAME_CHARACTERS = 120


class DocumentError(ValueError):
    """A file that cannot be read: its name and why, in one line for the user."""


class DocumentLimits(Config):
    """What one file may hold, and what reading it may take; a file beyond is refused."""

    max_bytes: int = Field(default=20 * 2**20, ge=1)
    max_characters: int = Field(default=1_000_000, ge=1)
    max_pages: int = Field(default=500, ge=1)
    memory_bytes: int = Field(default=768 * 2**20, ge=2**27)
    cpu_seconds: int = Field(default=30, ge=1)
    wall_seconds: int = Field(default=60, ge=1)


@dataclass(frozen=True, slots=True)
class Document:
    """A file's text. `kind` is text, csv, html, pdf, docx or xlsx.

    `title` and `date` (ISO 8601, as the page says) are a web page's, else empty.
    """

    name: str
    text: str
    kind: str
    title: str = ""
    date: str = ""

    @property
    def num_characters(self) -> int:
        """The length of the text."""
        return len(self.text)


def read_document(path: Path, name: str, limits: DocumentLimits) -> Document:
    """The text of a file that its user calls `name`. Blocks; raises DocumentError."""
    name = clean_name(name)
    try:
        size = path.stat().st_size
        if size > limits.max_bytes:
            raise DocumentError(
                f"{name}: {size / 2**20:,.1f} MiB; at most {limits.max_bytes / 2**20:,.0f} MiB"
            )
        data = path.read_bytes()
    except OSError as error:
        raise DocumentError(f"{name}: cannot be opened ({error.strerror})") from None
    return read_data(data, name, limits)


def read_data(
    data: bytes, name: str, limits: DocumentLimits, *, charset: str = "", is_page: bool = False
) -> Document:
    """The text of a file's bytes; of a web page (`is_page`) the main part of it.

    `charset` is what a server said. Blocks; raises DocumentError.
    """
    name = clean_name(name)
    if not data:
        raise DocumentError(f"{name}: the file is empty")
    request: dict[str, Any] = {
        "name": name,
        "charset": charset,
        "is_page": is_page,
        "max_pages": limits.max_pages,
        "max_characters": limits.max_characters,
    }
    if not is_page and is_plain(data, name):
        return _document(name, read_safely(data, Request(**request)))
    bounds = ProcessLimits(
        limits.memory_bytes, limits.cpu_seconds, limits.wall_seconds, limits.max_characters
    )
    try:
        reply = read_in_child(data, request, bounds)
    except ReadingStopped as error:
        raise DocumentError(f"{name}: {error}") from None
    return _document(name, reply)


def _document(name: str, reply: Mapping[str, str]) -> Document:
    if "error" in reply:
        raise DocumentError(f"{name}: {reply['error']}")
    return Document(name, reply["text"], reply["kind"], reply["title"], reply["date"])


def clean_name(name: str) -> str:
    """The last part of a name, on one line, without what would mislead a reader or a path."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    # Cc, Cf, Cs, Co, Cn: controls, directions of writing, surrogates.
    visible = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in last)
    visible = " ".join(visible.split())
    if visible in ("", ".", ".."):
        return "file"
    if len(visible) > _MAX_NAME_CHARACTERS:
        suffix = visible.rpartition(".")[2]
        end = f".{suffix}" if len(suffix) <= 10 else ""
        return visible[: _MAX_NAME_CHARACTERS - len(end) - 1] + "…" + end
    return visible
