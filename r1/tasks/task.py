"""What a task is, how one is named in a config, and the checks before training starts.

A task has problems and grades replies to them. The same grade serves as reward in
training, as filter in rejection sampling and as score in evaluation.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from r1.config import Config
from r1.records import Completion, Grade, Problem
from r1.rewards.format import FormatStyle

if TYPE_CHECKING:
    from r1.tasks.judged.judged import Judge

Split = Literal["train", "test"]

_PAIRS_PER_THREAD_JOB = 16
_MAX_EXAMPLES = 3


class TaskError(ValueError):
    """A task that cannot be used as asked: one line saying what, where and what would be right."""


class Task(Protocol):
    """Problems with gold answers, and a grader for replies to them."""

    @property
    def name(self) -> str:
        """The name it is asked for by, such as `gsm8k`."""
        ...

    @property
    def instruction(self) -> str:
        """What a chat prompt says after the question, such as where to put the answer."""
        ...

    @property
    def grader_version(self) -> str:
        """Kept with every verdict, such as `math-1`; another one where verdicts may differ."""
        ...

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split, in a fixed order; empty where the task has none."""
        ...

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        """Grade one reply; safe to call from several threads, never raises on a reply's content."""
        ...

    def gold_error(self, problem: Problem) -> str:
        """Why no reply to this problem could be graded correct; empty when all is well."""
        ...


@runtime_checkable
class ConversationTask(Task, Protocol):
    """A task that may answer a reply, such as with the output of tests that failed.

    Evaluation asks `next_message` after each reply, generates again with the whole
    conversation as the prompt while there is one, and grades once, at the end: `grade` sees
    the last reply with the earlier ones in `completion.earlier`.
    """

    def next_message(self, problem: Problem, completion: Completion) -> str | None:
        """What the user says to this reply, or None when the conversation is over.

        The same replies must give the same message, because an interrupted evaluation may ask
        again. Called from several threads; never raises on a reply's content. A checker that
        failed ends the conversation, and `grade` then says why with a reward of None.
        """
        ...


class TaskConfig(Config):
    """Which problems, how many, and how their answers are checked.

    `name` is `reasoning_gym/<family>`, `miniature`, a benchmark (`gsm8k`, `mmlu`, ...), or
    `question_answer` for rows from anywhere: a .jsonl, .json, .csv or .parquet
    file (.gz too), or the id of a Hugging Face data set. The names `jsonl`,
    `json`, `csv` and `parquet` are the same, whatever the file's extension;
    `prompts` are such rows without an answer, for reward models to judge.

    `path` is one source for both splits: a data set id, a folder that holds
    `<split>.jsonl` or `<name>_<split>.jsonl`, or one file, of which `num_test`
    problems drawn by `seed` become the test split. `train_path` and `test_path`
    name the splits apart. Fields may be dotted (`meta.answer`, `golds.0`); a field
    left out is the task's own. Without sizes, generated families give 1000 training and
    300 test problems, rows from a file all there are.

    `options` go to the task: for reasoning-gym the arguments of the family, for a
    data set id `subset`, `train_split` and `test_split`.
    """

    name: str
    path: str | None = None
    train_path: str | None = None
    test_path: str | None = None
    num_train: int | None = Field(default=None, ge=0)
    num_test: int | None = Field(default=None, ge=0)
    question_field: str | None = None
    answer_field: str | None = None
    id_field: str | None = None
    language_field: str | None = None
    language: str = "en"
    instruction: str | None = None
    format_style: FormatStyle | None = None
    """The form that the format part asks for; None accepts R1's chat form and R1-Zero's."""
    seed: int = 0
    options: dict[str, Any] = Field(default_factory=dict)
    score_threshold: float | None = Field(default=1.0, gt=0, le=1)
    """Partial scores at or above it count 1, the others 0; None keeps them as they are."""
    cache_folder: Path | None = None
    """Where problems of slow generators are kept for the next run."""
    verifier_workers: int = Field(default=2, ge=1)
    verifier_timeout_seconds: float = Field(default=5.0, gt=0)


def build_task(config: TaskConfig, judge: Judge | None = None) -> Task:
    """Make the task that the config names; `judge` grades where a judge does.

    Raises TaskError for an unknown name and for data that cannot be read.
    """
    family = config.name.split("/", 1)[0]
    if family in JUDGED_TASKS:
        return _build_judged(config, judge)
    builder = TASKS.get(family)
    if builder is None:
        known = nearest_names(family, (*TASKS, *JUDGED_TASKS))
        raise TaskError(f"unknown task {config.name!r}; {known}")
    return builder(config)


def nearest_names(name: str, known: Iterable[str]) -> str:
    """Words for an error: the closest known name, if any, and all of them."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(choices)}"


# Imported on use: reasoning-gym alone takes two seconds to import.
def _build_reasoning_gym(config: TaskConfig) -> Task:
    from r1.tasks.reasoning_gym.reasoning_gym import build_reasoning_gym

    return build_reasoning_gym(config)


def _build_question_answer(config: TaskConfig) -> Task:
    from r1.tasks.question_answer import build_question_answer

    return build_question_answer(config)


def _build_miniature(config: TaskConfig) -> Task:
    from r1.tasks.miniature.miniature import build_miniature

    return build_miniature(config)


def _build_ifeval(config: TaskConfig) -> Task:
    from r1.tasks.ifeval import build_ifeval

    return build_ifeval(config)


def _build_judged(config: TaskConfig, judge: Judge | None) -> Task:
    from r1.tasks.judged import answers, pairs

    builders: dict[str, Callable[[TaskConfig, Judge | None], Task]] = {
        "simpleqa": answers.build_simpleqa,
        "chinese_simpleqa": answers.build_chinese_simpleqa,
        "frames": answers.build_frames,
        "alpaca_eval": pairs.build_alpaca_eval,
        "arena_hard": pairs.build_arena_hard,
    }
    return builders[config.name.split("/", 1)[0]](config, judge)


# A judge model grades these; without one their grades have no reward.
JUDGED_TASKS = ("simpleqa", "chinese_simpleqa", "frames", "alpaca_eval", "arena_hard")


def _build_multiple_choice(config: TaskConfig) -> Task:
    from r1.tasks.multiple_choice.multiple_choice import build_multiple_choice

    return build_multiple_choice(config)


def _build_code(config: TaskConfig) -> Task:
    from r1.tasks.programming import code_problems, codeforces

    builders: dict[str, Callable[[TaskConfig], Task]] = {
        "livecodebench": code_problems.build_livecodebench,
        "humaneval": code_problems.build_humaneval,
        "mbpp": code_problems.build_mbpp,
        "code": code_problems.build_code,
        "codeforces": codeforces.build_codeforces,
    }
    return builders[config.name](config)


def _build_aider_polyglot(config: TaskConfig) -> Task:
    from r1.tasks.aider.polyglot import build_aider_polyglot

    return build_aider_polyglot(config)


def _build_drop(config: TaskConfig) -> Task:
    from r1.tasks.drop import build_drop

    return build_drop(config)


def _build_math_set(config: TaskConfig) -> Task:
    from r1.tasks.math_sets import build_math_set

    return build_math_set(config)


def _build_swebench(config: TaskConfig) -> Task:
    from r1.tasks.swebench.swebench import build_swebench

    return build_swebench(config)


TASKS: dict[str, Callable[[TaskConfig], Task]] = {
    "reasoning_gym": _build_reasoning_gym,
    "miniature": _build_miniature,
    "gsm8k": _build_question_answer,
    "prompts": _build_question_answer,
    "math500": _build_question_answer,
    "question_answer": _build_question_answer,
    "jsonl": _build_question_answer,
    "json": _build_question_answer,
    "csv": _build_question_answer,
    "parquet": _build_question_answer,
    **dict.fromkeys(("math", "aime2024", "aime2025", "amc23", "cnmo2024"), _build_math_set),
    **dict.fromkeys(("gaokao2024", "minerva_math", "olympiadbench", "cmath"), _build_math_set),
    "ifeval": _build_ifeval,
    "drop": _build_drop,
    "aider_polyglot": _build_aider_polyglot,
    "swebench_verified": _build_swebench,
    "swebench_localisation": _build_swebench,
    **dict.fromkeys(("livecodebench", "humaneval", "mbpp", "code", "codeforces"), _build_code),
    **dict.fromkeys(
        ("mmlu", "mmlu_redux", "mmlu_pro", "gpqa_diamond", "ceval", "cluewsc"),
        _build_multiple_choice,
    ),
}


def grade_all(
    task: Task, pairs: Sequence[tuple[Problem, Completion]], num_threads: int = 4
) -> list[Grade]:
    """Grade every (problem, completion); result[i] belongs to pairs[i].

    Threads only keep several verifier processes busy at once; small jobs of pairs
    are dealt to them as they become free, so that a slow answer holds up few others.
    """
    if num_threads <= 1 or len(pairs) <= _PAIRS_PER_THREAD_JOB:
        return [task.grade(problem, completion) for problem, completion in pairs]
    starts = range(0, len(pairs), _PAIRS_PER_THREAD_JOB)

    def grade_job(start: int) -> list[Grade]:
        job = pairs[start : start + _PAIRS_PER_THREAD_JOB]
        return [task.grade(problem, completion) for problem, completion in job]

    with ThreadPoolExecutor(num_threads, thread_name_prefix="grade") as pool:
        return [grade for grades in pool.map(grade_job, starts) for grade in grades]


def preflight(task: Task, splits: Sequence[Split] = ("train", "test")) -> None:
    """Check that the task can be trained or measured on, before a model is loaded.

    Looks for empty splits, ids that occur twice, questions that are in both splits,
    and gold answers that no reply could match.

    Raises:
        TaskError: with a count and the first examples of everything found.
    """
    faults: list[str] = []
    problems_by_split = {split: task.problems(split) for split in splits}
    for split, problems in problems_by_split.items():
        if not problems:
            faults.append(f"the {split} split is empty")
    everything = [problem for problems in problems_by_split.values() for problem in problems]
    faults += _duplicate_ids(everything)
    if len(problems_by_split) > 1:
        faults += _overlap(problems_by_split["train"], problems_by_split["test"])
    faults += _bad_golds(task, everything)
    if faults:
        raise TaskError(f"task {task.name!r}: {'; '.join(faults)}")


def first_of(examples: Sequence[str], separator: str = ", ") -> str:
    """Words for an error: the first three of many, and dots where there are more."""
    more = [*examples[:_MAX_EXAMPLES], "..."]
    return separator.join(examples if len(examples) <= _MAX_EXAMPLES else more)


def question_key(question: str) -> str:
    """What makes two questions the same: their text, white space and case aside."""
    return " ".join(question.split()).casefold()


def _duplicate_ids(problems: Sequence[Problem]) -> list[str]:
    counts = Counter(problem.id for problem in problems)
    repeated = [f"{name!r} ({count} times)" for name, count in counts.items() if count > 1]
    return _fault(repeated, "ids occur more than once")


def _overlap(train: Sequence[Problem], test: Sequence[Problem]) -> list[str]:
    train_keys = {question_key(problem.question) for problem in train}
    shared = [
        f"{problem.id}: {_shortened(problem.question)}"
        for problem in test
        if question_key(problem.question) in train_keys
    ]
    return _fault(shared, "test questions are also in the train split")


def _bad_golds(task: Task, problems: Sequence[Problem]) -> list[str]:
    bad = [
        f"{problem.id}: {_shortened(problem.answer or '')} ({error})"
        for problem in problems
        if (error := task.gold_error(problem))
    ]
    return _fault(bad, f"of {len(problems)} answers cannot be verified")


def _fault(examples: list[str], what: str) -> list[str]:
    return [f"{len(examples)} {what}, first {first_of(examples)}"] if examples else []


def _shortened(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else text[:length] + "...")
