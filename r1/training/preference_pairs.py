"""Preference pairs: two replies to a prompt, judged in both orders, written for `r1 reward`.

As DeepSeek-R1's helpfulness reward model had them (arXiv 2501.12948 v2, supplement): a
strong model judges each pair four times with Arena-Hard's prompt, and pairs are kept
where the mean score differs by more than 1 and the lengths are similar. The judge sees
the final answers, as the reward model does that learns from them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from r1.config import Config
from r1.evaluation.judges.judges import JudgeConfig, ServerJudge
from r1.rewards.preference import (
    MAX_LENGTH_RATIO,
    MIN_SCORE_DIFFERENCE,
    NUM_JUDGEMENTS,
    has_similar_length,
    mean_preference,
)
from r1.run_log import JsonlLog, Progress, RunFolder, write_json, write_jsonl
from r1.tasks.judged.judged import Judge, JudgeFailure, JudgeTemplate, ask_for, load_template
from r1.tasks.judged.pairs import read_outcome
from r1.tasks.row_files import read_rows
from r1.text.reasoning import split_reasoning

_TEMPLATE = "arena_hard-1"
_NUM_EXAMPLES = 3


class PreferencesConfig(Config):
    """Which replies to compare, who judges, and which pairs to keep.

    `data` has rows `{"prompt", "completion"}`, several to a prompt, such as `r1 sample`
    writes with `filters.correct_only = false`.
    """

    output: Path
    data: Path
    judge: JudgeConfig
    pairs_per_prompt: int = Field(default=1, ge=1)
    num_judgements: int = Field(default=NUM_JUDGEMENTS, ge=2, multiple_of=2)
    min_score_difference: float = Field(default=MIN_SCORE_DIFFERENCE, ge=0, lt=2)
    """Scores go from 2 (much better) to -2 (much worse)."""
    max_length_ratio: float = Field(default=MAX_LENGTH_RATIO, ge=1)
    num_threads: int = Field(default=8, ge=1)

    @model_validator(mode="after")
    def _check_judge(self) -> Self:
        if self.judge.temperature == 0 and self.num_judgements > 2:
            raise ValueError(
                "judge.temperature = 0 gives the same judgement again; set it above 0, such as "
                "0.7, or num_judgements = 2"
            )
        return self


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to one prompt, with their final answers; `id` is their place in the data."""

    id: str
    prompt: str
    completions: tuple[str, str]
    answers: tuple[str, str]


def run_preferences(config: PreferencesConfig, *, judge: Judge | None = None) -> Path:
    """Judge pairs of replies and keep the clear ones; returns the JSONL file of pairs.

    The run folder keeps every judgement (`judgements.jsonl`) and what was left out for
    what reason (`summary.json`). A stopped run goes on where it was. A pair whose judge
    failed or gave no verdict has no preference: it is left out, and counted. `judge`
    takes the place of the server.

    Raises ValueError for rows that cannot be read, and when no pair is kept, and
    ServerError for a wrong key, model or address of the judge.
    """
    with RunFolder.open(config.output, config=config) as run:
        data_path = run.path / "data.jsonl"
        if data_path.exists():
            return data_path
        left_out: Counter[str] = Counter()
        pairs = list(read_pairs(config, left_out))
        judgements = JsonlLog(run.path / "judgements.jsonl")
        _judge_missing(pairs, config, judgements, judge)
        scores = {row["pair"]: row for row in judgements.rows()}
        rows = []
        for pair in pairs:
            kept = _preference_row(pair, scores.get(pair.id), config.min_score_difference)
            if isinstance(kept, str):
                left_out[kept] += 1
            else:
                rows.append(kept)
        if not rows:
            raise ValueError(f"{run.path}: no pair of {config.data} was kept; {dict(left_out)}")
        write_json(run.path / "summary.json", {"num_pairs": len(rows), "left_out": dict(left_out)})
        write_jsonl(data_path, rows)
        return data_path


def read_pairs(config: PreferencesConfig, left_out: Counter[str]) -> Iterator[Pair]:
    """Pairs of different finished answers of similar length, in the order of the prompts.

    Counts in `left_out` what gives none. Raises ValueError for a row without text.
    """
    by_prompt: dict[str, list[str]] = {}
    for row in read_rows(config.data):
        by_prompt.setdefault(row.text("prompt"), []).append(row.text("completion"))
    if not any(len(completions) > 1 for completions in by_prompt.values()):
        raise ValueError(f"{config.data}: no prompt has two completions to compare")
    for number, (prompt, completions) in enumerate(by_prompt.items()):
        finished = {}
        for completion in completions:
            reasoning = split_reasoning(completion)
            if reasoning.is_closed and reasoning.answer:
                finished.setdefault(reasoning.answer, completion)
        left_out["no_answer_or_the_same"] += len(completions) - len(finished)
        answers = list(finished)
        candidates = list(zip(answers[::2], answers[1::2], strict=False))
        for index, (first, second) in enumerate(candidates[: config.pairs_per_prompt]):
            if not has_similar_length(len(first), len(second), config.max_length_ratio):
                left_out["lengths_differ"] += 1
                continue
            replies = (finished[first], finished[second])
            yield Pair(f"{number}/{index}", prompt, replies, (first, second))


def _judge_missing(
    pairs: Sequence[Pair], config: PreferencesConfig, judgements: JsonlLog, judge: Judge | None
) -> None:
    """Append the scores of every pair that has none yet."""
    done = {row["pair"] for row in judgements.rows()}
    missing = [pair for pair in pairs if pair.id not in done]
    if not missing:
        return
    opened = None if judge else ServerJudge(config.judge)
    judge = judge or opened
    assert judge is not None
    if opened is not None:
        opened.check()
    num_calls = len(missing) * config.num_judgements
    print(f"{len(missing):,} pairs, {num_calls:,} calls of judge {judge.name}", file=sys.stderr)
    template = load_template(_TEMPLATE)

    def score(pair: Pair) -> dict[str, Any] | str:
        try:
            return judge_pair(judge, template, pair, config.num_judgements)
        except JudgeFailure as error:
            return str(error)

    failures: list[str] = []
    with (
        Progress(len(missing), "judge") as progress,
        ThreadPoolExecutor(config.num_threads, "judge") as pool,
    ):
        try:
            for number, judged in enumerate(pool.map(score, missing), start=1):
                if isinstance(judged, str):
                    failures.append(judged)
                else:
                    judgements.append({**judged, "judge": judge.name, "prompt": template.identity})
                progress.update(number)
        finally:
            pool.shutdown(cancel_futures=True)
            if opened is not None:
                opened.close()
    if failures:
        examples = "; ".join(failures[:_NUM_EXAMPLES])
        print(f"the judge failed on {len(failures):,} pairs, left out: {examples}", file=sys.stderr)


def judge_pair(
    judge: Judge, template: JudgeTemplate, pair: Pair, num_judgements: int
) -> dict[str, Any]:
    """The judge's scores of a pair, half with each answer shown first: one row of the log.

    A score is of the answer shown first, 2 (much better) to -2; None is no verdict.
    Raises JudgeFailure.
    """
    first, second = pair.answers

    def scores(answer_1: str, answer_2: str) -> list[int | None]:
        prompt = template.fill(question=pair.prompt, answer_1=answer_1, answer_2=answer_2)
        return [
            ask_for(judge, prompt, read_outcome, judgement)[0]
            for judgement in range(num_judgements // 2)
        ]

    return {
        "pair": pair.id,
        "first_shown": scores(first, second),
        "second_shown": scores(second, first),
    }


def _preference_row(
    pair: Pair, judged: dict[str, Any] | None, min_difference: float
) -> dict[str, Any] | str:
    """The row for `r1 reward`, or why the pair is left out."""
    if judged is None:
        return "judge_failed"
    if None in judged["first_shown"] or None in judged["second_shown"]:
        return "no_verdict"
    difference = mean_preference(judged["first_shown"], judged["second_shown"])
    if abs(difference) <= min_difference:
        return "too_close"
    chosen, rejected = pair.completions if difference > 0 else pair.completions[::-1]
    return {
        "prompt": pair.prompt,
        "chosen": chosen,
        "rejected": rejected,
        "score_difference": abs(difference),
    }
