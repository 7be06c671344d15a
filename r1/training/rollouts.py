"""Rollouts: draw questions, answer each with a group of samples, grade, reward.

Nothing here depends on a place in a batch. Questions come from permutations
keyed by (seed, source, epoch), and every sample's random stream is keyed by the
question's own draw, so that a resumed run repeats them exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from r1.records import (
    Completion,
    GenerationRequest,
    Grade,
    Problem,
    Rollout,
    Sample,
    SamplingParams,
)
from r1.rewards.length import soft_overlong_penalty
from r1.text.prompts import build_prompt, completion_of
from r1.training.advantages import group_advantages

if TYPE_CHECKING:
    from r1.generator import Generator
    from r1.tasks.task import Task
    from r1.text.prompts import PromptStyle
    from r1.text.tokenizer import Tokenizer

OVERLONG = "overlong"

# By (request, sample): the grade of a reply, and the reply as it was graded.
GradingJobs = dict[tuple[str, int], "Future[tuple[Grade, Completion]]"]


@dataclass(frozen=True)
class QuestionSource:
    """A task's training problems, drawn from in [from_step, until_step) by weight."""

    task: Task
    problems: Sequence[Problem]
    weight: float = 1.0
    from_step: int = 0
    until_step: int | None = None

    def is_active(self, step: int) -> bool:
        return self.from_step <= step and (self.until_step is None or step < self.until_step)


@dataclass(frozen=True, slots=True)
class Question:
    """One draw of a problem. `stream` is unique in a run and keys its samples."""

    problem: Problem
    task: Task
    stream: str


@dataclass(frozen=True, slots=True)
class Group:
    """A question with its group of graded rollouts."""

    question: Question
    rollouts: tuple[Rollout, ...]

    @property
    def has_signal(self) -> bool:
        """Whether the rewards differ, so that the group's advantages are not all zero."""
        return len({r.reward for r in self.rollouts if r.reward is not None}) > 1


@lru_cache(maxsize=64)
def _permutation(num_problems: int, seed: int, source: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, source, epoch]).permutation(num_problems)


def draw_questions(
    sources: Sequence[QuestionSource],
    drawn: tuple[int, ...],
    *,
    count: int,
    step: int,
    seed: int,
) -> tuple[list[Question], tuple[int, ...]]:
    """Draw `count` questions; returns them and how many each source has given so far.

    A source is walked through in a new permutation every epoch, and which source
    gives the next question is drawn by weight from a generator keyed by (seed,
    number of the draw): `drawn` is the whole state.
    """
    active = [i for i, source in enumerate(sources) if source.is_active(step)]
    if not active:
        raise ValueError(f"no task is active at step {step}: check from_step and until_step")
    weights = np.array([sources[i].weight for i in active])
    positions = list(drawn)
    questions = []
    for _ in range(count):
        draw = np.random.default_rng([seed, sum(positions)])
        index = (
            active[0] if len(active) == 1 else int(draw.choice(active, p=weights / weights.sum()))
        )
        source, position = sources[index], positions[index]
        epoch, offset = divmod(position, len(source.problems))
        problem = source.problems[_permutation(len(source.problems), seed, index, epoch)[offset]]
        stream = f"{index}/{epoch}/{problem.id}"
        questions.append(Question(problem=problem, task=source.task, stream=stream))
        positions[index] += 1
    return questions, tuple(positions)


@dataclass(frozen=True)
class RolloutSettings:
    """How questions are asked and their answers graded."""

    group_size: int
    prompt_style: PromptStyle
    sampling: SamplingParams
    seed: int = 0


def generate_groups(
    generator: Generator,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    settings: RolloutSettings,
    pool: Executor,
) -> tuple[list[Group], GradingJobs]:
    """Answer every question `group_size` times; each reply is graded as soon as it ends.

    The groups are not graded yet: `grade_groups` waits for the jobs.
    """
    prompts = [
        build_prompt(tokenizer, q.problem.question, settings.prompt_style, q.task.instruction)
        for q in questions
    ]
    requests = [
        GenerationRequest(
            id=question.stream,
            prompt_ids=prompt.ids,
            sampling=settings.sampling,
            num_samples=settings.group_size,
            seed=settings.seed,
        )
        for question, prompt in zip(questions, prompts, strict=True)
    ]
    asked = {q.stream: (q, prompt) for q, prompt in zip(questions, prompts, strict=True)}
    jobs: GradingJobs = {}

    def grade(sample: Sample) -> None:
        question, prompt = asked[sample.request_id]
        key = sample.request_id, sample.sample_index
        jobs[key] = pool.submit(_grade, question, completion_of(prompt, sample))

    ungraded = Grade(reward=None, reason="not graded yet")
    groups = [
        Group(question, tuple(Rollout(question.problem, sample, ungraded) for sample in samples))
        for question, samples in zip(questions, generator.generate(requests, grade), strict=True)
    ]
    return groups, jobs


@contextmanager
def grading_pool(num_threads: int) -> Iterator[Executor]:
    """Threads that keep several verifier processes busy, beside the generation."""
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="grade")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _grade(question: Question, completion: Completion) -> tuple[Grade, Completion]:
    return question.task.grade(question.problem, completion), completion


def grade_groups(
    groups: Sequence[Group], jobs: GradingJobs
) -> tuple[list[Group], list[list[Completion]]]:
    """The groups with the grades of their jobs, whatever the order in which they end.

    Also returns the completions as graded, for reward models to read.
    """
    graded, completions = [], []
    for group in groups:
        samples = [rollout.sample for rollout in group.rollouts]
        results = [jobs[sample.request_id, sample.sample_index].result() for sample in samples]
        rollouts = tuple(
            replace(rollout, grade=grade)
            for rollout, (grade, _) in zip(group.rollouts, results, strict=True)
        )
        graded.append(replace(group, rollouts=rollouts))
        completions.append([completion for _, completion in results])
    return graded, completions


class Scorer(Protocol):
    """A trained reward model: scores of replies to questions."""

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]: ...


def score_with_models(
    groups: Sequence[Group],
    completions: Sequence[Sequence[Completion]],
    scorers: Mapping[str, Scorer],
    *,
    which: Literal["open", "all"] = "open",
) -> list[Group]:
    """Add reward models' scores of the whole responses to the parts of the grades.

    A model reads what it was trained on: `preference` only the final summary, `safety`
    all of it. "open" leaves out the questions that a rule can grade, as R1 does
    (arXiv 2501.12948, 2.3.4).
    """
    chosen = [
        i
        for i, group in enumerate(groups)
        if which == "all" or group.question.problem.answer is None
    ]
    scored = list(groups)
    for part, scorer in scorers.items():
        pairs = [
            (groups[i].question.problem.question, completion.text)
            for i in chosen
            for completion in completions[i]
        ]
        scores = iter(scorer(pairs) if pairs else ())
        for i in chosen:
            scored[i] = _with_parts(scored[i], part, [next(scores) for _ in completions[i]])
    return scored


def penalize_overlong(groups: Sequence[Group], max_tokens: int, buffer_tokens: int) -> list[Group]:
    """Add the part `overlong`, from 0 down to -1 at the token limit (DAPO, 2503.14476)."""

    def penalty(rollout: Rollout) -> float:
        return soft_overlong_penalty(
            len(rollout.sample.token_ids), max_tokens=max_tokens, buffer_tokens=buffer_tokens
        )

    return [_with_parts(group, OVERLONG, [penalty(r) for r in group.rollouts]) for group in groups]


def _with_parts(group: Group, part: str, values: Sequence[float]) -> Group:
    rollouts = tuple(
        replace(r, grade=replace(r.grade, parts={**r.grade.parts, part: float(value)}))
        for r, value in zip(group.rollouts, values, strict=True)
    )
    return replace(group, rollouts=rollouts)


def check_reward_parts(weights: Mapping[str, float], parts: Iterable[str], task_name: str) -> None:
    """Raises ValueError for a weight of a part that the task's grades do not have."""
    known = sorted({"accuracy", *parts})
    for name in weights:
        if name not in known:
            raise ValueError(
                f"reward_weights.{name}: grades of task {task_name!r} have no such part; "
                f"known: {', '.join(known)}"
            )


def reward_groups(groups: Sequence[Group], weights: Mapping[str, float]) -> list[Group]:
    """Fill `Rollout.reward`: the weighted sum of the grade's reward and its parts."""
    return [
        replace(g, rollouts=tuple(replace(r, reward=reward_of(r, weights)) for r in g.rollouts))
        for g in groups
    ]


def reward_of(rollout: Rollout, weights: Mapping[str, float]) -> float | None:
    """What one reply earns, or None when its grader failed: a failure is not a score.

    An open question has no accuracy, and a model that did not score this reply adds
    nothing. An `overlong` penalty counts in full.
    """
    grade = rollout.grade
    if grade.reward is None and rollout.problem.answer is not None:
        return None
    values = {**grade.parts, "accuracy": grade.reward or 0.0}
    return math.fsum(
        (weight * values.get(part, 0.0) for part, weight in weights.items()),
    ) + values.get(OVERLONG, 0.0)


def with_advantages(group: Group, *, divide_by_std: bool) -> Group:
    """Fill `Rollout.advantage` from the rewards of the group."""
    judged = group_advantages([r.reward for r in group.rollouts], divide_by_std=divide_by_std)
    rollouts = tuple(
        replace(r, advantage=advantage)
        for r, advantage in zip(group.rollouts, judged.advantages, strict=True)
    )
    return replace(group, rollouts=rollouts)
