"""The evaluation loop: ask every question several times, grade, record, measure.

Every graded sample is one JSONL record, written as it finishes, so an interrupted
evaluation goes on where it was and generates nothing twice. Samples are keyed by
(seed, problem, sample index): how the work was cut does not change them.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from r1.config import Config
from r1.evaluation.prompting import Asked, Prompter, short_hash
from r1.evaluation.record_file import Key, Record, read_records
from r1.evaluation.regrade import regrade_stale
from r1.evaluation.result import EvaluationResult, compute_result
from r1.evaluation.verdicts import (
    Verdict,
    grade_reliably,
    refuse_without_judge,
    reply_fields,
    verdict_fields,
)
from r1.evaluation.voting import voting_verifier
from r1.records import GenerationRequest, Problem, Sample, SamplingParams, Turn
from r1.run_log import JsonlLog, Progress, RunError
from r1.tasks.task import ConversationTask, Split
from r1.text.prompts import PromptStyle

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
    Samples are numbered from `first_sample_index`, so that two runs can share the work.
    A grader that fails is called again, `num_grading_retries` times.
    """

    split: Split = "test"
    num_problems: int | None = Field(default=None, ge=1)
    num_samples: int = Field(default=8, ge=1)
    first_sample_index: int = Field(default=0, ge=0)
    prompt_style: PromptStyle = "chat"
    sampling: SamplingConfig = SamplingConfig()
    seed: int = 0
    num_grading_threads: int = Field(default=4, ge=1)
    num_grading_retries: int = Field(default=2, ge=0)

    @property
    def sample_indices(self) -> range:
        """The indices of the samples that are asked of each question."""
        return range(self.first_sample_index, self.first_sample_index + self.num_samples)


def evaluate(
    generator: Generator,
    tokenizer: Tokenizer | None,
    task: Task,
    settings: EvaluationSettings,
    records_path: Path,
    weights: str = "",
) -> EvaluationResult:
    """Measure whatever answers behind `generator` on one split of a task.

    Records that are already at `records_path` are kept and not generated again; those of
    an older grader are graded anew. `weights` names what is measured, and is part of
    every record. Without a tokenizer prompts are messages, for a server. Raises RunError
    when the records there were made with other settings, prompts or weights, and
    ValueError when the split is empty.
    """
    evaluation = Evaluation(tokenizer, task, settings, records_path, weights)
    evaluation.run(generator)
    return result_of(evaluation.records(), evaluation.problems, settings)


def result_of(
    records: Sequence[Record], problems: Sequence[Problem], settings: EvaluationSettings
) -> EvaluationResult:
    """The numbers of records that `settings` asked of `problems`."""
    with voting_verifier() as same_answer:
        return compute_result(
            records,
            num_problems=len(problems),
            num_samples=settings.num_samples,
            equivalent=same_answer,
        )


def chosen_problems(task: Task, settings: EvaluationSettings) -> list[Problem]:
    """The problems that are asked; raises ValueError when there is none."""
    problems = list(task.problems(settings.split))[: settings.num_problems]
    if not problems:
        raise ValueError(f"task {task.name!r} has no problems in split {settings.split!r}")
    return problems


def asked_records(
    present: Mapping[Key, Record], problems: Sequence[Problem], settings: EvaluationSettings
) -> list[Record]:
    """The records that `settings` ask of `problems`, in order: a file may hold more."""
    keys = [(problem.id, index) for problem in problems for index in settings.sample_indices]
    return [present[key] for key in keys if key in present]


def turns_path(records_path: Path) -> Path:
    """Where the finished turns of unfinished conversations are kept."""
    return records_path.with_name("turns.jsonl")


@dataclass(frozen=True, slots=True)
class _Judged:
    """What came of a reply: a verdict, or the user's next message."""

    verdict: Verdict | None
    message: str | None = None


class Evaluation:
    """One evaluation's problems, prompts and records.

    Made before anything is generated or written; raises as `evaluate` does.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        task: Task,
        settings: EvaluationSettings,
        records_path: Path,
        weights: str,
    ) -> None:
        refuse_without_judge(task)
        self.problems = chosen_problems(task, settings)
        self._task = task
        self._settings = settings
        self._weights = weights
        self._log = JsonlLog(records_path)
        self._turns = JsonlLog(turns_path(records_path))
        self._settings_hash = short_hash([settings.sampling.model_dump(), weights])
        self._prompter = Prompter(tokenizer, settings.prompt_style, task.instruction)
        self._first = self._prompter.first_of_all(self.problems)
        self._open: dict[str, Asked] = {}  # by request id: what is being answered
        self._next: list[GenerationRequest] = []  # later turns, for the next round
        self._max_tokens: int | None = None  # of prompt and reply together
        self._present = read_records(records_path)
        self._refuse_foreign_records()
        problems = {problem.id: problem for problem in self.problems}
        self._present = regrade_stale(task, problems, records_path, settings.num_grading_retries)

    def _refuse_foreign_records(self) -> None:
        ours = {"settings_hash": self._settings_hash, "seed": self._settings.seed}
        for (problem_id, _), record in self._present.items():
            asked = self._first.get(problem_id)
            expected = ours if asked is None else {**ours, "prompt_hash": asked.prompt_hash}
            if any(record[name] != value for name, value in expected.items()):
                raise RunError(
                    f"{self._log.path}: holds records of other weights, prompts or sampling "
                    f"(question {problem_id!r}); choose another output, or remove the file"
                )

    def records(self) -> list[Record]:
        """The records that were asked for, in order of problem and sample."""
        return asked_records(self._present, self.problems, self._settings)

    def run(self, generator: Generator) -> None:
        """Generate, grade and record what is missing.

        Grading runs in threads beside generation; records are written in the order in
        which samples finish. The turns of conversations are rounds: all that can be
        answered now, then all that was said to those replies. Questions that do not fit
        the generator's context are left out: their samples are missing.
        """
        self._max_tokens = getattr(generator, "max_model_len", None)
        spent = max((record["seconds"] for record in self._present.values()), default=0.0)
        started = time.perf_counter() - spent
        total = len(self.problems) * self._settings.num_samples
        pending: deque[tuple[Sample, Callable[[], Any], Future[_Judged]]] = deque()
        with (
            ThreadPoolExecutor(self._settings.num_grading_threads, "grade") as pool,
            Progress(total, f"evaluate {self._task.name}") as progress,
        ):

            def on_sample(sample: Sample) -> None:
                if sample.finish_reason != "cancelled":
                    times = _times(sample, asked_at, started)
                    pending.append((sample, times, pool.submit(self._judge, sample)))
                while pending and pending[0][2].done():
                    self._settle(*pending.popleft())
                progress.update(min(total, len(self._present)))

            rounds = deque(self._rounds())
            while rounds:
                asked_at = time.time()
                generator.generate(rounds.popleft(), on_sample)
                while pending:
                    self._settle(*pending.popleft())
                if self._next:
                    rounds.append(self._next)
                    self._next = []
            progress.update(min(total, len(self._present)))
        self._log.close()
        self._turns.close()

    def _rounds(self) -> list[list[GenerationRequest]]:
        """Requests for the missing samples; one request of a problem in each round.

        Samples finish out of order, so what an interruption left missing of a problem
        can be several runs of indices.
        """
        rounds: list[list[GenerationRequest]] = [[]]
        begun = self._begun_conversations()
        for problem_id, asked in self._fitting():
            keys = [(problem_id, index) for index in self._settings.sample_indices]
            missing = [key for key in keys if key not in self._present]
            rounds[0] += [self._request(begun[key], key[1]) for key in missing if key in begun]
            unasked = [index for _, index in missing if (problem_id, index) not in begun]
            for number, (first, count) in enumerate(_runs(unasked)):
                if number == len(rounds):
                    rounds.append([])
                rounds[number].append(self._request(asked, first, count))
        return [requests for requests in rounds if requests]

    def _fitting(self) -> list[tuple[str, Asked]]:
        fitting = [(name, asked) for name, asked in self._first.items() if self._fits(asked)]
        num_unfit = len(self._first) - len(fitting)
        if num_unfit:
            print(
                f"{self._task.name}: {num_unfit} of {len(self._first)} prompts do not fit the "
                f"context of {self._max_tokens} tokens; their samples are missing",
                file=sys.stderr,
            )
        return fitting

    def _fits(self, asked: Asked) -> bool:
        return self._max_tokens is None or len(asked.prompt.ids) < self._max_tokens

    def _request(self, asked: Asked, first: int, count: int = 1) -> GenerationRequest:
        self._open[asked.request_id] = asked
        settings = self._settings
        return asked.request(settings.sampling.params(), settings.seed, first, count)

    def _begun_conversations(self) -> dict[Key, Asked]:
        """Where interrupted conversations stand: the next prompt of each."""
        begun: dict[Key, Asked] = {}
        for row in self._turns.rows():
            key = row["problem_id"], row["sample_index"]
            asked = begun.get(key, self._first.get(key[0]))
            if asked is not None and row["turn"] == len(asked.earlier) + 1:
                turn = Turn(row["reply"], row["message"])
                begun[key] = self._prompter.after(asked, key[1], turn, row["num_tokens"])
        return begun

    def _judge(self, sample: Sample) -> _Judged:
        asked = self._open[sample.request_id]
        completion = asked.completion(sample)
        if isinstance(self._task, ConversationTask):
            message = self._task.next_message(asked.problem, completion)
            if message is not None:
                return _Judged(None, message)
        retries = self._settings.num_grading_retries
        return _Judged(grade_reliably(self._task, asked.problem, completion, retries))

    def _settle(
        self, sample: Sample, times: Callable[[], dict[str, Any]], judged: Future[_Judged]
    ) -> None:
        asked, verdict = self._open[sample.request_id], judged.result().verdict
        if verdict is None:
            verdict = self._go_on(asked, sample, judged.result().message or "")
        if verdict is None:
            return
        record = {
            "problem_id": asked.problem.id,
            "sample_index": sample.sample_index,
            "question": asked.problem.question,
            "gold": asked.problem.answer,
            "language": asked.problem.language,
            **reply_fields(asked.completion(sample)),
            **({} if _is_counted(sample) else {"num_tokens": None}),
            **verdict_fields(verdict),
            "seed": self._settings.seed,
            "prompt_hash": asked.prompt_hash,
            "settings_hash": self._settings_hash,
            "weights": self._weights,
            "weights_version": sample.weights_version,
            **times(),
        }
        self._log.append(record)
        self._present[(asked.problem.id, sample.sample_index)] = record

    def _go_on(self, asked: Asked, sample: Sample, message: str) -> Verdict | None:
        """Ask for the next reply; the verdict on this one where the context is full."""
        completion = asked.completion(sample)
        turn = Turn(completion.text, message)
        following = self._prompter.after(asked, sample.sample_index, turn, sample.num_tokens)
        if not self._fits(following):
            retries = self._settings.num_grading_retries
            return grade_reliably(self._task, asked.problem, completion, retries)
        row = {
            "problem_id": asked.problem.id,
            "sample_index": sample.sample_index,
            "turn": len(asked.earlier) + 1,
            "reply": turn.reply,
            "message": turn.message,
            "num_tokens": sample.num_tokens,
        }
        self._turns.append(row)
        self._next.append(self._request(following, sample.sample_index))
        return None


def _is_counted(sample: Sample) -> bool:
    """Whether the tokens of a reply are known; some servers do not report them."""
    return sample.reported_tokens is not None or bool(sample.token_ids)


def _times(sample: Sample, asked_at: float, started: float) -> Callable[[], dict[str, Any]]:
    """A record's times: Unix seconds of asking and finishing, and seconds since the start.

    `seconds` is counted when the record is written, so that it includes the grading.
    """
    finished_at = time.time()
    return lambda: {
        "asked_at": asked_at,
        "finished_at": finished_at,
        "generation_seconds": sample.generation_seconds,
        "seconds": time.perf_counter() - started,
    }


def _runs(indices: Sequence[int] | Iterable[int]) -> list[tuple[int, int]]:
    """Consecutive indices as (first, count): [0, 1, 4] is [(0, 2), (4, 1)]."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and index == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((index, 1))
    return runs
