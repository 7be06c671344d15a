"""How every task reads a reply: what is measured on it, and where its answer is looked for.

All tasks share this file, so that a grade has the same parts whatever the task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from r1.records import Completion, Grade, Problem
from r1.rewards.format import FormatStyle, format_reward
from r1.rewards.language import language_reward
from r1.rewards.math import MathVerifier, extract_answer, is_formula, parse_number
from r1.rewards.repetition import repetition_rate
from r1.tasks.task import Split
from r1.text.language import language_consistency
from r1.text.reasoning import Reasoning, split_reasoning

# The directive that the DeepSeek-R1 README asks for in mathematical questions, and the
# Chinese one of DeepSeekMath.
BOXED_INSTRUCTIONS = {
    "en": "Please reason step by step, and put your final answer within \\boxed{}.",
    "zh": "请通过逐步推理来解答问题，并把最终答案放置于\\boxed{}中。",
}

# (score or None when the scorer failed, the answer that was scored, why)
Score = tuple[float | None, str | None, str]


def boxed_instruction(language: str) -> str:
    """The request for a boxed answer, in the language if there is one, else in English."""
    return BOXED_INSTRUCTIONS.get(language, BOXED_INSTRUCTIONS["en"])


def grade_reply(
    problem: Problem,
    completion: Completion,
    score: Callable[[Reasoning], Score],
    format_style: FormatStyle | None = None,
) -> Grade:
    """Split the reply, measure it, and score what comes after the thought.

    Parts: `format` 1.0 or 0.0 by the style, or, where that is None, by the one of R1's
    two forms that the reply took (a summary after the thought, or `<answer>` tags);
    `language` the share of the thought's words that are in the problem's language (0 for
    an empty thought; of the whole reply's where there is none); `repetition` from 0 to 1.
    A thought that never closes holds no answer: reward 0.
    """
    reasoning = split_reasoning(completion.text)
    parts = {
        "format": _format(completion.text, format_style, reasoning),
        "language": _language(completion.text, problem.language, reasoning),
        "repetition": repetition_rate(completion.text),
    }
    if not reasoning.is_closed:
        return Grade(0.0, parts, None, "the thought never closes, so there is no answer")
    reward, answer, reason = score(reasoning)
    return Grade(reward, parts, answer, reason)


def _language(text: str, language: str, reasoning: Reasoning) -> float:
    if reasoning.thought is None:
        return language_consistency(text, language)
    return language_reward(reasoning.thought, language, language_consistency)


def _format(text: str, style: FormatStyle | None, reasoning: Reasoning) -> float:
    return format_reward(text, style or ("r1_zero" if reasoning.answer_tagged else "chat"))


@dataclass(frozen=True)
class MathTask:
    """Problems whose answer is a number or an expression, checked by rule.

    The whole of a mathematical task: GSM8K, MATH-500, rows from a file and the
    miniature differ only in where their problems come from. A problem's metadata may hold
    `accepted_answers`, golds beside its answer, and `order_free`, for lists and tuples that
    are right in any order.
    """

    name: str
    instruction: str
    train: Sequence[Problem]
    test: Sequence[Problem]
    verifier: MathVerifier
    format_style: FormatStyle | None = None
    grader_version: str = "math-3"

    def problems(self, split: Split) -> Sequence[Problem]:
        return self.train if split == "train" else self.test

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        """Reward 1.0 or 0.0 by the verifier; None when it failed (crash, time limit)."""
        score = partial(self._score, problem)
        return grade_reply(problem, completion, score, self.format_style)

    def gold_error(self, problem: Problem) -> str:
        if problem.answer is None or not problem.answer.strip():
            return "no answer"
        golds = [problem.answer, *problem.metadata.get("accepted_answers", ())]
        return "" if any(map(self.verifier.is_readable, golds)) else "no verifier reads it"

    def _score(self, problem: Problem, reasoning: Reasoning) -> Score:
        if problem.answer is None:
            return None, None, "the problem has no gold answer"
        # In tags a formula is the answer whole: of \frac{1}{2} the last number is 2.
        is_whole = reasoning.answer_tagged and (
            parse_number(problem.answer) is None or is_formula(reasoning.answer)
        )
        answer = extract_answer(reasoning.answer, is_whole=is_whole)
        if answer is None:
            return 0.0, None, "no answer found"
        verdict = self.verifier.verify(
            [problem.answer, *problem.metadata.get("accepted_answers", ())],
            answer,
            question=problem.question,
            order_free=bool(problem.metadata.get("order_free", False)),
        )
        reward = None if verdict.is_correct is None else float(verdict.is_correct)
        return reward, answer, verdict.reason


@dataclass(frozen=True)
class OpenTask:
    """Prompts without a gold answer: their grade has parts, and no reward of its own."""

    name: str
    train: Sequence[Problem]
    test: Sequence[Problem]
    instruction: str = ""
    format_style: FormatStyle | None = None
    grader_version: str = "open-1"

    def problems(self, split: Split) -> Sequence[Problem]:
        return self.train if split == "train" else self.test

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        score = (None, None, "an open question")
        grade = grade_reply(problem, completion, lambda _: score, self.format_style)
        return replace(grade, reward=None)

    def gold_error(self, problem: Problem) -> str:
        return ""


@cache
def shared_verifier(num_workers: int, timeout_seconds: float) -> MathVerifier:
    """The process's one verifier of these settings, so that tasks share its workers.

    These start with the first answer that needs them and end with the process.
    """
    return MathVerifier(num_workers, timeout_seconds)
