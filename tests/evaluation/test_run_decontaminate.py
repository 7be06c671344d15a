from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from r1.evaluation.run_decontaminate import (
    Options,
    read_benchmark_texts,
    run_decontaminate,
    texts_in,
)
from r1.tasks.task import TaskError

TEN = "one two three four five six seven eight nine ten"
CLEAN = {"prompt": "Say eleven", "completion": "eleven"}
DIRTY = {"messages": [{"role": "user", "content": f"Count: {TEN.upper()}!"}], "id": 7}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    rows = [{"id": "q1", "question": f"{TEN}?", "answer": "eleven"}, {"question": "2 + 3?"}]
    return write_rows(tmp_path / "bench.jsonl", rows)


def run(data: Path | list[Path], benchmark: Path, **options: Any) -> tuple[list[Any], list[str]]:
    lines: list[str] = []
    paths = data if isinstance(data, list) else [data]
    return run_decontaminate(paths, [str(benchmark)], Options(**options), lines.append), lines


def test_removed_rows_are_listed_and_kept_ones_are_the_same_bytes(
    tmp_path: Path, benchmark: Path
) -> None:
    data = write_rows(tmp_path / "sft.jsonl", [CLEAN, DIRTY, {"text": "2 + 3 ?"}])
    odd = '{"text":  "kept \\u00e9 as it is" }'
    data.write_text(data.read_text() + f"\n{odd}")
    (report,), lines = run(data, benchmark)
    kept = (tmp_path / "sft.clean.jsonl").read_text().splitlines()
    assert kept == [json.dumps(CLEAN), odd]
    removed = rows_of(tmp_path / "sft.removed.jsonl")
    assert removed[0] == {
        "location": f"{data}:2",
        "overlaps": [{"benchmark": "bench.jsonl", "question_id": "q1", "ngram": TEN}],
        "row": DIRTY,
    }
    assert removed[1]["overlaps"][0]["question_id"] == "2"
    assert (report.num_rows, report.num_removed) == (4, 2)
    assert lines[0] == "against bench.jsonl: 2 questions"
    assert f"{data}: 4 rows, 2 removed (bench.jsonl 2); " in lines[1]


def test_a_dry_run_lists_and_writes_nothing(tmp_path: Path, benchmark: Path) -> None:
    data = write_rows(tmp_path / "sft.jsonl", [CLEAN, DIRTY])
    before = sorted(tmp_path.iterdir())
    _, lines = run(data, benchmark, is_dry_run=True)
    assert lines[1] == f"{data}:2: bench.jsonl q1: {TEN}"
    assert sorted(tmp_path.iterdir()) == before


def test_other_kinds_of_file_and_a_folder_for_the_results(tmp_path: Path, benchmark: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(f"prompt,completion\nSay eleven,eleven\nCount,{TEN}\n")
    packed = tmp_path / "more.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(CLEAN).encode()))
    reports, _ = run([table, packed], benchmark, output=tmp_path / "out")
    assert [report.num_removed for report in reports] == [1, 0]
    assert rows_of(tmp_path / "out" / "rows.clean.jsonl") == [CLEAN]
    assert rows_of(tmp_path / "out" / "more.clean.jsonl") == [CLEAN]


def test_only_the_fields_that_are_asked_for(tmp_path: Path, benchmark: Path) -> None:
    data = write_rows(tmp_path / "sft.jsonl", [{"prompt": "Count", "note": f"{TEN}, then"}])
    assert run(data, benchmark, fields=("prompt",))[0][0].num_removed == 0
    assert run(data, benchmark, fields=("note",))[0][0].num_removed == 1
    assert run(data, benchmark, num_words=11)[0][0].num_removed == 0


def test_texts_in_a_row_at_any_depth() -> None:
    row = {"a": "x", "b": [{"c": "y", "d": 3}, None], "e": {"f": ["z"]}}
    assert texts_in(row) == ["x", "y", "z"]
    assert texts_in(row, ("e",)) == ["z"]


def test_a_benchmark_by_name(shared_dir: Path) -> None:
    path = shared_dir / "data" / "math500" / "math500_test.jsonl"
    texts = read_benchmark_texts(f"math500={path}")
    assert len({text.question_id for text in texts}) == 500
    assert {text.benchmark for text in texts} == {"math500"}


@pytest.mark.parametrize(
    ("data", "against", "message"),
    [
        ("a.jsonl", [], "--against: name at least one"),
        ("a.jsonl", ["nonsense"], "unknown task 'nonsense'"),
        ("a.txt", ["b.jsonl"], "a.txt: unknown kind of file"),
        ("missing.jsonl", ["b.jsonl"], "missing.jsonl: no such file"),
        ("torn.jsonl", ["b.jsonl"], "torn.jsonl:2: not valid JSON"),
        ("list.jsonl", ["b.jsonl"], "list.jsonl:1: expected an object, got list"),
        ("a.jsonl", ["empty.jsonl"], "--against empty.jsonl: no test questions"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: str,
    against: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.jsonl", "a.txt"):
        write_rows(Path(name), [DIRTY])
    Path("torn.jsonl").write_text('{"a": "b"}\n{"a": ')
    Path("list.jsonl").write_text("[]\n")
    Path("empty.jsonl").write_text("")
    with pytest.raises(TaskError) as error:
        run_decontaminate([Path(data)], against, Options(), lambda line: None)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*clean*"))
    assert not list(tmp_path.glob(".*"))


def test_two_files_for_one_place_are_refused(tmp_path: Path, benchmark: Path) -> None:
    paths = [write_rows(tmp_path / name, [CLEAN]) for name in ("a.jsonl", "a.json")]
    with pytest.raises(TaskError, match=r"two data files would both be written to .*a.clean.jsonl"):
        run(paths, benchmark)
