from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1.evaluation.record_file import read_records
from r1.evaluation.table.responses import grade_responses, match_responses
from r1.records import Problem
from r1.run_log import JsonlLog, write_jsonl
from r1.tasks.task import TaskError
from tests.evaluation.scripted import NumberTask

PROBLEMS = [
    Problem("one", "What is 1 + 0, if all is well today?", "1"),
    Problem("two", "What is 1 + 1,\n if all is well today?", "2"),
]
LARGER = [Problem("three", "What is 1 + 2?", "3")]


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "replies.jsonl"


@pytest.mark.parametrize(
    "row",
    [
        {"id": "two"},
        {"unique_id": "two"},
        {"prompt": "What is  1 + 1, if all is well today? "},
        {"question": PROBLEMS[1].question},
        {"problem": PROBLEMS[1].question},
        {"query": PROBLEMS[1].question + "\nBe brief."},
        {"prompt": f"<|User|>Now: {PROBLEMS[1].question} Think first.<|Assistant|>"},
    ],
)
@pytest.mark.parametrize("field", ["response", "responses", "output", "completion", "code"])
def test_a_question_is_named_by_id_or_by_its_text(
    file: Path, row: dict[str, str], field: str
) -> None:
    key = next(iter(row))
    text = " ".join(row[key].split()) if "User" in row[key] else row[key]
    matched = match_responses(
        write(file, {key: text, field: ["2", "3"]}), PROBLEMS, list, "Be brief."
    )
    assert matched.replies == {"two": ["2", "3"]}
    assert (matched.num_samples, matched.unmatched) == (2, [])


def test_rows_of_one_question_add_up(file: Path) -> None:
    rows = [{"id": "one", "response": "1"}, {"id": "one", "response": "2"}]
    matched = match_responses(write(file, *rows), PROBLEMS)
    records = grade_responses(NumberTask(), matched, "replies")
    assert [(r["sample_index"], r["reward"]) for r in records] == [(0, 1.0), (1, 0.0)]


def test_a_reply_without_tags_is_an_answer_as_a_whole(file: Path) -> None:
    matched = match_responses(write(file, {"id": "one", "response": "1"}), PROBLEMS)
    record = grade_responses(NumberTask(), matched, "replies")[0]
    assert (record["thought"], record["answer"], record["num_tokens"]) == (None, "1", None)


def test_questions_from_elsewhere(file: Path) -> None:
    path = write(
        file,
        {"prompt": "What is 1 + 2?", "response": "3"},
        {"prompt": "What is 2 + 2?", "response": "4", "gt": 4},
        {"prompt": "What is love?", "response": "?"},
    )
    matched = match_responses(path, PROBLEMS, lambda: LARGER)
    assert (matched.num_elsewhere, matched.num_own) == (1, 1)
    assert matched.unmatched == ["'What is love?'"]
    assert [p.answer for p in matched.problems.values()] == ["3", "4"]
    assert matched.notes[-1] == "1 rows match no question and are left out: 'What is love?'"


def test_nothing_that_matches_shows_both_sides(file: Path) -> None:
    path = write(file, {"prompt": "What is love?", "response": "?"})
    with pytest.raises(
        TaskError, match=r"none of its 1 rows matches.*love.*'one': 'What is 1 \+ 0"
    ):
        match_responses(path, PROBLEMS)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"response": "1"}, "replies.jsonl:1: names no question; expected one of id, prompt"),
        ({"id": "one"}, "replies.jsonl:1: no reply: expected text or a list of texts in one of"),
        ({"id": "one", "response": []}, "no reply"),
        ({"id": "one", "response": [1]}, "no reply"),
    ],
)
def test_a_broken_row_is_named(file: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        match_responses(write(file, row), PROBLEMS)


def test_the_scores_of_a_file_are_kept_where_they_fit(file: Path) -> None:
    rows = [
        {"id": "one", "response": ["1", "2"], "score": [True, False]},
        {"id": "two", "response": ["1", "2"], "score": [True]},
    ]
    matched = match_responses(write(file, *rows), PROBLEMS)
    assert matched.file_scores == {"one": [1.0, 0.0]}


def test_a_larger_set_is_read_when_it_is_needed(file: Path) -> None:
    def larger() -> list[Problem]:
        raise AssertionError("read without need")

    rows = [{"id": "one", "response": "1"}, {"prompt": "My own?", "gold": "2", "response": "2"}]
    assert match_responses(write(file, *rows), PROBLEMS, larger).num_own == 1


def test_odd_characters_reach_the_records_as_they_are(file: Path, tmp_path: Path) -> None:
    replies = ["\ud800", "a\x00b", "\u202e1"]
    matched = match_responses(write(file, {"id": "one", "response": replies}), PROBLEMS)
    records = grade_responses(NumberTask(), matched, "replies")
    write_jsonl(tmp_path / "records.jsonl", records)
    again = read_records(tmp_path / "records.jsonl")
    assert [record["text"] for record in again.values()] == replies
    JsonlLog(tmp_path / "log.jsonl").append({"text": "\ud800"})
    assert (tmp_path / "log.jsonl").read_bytes() == b'{"text": "\\ud800"}\n'


def test_an_empty_file_is_said_to_be_empty(file: Path) -> None:
    with pytest.raises(TaskError, match="holds no rows"):
        match_responses(write(file), PROBLEMS)
