"""Replies from elsewhere: a file of responses becomes records, without any model.

A row of the file names its question by `id`, or by its text (`prompt`, `question`,
`problem` or `query`), and holds one reply or a list of them. A reply without tags is an
answer as a whole, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1.evaluation.prompting import short_hash
from r1.evaluation.record_file import Record
from r1.evaluation.verdicts import grade_reliably, reply_fields, verdict_fields
from r1.records import Completion, Problem
from r1.run_log import Progress
from r1.tasks.row_files import Row, read_rows
from r1.tasks.task import TaskError

if TYPE_CHECKING:
    from r1.tasks.task import Task

ID_FIELDS = ("id", "problem_id", "unique_id")
TEXT_FIELDS = ("prompt", "question", "problem", "query")
RESPONSE_FIELDS = ("response", "responses", "output", "completion", "code")
SCORE_FIELDS = ("score", "scores")
GOLD_FIELDS = ("gold", "gt", "answer")
OWN_PREFIX = "own-"  # of the ids of questions that are in the file only
_NUM_RETRIES = 2
_NUM_THREADS = 4
_SHOWN = 60
_MIN_LENGTH = 20  # a shorter question may stand in a prompt by chance


@dataclass(frozen=True, slots=True)
class Matched:
    """Replies with the problems they answer, and what could not be placed.

    `num_elsewhere` questions were found in the second set of problems, `num_own` brought
    their own gold answer. `unmatched` names the rows that stand for no question, and
    `file_scores` are the scores of the replies where the file holds some.
    """

    replies: Mapping[str, Sequence[str]]
    problems: Mapping[str, Problem]
    num_elsewhere: int
    num_own: int
    unmatched: Sequence[str]
    file_scores: Mapping[str, Sequence[float]]

    @property
    def num_samples(self) -> int:
        """Replies to the question that has the most."""
        return max(len(replies) for replies in self.replies.values())

    @property
    def notes(self) -> list[str]:
        """What a reader of the numbers must know."""
        notes = [f"{len(self.replies):,} questions have replies"]
        if self.num_elsewhere:
            notes.append(f"{self.num_elsewhere} questions are not in the row but in its larger set")
        if self.num_own:
            notes.append(f"{self.num_own} questions are the file's own, with its gold answers")
        if self.unmatched:
            first = ", ".join(self.unmatched[:3])
            notes.append(f"{len(self.unmatched)} rows match no question and are left out: {first}")
        return notes


def match_responses(
    path: Path,
    problems: Sequence[Problem],
    larger_set: Callable[[], Sequence[Problem]] = tuple,
    instruction: str = "",
) -> Matched:
    """Read a file of responses and find the question of each row.

    Matched by id, else by the question's text, white space aside, with the task's
    `instruction` behind it. What is not in `problems` is a question of its own where the
    row of the file brings a gold answer, else it is looked for in the larger set, which is
    read when it is needed, and within longer prompts. Rows of one question add up.
    Raises TaskError for rows without a reply, and when nothing matches.
    """
    rows = read_rows(path)
    if not rows:
        raise TaskError(f"{path}: holds no rows")
    finder = _Finder(problems, larger_set, instruction)
    replies: dict[str, list[str]] = {}
    scores: dict[str, list[float]] = {}
    for row in rows:
        problem = finder.find(row)
        if problem is not None:
            texts = _replies(row)
            replies.setdefault(problem.id, []).extend(texts)
            scores.setdefault(problem.id, []).extend(_scores(row, len(texts)))
    if not replies:
        raise TaskError(finder.nothing_matches(path, rows))
    return Matched(
        replies=replies,
        problems={name: problem for name, problem in finder.used.items() if name in replies},
        num_elsewhere=finder.num_elsewhere,
        num_own=len(finder.own),
        unmatched=finder.unmatched,
        file_scores={
            name: values for name, values in scores.items() if len(values) == len(replies[name])
        },
    )


def grade_responses(task: Task, matched: Matched, source: str) -> list[Record]:
    """A record for every reply; `source` stands where a model's weights would."""
    pairs = [
        (matched.problems[name], index, text)
        for name, texts in matched.replies.items()
        for index, text in enumerate(texts)
    ]

    def record(pair: tuple[Problem, int, str]) -> Record:
        problem, index, text = pair
        completion = Completion(text)
        verdict = grade_reliably(task, problem, completion, _NUM_RETRIES)
        return {
            "problem_id": problem.id,
            "sample_index": index,
            "question": problem.question,
            "gold": problem.answer,
            "language": problem.language,
            **reply_fields(completion),
            "num_tokens": None,  # not known without the tokenizer
            **verdict_fields(verdict),
            "seed": None,
            "prompt_hash": short_hash(problem.question),
            "settings_hash": short_hash(source),
            "weights": source,
            "weights_version": 0,
            "seconds": 0.0,
        }

    with (
        ThreadPoolExecutor(_NUM_THREADS, "grade") as pool,
        Progress(len(pairs), f"grade {task.name}") as progress,
    ):
        records = []
        for number, made in enumerate(pool.map(record, pairs), start=1):
            records.append(made)
            progress.update(number)
    return records


class _Finder:
    """Which problem a row answers."""

    def __init__(
        self,
        problems: Sequence[Problem],
        larger_set: Callable[[], Sequence[Problem]],
        instruction: str,
    ) -> None:
        self.used: dict[str, Problem] = {}
        self.unmatched: list[str] = []
        self.num_elsewhere = 0
        self.own: set[str] = set()
        self._problems = problems
        self._by_id = {problem.id: problem for problem in problems}
        self._by_text = {_plain(problem.question): problem for problem in problems}
        self._read_larger_set = larger_set
        self._instruction = _plain(instruction)

    def find(self, row: Row) -> Problem | None:
        values = row.data
        name = _first(values, ID_FIELDS)
        text = _first(values, TEXT_FIELDS)
        if name is None and text is None:
            fields = ", ".join((*ID_FIELDS[:1], *TEXT_FIELDS))
            raise TaskError(f"{row.location}: names no question; expected one of {fields}")
        key = "" if text is None else self._key(str(text))
        problem = self._by_id.get(str(name)) or self._by_text.get(key)
        if problem is None and key:
            problem = self._own(key, str(text), values) or self._elsewhere(key)
        if problem is None:
            self.unmatched.append(_shortened(str(text if text is not None else name)))
            return None
        self.used[problem.id] = problem
        return problem

    @cached_property
    def _larger(self) -> dict[str, Problem]:
        return {_plain(problem.question): problem for problem in self._read_larger_set()}

    def _key(self, text: str) -> str:
        key = _plain(text)
        return key.removesuffix(self._instruction).rstrip() if self._instruction else key

    def _within(self, key: str) -> Problem | None:
        """The longest question that stands inside a rendered prompt."""
        found = [text for text in self._by_text if len(text) >= _MIN_LENGTH and text in key]
        return self._by_text[max(found, key=len)] if found else None

    def _elsewhere(self, key: str) -> Problem | None:
        """A question of the larger set, or one of the row's inside a rendered prompt."""
        problem = self._larger.get(key)
        if problem is None:
            return self._within(key)
        self.num_elsewhere += problem.id not in self.used
        return problem

    def _own(self, key: str, text: str, values: Mapping[str, Any]) -> Problem | None:
        gold = _first(values, GOLD_FIELDS)
        if gold is None:
            return None
        name = OWN_PREFIX + short_hash(key)
        self.own.add(name)
        like = self._problems[0] if self._problems else Problem(name, text, str(gold))
        return replace(like, id=name, question=text, answer=str(gold), metadata={})

    def nothing_matches(self, path: Path, rows: Sequence[Row]) -> str:
        ours = [f"{p.id!r}: {_shortened(p.question)}" for p in self._problems[:2]]
        return (
            f"{path}: none of its {len(rows)} rows matches a question; its first: "
            f"{', '.join(self.unmatched[:2])}; the row's first: {', '.join(ours)}"
        )


def _replies(row: Row) -> list[str]:
    value = _first(row.data, RESPONSE_FIELDS)
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return list(value)
    fields = ", ".join(RESPONSE_FIELDS)
    raise TaskError(
        f"{row.location}: no reply: expected text or a list of texts in one of {fields}"
    )


def _scores(row: Row, num_replies: int) -> list[float]:
    """The file's own scores of a row's replies; empty where it has none that fit."""
    value = _first(row.data, SCORE_FIELDS)
    values = value if isinstance(value, list) else [value]
    is_whole = len(values) == num_replies and all(isinstance(item, int | float) for item in values)
    return [float(item) for item in values] if is_whole else []


def _first(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _shortened(text: str) -> str:
    text = _plain(text)
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
