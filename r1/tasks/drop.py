"""DROP: questions on a passage, three examples in the prompt, F1 of the words.

Records and prompt are those of openai/simple-evals (MIT), drop_eval.py: `context` (passage
and question), `completion`, `ref_text` with the accepted answers between bars.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from r1.records import Completion, Grade, Problem
from r1.rewards.bag_of_words import best_overlap
from r1.rewards.format import FormatStyle
from r1.rewards.math import extract_boxed
from r1.tasks.benchmark_data import locate
from r1.tasks.benchmark_rows import draw_test, refuse_unknown_options
from r1.tasks.grading import grade_reply
from r1.tasks.row_files import Row, read_rows
from r1.tasks.task import Split, TaskConfig, TaskError
from r1.text.reasoning import Reasoning, split_reasoning

_FOLDER = "drop"
_TEST_NAMES = ("drop_v0_dev.jsonl.gz", "drop_v0_dev.jsonl")
_EXAMPLE_NAMES = ("drop_v0_train.jsonl.gz", "drop_v0_train.jsonl")
_HOW_TO_GET = (
    "download drop_v0_dev.jsonl.gz, and drop_v0_train.jsonl.gz for the examples in the prompt, "
    "from https://openaipublic.blob.core.windows.net/simple-evals/ into one folder and set path"
)
_OPTIONS = ("num_shots",)
_DEFAULT_SHOTS = 3
# The seed of simple-evals; which examples a question gets depends on its threads there.
_EXAMPLE_SEED = 42

_INTRODUCTION = (
    "You will be asked to read a passage and answer a question. "
    "Some examples of passages and Q&A are provided below."
)
_REQUEST = (
    "\n\nThink step by step, then write a line of the form "
    '"Answer: $ANSWER" at the end of your response.'
)
_ANSWER_LINE = re.compile(r"answer[*_]*\s*:[*_]*\s*([^\n]+)", re.IGNORECASE)


@dataclass(frozen=True)
class DropTask:
    """Questions on passages; `metadata["golds"]` has the accepted answers.

    A grade's part `exact_match` is 1.0 or 0.0.
    """

    name: str
    test: Sequence[Problem]
    format_style: FormatStyle | None = None
    instruction: str = ""
    grader_version: str = "drop-1"

    def problems(self, split: Split) -> Sequence[Problem]:
        return () if split == "train" else self.test

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        """Reward: F1 in [0, 1], the best over the golds; 0.0 without an answer."""
        answer = read_answer(split_reasoning(completion.text))
        found = best_overlap(answer or "", problem.metadata["golds"])
        # Of a gold such as "The" no word is left, and a blank answer would agree with it.
        f1 = found.f1 if answer else 0.0
        score = (f1, answer, f"F1 {f1:.2f}" if answer else "no answer found")
        grade = grade_reply(problem, completion, lambda _: score, self.format_style)
        is_exact = found.is_exact and grade.answer is not None
        return replace(grade, parts={**grade.parts, "exact_match": float(is_exact)})

    def gold_error(self, problem: Problem) -> str:
        return "" if any(gold.strip() for gold in problem.metadata["golds"]) else "no answer"


def read_answer(reasoning: Reasoning) -> str | None:
    """What follows the last `Answer:`, or the last box, or else the whole reply."""
    lines = _ANSWER_LINE.findall(reasoning.answer)
    text = lines[-1] if lines else reasoning.answer
    boxed = extract_boxed(text)
    return (boxed or text).strip(" \t\n*_$`") or None


def build_drop(config: TaskConfig) -> DropTask:
    """Read questions and examples; the option `num_shots` says how many of these (3).

    Raises TaskError for missing files and for records of another form.
    """
    refuse_unknown_options(config, _OPTIONS)
    num_shots = config.options.get("num_shots", _DEFAULT_SHOTS)
    if not isinstance(num_shots, int) or num_shots < 0:
        raise TaskError(f"option num_shots is {num_shots!r}, not a number from 0")
    test_file = locate(config.test_path or config.path, _FOLDER, _TEST_NAMES, _HOW_TO_GET)
    examples: list[Row] = []
    if num_shots:
        folder = config.train_path or str(test_file.parent)
        examples = read_rows(locate(folder, _FOLDER, _EXAMPLE_NAMES, _HOW_TO_GET))
        if len(examples) < num_shots:
            raise TaskError(f"task {config.name!r}: {len(examples)} examples, {num_shots} wanted")
    problems = [
        _problem(config, row, number, examples, num_shots)
        for number, row in enumerate(read_rows(test_file))
    ]
    return DropTask(config.name, draw_test(problems, config), config.format_style)


def _problem(
    config: TaskConfig, row: Row, number: int, examples: Sequence[Row], num_shots: int
) -> Problem:
    golds = [gold.strip() for gold in row.text("ref_text").split("|") if gold.strip()]
    if not golds:
        raise TaskError(f"{row.location}: ref_text holds no answer")
    shots = random.Random(f"{_EXAMPLE_SEED}:{number}").sample(examples, num_shots)
    return Problem(
        id=f"test-{number}",
        question=render_prompt(row, shots),
        answer=golds[0],
        task=config.name,
        metadata={"golds": golds},
    )


def render_prompt(row: Row, shots: Sequence[Row]) -> str:
    """The prompt of simple-evals, whose last blanks are left out."""
    shown = "".join(f"\n---\n{shot.text('context')} {shot.text('completion')}\n" for shot in shots)
    task = f"\n# Your Task\n\n---\n{row.text('context')} {_REQUEST}"
    return f"{_INTRODUCTION}\n\n# Examples{shown}{task}"
