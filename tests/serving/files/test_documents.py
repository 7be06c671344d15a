"""Reading files: encodings, formats, names, bounds; in a box and without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1.serving.files import limited_process
from r1.serving.files.documents import (
    DocumentError,
    DocumentLimits,
    clean_name,
    read_data,
    read_document,
)
from r1.serving.files.text_encoding import decode_text
from tests.serving.files import made_files as made

LIMITS = DocumentLimits()
SMALL = DocumentLimits(memory_bytes=2**28, cpu_seconds=2, wall_seconds=30)

CHINESE = "人工智能是计算机科学的一个分支，它企图了解智能的实质，并生产出一种新的智能机器。\n"
TAIWANESE = "人工智慧亦稱機器智慧，指由人製造出來的機器所表現出來的智慧。\n"
JAPANESE = "人工知能とは、計算という概念とコンピュータを用いて知能を研究する一分野である。\n"
KOREAN = "인공지능은 인간의 학습능력, 추론능력, 지각능력을 구현하려는 컴퓨터 과학의 분야이다.\n"
RUSSIAN = "Искусственный интеллект — свойство систем выполнять творческие функции.\n"
FRENCH = "L’intelligence artificielle est l’ensemble des théories mises en œuvre. Élève, façon.\n"
GERMAN = "Künstliche Intelligenz ist ein Teilgebiet der Informatik. Größe, Straße, schön.\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((CHINESE, name) for name in ("utf-8", "utf-8-sig", "utf-16", "gb18030", "gb2312")),
        *((JAPANESE, name) for name in ("cp932", "euc_jp", "iso2022_jp", "utf-16")),
        *((KOREAN, name) for name in ("cp949", "euc_kr", "utf-32")),
        *((RUSSIAN, name) for name in ("cp1251", "koi8_r")),
        *((GERMAN, name) for name in ("latin-1", "utf-16-le", "utf-16-be")),
        (TAIWANESE, "big5"),
        (FRENCH, "cp1252"),
    ],
    ids=lambda value: value if value.isascii() else "",
)
@pytest.mark.parametrize("num_lines", [1, 30])
def test_text_in_any_encoding(text: str, encoding: str, num_lines: int) -> None:
    data = (text * num_lines).encode(encoding, errors="replace")
    assert decode_text(data) == data.decode(encoding)


def test_text_and_code_as_they_are() -> None:
    code = "def f():\r\n\treturn '<b>'  \r\n\r\n\r\n\r\n# 你好\r\n"
    document = read_data(code.encode(), "code.py", LIMITS)
    assert document.text == "def f():\n\treturn '<b>'\n\n# 你好"
    assert (document.kind, document.num_characters) == ("text", len(document.text))
    assert read_data(b"a,b\n1,2\n", "t.csv", LIMITS).kind == "csv"


def test_a_server_may_say_the_encoding() -> None:
    data = "Größe".encode("iso-8859-1")
    page = read_data(data, "page", LIMITS, charset="iso-8859-1", is_page=True)
    assert page.text == "Größe"
    assert read_data("é".encode(), "p", LIMITS, charset="no-such").text == "é"


def test_pdf_by_pages() -> None:
    document = read_data(made.pdf_of(["first page", "second page"]), "a", LIMITS)
    assert document.kind == "pdf"
    assert document.text == "first page\n\nsecond page"


def test_word_with_tables_and_changes() -> None:
    body = (
        '<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Title</w:t></w:r></w:p>'
        + made.paragraph("One &lt; two")
        + '<w:p><w:ins w:id="1"><w:r><w:t>added</w:t></w:r></w:ins>'
        '<w:del w:id="2"><w:r><w:delText>removed</w:delText></w:r></w:del></w:p>'
        f"<w:tbl><w:tr><w:tc>{made.paragraph('a')}</w:tc><w:tc>{made.paragraph('b')}</w:tc>"
        f"</w:tr></w:tbl><w:sdt><w:sdtContent>{made.paragraph('in a form')}</w:sdtContent></w:sdt>"
    )
    document = read_data(made.docx(body), "a.docx", LIMITS)
    assert document.kind == "docx"
    words = document.text.split()
    assert words == ["#", "Title", "One", "<", "two", "added", "a", "b", "in", "a", "form"]


def test_workbook_as_csv() -> None:
    rows = [["item", "price, €", None], [], ["tea", 2.5, True, None]]
    document = read_data(made.xlsx(rows), "a.xlsx", LIMITS)
    assert (document.kind, document.text) == (
        "xlsx",
        '## Prices\n\nitem,"price, €"\ntea,2.5,True',
    )


HTML = b"""<!DOCTYPE html><html><head><title>The &amp; page</title><script>bad()</script>
<meta property="article:published_time" content="2025-03-24T08:00:00Z"></head>
<body><nav><a href="/">Home</a> <a href="/x">Other</a></nav><article><h2>News</h2>
<p>""" + b"One <b>two</b> three, and so it goes on. " * 12 + b"""</p><pre>a
  b</pre><table><tr><td>1</td><td>2</td></tr></table></article>
<footer>Imprint and cookies</footer></body></html>"""  # fmt: skip


def test_html_whole_as_a_file_and_its_main_part_as_a_page() -> None:
    file = read_data(HTML, "a.html", LIMITS)
    assert file.kind == "html" and file.text.startswith("Home Other\n\n## News\n\nOne two three,")
    assert "a\n  b\n" in file.text and "1\t2" in file.text and file.text.endswith("cookies")
    page = read_data(HTML, "page", LIMITS, is_page=True)
    assert (page.title, page.date) == ("The & page", "2025-03-24T08:00:00Z")
    assert "One two three, and" in page.text
    for part in ("Home", "cookies", "bad()"):
        assert part not in page.text


def test_deep_html_is_read_to_its_end() -> None:
    inner = b"<div>" * 1000 + b"the bottom" + b"</div>" * 1000
    data = b"<body>start " + inner + b" end"
    assert read_data(data, "a.html", LIMITS).text == "start\n\nthe bottom\n\nend"
    words = b"<p>" + b"One two three, and so it goes on. " * 12 + b"</p>"
    data = b"<html><body><article>" + words + inner + words + b"last</article>"
    page = read_data(data, "page", LIMITS, is_page=True)
    assert page.text.endswith("last")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a b.txt", "a b.txt"),
        ("a\n\x00\x1b[2J\u202etxt.exe", "a [2J txt.exe"),
        ("..", "file"),
        ("\u200b/", "file"),
        ("x" * 300 + ".pdf", "x" * 115 + "….pdf"),
        ("报告 final.docx", "报告 final.docx"),
    ],
)
def test_names_are_shown_without_tricks(name: str, shown: str) -> None:
    assert clean_name(name) == shown


def test_files_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(b"hello")
    assert read_document(path, "a.txt", LIMITS).name == "a.txt"
    with pytest.raises(DocumentError, match=r"^a\.txt: 5\.0 MiB; at most 1 MiB$"):
        path.write_bytes(b"x" * 5 * 2**20)
        read_document(path, "a.txt", DocumentLimits(max_bytes=2**20))
    with pytest.raises(DocumentError, match=r"^a\.txt: cannot be opened"):
        read_document(tmp_path / "gone", "a.txt", LIMITS)
    with pytest.raises(DocumentError, match=r"^a\.txt: cannot be opened"):
        read_document(tmp_path, "a.txt", LIMITS)


@pytest.fixture
def without_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_process, "_has_box", lambda: False)


@pytest.mark.usefixtures("without_box")
def test_without_a_sandbox_the_kernel_s_limits_hold() -> None:
    assert read_data(made.pdf_of(["words"]), "a.pdf", LIMITS).text == "words"
    with pytest.raises(DocumentError, match=r"a\.pdf: .*(takes more|is broken|has no text)"):
        read_data(made.bomb(1), "a.pdf", SMALL)
    rows = "<row><c><v>1</v></c></row>" * 600_000
    with pytest.raises(DocumentError, match=r"a\.xlsx: reading it took more than 2 s"):
        read_data(made.sheet_xml(rows), "a.xlsx", SMALL)


def test_a_child_that_says_nonsense_is_a_broken_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for output in (b"", b"[]", b"{", b'{"text": 1}x'):
        ending = limited_process._Ending(output, is_success=True)
        monkeypatch.setattr(limited_process, "_run_boxed", lambda *_, e=ending: e)
        monkeypatch.setattr(limited_process, "_run_bare", lambda *_, e=ending: e)
        with pytest.raises(DocumentError, match=r"a\.pdf: is broken, or reading it takes"):
            read_data(b"%PDF-", "a.pdf", LIMITS)
