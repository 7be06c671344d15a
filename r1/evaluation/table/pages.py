"""Pages to read a row's questions: what was asked, what came, and how it was judged.

`questions/index.html` shows every question as a square that leads to it; the questions
with their samples stand on pages of at most 50, fewer where replies are long, so that a
browser opens each at once. Everything comes from the row's records and result.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1 import __version__
from r1.evaluation.html_pages import render_page
from r1.evaluation.record_file import Record, read_records
from r1.evaluation.result import group_by_question
from r1.evaluation.table.row_result import RECORDS_FILE, RESULT_FILE
from r1.run_log import write_text

FOLDER = "questions"
INDEX_PAGE = f"{FOLDER}/index.html"
QUESTIONS_PER_PAGE = 50
CHARACTERS_PER_PAGE = 3_000_000

# Of a longer text the two ends are shown: where it starts, and what it came to.
SHOWN_START, SHOWN_END = 12_000, 8_000

# What a question can be filtered by: whether any of its samples is so.
KINDS = ("wrong", "ungraded", "missing", "cut")

_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Shown:
    """One sample as a page shows it; `verdict` is None where there is no score.

    `thought_length` counts the characters of the whole thought; `num_tokens` is None where
    a reply came from elsewhere.
    """

    index: int
    verdict: bool | None
    reward: float | None
    extracted: str | None
    reason: str
    num_tokens: int | None
    finish_reason: str
    thought: str
    thought_length: int
    answer: str
    earlier: Sequence[Mapping[str, str]]

    @property
    def kind(self) -> str:
        """`right`, `wrong` or `ungraded`; a fraction of the full score is wrong in part."""
        return {True: "right", False: "wrong", None: "ungraded"}[self.verdict]

    @property
    def num_characters(self) -> int:
        earlier = sum(len(turn["reply"]) + len(turn["message"]) for turn in self.earlier)
        return len(self.thought) + len(self.answer) + earlier


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its samples; `number` is its place in the row, from 1."""

    number: int
    id: str
    text: str
    gold: str | None
    samples: Sequence[Shown]
    num_missing: int

    @property
    def score(self) -> float | None:
        """Mean reward of the graded samples."""
        rewards = [sample.reward for sample in self.samples if sample.reward is not None]
        return sum(rewards) / len(rewards) if rewards else None

    @property
    def kinds(self) -> list[str]:
        """Those of KINDS that hold: the filters of a page find a question by them."""
        kinds = sorted({sample.kind for sample in self.samples} - {"right"})
        missing = ["missing"] if self.num_missing else []
        is_cut = any(sample.finish_reason == "length" for sample in self.samples)
        return [*kinds, *missing, *(["cut"] if is_cut else [])]

    @property
    def shade(self) -> str:
        """One of five colours by score, or `none`."""
        if self.score is None:
            return "none"
        inner = 1 + min(2, int(3 * self.score))
        return f"s{0 if self.score <= 0 else 4 if self.score >= 1 else inner}"


@dataclass(frozen=True, slots=True)
class Page:
    """Questions that stand on one page."""

    number: int
    questions: Sequence[Question]

    @property
    def file(self) -> str:
        return f"page_{self.number:03d}.html"

    @property
    def counts(self) -> dict[str, int]:
        return count_kinds(self.questions)

    @property
    def score(self) -> float | None:
        """Mean score of its questions."""
        scores = [question.score for question in self.questions if question.score is not None]
        return sum(scores) / len(scores) if scores else None


def write_question_pages(row_folder: Path, row: Mapping[str, Any], table: Path) -> Path:
    """Write the pages of a row; the index page.

    `row` is the row's result, `table` the page that its index leads back to. Pages made
    from the same records and result stay as they are; those of an earlier report that are
    no longer there are removed. Raises RunError for broken records.
    """
    index, mark = row_folder / INDEX_PAGE, _source_mark(row_folder)
    if index.is_file() and index.read_text(encoding="utf-8").endswith(mark):
        return index
    records = list(read_records(row_folder / RECORDS_FILE).values())
    pages = cut_into_pages(questions_of(records, row["evaluation"]["num_samples"]))
    folder = row_folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    shared = {"row": row, "pages": pages}
    back = Path(os.path.relpath(table, folder)).as_posix()
    questions = [question for page in pages for question in page.questions]
    num_absent = max(0, row["evaluation"]["num_problems"] - len(questions))
    counts = count_kinds(questions)
    values = {**shared, "counts": counts, "table": back, "num_absent": num_absent}
    for page in pages:
        text = render_page("benchmark_page.html.jinja", **shared, page=page)
        write_text(folder / page.file, text)
    current = {page.file for page in pages}
    for path in folder.glob("page_*.html"):
        if path.name not in current:
            path.unlink()
    # Last: its mark says that all pages are there.
    write_text(index, render_page("benchmark_index.html.jinja", **values) + mark)
    return index


def _source_mark(row_folder: Path) -> str:
    """A comment at the end of the index: what the pages are made from, and by which version."""
    digest = hashlib.sha256(__version__.encode())
    for name in (RECORDS_FILE, RESULT_FILE):
        digest.update((row_folder / name).read_bytes())
    return f"<!-- {digest.hexdigest()[:16]} -->\n"


def count_kinds(questions: Sequence[Question]) -> dict[str, int]:
    """How many questions each filter shows."""
    counts = {kind: sum(kind in question.kinds for question in questions) for kind in KINDS}
    return {"all": len(questions), **counts}


def questions_of(records: Sequence[Record], num_samples: int) -> list[Question]:
    """The questions of a row in the order of their ids, numbers in them by size."""
    groups = sorted(group_by_question(records), key=lambda group: _natural(group[0]["problem_id"]))
    return [
        Question(
            number=number,
            id=group[0]["problem_id"],
            text=shortened(group[0]["question"]),
            gold=group[0]["gold"],
            samples=[_shown(record) for record in group],
            num_missing=max(0, num_samples - len(group)),
        )
        for number, group in enumerate(groups, start=1)
    ]


def cut_into_pages(questions: Iterable[Question]) -> list[Page]:
    """At most 50 questions a page, and fewer when their texts are long."""
    pages: list[list[Question]] = []
    num_characters = 0
    for question in questions:
        length = len(question.text) + sum(s.num_characters for s in question.samples)
        is_full = num_characters + length > CHARACTERS_PER_PAGE
        if not pages or is_full or len(pages[-1]) == QUESTIONS_PER_PAGE:
            pages.append([])
            num_characters = 0
        pages[-1].append(question)
        num_characters += length
    return [Page(number, questions) for number, questions in enumerate(pages, start=1)]


def shortened(text: str) -> str:
    """Both ends of a long text, with the number of characters left out between them."""
    left_out = len(text) - SHOWN_START - SHOWN_END
    if left_out <= 0:
        return text
    note = f"[... {left_out:,} characters left out here; they are in {RECORDS_FILE} ...]"
    return f"{text[:SHOWN_START]}\n\n{note}\n\n{text[-SHOWN_END:]}"


def _shown(record: Record) -> Shown:
    reward, thought, answer = record["reward"], record["thought"] or "", record["answer"] or ""
    return Shown(
        index=record["sample_index"],
        verdict=None if reward is None else reward >= 1.0,
        reward=reward,
        extracted=record["extracted"],
        reason=record["reason"],
        num_tokens=record["num_tokens"],
        finish_reason=record["finish_reason"],
        thought=shortened(thought.strip()),
        thought_length=len(thought),
        answer=shortened((answer if thought or answer else record["text"]).strip()),
        earlier=[
            {"reply": shortened(turn["reply"]), "message": shortened(turn["message"])}
            for turn in record.get("earlier", ())
        ],
    )


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A sort key that puts q2 before q10."""
    parts = _NUMBERS.split(name)
    return [(0, int(part)) if place % 2 else (1, part) for place, part in enumerate(parts)]
