"""Two sets of answers compared by a judge, and one answer graded from 1 to 10."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from r1.records import Problem
from r1.tasks.judged.judged import (
    Judge,
    JudgeFailure,
    JudgePrompt,
    ask_for,
    load_template,
    shortened,
)
from r1.tasks.judged.pairs import TwoGames

_GRADE = re.compile(r"\[\[(\d+)\]\]")


@dataclass(frozen=True, slots=True)
class JudgedComparison:
    """How often a judge prefers the second set of answers, in [0, 1].

    A tie is half a win and a strong verdict counts as three. The win rate is the mean over
    questions, and None without a verdict; its standard error is over questions, and None
    for a single one.
    """

    judge: str
    prompt: str
    win_rate: float | None
    standard_error: float | None
    num_questions: int
    num_unpaired: int
    num_without_verdict: int


def compare_records(
    judge: Judge,
    records_a: Sequence[Mapping[str, Any]],
    records_b: Sequence[Mapping[str, Any]],
    num_threads: int = 8,
) -> JudgedComparison:
    """Let the judge compare the final answers of two runs, each pair in both orders.

    Answers are paired by question and sample index. One without an answer loses to one
    that has an answer.
    """
    by_key = [
        {(r["problem_id"], r["sample_index"]): r for r in rs} for rs in (records_a, records_b)
    ]
    shared = [key for key in by_key[0] if key in by_key[1]]
    rubric = TwoGames(load_template("pairwise-1"))

    def score(key: tuple[str, int]) -> float | None:
        first, second = by_key[0][key], by_key[1][key]
        if not first["answer"] or not second["answer"]:
            return 0.5 + 0.5 * (bool(second["answer"]) - bool(first["answer"]))
        problem = Problem(key[0], first["question"], None, metadata={"baseline": first["answer"]})
        try:
            return rubric.decide(judge, problem, second["answer"]).reward
        except JudgeFailure:
            return None

    with ThreadPoolExecutor(num_threads, "judge") as pool:
        scores = dict(zip(shared, pool.map(score, shared), strict=True))
    by_question: dict[str, list[float]] = {}
    for (problem_id, _), value in scores.items():
        if value is not None:
            by_question.setdefault(problem_id, []).append(value)
    means = [sum(values) / len(values) for values in by_question.values()]
    return JudgedComparison(
        judge=judge.name,
        prompt=rubric.template.identity,
        win_rate=sum(means) / len(means) if means else None,
        standard_error=_standard_error(means),
        num_questions=len(means),
        num_unpaired=len(by_key[0].keys() ^ by_key[1].keys()),
        num_without_verdict=sum(value is None for value in scores.values()),
    )


def grade_answer(judge: Judge, question: str, answer: str) -> tuple[int | None, str]:
    """The judge's grade of an answer, 1 to 10, and its reply; None when it gave none.

    Raises JudgeFailure.
    """
    prompt: JudgePrompt = load_template("graded-1").fill(question=question, answer=answer)
    grade, reply = ask_for(judge, prompt, read_grade)
    return grade, reply if grade is not None else f"no grade in {shortened(reply)}"


def read_grade(reply: str) -> int | None:
    """The one grade in double brackets, if it is from 1 to 10."""
    grades = {int(grade) for grade in _GRADE.findall(reply)}
    grade = grades.pop() if len(grades) == 1 else 0
    return grade if 1 <= grade <= 10 else None


def _standard_error(means: Sequence[float]) -> float | None:
    if len(means) < 2:
        return None
    mean = sum(means) / len(means)
    variance = sum((value - mean) ** 2 for value in means) / (len(means) - 1)
    return math.sqrt(variance / len(means))
