"""Samples to read: the same questions through the stages, and replies early and late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1.evaluation.run_report.results import RunResults, StageResults

NUM_QUESTIONS = 6
NUM_REPLIES_PER_END = 2
MAX_CHARACTERS = 6000


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply to read. `is_correct` is None when the grader had no verdict."""

    label: str
    is_correct: bool | None
    thought: str
    answer: str
    extracted: str | None
    num_tokens: int | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A question with replies to it, in the order in which to read them."""

    question: str
    gold: str | None
    replies: tuple[Reply, ...]


def readings_through_stages(run: RunResults) -> list[Reading]:
    """The first sample of each stage to the same questions.

    Questions are taken in turn by how they fared from the first stage to the final
    (mended, still wrong, right from the start, ...), so that neither only triumphs
    nor only failures are shown.
    """
    stages = [stage for stage in run.stages if stage.records]
    by_stage = [{record["problem_id"]: record for record in s.records} for s in stages]
    if not by_stage:
        return []
    shared = [key for key in by_stage[0] if all(key in records for records in by_stage)]
    names = [stage.name for stage in stages]
    final = names.index(run.final) if run.final in names else -1
    chosen = _mixed(shared, by_stage[0], by_stage[final])
    readings = []
    for key in chosen:
        asked = by_stage[0][key]
        replies = tuple(
            _reply_of_record(stage.name, records[key])
            for stage, records in zip(stages, by_stage, strict=True)
        )
        readings.append(Reading(asked["question"], asked.get("gold"), replies))
    return readings


def readings_of_training(stage: StageResults) -> list[Reply]:
    """The first and the last kept samples of a stage's training."""
    rows = [row for row in stage.samples if _text_of(row)]
    first, last = rows[:NUM_REPLIES_PER_END], rows[NUM_REPLIES_PER_END:][-NUM_REPLIES_PER_END:]
    return [_reply_of_sample(row) for row in (*first, *last)]


def _mixed(
    keys: Sequence[str], first: Mapping[str, Mapping[str, Any]], last: Mapping[str, Any]
) -> list[str]:
    """Up to NUM_QUESTIONS keys, dealt in turn from each kind of course."""
    courses: dict[tuple[Any, ...], list[str]] = {}
    for key in keys:
        course = (
            last[key].get("language"),
            _verdict(first[key].get("reward")),
            _verdict(last[key].get("reward")),
        )
        courses.setdefault(course, []).append(key)
    decks = sorted(courses.values(), key=len, reverse=True)
    dealt = [deck[i] for i in range(NUM_QUESTIONS) for deck in decks if i < len(deck)]
    return dealt[:NUM_QUESTIONS]


def _reply_of_record(label: str, record: Mapping[str, Any]) -> Reply:
    answer = record.get("answer") or ""
    thought = record.get("thought") or ""
    if not answer and not thought:
        answer = record.get("text") or ""
    return Reply(
        label=label,
        is_correct=_verdict(record.get("reward")),
        thought=_shortened(thought),
        answer=_shortened(answer),
        extracted=record.get("extracted"),
        num_tokens=record.get("num_tokens"),
        note="cut at the token limit" if record.get("finish_reason") == "length" else "",
    )


def _reply_of_sample(row: Mapping[str, Any]) -> Reply:
    accuracy = row.get("accuracy", row.get("reward"))
    return Reply(
        label=f"step {row['step']}" if "step" in row else "sample",
        is_correct=_verdict(accuracy),
        thought="",
        answer=_shortened(_text_of(row)),
        extracted=row.get("extracted"),
        num_tokens=row.get("num_tokens"),
        note=_shortened(str(row.get("question") or row.get("prompt") or ""), 300),
    )


def _text_of(row: Mapping[str, Any]) -> str:
    text = row.get("text") or row.get("completion") or ""
    return text if isinstance(text, str) else ""


def _verdict(reward: Any) -> bool | None:
    return None if not isinstance(reward, int | float) else reward >= 1.0


def _shortened(text: str, limit: int = MAX_CHARACTERS) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … ({len(text) - limit:,} more characters in the records)"
