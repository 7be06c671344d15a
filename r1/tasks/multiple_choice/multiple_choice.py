"""Multiple-choice benchmarks: MMLU, MMLU-Redux, MMLU-Pro, GPQA-Diamond, C-Eval, CLUEWSC.

The question is the whole user message, form of the answer included; the gold is a letter,
and a grade's answer is the letter that the reply chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from r1.records import Completion, Grade, Problem
from r1.rewards.choice import read_choice, read_json_choice
from r1.rewards.format import FormatStyle
from r1.tasks.benchmark_rows import HUB_OPTIONS, draw_test, read_benchmark, refuse_unknown_options
from r1.tasks.grading import Score, grade_reply
from r1.tasks.multiple_choice.formats import FORMATS, LETTERS, ChoiceFormat, ReplyForm
from r1.tasks.row_files import Row
from r1.tasks.task import Split, TaskConfig, TaskError, first_of
from r1.text.reasoning import Reasoning

_VERSION = "1"


@dataclass(frozen=True)
class MultipleChoiceTask:
    """Questions with lettered options; `metadata` has the options and the accepted letters.

    `label` says which golds a score is by, where there are several.
    """

    name: str
    test: Sequence[Problem]
    reply_form: ReplyForm = "line"
    format_style: FormatStyle | None = None
    instruction: str = ""
    grader_version: str = f"choice-{_VERSION}"
    label: str = ""

    def problems(self, split: Split) -> Sequence[Problem]:
        return () if split == "train" else self.test

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        """Reward 1.0 when the one option that the reply states is accepted, else 0.0."""
        score = partial(self._score, problem)
        return grade_reply(problem, completion, score, self.format_style)

    def gold_error(self, problem: Problem) -> str:
        options, accepted = problem.metadata["options"], problem.metadata["accepted"]
        letters = LETTERS[: len(options)]
        return "" if accepted and set(accepted) <= set(letters) else "the gold is no option"

    def _score(self, problem: Problem, reasoning: Reasoning) -> Score:
        options = dict(zip(LETTERS, problem.metadata["options"], strict=False))
        if self.reply_form == "json":
            choice = read_json_choice(reasoning.answer, options)
        else:
            choice = read_choice(reasoning.answer, options, is_whole=reasoning.answer_tagged)
        return float(choice.label in problem.metadata["accepted"]), choice.label, choice.reason


def build_multiple_choice(config: TaskConfig) -> MultipleChoiceTask:
    """Read the questions of the benchmark that the config names.

    Raises TaskError for records that are not of its form, with the count and the first places.
    """
    form = FORMATS[config.name]
    refuse_unknown_options(config, (*HUB_OPTIONS, *form.options, *form.free_options))
    for option, values in form.options.items():
        if config.options.get(option, values[0]) not in values:
            choices = ", ".join(map(str, values))
            raise TaskError(f"option {option} is {config.options[option]!r}; choose from {choices}")
    problems = _problems(config, form, read_benchmark(config, form.files))
    # What changes verdicts is part of the grader's version: MMLU-Redux has several golds.
    chosen = [str(config.options.get(name, values[0])) for name, values in form.options.items()]
    return MultipleChoiceTask(
        name=config.name,
        test=draw_test(problems, config),
        reply_form=form.reply_form,
        format_style=config.format_style,
        grader_version="-".join(["choice", _VERSION, *chosen]),
        label=f"gold answers: {chosen[0]}" if "gold" in form.options else "",
    )


def _problems(config: TaskConfig, form: ChoiceFormat, rows: Sequence[Row]) -> list[Problem]:
    problems: list[Problem] = []
    faults: list[str] = []
    for number, row in enumerate(rows):
        try:
            problem = _problem(config, form, row, number)
        except KeyError as error:
            faults.append(f"{row.location}: no field {error}")
        except (ValueError, TypeError) as error:
            faults.append(f"{row.location}: {error}")
        else:
            problems += [problem] if problem is not None else []
    if faults:
        examples = first_of(faults, "; ")
        raise TaskError(
            f"{len(faults)} of {len(rows)} rows are not of {config.name}'s form: {examples}"
        )
    return problems


def _problem(config: TaskConfig, form: ChoiceFormat, row: Row, number: int) -> Problem | None:
    question = form.read(row.data, number, config.options)
    if question is None:
        return None
    return Problem(
        id=question.id or f"test-{number}",
        question=question.prompt,
        answer=question.accepted[0],
        language=form.language,
        task=config.name,
        metadata={
            **question.metadata,
            "options": list(question.options),
            "accepted": list(question.accepted),
        },
    )
