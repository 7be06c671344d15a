"""Tasks whose replies a judge model grades; it sees the final answer, never the thought.

A judge that fails, or whose reply holds no verdict after a second try, gives no score.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

from r1.records import Completion, Grade, Problem
from r1.tasks.grading import grade_reply
from r1.tasks.task import Split
from r1.text.reasoning import Reasoning, split_reasoning

Answer = TypeVar("Answer")

_TEMPLATES = Path(__file__).resolve().parents[2] / "assets" / "judges"
_SYSTEM_END = "\n===== user =====\n"
_NUM_ATTEMPTS = 2


class JudgeFailure(Exception):
    """A judge that gave no reply; the sample stays without a score."""


class Judge(Protocol):
    """A model that is asked for verdicts. Safe to use from several threads.

    The same (prompt, system, attempt) gives the same reply; another `attempt` is sampled
    with another seed.
    """

    @property
    def name(self) -> str:
        """Which model judges; part of every verdict."""
        ...

    def ask(self, prompt: str, system: str = "", attempt: int = 0) -> str:
        """The judge's reply, its thought removed. Raises JudgeFailure."""
        ...

    def first_token(self, prompt: str, system: str = "", attempt: int = 0) -> Mapping[str, float]:
        """The likeliest first tokens of the reply by probability. Raises JudgeFailure.

        A judge that reports no probabilities gives its reply probability 1.
        """
        ...


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """One question to a judge."""

    user: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class JudgeTemplate:
    """A versioned prompt with `{fields}` to fill; `identity` names it in records."""

    name: str
    user: str
    system: str = ""

    @property
    def identity(self) -> str:
        """Name, version and a hash of the text: `simpleqa-1#0a1b2c3d`."""
        text = f"{self.system}{_SYSTEM_END}{self.user}"
        return f"{self.name}#{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def fill(self, **values: str) -> JudgePrompt:
        """The prompt with every `{field}` replaced once: braces in the values stay text."""
        user = re.sub(r"\{(\w+)\}", lambda m: values.get(m.group(1), m.group()), self.user)
        return JudgePrompt(user, self.system)


@cache
def load_template(name: str) -> JudgeTemplate:
    """The template `name`, which ends in its version (`simpleqa-1`), from the package."""
    text = (_TEMPLATES / f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")
    system, mark, user = text.rpartition(_SYSTEM_END)
    return JudgeTemplate(name, user, system if mark else "")


@dataclass(frozen=True, slots=True)
class JudgeVerdict:
    """What a judge made of an answer; `reward` None is no verdict."""

    reward: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


class Rubric(Protocol):
    """How one benchmark puts its question to the judge, and reads the verdict."""

    @property
    def template(self) -> JudgeTemplate:
        """The prompt."""
        ...

    @property
    def num_reply_tokens(self) -> int:
        """About how long a judge's reply is, for estimates of cost."""
        ...

    def no_answer_parts(self, problem: Problem) -> Mapping[str, float]:
        """The parts of a reply without an answer, which no judge needs to see."""
        ...

    def prompts(self, problem: Problem, answer: str) -> list[JudgePrompt]:
        """Everything the judge is asked about one answer."""
        ...

    def decide(self, judge: Judge, problem: Problem, answer: str) -> JudgeVerdict:
        """Ask and read. Raises JudgeFailure."""
        ...


@dataclass(frozen=True)
class JudgedTask:
    """A benchmark that a judge grades; without one, grades have no reward.

    `label` says what departs from the published protocol; empty when nothing does.
    Grades have no extracted answer: free texts are not votes for one another.
    """

    name: str
    test: Sequence[Problem]
    rubric: Rubric
    judge: Judge | None = None
    label: str = ""
    instruction: str = ""

    @property
    def grader_version(self) -> str:
        """The prompt's version and the judge: verdicts of two judges are not one score."""
        by = f" by {self.judge.name}" if self.judge else ""
        return f"{self.rubric.template.name}{by}"

    def problems(self, split: Split) -> Sequence[Problem]:
        return self.test if split == "test" else ()

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        """The judge's verdict; reward None when there is no judge, it failed or said nothing."""
        verdict = self._verdict(problem, split_reasoning(completion.text))
        score = (verdict.reward, None, verdict.reason)
        grade = grade_reply(problem, completion, lambda _: score)
        return replace(grade, parts={**grade.parts, **verdict.parts})

    def gold_error(self, problem: Problem) -> str:
        return "" if problem.answer and problem.answer.strip() else "no answer"

    def _verdict(self, problem: Problem, reasoning: Reasoning) -> JudgeVerdict:
        if not reasoning.is_closed or not reasoning.answer:
            return JudgeVerdict(0.0, self.rubric.no_answer_parts(problem), "no answer")
        if self.judge is None:
            return JudgeVerdict(None, reason="no judge")
        by = f"judge {self.judge.name}, prompt {self.rubric.template.identity}"
        try:
            verdict = self.rubric.decide(self.judge, problem, reasoning.answer)
        except JudgeFailure as error:
            return JudgeVerdict(None, reason=f"the judge failed: {error} ({by})")
        return replace(verdict, reason=f"{verdict.reason} ({by})")


def ask_for(
    judge: Judge, prompt: JudgePrompt, read: Callable[[str], Answer | None], judgement: int = 0
) -> tuple[Answer | None, str]:
    """What `read` finds in the judge's reply, or in that of a second try; and the reply.

    None when neither holds a verdict. Another `judgement` asks the same again, sampled
    afresh. Raises JudgeFailure.
    """
    reply = ""
    for attempt in range(judgement * _NUM_ATTEMPTS, (judgement + 1) * _NUM_ATTEMPTS):
        reply = judge.ask(prompt.user, prompt.system, attempt)
        verdict = read(reply)
        if verdict is not None:
            return verdict, reply
    return None, reply


def shortened(reply: str, length: int = 80) -> str:
    """A reply's end, where verdicts stand, on one line."""
    line = " ".join(reply.split())
    return repr(line if len(line) <= length else f"...{line[-length:]}")
