from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from r1.tasks.row_files import read_rows
from r1.tasks.task import TaskError

ROW = b'{"question": "1+1", "answer": "2"}'


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"question": "1+1，是？", "answer": "2"}, {"question": 'a "b",\nc', "answer": "3"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    csv = 'question,answer\n"1+1，是？",2\n"a ""b"",\nc",3\n'.encode()
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    files = [
        write(tmp_path / "a.jsonl", lines),
        write(tmp_path / "b.json", json.dumps(rows).encode()),
        write(tmp_path / "c.CSV", csv),
        tmp_path / "d.parquet",
        write(tmp_path / "e.jsonl.gz", gzip.compress(lines)),
        write(tmp_path / "f.ndjson", lines.rstrip(b"\n")),
    ]
    for file in files:
        assert [dict(row.data) for row in read_rows(file)] == rows, file


def test_bom_blank_lines_and_carriage_returns_are_passed_over(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf\n" + ROW + b"\r\n\r\n   \n" + ROW + b"\n\n"
    rows = read_rows(write(tmp_path / "a.jsonl", content))
    assert [row.location.rsplit(":", 1)[1] for row in rows] == ["2", "5"]
    csv = read_rows(write(tmp_path / "a.csv", b"\xef\xbb\xbfquestion,answer\r\n\r\n1+1,2\r\n"))
    assert [dict(row.data) for row in csv] == [{"question": "1+1", "answer": "2"}]
    assert csv[0].location.endswith("a.csv:3")


def test_a_line_separator_inside_a_string_does_not_end_the_line(tmp_path: Path) -> None:
    line = '{"question": "a\u2028b\u0085c", "answer": "2"}\n'.encode()
    rows = read_rows(write(tmp_path / "a.jsonl", line))
    assert rows[0].data["question"] == "a\u2028b\u0085c"


def test_a_named_kind_overrides_the_extension(tmp_path: Path) -> None:
    assert len(read_rows(write(tmp_path / "rows.txt", ROW), "jsonl")) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", ROW + b"\n" + ROW[:20], r"a\.jsonl:2: the last line is torn"),
        ("a.jsonl", b"{]\n" + ROW, r"a\.jsonl:1: not valid JSON"),
        ("a.jsonl", ROW + b"\n[1]\n", r"a\.jsonl:2: expected an object, got a list"),
        ("a.jsonl", ROW + b"\n3\n", r"a\.jsonl:2: expected an object, got the value 3"),
        ("a.jsonl", ROW + b'\n{"q": "\xff"}\n', r"a\.jsonl:2: not UTF-8 text \(byte 7\)"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), r"a\.jsonl:1: UTF-16 text; save .* UTF-8"),
        ("a.jsonl", b'{"a": ' + b"1" * 5000 + b"}", r"a\.jsonl:1: .*"),
        ("a.jsonl", b"[" * 200_000, r"a\.jsonl:1: .*"),
        ("a.json", b'[\n{"a": 1},\n{"b" 2}]', r"a\.json:3: not valid JSON: .*column 6"),
        ("a.json", b'{"a": 1}', r"a\.json: expected a list of objects, got an object"),
        ("a.json", b'[{"a": 1}, 5]', r"a\.json: item 2: expected an object"),
        ("a.json", b'[\n\n"\xff"]', r"a\.json:3: not UTF-8"),
        ("a.csv", b"q,a\n1,2\n1,2,3\n", r"a\.csv:3: 3 fields, expected 2 as in the header"),
        ("a.csv", b"q,a,q\n1,2,3\n", r"a\.csv:1: the header names q twice"),
        ("a.csv", b'q,a\n"torn,2\n', r"a\.csv:2: not valid CSV"),
        ("a.parquet", b"PAR1 no parquet", r"a\.parquet: not valid Parquet"),
        ("a.jsonl.gz", gzip.compress(ROW * 99, mtime=0)[:40], r"a\.jsonl\.gz: cannot be read"),
        ("a.xlsx", b"", r"a\.xlsx: unknown kind of file; expected \.jsonl, \.json, \.csv"),
        ("data", b"", r"data: unknown kind of file"),
    ],
)
def test_a_broken_file_is_one_line_with_its_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        read_rows(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_what_the_folder_holds(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROW)
    with pytest.raises(TaskError, match=r"trian\.jsonl: no such file; .* holds train\.jsonl$"):
        read_rows(tmp_path / "trian.jsonl")
    with pytest.raises(TaskError, match=r"no such folder"):
        read_rows(tmp_path / "no" / "such.jsonl")
    with pytest.raises(TaskError, match=r"a folder, not a file; it holds train\.jsonl$"):
        read_rows(tmp_path)


def test_json_lines_in_a_file_named_json(tmp_path: Path) -> None:
    path = tmp_path / "test_public.json"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert [row.data["a"] for row in read_rows(path)] == [1, 2]
