"""Codeforces problems from the user's records, with the standings of their contests.

Problems are rows in the form of open-r1/codeforces on the hub: `contest_id`, `index`,
`description`, `input_format`, `output_format`, `note`, `examples`, `time_limit` (seconds),
`rating`, `official_tests` or `tests` ({input, output}), and `tolerance` where the checker
compares numbers. Standings are one row a contest: `contest_id`, `problems` ({index, points}),
`participants` ({rating, points, penalty}: the rating before the contest).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1.records import Problem
from r1.rewards.programs.verdict import CodeTests
from r1.tasks.benchmark_data import locate
from r1.tasks.benchmark_rows import (
    HUB_OPTIONS,
    BenchmarkFiles,
    draw_test,
    read_benchmark,
    refuse_unknown_options,
)
from r1.tasks.programming.code_problems import GOLD, LIMIT_OPTIONS, CodeTask, code_checker
from r1.tasks.programming.code_tests import paired_tests
from r1.tasks.row_files import Row, read_rows
from r1.tasks.task import TaskConfig, TaskError

CODEFORCES = BenchmarkFiles(
    "codeforces",
    ("codeforces.jsonl", "codeforces.parquet", "problems.jsonl"),
    how_to_get="its problems are not shipped: supply rows as tasks/programming/codeforces.py says",
)
_STANDINGS = ("standings.jsonl", "standings.json")
_LANGUAGES = {"cpp": "C++17", "python": "Python 3"}


def build_codeforces(config: TaskConfig) -> CodeTask:
    """Codeforces problems; rewards are per submission, the rating is made of the records.

    Options: `standings` and `ratings` (files; without standings there is no rating, without
    ratings the percentile is among the contests' participants), `language` (cpp or python:
    what the prompt asks for; a reply in the other one is run as well), `skip_checkers`
    (leave out problems with a checker program instead of refusing them), limits.
    """
    own = ("standings", "ratings", "language", "skip_checkers")
    refuse_unknown_options(config, (*HUB_OPTIONS, *LIMIT_OPTIONS, *own))
    language = config.options.get("language", "cpp")
    if language not in _LANGUAGES:
        raise TaskError(f"codeforces: language {language!r}; known: cpp, python")
    rows = _without_checkers(config, read_benchmark(config, CODEFORCES))
    contests = _contests(config)
    ratings = _human_ratings(config)
    problems = [
        _problem(config, row, contests.get(row.text("contest_id")), ratings, language)
        for row in rows
    ]
    return CodeTask(
        name=config.name,
        train=[],
        test=draw_test(problems, config),
        checker=code_checker(config),
        read_tests=codeforces_tests,
        format_style=config.format_style,
    )


def codeforces_tests(record: Mapping[str, Any]) -> CodeTests:
    """All tests of a problem. Raises ValueError where there are none."""
    tests = record.get("official_tests") or record.get("tests") or []
    pairs = [(test["input"], test["output"]) for test in tests]
    return paired_tests(pairs, tolerance=record.get("tolerance"))


def codeforces_prompt(record: Mapping[str, Any], language: str) -> str:
    """The statement with its parts, limits and examples, and what to write."""
    parts = [
        f"You will be given a competitive programming problem. Write a {_LANGUAGES[language]} "
        "program that reads from standard input, writes to standard output and solves it within "
        f"the limits. Put the whole program into one ```{language} block.",
        f"# {record.get('title') or record.get('index')}",
        _limits(record),
        str(record.get("description") or record.get("statement") or ""),
    ]
    for title, field in (
        ("Input", "input_format"),
        ("Output", "output_format"),
        ("Note", "note"),
    ):
        if record.get(field):
            parts.append(f"## {title}\n{record[field]}")
    for number, example in enumerate(record.get("examples") or (), start=1):
        shown = f"Input:\n```\n{example['input']}\n```\nOutput:\n```\n{example['output']}\n```"
        parts.append(f"## Example {number}\n{shown}")
    return "\n\n".join(part for part in parts if part)


def _limits(record: Mapping[str, Any]) -> str:
    limits = [
        f"{name}: {record[field]:g} {unit}"
        for name, field, unit in (
            ("Time limit", "time_limit", "s"),
            ("Memory limit", "memory_limit", "MB"),
        )
        if isinstance(record.get(field), int | float)
    ]
    return "; ".join(limits)


def _problem(
    config: TaskConfig,
    row: Row,
    contest: Mapping[str, Any] | None,
    ratings: Sequence[float],
    language: str,
) -> Problem:
    contest_id, index = row.text("contest_id"), row.text("index")
    # Shared by the contest's problems: evaluation makes the rating of records and these.
    standings = {"contest_id": contest_id, "contest": contest, "human_ratings": ratings}
    return Problem(
        id=f"{contest_id}{index}",
        question=codeforces_prompt(row.data, language),
        answer=GOLD,
        task=config.name,
        metadata={**row.data, "contest_id": contest_id, "index": index, "standings": standings},
    )


def _without_checkers(config: TaskConfig, rows: list[Row]) -> list[Row]:
    plain = [row for row in rows if not row.data.get("generated_checker")]
    num_others = len(rows) - len(plain)
    if num_others and not config.options.get("skip_checkers"):
        raise TaskError(
            f"codeforces: {num_others} of {len(rows)} problems accept several outputs by a checker "
            "program, which is not run here; leave them out with options.skip_checkers=true"
        )
    return plain


def _contests(config: TaskConfig) -> dict[str, Mapping[str, Any]]:
    path = config.options.get("standings")
    if path is None:
        return {}
    file = locate(str(path), CODEFORCES.folder, _STANDINGS, "one row a contest")
    contests = {}
    for row in read_rows(file):
        participants, problems = row.data.get("participants"), row.data.get("problems")
        if not participants or not problems:
            raise TaskError(f"{row.location}: a contest needs 'problems' and 'participants'")
        if not all(isinstance(p.get("rating"), int | float) for p in participants):
            raise TaskError(f"{row.location}: a participant without a rating")
        contests[row.text("contest_id")] = row.data
    return contests


def _human_ratings(config: TaskConfig) -> list[float]:
    """The ratings of all humans, as rows {rating, count}, in increasing order."""
    path = config.options.get("ratings")
    if path is None:
        return []
    ratings: list[float] = []
    for row in read_rows(Path(str(path)).expanduser()):
        rating, count = row.data.get("rating"), row.data.get("count", 1)
        if not isinstance(rating, int | float) or not isinstance(count, int):
            raise TaskError(f"{row.location}: expected a rating and a count")
        ratings += [float(rating)] * count
    return sorted(ratings)
