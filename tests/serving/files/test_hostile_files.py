"""Broken and hostile files: each ends in a text or in one clear line, within its bounds."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

import pytest

from r1.serving.files.documents import DocumentError, DocumentLimits, read_data
from tests.serving.files import made_files as made

LIMITS = DocumentLimits(
    max_bytes=2**23, max_characters=100_000, memory_bytes=2**28, cpu_seconds=3, wall_seconds=30
)
TOO_MUCH = "takes more|took more|is broken"

# Name, bytes, and what the line says; or, after "text:", what the text says.
CASES: tuple[tuple[str, Callable[[], bytes], str], ...] = (
    ("empty.txt", lambda: b"", "the file is empty"),
    ("spaces.txt", lambda: b" \n\t\r\n" * 100, "has no text"),
    ("many_spaces.txt", lambda: b" \t" * 199_000 + b"x", "text:x"),
    ("noise.txt", lambda: bytes(range(256)) * 40, "not a text file"),
    ("long.csv", lambda: b"1,2,3\n" * 50_000, "has 299,999 characters of text; at most 100,000"),
    ("long.html", lambda: b"<p>word " * 50_000, "has .* characters of text; at most 100,000"),
    ("escapes.log", lambda: b"\x1b[31mred\x1b[0m text", "text:red"),
    ("cut.txt", lambda: "你好世界".encode("utf-16")[:-1], "text:你好世"),
    ("surrogates.txt", lambda: b"\xff\xfe\x00\xd8\x00\xd8a\x00b\x00", "text:ab"),
    ("picture.pdf", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "is an image"),
    ("photo.txt", lambda: b"\xff\xd8\xff\xe0" + bytes(100), "is an image"),
    ("tool.py", lambda: b"\x7fELF" + bytes(100), "is a program"),
    ("note.docx", lambda: b"{\\rtf1 hello}", "an RTF file; save it as .docx"),
    ("old.doc", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "password-protected"),
    ("log.gz", lambda: b"\x1f\x8b\x08" + bytes(40), "a compressed file; unpack it first"),
    ("plain.pdf", lambda: b"%PDF-1.7\nnothing of a PDF", "is broken"),
    ("cut.pdf", lambda: made.pdf_of(["some words"])[:250], "is broken|has no text|text:some words"),
    ("secret.pdf", lambda: made.encrypted_pdf("password"), "is encrypted"),
    ("open.pdf", lambda: made.encrypted_pdf(""), "text:secret words"),
    ("scanned.pdf", lambda: made.pdf_of(["", ""]), r"its 2 pages seem to be scanned; .*OCR"),
    ("pages.pdf", lambda: made.pdf_of(["x"] * 10_000), "has 10,000 pages; at most 500"),
    ("no_pages.pdf", lambda: made.pdf({1: b"<< /Type /Catalog >>"}), "is broken|has no text"),
    ("circle.pdf", made.self_containing_pages, "is broken|too deeply|has no text"),
    ("form.pdf", made.self_drawing_form, "is broken|too deeply|has no text"),
    ("image.pdf", made.huge_image_page, "text:beside it"),
    ("bomb.pdf", lambda: made.bomb(1), f"{TOO_MUCH}|has no text"),
    ("bomb3.pdf", lambda: made.bomb(3), f"{TOO_MUCH}|has no text"),
    ("deep.pdf", lambda: made.pdf({1: b"[" * 200_000}), "is broken|too deeply"),
    ("bomb.docx", lambda: made.lying_archive(2**30), "unpacks to 1,024 MiB"),
    ("bomb2.docx", lambda: made.docx(made.paragraph("ha" * 15_000_000)), TOO_MUCH),
    ("liar.docx", lambda: made.lying_archive(10), "is broken"),
    ("locked.docx", made.flagged_archive, "is encrypted"),
    ("parts.docx", lambda: made.archive({str(i): "" for i in range(5_001)}), "5,001 parts"),
    ("laughs.docx", lambda: made.docx(made.paragraph("&a11;"), made.LAUGHS + "]>"), TOO_MUCH),
    ("outside.docx", lambda: made.docx(made.paragraph("&secret;"), made.OUTSIDE), "no text|broken"),
    ("deep.docx", lambda: made.docx("<w:sdt><w:sdtContent>" * 50_000), "is broken|too deeply"),
    (
        "nested.docx",
        lambda: made.docx(f"{'<w:smartTag>' * 20_000}x{'</w:smartTag>' * 20_000}"),
        f"too deeply|{TOO_MUCH}|no text",
    ),
    (
        "paths.docx",
        lambda: made.docx(made.paragraph("inside"), extra={"../../tmp/evil": "x", "/etc/x": "y"}),
        "text:inside",
    ),
    ("paths.zip", lambda: made.archive({"../../etc/passwd": "root"}), "is an archive"),
    ("cut.xlsx", lambda: made.xlsx([[1, 2]])[:-40], "is broken"),
    (
        "laughs.xlsx",
        lambda: made.changed(
            made.xlsx([["x"]]), "xl/workbook.xml", lambda xml: f"{made.LAUGHS}]>{xml}"
        ),
        f"{TOO_MUCH}|text:",
    ),
    (
        "wide.xlsx",
        lambda: made.sheet_xml('<row r="1"><c r="XFD1"><v>1</v></c></row>', "A1:XFD1048576"),
        "text:,1",
    ),
    (
        "wider.xlsx",
        lambda: made.sheet_xml('<row r="1"><c r="ZZZZZ1"><v>1</v></c></row>'),
        TOO_MUCH,
    ),
    (
        "tall.xlsx",
        lambda: made.sheet_xml('<row r="1048576"><c r="A1048576"><v>7</v></c></row>'),
        "text:7",
    ),
    (
        "endless.xlsx",
        lambda: made.sheet_xml('<row r="99999999999"><c r="A99999999999"><v>7</v></c></row>'),
        "has a sheet of more than 1,048,576 rows",
    ),
    ("deep.html", lambda: b"<div>" * 100_000 + b"bottom", "is nested too deeply"),
    ("attributes.html", lambda: b"<p " + b"a=b " * 500_000 + b">seen</p>", "text:seen|has no text"),
    ("laughs.html", lambda: f"{made.LAUGHS}]><p>seen &a11;</p>".encode(), "text:seen"),
    ("outside.html", lambda: f"{made.OUTSIDE}<p>seen &secret;</p>".encode(), "text:seen"),
    ("scripts.html", lambda: b"<script>alert(1)</script><style>p{}</style>", "has no text"),
    ("zeros.txt", lambda: bytes(4 << 20), "not a text file|has no text"),
)


@pytest.mark.parametrize(("name", "make", "expected"), CASES, ids=[case[0] for case in CASES])
def test_hostile_file(name: str, make: Callable[[], bytes], expected: str) -> None:
    data = make()
    assert len(data) <= LIMITS.max_bytes
    try:
        outcome = f"text:{read_data(data, name, LIMITS).text}"
    except DocumentError as error:
        outcome = str(error).removeprefix(f"{name}: ")
        assert str(error).startswith(f"{name}: ") and "\n" not in outcome and len(outcome) < 240
    assert "root:" not in outcome
    assert any(
        outcome.startswith("text:") and part.removeprefix("text:") in outcome
        if part.startswith("text:")
        else not outcome.startswith("text:") and re.search(part, outcome)
        for part in expected.split("|")
    ), outcome[:300]


def test_a_page_is_bounded_too() -> None:
    """What the fetcher brings goes through the same child, whatever its name and kind."""
    with pytest.raises(DocumentError, match="page: is an image"):
        read_data(b"\x89PNG\r\n" + zlib.compress(b"x"), "page", LIMITS, is_page=True)
    page = read_data(b"<html>" + b"<b>" * 100 + b"deep", "page", LIMITS, is_page=True)
    assert page.text == "deep"
