"""The evaluation loop: ask every question several times, grade, record, measure.

Every graded sample is one JSONL record, written as it finishes, so an interrupted
evaluation goes on where it was and generates nothing twice. Samples are keyed by
(seed, problem, sample index): how the work was cut does not change them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from r1.config import Config
from r1.evaluation.result import EvaluationResult, compute_result
from r1.records import GenerationRequest, Grade, Problem, Sample, SamplingParams
from r1.rewards.math import MathVerifier
from r1.run_log import JsonlLog, Progress, RunError
from r1.tasks.task import Split
from r1.text.prompts import Prompt, PromptStyle, build_prompt, completion_of
from r1.text.reasoning import split_reasoning

if TYPE_CHECKING:
    from r1.generator import Generator
    from r1.tasks.task import Task
    from r1.text.tokenizer import Tokenizer


class SamplingConfig(Config):
    """How to sample; the defaults are those of the DeepSeek-R1 report (section 3)."""

    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)
    max_tokens: int = Field(default=32768, ge=1)
    stop: tuple[str, ...] = ()

    def params(self) -> SamplingParams:
        """The same as the generator takes it."""
        return SamplingParams(**self.model_dump())


class EvaluationSettings(Config):
    """What is asked and how: everything that decides a sample, except the weights.

    `num_problems` takes the first so many of the split; None takes all of them.
    """

    split: Split = "test"
    num_problems: int | None = Field(default=None, ge=1)
    num_samples: int = Field(default=8, ge=1)
    prompt_style: PromptStyle = "chat"
    sampling: SamplingConfig = SamplingConfig()
    seed: int = 0
    num_grading_threads: int = Field(default=4, ge=1)


def evaluate(
    generator: Generator,
    tokenizer: Tokenizer,
    task: Task,
    settings: EvaluationSettings,
    records_path: Path,
    weights: str = "",
) -> EvaluationResult:
    """Measure whatever answers behind `generator` on one split of a task.

    Records that are already at `records_path` are kept and not generated again.
    `weights` names what is measured, and is part of every record. Raises RunError
    when the records there were made with other settings, prompts or weights, and
    ValueError when the split is empty.
    """
    evaluation = _Evaluation(tokenizer, task, settings, records_path, weights)
    evaluation.run(generator)
    # Equal answers vote together: the verifier knows that 1/2 is 0.5.
    with MathVerifier(num_workers=1) as verifier:
        return compute_result(
            evaluation.records(),
            num_problems=len(evaluation.problems),
            num_samples=settings.num_samples,
            equivalent=lambda a, b: verifier.verify(a, b).is_correct is True,
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    problem: Problem
    prompt: Prompt
    prompt_hash: str


class _Evaluation:
    """One evaluation's problems, prompts and records."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        task: Task,
        settings: EvaluationSettings,
        records_path: Path,
        weights: str,
    ) -> None:
        self.problems = list(task.problems(settings.split))[: settings.num_problems]
        if not self.problems:
            raise ValueError(f"task {task.name!r} has no problems in split {settings.split!r}")
        self._task = task
        self._settings = settings
        self._weights = weights
        self._log = JsonlLog(records_path)
        self._settings_hash = _hash([settings.sampling.model_dump(), settings.seed, weights])
        self._asked = {p.id: self._ask(tokenizer, p) for p in self.problems}
        self._present = {(r["problem_id"], r["sample_index"]): r for r in self._log.rows()}
        self._refuse_foreign_records()

    def _ask(self, tokenizer: Tokenizer, problem: Problem) -> _Asked:
        style = self._settings.prompt_style
        prompt = build_prompt(tokenizer, problem.question, style, self._task.instruction)
        return _Asked(problem, prompt, _hash(list(prompt.ids)))

    def _refuse_foreign_records(self) -> None:
        for (problem_id, _), record in self._present.items():
            asked = self._asked.get(problem_id)
            is_same_prompt = asked is None or record["prompt_hash"] == asked.prompt_hash
            if record["settings_hash"] != self._settings_hash or not is_same_prompt:
                raise RunError(
                    f"{self._log.path}: holds records of other weights, prompts or sampling "
                    f"(question {problem_id!r}); choose another output, or remove the file"
                )

    def records(self) -> list[dict[str, Any]]:
        """The records that were asked for, in order of problem and sample."""
        keys = [(p.id, i) for p in self.problems for i in range(self._settings.num_samples)]
        return [self._present[key] for key in keys if key in self._present]

    def run(self, generator: Generator) -> None:
        """Generate, grade and record what is missing.

        Grading runs in threads beside generation; records are written in the order in
        which samples finish.
        """
        spent = max((record["seconds"] for record in self._present.values()), default=0.0)
        started = time.perf_counter() - spent
        total = len(self.problems) * self._settings.num_samples
        pending: deque[tuple[Sample, Future[Grade]]] = deque()
        with (
            ThreadPoolExecutor(self._settings.num_grading_threads, "grade") as pool,
            Progress(total, f"evaluate {self._task.name}") as progress,
        ):

            def on_sample(sample: Sample) -> None:
                if sample.finish_reason != "cancelled":
                    pending.append((sample, pool.submit(self._grade, sample)))
                while pending and pending[0][1].done():
                    self._record(*pending.popleft(), started)
                progress.update(min(total, len(self._present)))

            for requests in self._rounds():
                generator.generate(requests, on_sample)
            while pending:
                self._record(*pending.popleft(), started)
            progress.update(min(total, len(self._present)))
        self._log.close()

    def _rounds(self) -> list[list[GenerationRequest]]:
        """Requests for the missing samples; one request of a problem in each round.

        Samples finish out of order, so what an interruption left missing of a problem
        can be several runs of indices.
        """
        rounds: list[list[GenerationRequest]] = []
        for problem_id, asked in self._asked.items():
            missing = [
                i for i in range(self._settings.num_samples) if (problem_id, i) not in self._present
            ]
            for number, (first, count) in enumerate(_runs(missing)):
                if number == len(rounds):
                    rounds.append([])
                request = GenerationRequest(
                    id=problem_id,
                    prompt_ids=asked.prompt.ids,
                    sampling=self._settings.sampling.params(),
                    num_samples=count,
                    seed=self._settings.seed,
                    first_sample_index=first,
                )
                rounds[number].append(request)
        return rounds

    def _grade(self, sample: Sample) -> Grade:
        asked = self._asked[sample.request_id]
        return self._task.grade(asked.problem, completion_of(asked.prompt, sample))

    def _record(self, sample: Sample, graded: Future[Grade], started: float) -> None:
        asked, grade = self._asked[sample.request_id], graded.result()
        text = completion_of(asked.prompt, sample).text
        reasoning = split_reasoning(text)
        record = {
            "problem_id": asked.problem.id,
            "sample_index": sample.sample_index,
            "question": asked.problem.question,
            "gold": asked.problem.answer,
            "language": asked.problem.language,
            "text": text,
            "thought": reasoning.thought,
            "answer": reasoning.answer,
            "extracted": grade.answer,
            "reward": grade.reward,
            "parts": dict(grade.parts),
            "reason": grade.reason,
            "num_tokens": len(sample.token_ids),
            "finish_reason": sample.finish_reason,
            "seed": self._settings.seed,
            "prompt_hash": asked.prompt_hash,
            "settings_hash": self._settings_hash,
            "weights": self._weights,
            "weights_version": sample.weights_version,
            "seconds": time.perf_counter() - started,
        }
        self._log.append(record)
        self._present[(asked.problem.id, sample.sample_index)] = record


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive indices as (first, count): [0, 1, 4] is [(0, 2), (4, 1)]."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and index == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((index, 1))
    return runs


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
