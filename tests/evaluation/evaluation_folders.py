"""Evaluation folders as `r1 evaluate` leaves them, without a model; and a reader of pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from r1.evaluation.table.benchmarks import find_benchmark
from r1.evaluation.table.row_result import RowFacts, write_row_result
from r1.records import Problem

VOID = {"meta", "br", "img", "input"}


def make_record(
    problem_id: str, sample_index: int, reward: float | None = 1.0, **fields: Any
) -> dict[str, Any]:
    """One record; the extracted answer tells right from wrong."""
    return {
        "problem_id": problem_id,
        "sample_index": sample_index,
        "question": f"What is {problem_id}?",
        "gold": "7",
        "language": "en",
        "text": "<think>2 + 5</think>\\boxed{7}",
        "thought": "2 + 5",
        "answer": "\\boxed{7}",
        "earlier": [],
        "num_tokens": 10,
        "finish_reason": "stop",
        "extracted": "7" if reward else "8",
        "reward": reward,
        "parts": {},
        "reason": "equal" if reward else "8 is not 7",
        "grader_version": "test-1",
        "grading_seconds": 0.0,
        "settings_hash": "0",
        "seconds": 1.0,
        **fields,
    }


def write_row(
    folder: Path,
    name: str,
    records: Sequence[dict[str, Any]],
    num_problems: int,
    model: str = "my-model",
    grader: str = "test-1",
) -> Path:
    """Records and result of a row; its folder."""
    row = folder / name
    row.mkdir(parents=True)
    lines = [json.dumps(record) + "\n" for record in records]
    (row / "records.jsonl").write_text("".join(lines), encoding="utf-8")
    num_samples = 1 + max(record["sample_index"] for record in records)
    problems = [Problem(str(number), "What?", "7") for number in range(num_problems)]
    facts = RowFacts(model, problems, num_samples, grader, settings={})
    write_row_result(row, find_benchmark(name), records, facts)
    return row


class PageChecker(HTMLParser):
    """Collects tags, attributes and text, and checks that elements close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
