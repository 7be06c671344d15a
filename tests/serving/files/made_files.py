"""Files made for the tests: small honest ones, and those that harm or are broken."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence

import openpyxl
import pypdf

_CONTENT_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"

LAUGHS = "<!DOCTYPE x [<!ENTITY a0 'ha'>" + "".join(
    f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 12)
)
OUTSIDE = "<!DOCTYPE x [<!ENTITY secret SYSTEM 'file:///etc/passwd'>]>"


def pdf(objects: Mapping[int, bytes]) -> bytes:
    """A PDF file of these objects; number 1 is the catalogue."""
    out = bytearray(b"%PDF-1.7\n")
    offsets = {}
    for number, body in objects.items():
        offsets[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    size = max(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % size
    for number in range(1, size):
        out += b"%010d 00000 n \n" % offsets.get(number, 0)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (size, start)
    return bytes(out)


def stream(body: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(body), entries, body)


def pdf_of(
    pages: Sequence[str],
    content: bytes | None = None,
    resources: bytes = b"",
    extra: Mapping[int, bytes] | None = None,
) -> bytes:
    """Pages with a line of text each, or all with one content stream; more objects in `extra`."""
    objects = {1: b"<< /Type /Catalog /Pages 2 0 R >>"}
    kids = b" ".join(b"%d 0 R" % (4 + 2 * i) for i in range(len(pages)))
    objects[2] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages))
    objects[3] = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    for i, text in enumerate(pages):
        objects[4 + 2 * i] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> %s >> >>" % (5 + 2 * i, resources)
        )
        line = b"BT /F1 12 Tf 72 720 Td (%s) Tj ET" % text.encode("latin-1") if text else b""
        objects[5 + 2 * i] = content or stream(line)
    return pdf({**objects, **(extra or {})})


def encrypted_pdf(password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf_of(["secret words"])))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def archive(parts: Mapping[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return out.getvalue()


def docx(body: str, before: str = "", extra: Mapping[str, bytes | str] | None = None) -> bytes:
    """A Word file: `body` is XML inside w:body, `before` stands before the root element."""
    types = (
        f'<Types xmlns="{_CONTENT_TYPES}"><Default Extension="xml" ContentType="application/xml"/>'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>'
    )
    relations = (
        f'<Relationships xmlns="{_RELATIONSHIPS}"><Relationship Id="rId1" '
        f'Type="{_OFFICE}/officeDocument" Target="word/document.xml"/></Relationships>'
    )
    document = (
        f'<?xml version="1.0"?>{before}<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body>'
        "</w:document>"
    )
    parts = {"[Content_Types].xml": types, "_rels/.rels": relations}
    return archive({**parts, "word/document.xml": document, **(extra or {})})


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def xlsx(rows: Sequence[Sequence[object]]) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Prices"
    for row in rows:
        sheet.append(list(row))
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def changed(data: bytes, name: str, change: Callable[[str], str]) -> bytes:
    """An archive with one part rewritten."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts: dict[str, bytes | str] = {part: file.read(part) for part in file.namelist()}
    content = parts[name]
    assert isinstance(content, bytes)
    parts[name] = change(content.decode("utf-8"))
    return archive(parts)


def sheet_xml(rows: str, dimension: str = "A1") -> bytes:
    """A workbook whose sheet is this XML."""
    xml = (
        f'<?xml version="1.0"?><worksheet xmlns="{_SHEET}"><dimension ref="{dimension}"/>'
        f"<sheetData>{rows}</sheetData></worksheet>"
    )
    return changed(xlsx([["x"]]), "xl/worksheets/sheet1.xml", lambda _: xml)


def lying_archive(num_bytes: int) -> bytes:
    """A Word file whose directory says another size of its text than is true."""
    data = docx(paragraph("ha" * 500_000))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        part = file.getinfo("word/document.xml")
    return data.replace(struct.pack("<L", part.file_size), struct.pack("<L", num_bytes))


def flagged_archive() -> bytes:
    """A Word file whose parts are said to be encrypted."""
    data = bytearray(docx(paragraph("x")))
    place = -1
    while (place := data.find(b"PK\x01\x02", place + 1)) >= 0:
        data[place + 8] |= 1
    return bytes(data)


def bomb(num_layers: int) -> bytes:
    """A page whose content unpacks, layer by layer, to a gigabyte of zeros."""
    packer = zlib.compressobj(9)
    zeros = bytes(1 << 20)
    head = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block stands for itself, and can be repeated.
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    body = head + block * 1023 + b"\x03\x00" + struct.pack(">HH", (1 << 30) % 65521, 1)
    for _ in range(num_layers - 1):
        body = zlib.compress(body, 9)
    filters = b"/Filter [%s]" % (b"/FlateDecode " * num_layers)
    return pdf_of(["x"], stream(body, filters))


def self_containing_pages() -> bytes:
    return pdf(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R >>",
            2: b"<< /Type /Pages /Kids [2 0 R 3 0 R] /Count 2 /Parent 3 0 R >>",
            3: b"<< /Type /Pages /Kids [2 0 R] /Count 1 /Parent 2 0 R >>",
        }
    )


def self_drawing_form() -> bytes:
    """A page that draws a form that draws itself."""
    resources = b"/XObject << /X 6 0 R >>"
    entries = b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << %s >>" % resources
    form = stream(b"/X Do /X Do", entries)
    return pdf_of(["x"], stream(b"/X Do"), resources, {6: form})


def huge_image_page() -> bytes:
    """Text beside an image that says to have ten billion pixels."""
    image = stream(
        zlib.compress(bytes(1000)),
        b"/Type /XObject /Subtype /Image /Width 100000 /Height 100000 /BitsPerComponent 8 "
        b"/ColorSpace /DeviceRGB /Filter /FlateDecode",
    )
    content = stream(b"BT /F1 12 Tf 72 720 Td (beside it) Tj ET /I Do")
    return pdf_of(["x"], content, b"/XObject << /I 6 0 R >>", {6: image})
