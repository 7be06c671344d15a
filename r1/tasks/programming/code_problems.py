"""Programming problems, graded by running the program that a reply holds.

`livecodebench`, `humaneval` and `mbpp` are the benchmarks; `code` are problems from a file
of the user's, to train on or to measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from r1.records import Completion, Grade, Problem
from r1.rewards.format import FormatStyle
from r1.rewards.programs.blocks import CodeBlock, ProgramLanguage, extract_code
from r1.rewards.programs.checker import CodeChecker, CodeLimits
from r1.rewards.programs.verdict import CodeTests
from r1.tasks.benchmark_data import locate
from r1.tasks.benchmark_rows import (
    HUB_OPTIONS,
    BenchmarkFiles,
    draw,
    draw_test,
    is_hub_id,
    read_benchmark,
    read_hub,
    refuse_unknown_options,
)
from r1.tasks.grading import Score, grade_reply
from r1.tasks.programming.code_tests import (
    humaneval_tests,
    livecodebench_tests,
    mbpp_tests,
    record_tests,
)
from r1.tasks.row_files import Row, read_rows
from r1.tasks.task import Split, TaskConfig, TaskError
from r1.text.reasoning import Reasoning

GRADER_VERSION = "code-2"
LIMIT_OPTIONS = ("test_seconds", "memory_mb", "total_seconds")
# Stands for the gold of a problem, which has tests and no answer.
GOLD = "passes all tests"
_MIB = 1 << 20

LIVECODEBENCH = BenchmarkFiles(
    "livecodebench",
    ("livecodebench.jsonl", "test.jsonl", "test5.jsonl", "test6.jsonl", "livecodebench.parquet"),
    how_to_get=(
        "its problems are not shipped: run huggingface-cli download --repo-type dataset "
        "livecodebench/code_generation_lite --local-dir FOLDER and set path=FOLDER"
    ),
)
HUMANEVAL = BenchmarkFiles(
    "humaneval",
    ("humaneval.jsonl", "HumanEval.jsonl", "HumanEval.jsonl.gz", "humaneval.parquet"),
    "openai/openai_humaneval",
    how_to_get="HumanEval.jsonl.gz of github.com/openai/human-eval",
)
MBPP = BenchmarkFiles(
    "mbpp",
    ("mbpp.jsonl", "mbpp_test.jsonl", "sanitized-mbpp.json", "mbpp.parquet"),
    "google-research-datasets/mbpp",
    "full",
    how_to_get="mbpp.jsonl of github.com/google-research/google-research",
)

# lcb_runner/prompts/code_generation.py of LiveCodeBench (MIT): the text of its DeepSeek-R1
# form without the template's tokens, and its generic form.
_LCB_TASK = (
    "You will be given a question (problem specification) and will generate a correct Python "
    "program that matches the specification and passes all tests."
)
_LCB_STARTER = (
    "You will use the following starter code to write the solution to the problem and enclose "
    "your code within delimiters."
)
_LCB_STDIN = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not "
    "directly test on the sample inputs). Enclose your code within delimiters as follows. "
    "Ensure that when the python program runs, it reads the inputs, runs the algorithm and "
    "writes output to STDOUT."
)
# humaneval_eval.py of openai/simple-evals (MIT).
_HUMANEVAL_TASK = (
    "Read the following function signature and docstring, and fully implement the function "
    "described. Your response should only contain the code for this function.\n"
)
_STUB = "    pass\n\n\n"
_FENCE_REQUEST = "Put the whole program into one block that starts with ```python (or ```cpp)."


@dataclass(frozen=True)
class CodeTask:
    """Problems with tests: reward 1.0 when the reply's last program passes all of them.

    A problem's metadata is its record, and `read_tests` reads the tests when they are
    needed: those of LiveCodeBench are large, and stay packed. `complete` makes a whole
    program of what a reply holds; the reply may then be bare code, without a block.
    """

    name: str
    train: Sequence[Problem]
    test: Sequence[Problem]
    checker: CodeChecker
    read_tests: Callable[[Mapping[str, Any]], CodeTests] = record_tests
    instruction: str = ""
    language: ProgramLanguage | None = None
    complete: Callable[[str, Mapping[str, Any]], str] | None = None
    format_style: FormatStyle | None = None
    grader_version: str = GRADER_VERSION

    def problems(self, split: Split) -> Sequence[Problem]:
        return self.train if split == "train" else self.test

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        """Reward 1.0 or 0.0; None when the sandbox failed or there is none."""
        score = partial(self._score, problem)
        return grade_reply(problem, completion, score, self.format_style)

    def gold_error(self, problem: Problem) -> str:
        fault = self.checker.fault()
        if fault:
            return fault
        try:
            self.read_tests(problem.metadata)
        except (ValueError, KeyError, TypeError) as error:
            return str(error)
        return ""

    def _score(self, problem: Problem, reasoning: Reasoning) -> Score:
        is_whole = reasoning.answer_tagged or self.complete is not None
        block = extract_code(reasoning.answer, self.language, is_whole=is_whole)
        if block is None:
            return 0.0, None, "no fenced block with a program"
        try:
            tests = self.read_tests(problem.metadata)
        except (ValueError, KeyError, TypeError) as error:
            return None, block.code, f"the problem's tests cannot be read: {error}"
        code = self.complete(block.code, problem.metadata) if self.complete else block.code
        seconds = problem.metadata.get("time_limit")
        verdict = self.checker.check(CodeBlock(block.tag, code), tests, _seconds(seconds))
        reward = None if verdict.is_passed is None else float(verdict.is_passed)
        return reward, block.code, f"{verdict.outcome}: {verdict.reason}"


def build_livecodebench(config: TaskConfig) -> CodeTask:
    """LiveCodeBench: the problems of contests from 2024-08 to 2025-01.

    Options: `window_start`, `window_end` (dates or beginnings of them, both inside),
    `prompt` ("r1", or "generic" for the form of other chat models), and limits.
    """
    own = ("window_start", "window_end", "prompt")
    refuse_unknown_options(config, (*HUB_OPTIONS, *LIMIT_OPTIONS, *own))
    start = str(config.options.get("window_start", "2024-08"))
    end = str(config.options.get("window_end", "2025-01"))
    form = config.options.get("prompt", "r1")
    if form not in ("r1", "generic"):
        raise TaskError(f"livecodebench: prompt {form!r}; known: generic, r1")
    rows = [row for row in _livecodebench_rows(config) if _is_inside(row, start, end)]
    if not rows:
        raise TaskError(f"livecodebench: no problem of a contest from {start} to {end} in the file")
    problems = [
        _problem(
            config, row, "question_id", livecodebench_prompt(row.data, is_generic=form == "generic")
        )
        for row in rows
    ]
    return _benchmark(config, problems, livecodebench_tests, language="python")


def build_humaneval(config: TaskConfig) -> CodeTask:
    """HumanEval and sets in its form (`prompt`, `entry_point`, `test`)."""
    refuse_unknown_options(config, (*HUB_OPTIONS, *LIMIT_OPTIONS))
    problems = [
        _problem(config, row, "task_id", _HUMANEVAL_TASK + row.text("prompt"))
        for row in read_benchmark(config, HUMANEVAL)
    ]
    return _benchmark(config, problems, humaneval_tests, "python", humaneval_program)


def build_mbpp(config: TaskConfig) -> CodeTask:
    """MBPP's 500 test problems (11 to 510), or the sanitized ones among them."""
    refuse_unknown_options(config, (*HUB_OPTIONS, *LIMIT_OPTIONS))
    rows = read_benchmark(config, MBPP)
    rows = [row for row in rows if 11 <= int(row.data.get("task_id", 11)) <= 510]
    problems = [_problem(config, row, "task_id", mbpp_prompt(row)) for row in rows]
    return _benchmark(config, problems, mbpp_tests, language="python")


def build_code(config: TaskConfig) -> CodeTask:
    """Problems from `path`, or from `train_path` and `test_path`: any file or hub data set.

    A row has `question` or `prompt`, tests in a form of `record_tests`, and may have `id`,
    `starter_code`, `language` (python, cpp) and `time_limit` (seconds). Options: limits.
    """
    refuse_unknown_options(config, (*HUB_OPTIONS, *LIMIT_OPTIONS))
    if config.path is None and config.train_path is None and config.test_path is None:
        raise TaskError("task 'code': set path, or train_path and test_path")
    if config.path is not None:
        problems = _own_problems(config, _rows(config, config.path, "train"), "row")
        test = draw(problems, config.num_test or 0, f"{config.seed}:test", config.name)
        taken = {problem.id for problem in test}
        train = [problem for problem in problems if problem.id not in taken]
    else:
        train = _own_problems(config, _rows(config, config.train_path, "train"), "train")
        test = _own_problems(config, _rows(config, config.test_path, "test"), "test")
        test = draw_test(test, config)
    return CodeTask(
        name=config.name,
        train=draw(train, config.num_train, f"{config.seed}:train", config.name),
        test=test,
        checker=code_checker(config),
        instruction=_FENCE_REQUEST if config.instruction is None else config.instruction,
        format_style=config.format_style,
    )


# ---------------------------------------------------------------- prompts and programs


def livecodebench_prompt(record: Mapping[str, Any], is_generic: bool = False) -> str:
    """The user message of LiveCodeBench's own runner for DeepSeek-R1, or its generic one."""
    question, starter = record["question_content"], record.get("starter_code")
    request = _LCB_STARTER if starter else _LCB_STDIN
    block = f"```python\n{starter or '# YOUR CODE HERE'}\n```\n\n"
    if is_generic:
        answer = "### Answer: (use the provided format with backticks)\n\n"
        return f"### Question:\n{question}\n\n### Format: {request}\n{block}{answer}"
    return f"{_LCB_TASK}\n\nQuestion: {question}\n\n{request}\n{block}"


def mbpp_prompt(row: Row) -> str:
    """The task's text and its asserts, as in the paper (arXiv:2108.07732), without examples."""
    text = row.data.get("text") or row.text("prompt")
    tests = "\n".join(row.data["test_list"])
    return (
        f"You are an expert Python programmer, and here is your task: {text} Your code should "
        f"pass these tests:\n\n{tests}\n\nEnclose your code within delimiters:\n"
        "```python\n# YOUR CODE HERE\n```"
    )


def humaneval_program(code: str, record: Mapping[str, Any]) -> str:
    """The prompt, for its imports and helpers, and then the reply's function or its body."""
    name = record["entry_point"]
    has_function = f"def {name}(" in code
    return f"{record['prompt']}{_STUB if has_function else ''}{code}\n"


# ---------------------------------------------------------------- rows to problems


def code_checker(config: TaskConfig) -> CodeChecker:
    """The process's one checker with the limits of the config's options."""
    given = {name: config.options[name] for name in LIMIT_OPTIONS if name in config.options}
    for name, value in given.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise TaskError(f"task {config.name!r}: {name} must be above 0, not {value!r}")
    defaults = CodeLimits()
    return _shared_checker(
        float(given.get("test_seconds", defaults.test_seconds)),
        int(given.get("memory_mb", defaults.memory_bytes // _MIB)) * _MIB,
        float(given.get("total_seconds", defaults.total_seconds)),
    )


@cache
def _shared_checker(test_seconds: float, memory_bytes: int, total_seconds: float) -> CodeChecker:
    return CodeChecker(CodeLimits(test_seconds, memory_bytes, total_seconds))


def _benchmark(
    config: TaskConfig,
    problems: list[Problem],
    read_tests: Callable[[Mapping[str, Any]], CodeTests],
    language: ProgramLanguage,
    complete: Callable[[str, Mapping[str, Any]], str] | None = None,
) -> CodeTask:
    return CodeTask(
        name=config.name,
        train=[],
        test=draw_test(problems, config),
        checker=code_checker(config),
        read_tests=read_tests,
        language=language,
        complete=complete,
        format_style=config.format_style,
    )


def _livecodebench_rows(config: TaskConfig) -> list[Row]:
    """All rows; of the release's folder all its files, which hold the problems in turn."""
    path = config.test_path or config.path
    if path is None or not is_hub_id(path):
        files = LIVECODEBENCH
        first = locate(path, files.folder, files.names, files.directions)
        parts = sorted(first.parent.glob("test*.jsonl")) if first.stem.startswith("test") else []
        return [row for part in parts or [first] for row in read_rows(part)]
    return read_benchmark(config, LIVECODEBENCH)


def _is_inside(row: Row, start: str, end: str) -> bool:
    date = str(row.data.get("contest_date", ""))
    if not date:
        raise TaskError(f"{row.location}: no contest_date")
    return start <= date[: len(start)] and date[: len(end)] <= end


def _rows(config: TaskConfig, path: str | None, split: Split) -> list[Row]:
    if path is None:
        return []
    if is_hub_id(path):
        hub_split = config.options.get(f"{split}_split", split)
        return read_hub(path, config.options.get("subset"), hub_split)
    return read_rows(Path(path).expanduser())


def _problem(config: TaskConfig, row: Row, id_field: str, question: str) -> Problem:
    return Problem(row.text(id_field), question, GOLD, task=config.name, metadata=row.data)


def _own_problems(config: TaskConfig, rows: Sequence[Row], prefix: str) -> list[Problem]:
    problems = []
    for number, row in enumerate(rows):
        field = config.question_field or ("question" if "question" in row.data else "prompt")
        question = row.text(field).strip()
        starter = row.data.get("starter_code")
        if starter:
            question += f"\n\n{_LCB_STARTER}\n```python\n{starter}\n```"
        # Not the file's name: an id is the same wherever the file lies.
        name = str(row.data.get(config.id_field or "id", f"{prefix}-{number}"))
        problems.append(Problem(name, question, GOLD, task=config.name, metadata=row.data))
    return problems


def _seconds(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and value > 0 else None
