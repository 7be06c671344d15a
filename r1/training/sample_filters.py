"""Which sampled replies are good enough to learn from, and why the others are not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from r1.config import Config
from r1.records import Completion, Grade, Problem
from r1.text.reasoning import split_reasoning

_CODE_BLOCK = re.compile(r"^\s*(```|~~~)", re.MULTILINE)
_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class GradedReply:
    """One sampled reply to one problem, with its grade."""

    problem: Problem
    sample_index: int
    completion: Completion
    grade: Grade

    def with_text(self, text: str) -> GradedReply:
        return replace(self, completion=replace(self.completion, text=text))

    def as_json(self) -> dict[str, Any]:
        return {
            "sample_index": self.sample_index,
            "text": self.completion.text,
            "finish_reason": self.completion.finish_reason,
            "num_tokens": self.completion.num_tokens,
            "reward": self.grade.reward,
            "parts": dict(self.grade.parts),
            "answer": self.grade.answer,
            "reason": self.grade.reason,
        }

    @classmethod
    def from_json(cls, problem: Problem, row: Mapping[str, Any]) -> GradedReply:
        completion = Completion(row["text"], row["finish_reason"], row["num_tokens"])
        grade = Grade(row["reward"], row["parts"], row["answer"], row["reason"])
        return cls(problem, row["sample_index"], completion, grade)


class FilterConfig(Config):
    """What a reply must be to be kept; None and false are off.

    R1 (arXiv 2501.12948) keeps correct replies and drops mixed languages, long
    paragraphs and code blocks in the thought.
    """

    correct_only: bool = True
    """Full reward; open questions have none, and pass."""
    finished: bool = True
    """Ended by themselves, not at the token limit."""
    closed_thought: bool = True
    """Has a thought that closes, and an answer after it."""
    min_language: float | None = Field(default=None, ge=0, le=1)
    """Least share of the thought's words in the problem's language."""
    max_repetition: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_thought_paragraphs: int | None = Field(default=None, ge=1)
    max_paragraph_characters: int | None = Field(default=None, ge=1)
    no_code_in_thought: bool = False
    deduplicate: bool = True
    """One of replies to a problem that differ in white space alone."""
    max_per_prompt: int | None = Field(default=None, ge=1)


def rejection(reply: GradedReply, config: FilterConfig) -> str | None:
    """The name of the first filter that the reply does not pass, or None when it passes.

    `ungraded` is a reply whose grader failed: it is not known to be correct.
    """
    grade, completion = reply.grade, reply.completion
    reasoning = split_reasoning(completion.text)
    thought = reasoning.thought or ""
    paragraphs = [part for part in _PARAGRAPH_BREAK.split(thought) if part.strip()]
    has_gold = reply.problem.answer is not None
    has_whole_thought = bool(thought) and reasoning.is_closed and bool(reasoning.answer)
    checks = (
        ("ungraded", config.correct_only and has_gold and grade.reward is None),
        ("correct_only", config.correct_only and grade.reward is not None and grade.reward < 1.0),
        ("finished", config.finished and completion.finish_reason != "stop"),
        ("closed_thought", config.closed_thought and not has_whole_thought),
        ("min_language", _is_below(grade.parts, "language", config.min_language)),
        ("max_repetition", _is_above(grade.parts.get("repetition"), config.max_repetition)),
        ("max_tokens", _is_above(completion.num_tokens, config.max_tokens)),
        ("max_thought_paragraphs", _is_above(len(paragraphs), config.max_thought_paragraphs)),
        (
            "max_paragraph_characters",
            _is_above(max(map(len, paragraphs), default=0), config.max_paragraph_characters),
        ),
        ("no_code_in_thought", config.no_code_in_thought and bool(_CODE_BLOCK.search(thought))),
    )
    return next((name for name, is_rejected in checks if is_rejected), None)


def _is_below(parts: Mapping[str, float], name: str, bound: float | None) -> bool:
    return bound is not None and parts.get(name, 1.0) < bound


def _is_above(value: float | None, bound: float | None) -> bool:
    return bound is not None and value is not None and value > bound


def filter_replies(
    replies: Iterable[GradedReply], config: FilterConfig
) -> tuple[list[GradedReply], Counter[str]]:
    """The replies that pass, in order, and how many each filter removed."""
    removed: Counter[str] = Counter()
    kept: list[GradedReply] = []
    seen: set[tuple[str, str]] = set()
    num_kept: Counter[str] = Counter()
    for reply in replies:
        problem_id = reply.problem.id
        key = (problem_id, " ".join(reply.completion.text.split()))
        reason = rejection(reply, config)
        if reason is None and config.deduplicate and key in seen:
            reason = "deduplicate"
        elif reason is None and _is_above(num_kept[problem_id] + 1, config.max_per_prompt):
            reason = "max_per_prompt"
        if reason is not None:
            removed[reason] += 1
            continue
        seen.add(key)
        num_kept[problem_id] += 1
        kept.append(reply)
    return kept, removed
