"""IF-Eval: 541 prompts with instructions that code can check.

The headline is prompt-level strict: every instruction followed. Each grade carries the
verdict on every instruction, strict and loose, so that the four official numbers come
from the records (`official_scores`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from r1.records import Completion, Grade, Problem
from r1.rewards.format import FormatStyle
from r1.rewards.instructions.following import (
    Following,
    Instruction,
    check_following,
    read_instructions,
)
from r1.tasks.benchmark_rows import (
    HUB_OPTIONS,
    BenchmarkFiles,
    draw_test,
    read_benchmark,
    refuse_unknown_options,
)
from r1.tasks.grading import grade_reply
from r1.tasks.row_files import Row
from r1.tasks.task import Split, TaskConfig, TaskError
from r1.text.reasoning import split_reasoning

# google-research/instruction_following_eval (Apache License 2.0).
FILES = BenchmarkFiles(
    folder="ifeval",
    names=("ifeval_input_data.jsonl", "ifeval_input_data.jsonl.gz", "input_data.jsonl"),
    hub_id="google/IFEval",
    hub_split="train",
)


@dataclass(frozen=True)
class IfevalTask:
    """Prompts as they are; a reply is graded by the instructions in the problem's metadata.

    Parts of a grade: `prompt_strict` and `prompt_loose` 1.0 or 0.0; `inst_strict` and
    `inst_loose` the shares of instructions followed; `num_instructions`; and for the i-th
    instruction `strict:<i>:<kind>` and `loose:<i>:<kind>`.
    """

    name: str
    test: Sequence[Problem]
    format_style: FormatStyle | None = None
    instruction: str = ""
    grader_version: str = "ifeval-1"

    def problems(self, split: Split) -> Sequence[Problem]:
        return () if split == "train" else self.test

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        """Reward 1.0 when all instructions are followed strictly, else 0.0.

        A thought that never closes follows none.
        """
        instructions = _instructions(problem.metadata)
        following = check_following(instructions, split_reasoning(completion.text).answer)
        missed = [
            instruction.kind
            for instruction, is_followed in zip(instructions, following.strict, strict=True)
            if not is_followed
        ]
        reason = f"not followed: {', '.join(missed)}" if missed else "all instructions followed"
        score = (float(not missed), None, reason)
        grade = grade_reply(problem, completion, lambda _: score, self.format_style)
        return replace(grade, parts={**grade.parts, **_parts(instructions, following)})

    def gold_error(self, problem: Problem) -> str:
        try:
            _instructions(problem.metadata)
        except ValueError as error:
            return str(error)
        return ""


@dataclass(frozen=True, slots=True)
class IfevalScores:
    """The four numbers of the paper: shares of prompts and of instructions, in [0, 1]."""

    prompt_strict: float
    instruction_strict: float
    prompt_loose: float
    instruction_loose: float


def official_scores(graded_parts: Iterable[Mapping[str, float]]) -> IfevalScores:
    """The official numbers from the parts of one grade a prompt.

    Instruction-level numbers count instructions, not prompts: one with three weighs three
    times as much. Raises ValueError where there is no grade.
    """
    parts = list(graded_parts)
    if not parts:
        raise ValueError("no grades to make IF-Eval's scores from")
    num_instructions = sum(part["num_instructions"] for part in parts)

    def share_of_instructions(name: str) -> float:
        return sum(part[name] * part["num_instructions"] for part in parts) / num_instructions

    return IfevalScores(
        prompt_strict=sum(part["prompt_strict"] for part in parts) / len(parts),
        instruction_strict=share_of_instructions("inst_strict"),
        prompt_loose=sum(part["prompt_loose"] for part in parts) / len(parts),
        instruction_loose=share_of_instructions("inst_loose"),
    )


def build_ifeval(config: TaskConfig) -> IfevalTask:
    """Read the prompts; TaskError for a record that is not of the official form."""
    refuse_unknown_options(config, HUB_OPTIONS)
    rows = read_benchmark(config, FILES)
    problems = [_problem(row, config.name) for row in rows]
    return IfevalTask(config.name, draw_test(problems, config), config.format_style)


def _problem(row: Row, task: str) -> Problem:
    try:
        prompt, key = row.data["prompt"], row.data["key"]
        instructions = _instructions(row.data)
    except (KeyError, ValueError, TypeError) as error:
        what = f"no field {error}" if isinstance(error, KeyError) else error
        raise TaskError(f"{row.location}: not a record of IF-Eval: {what}") from None
    languages = [
        str(each.arguments["language"])
        for each in instructions
        if each.kind == "language:response_language"
    ]
    return Problem(
        id=str(key),
        question=prompt,
        answer=None,
        language=languages[0] if languages else "en",
        task=task,
        metadata={
            "instruction_id_list": [each.kind for each in instructions],
            "kwargs": [dict(each.arguments) for each in instructions],
        },
    )


def _instructions(data: Mapping[str, Any]) -> tuple[Instruction, ...]:
    return read_instructions(data["instruction_id_list"], data["kwargs"])


def _parts(instructions: Sequence[Instruction], following: Following) -> dict[str, float]:
    parts = {"num_instructions": float(len(instructions))}
    for mode, verdicts in (("strict", following.strict), ("loose", following.loose)):
        parts[f"prompt_{mode}"] = float(all(verdicts))
        parts[f"inst_{mode}"] = sum(verdicts) / len(verdicts)
        for index, (each, is_followed) in enumerate(zip(instructions, verdicts, strict=True)):
            parts[f"{mode}:{index}:{each.kind}"] = float(is_followed)
    return parts
