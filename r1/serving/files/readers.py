"""One function a format: bytes to text. They run in the limited process alone."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MAX_UNPACKED_BYTES = 512 * 2**20
MAX_PARTS = 5_000
MAX_ROWS = 2**20  # of Excel's sheets
_MIN_MAIN_CHARACTERS = 200
_BLOCK_NAMES = (
    "address article aside blockquote body br caption dd details div dl dt fieldset figcaption "
    "figure footer form h1 h2 h3 h4 h5 h6 header hr li main nav ol option p pre section summary "
    "table tr ul"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split(" "))
_UNSEEN_NAMES = "head iframe noscript object script style svg template textarea"
_UNSEEN = frozenset(_UNSEEN_NAMES.split(" "))
_DATES = (
    "//meta[@property='article:published_time']/@content",
    "//meta[@itemprop='datePublished' or @name='date' or @name='pubdate']/@content",
    "//*[@itemprop='datePublished']/@datetime",
    "//article//time/@datetime",
)


class Refused(ValueError):
    """Why a file is not read, for the user; the file's name goes before it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a reader found; title and date are a page's."""

    text: str
    title: str = ""
    date: str = ""


def read_pdf(data: bytes, max_pages: int) -> str:
    """The text of each page, an empty line between them."""
    import pypdf

    reader = pypdf.PdfReader(io.BytesIO(data), strict=False)
    if reader.is_encrypted and not _opens_without_password(reader):
        raise Refused("is encrypted; save it without a password")
    num_pages = len(reader.pages)
    if num_pages > max_pages:
        raise Refused(f"has {num_pages:,} pages; at most {max_pages:,}")
    pages = (page.extract_text() for page in reader.pages)
    text = "\n\n".join(page.strip() for page in pages)
    if not text.strip():
        what = "page seems" if num_pages == 1 else "pages seem"
        raise Refused(
            f"has no text: its {num_pages} {what} to be scanned; recognise it (OCR) first"
        )
    return text


def _opens_without_password(reader: Any) -> bool:
    """Many files are encrypted with an empty password, to forbid printing."""
    from pypdf.errors import DependencyError

    try:
        return bool(reader.decrypt(""))
    except (DependencyError, NotImplementedError):
        return False  # AES, which pypdf leaves to another library


def check_archive(data: bytes) -> set[str]:
    """The names in a zip file. Raises Refused for one that would unpack to far too much."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise Refused(f"is broken ({error})") from None
    unpacked = sum(part.file_size for part in parts)
    if len(parts) > MAX_PARTS or unpacked > MAX_UNPACKED_BYTES:
        raise Refused(f"unpacks to {unpacked >> 20:,} MiB in {len(parts):,} parts; it is refused")
    if any(part.flag_bits & 1 for part in parts):
        raise Refused("is encrypted; save it without a password")
    return {part.filename for part in parts}


def read_docx(data: bytes) -> str:
    """Headings, paragraphs, lists, tables, notes and text boxes; insertions, not deletions."""
    import mammoth

    # Without this every picture would come along, in base64.
    no_pictures = mammoth.images.img_element(lambda _: {})
    page = mammoth.convert_to_html(io.BytesIO(data), convert_image=no_pictures)
    return html_text(page.value) if page.value.strip() else ""


def read_xlsx(data: bytes, max_characters: int) -> str:
    """Each sheet as CSV under its name; of formulas the values that were saved."""
    import openpyxl

    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    lines: list[str] = []
    num_characters = 0
    for sheet in book.worksheets:
        lines.append(f"\n## {sheet.title}\n")
        sheet.reset_dimensions()  # what the file says of its size is not to be believed
        for number, row in enumerate(sheet.iter_rows(values_only=True)):
            if number >= MAX_ROWS:  # one that says to be the billionth brings all before it
                raise Refused(f"has a sheet of more than {MAX_ROWS:,} rows")
            line = _csv_line(row)
            num_characters += len(line)
            if num_characters > max_characters:
                raise Refused(f"has more than {max_characters:,} characters of text")
            if line:
                lines.append(line)
    return "\n".join(lines) if num_characters else ""


def _csv_line(values: Iterable[object]) -> str:
    """One row; empty cells at its end are left out."""
    cells = ["" if value is None else str(value) for value in values]
    while cells and not cells[-1]:
        cells.pop()
    if not cells:
        return ""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()


def charset_in_html(data: bytes) -> str:
    """What the page says of itself in its first kilobyte (HTML standard, 13.2.3.2)."""
    found = re.search(rb"charset\s*=\s*[\"']?\s*([A-Za-z0-9_-]{2,20})", data[:1024])
    return found[1].decode() if found else ""


def html_text(html: str) -> str:
    """All that a reader of the page could see, headings marked with #."""
    root = _parse(html)
    return "" if root is None else _visible_text(root)


def read_page(html: str) -> Found:
    """The main part of a web page, its title and date; all of it where no part stands out."""
    import readability
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - no stubs

    root = _parse(html)
    if root is None:
        return Found("")
    title, date = _title(root), _date(root)
    whole = _visible_text(root)
    try:
        main = html_text(readability.Document(root).summary(html_partial=True))
    except (readability.readability.Unparseable, etree.LxmlError):
        main = ""
    return Found(main if len(main) >= min(_MIN_MAIN_CHARACTERS, len(whole)) else whole, title, date)


def _parse(html: str) -> Any:
    from lxml import html as lxml_html

    # Huge: 2,048 elements deep instead of 256; unclosed tags of old pages reach those.
    parser = lxml_html.HTMLParser(
        encoding="utf-8", no_network=True, remove_comments=True, huge_tree=True
    )
    try:
        # Bytes: of a string with an XML declaration lxml wants none.
        root = lxml_html.document_fromstring(html.encode("utf-8", "replace"), parser=parser)
    except lxml_html.etree.ParserError:  # no element at all
        return None
    if parser.error_log.filter_from_fatals():  # the parser left off, and keeps what it had
        raise Refused("is nested too deeply")
    return root


def _title(root: Any) -> str:
    titles = root.xpath("//meta[@property='og:title']/@content | //title/text() | //h1//text()")
    return " ".join(str(titles[0]).split())[:300] if titles else ""


def _date(root: Any) -> str:
    for path in _DATES:
        for value in root.xpath(path):
            if re.match(r"\d{4}-\d\d-\d\d", str(value)):
                return str(value)
    return ""


def _visible_text(root: Any) -> str:
    """Text in the order of the page: lines by its blocks, tabs between the cells of a row."""
    from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - no stubs

    pieces: list[str] = []
    num_unseen = num_pre = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        is_start, tag = event == "start", element.tag
        if tag in _UNSEEN:
            num_unseen += 1 if is_start else -1
        num_pre += (tag == "pre") * (1 if is_start else -1)
        if tag in _BLOCKS:
            pieces.append("\n")
        if is_start and len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            pieces.append("\n" + "#" * int(tag[1]) + " ")
        if is_start and tag == "li":
            pieces.append("- ")
        if not is_start and tag in ("td", "th"):
            pieces.append("\t")
        text = element.text if is_start else element.tail
        if num_unseen or not text:
            continue
        if not num_pre:
            text = re.sub(r"\s+", " ", text)
            text = text.lstrip() if not pieces or pieces[-1].endswith("\n") else text
        pieces.append(text)
    return re.sub(r"\n{2,}", "\n\n", "".join(pieces)).strip()
