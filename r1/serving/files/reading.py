"""What the limited process does: find out what a file is, read it, say so in JSON.

It runs without this package's other parts: see `limited_process`.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from r1.serving.files import readers
from r1.serving.files.text_encoding import NotText, decode_text

_BEFORE_PDF = 1024  # bytes that may stand before %PDF- (PDF 1.7, appendix H, note 13)
_OFFICE = {"word/document.xml": "docx", "xl/workbook.xml": "xlsx"}
# By their first bytes: what has no text, and what to do about it.
_NO_TEXT = (
    (b"\xd0\xcf\x11\xe0", "an old or a password-protected Office file; save it as .docx or .xlsx"),
    (b"\x89PNG", "an image; only text is read"),
    (b"\xff\xd8\xff", "an image; only text is read"),
    (b"GIF8", "an image; only text is read"),
    (b"{\\rtf", "an RTF file; save it as .docx"),
    (b"\x1f\x8b", "a compressed file; unpack it first"),
    (b"7z\xbc\xaf", "an archive; unpack it first"),
    (b"Rar!", "an archive; unpack it first"),
    (b"\x7fELF", "a program; only text is read"),
    (b"MZ", "a program; only text is read"),
)
_NO_CONTROLS = {
    code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked about a file; see `documents.read_data`."""

    name: str
    charset: str
    is_page: bool
    max_pages: int
    max_characters: int


def main() -> None:
    """Read the standard input as the argument says; write one line of JSON."""
    fields = json.loads(sys.argv[1])
    limit_process(*fields.pop("limits"))
    warnings.simplefilter("ignore")  # libraries' opinions of strange files
    reply = read_safely(sys.stdin.buffer.read(), Request(**fields))
    sys.stdout.write(json.dumps(reply))


def limit_process(memory_bytes: int, cpu_seconds: int) -> None:
    """The kernel's limits, for where the sandbox has not set them."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def read_safely(data: bytes, request: Request) -> dict[str, str]:
    """The text and its kind, or `error`: one line without the file's name."""
    try:
        return read(data, request)
    except (readers.Refused, NotText) as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "reading it takes more memory than a file may"}
    except RecursionError:
        return {"error": "is nested too deeply"}
    except Exception as error:  # whatever a library makes of a broken file
        return {"error": f"is broken ({one_line(error)})"}


def read(data: bytes, request: Request) -> dict[str, str]:
    """Read by what the file is, not by what its name says."""
    kind = kind_of(data, request)
    found: readers.Found | str
    if kind in _READERS:
        found = _READERS[kind](data, request)
    else:
        found = decode_text(data, request.charset)
    if isinstance(found, str):
        found = readers.Found(found)
    # Before it is tidied, which takes time: most of it can be empty lines, but not all of it.
    refuse_long(found.text, 4 * request.max_characters)
    text = tidy(found.text)
    refuse_long(text, request.max_characters)
    if not text:
        raise readers.Refused("has no text")
    return {"text": text, "kind": kind, "title": tidy(found.title), "date": found.date[:40]}


def refuse_long(text: str, max_characters: int) -> None:
    """Raises Refused for a text that has more."""
    if len(text) > max_characters:
        raise readers.Refused(
            f"has {len(text):,} characters of text; at most {max_characters:,} are read"
        )


def kind_of(data: bytes, request: Request) -> str:
    """text, csv, html, pdf, docx or xlsx. Raises Refused for what is known to have no text."""
    if b"%PDF-" in data[:_BEFORE_PDF]:
        return "pdf"
    for mark, what in _NO_TEXT:
        if data.startswith(mark):
            raise readers.Refused(f"is {what}")
    if data.startswith(b"PK\x03\x04") or data.startswith(b"PK\x05\x06"):
        names = readers.check_archive(data)
        for part, kind in _OFFICE.items():
            if part in names:
                return kind
        raise readers.Refused("is an archive; unpack it first (of Office: .docx and .xlsx)")
    suffix = request.name.rpartition(".")[2].lower()
    if suffix in ("html", "htm", "xhtml") or (request.is_page and b"<" in data[:_BEFORE_PDF]):
        return "html"
    return "csv" if suffix in ("csv", "tsv") else "text"


def is_plain(data: bytes, name: str) -> bool:
    """Whether it is UTF-8 text that needs no library: safe to read in any process."""
    request = Request(name, "", is_page=False, max_pages=0, max_characters=0)
    if data.startswith((b"PK", b"\xef\xbb\xbf")) or b"\x00" in data or b"\x1b" in data:
        return False
    try:
        data.decode("utf-8")
        return kind_of(data, request) in ("text", "csv")
    except (UnicodeDecodeError, readers.Refused):
        return False


def tidy(text: str) -> str:
    """Without controls, lone surrogates, spaces at the ends of lines and runs of empty lines."""
    text = text.encode("utf-8", errors="replace").decode("utf-8").translate(_NO_CONTROLS)
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def one_line(error: Exception) -> str:
    """What a library said, short."""
    words = " ".join(str(error).split())
    return words[:120] if words else type(error).__name__


def _read_html(data: bytes, request: Request) -> readers.Found:
    text = decode_text(data, request.charset or readers.charset_in_html(data))
    return readers.read_page(text) if request.is_page else readers.Found(readers.html_text(text))


_READERS: Mapping[str, Callable[[bytes, Request], Any]] = {
    "pdf": lambda data, request: readers.read_pdf(data, request.max_pages),
    "docx": lambda data, _: readers.read_docx(data),
    "xlsx": lambda data, request: readers.read_xlsx(data, request.max_characters),
    "html": _read_html,
}
