"""Aider-Polyglot: edit the files of an Exercism exercise until its tests pass, in two tries.

The protocol is aider's (benchmark/benchmark.py): a try is a reply whose edits are applied; a
reply whose edits cannot be read or match nothing is sent back with the reason, up to three
times a try; then the tests run, and after the first try their output is sent back. The row's
number is the share that passes within two tries (`pass_rate_2`); the parts of a grade are
`pass_1`, the first try alone, and `well_formed`, whether no reply had to be sent back. Not
done: aider's linter, which may also send a reply back.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from r1.records import Completion, Grade, Problem
from r1.rewards.sandbox.sandbox import SandboxFailure
from r1.tasks.aider.edits import (
    AppliedInPart,
    EditError,
    apply_edits,
    as_lines,
    parse_search_replace,
    parse_whole_files,
)
from r1.tasks.aider.exercises import LANGUAGES, Exercise, count_by_language, read_exercises
from r1.tasks.aider.languages import TestRun, TestRunner, Toolchains
from r1.tasks.aider.prompt import EditFormat, failure_message, first_message, return_message
from r1.tasks.benchmark_data import data_folders, locate
from r1.tasks.benchmark_rows import draw_test, refuse_unknown_options
from r1.tasks.grading import Score, grade_reply
from r1.tasks.task import Split, TaskConfig, TaskError
from r1.text.reasoning import Reasoning, split_reasoning

NUM_TRIES = 2
MAX_RETURNS = 3
"""How often in one try a reply whose edits do not fit is sent back."""

_FOLDER, _ARCHIVES = "aider_polyglot", ("polyglot_benchmark.tar.xz", "polyglot-benchmark.tar.gz")
_HOW_TO_GET = (
    "git clone https://github.com/Aider-AI/polyglot-benchmark and set task.path to the folder"
)
_OPTIONS = ("languages", "edit_format", "node_modules", "java_jars")
_NUM_KEPT_RUNS = 256
_NUM_SANDBOX_ATTEMPTS = 2
# One exercise's stub may pass: some are to be tidied, not solved.
_NUM_SELF_TESTS = 3


@dataclass(frozen=True, slots=True)
class _State:
    """Where a conversation stands after its last reply, before any test of it.

    `error` is what is sent back when the last reply's edits do not fit and that may be
    said again; `num_tries` counts the tries that ended before this reply.
    """

    files: Mapping[str, str]
    num_tries: int
    error: str | None
    is_well_formed: bool


class AiderPolyglotTask:
    """Exercises of the languages that this machine can test. Thread-safe."""

    name = "aider_polyglot"
    instruction = ""
    grader_version = "aider-1"

    def __init__(
        self, exercises: Sequence[Exercise], runner: TestRunner, edit_format: EditFormat
    ) -> None:
        self._runner = runner
        self._edit_format: EditFormat = edit_format
        self._missing = {exercise.id: runner.missing(exercise) for exercise in exercises}
        self._all = list(exercises)
        self._exercises = {e.id: e for e in exercises if not self._missing[e.id]}
        self._runs: OrderedDict[str, TestRun] = OrderedDict()
        self._cut: set[str] = set()
        self._faults: dict[str, str] = {}
        self._lock = threading.Lock()
        self._self_test_lock = threading.Lock()

    @property
    def label(self) -> str:
        """Which exercises are asked, and why not the others; empty when all are."""
        left_out = [exercise for exercise in self._all if self._missing[exercise.id]]
        if not left_out:
            return ""
        counts = count_by_language(list(self._exercises.values()))
        names = ", ".join(f"{language} {count}" for language, count in counts.items())
        reasons = {f"{e.language} without {self._missing[e.id]}": None for e in left_out}
        not_run = f"not run: {'; '.join(reasons)}"
        return f"{names or 'none'}: {len(self._exercises)} of {len(self._all)}; {not_run}"

    def problems(self, split: Split) -> Sequence[Problem]:
        """The exercises as test problems; there are none to train on."""
        if split == "train":
            return []
        return [self._problem(exercise) for exercise in self._exercises.values()]

    def _problem(self, exercise: Exercise) -> Problem:
        question = first_message(exercise.instructions, exercise.stubs, self._edit_format)
        metadata = {"language": exercise.language, "exercise": exercise.name}
        return Problem(exercise.id, question, None, task=self.name, metadata=metadata)

    def gold_error(self, problem: Problem) -> str:
        """Why the tests of the exercise's language do not work here, found by running some."""
        exercise = self._exercises.get(problem.id)
        if exercise is None:
            return f"no exercise {problem.id} here"
        with self._self_test_lock:
            if exercise.language not in self._faults:
                self._faults[exercise.language] = self._self_test(exercise.language)
            return self._faults[exercise.language]

    def _self_test(self, language: str) -> str:
        """Of one exercise the own solution must pass and the stub fail."""
        exercises = [e for e in self._exercises.values() if e.language == language]
        testable = [e for e in exercises if not e.example_needs_libraries]
        output = "it passes nothing, or everything"
        try:
            for exercise in (testable or exercises)[:_NUM_SELF_TESTS]:
                solved = self._runner.run(exercise, exercise.box_files(exercise.example()))
                if solved.has_passed:
                    if not self._runner.run(exercise, exercise.box_files({})).has_passed:
                        return ""
                else:
                    output = (solved.output.strip().splitlines() or ["no output"])[-1]
        except SandboxFailure as failure:
            output = str(failure)
        return f"{language} does not work here ({output}): leave it out of task.options.languages"

    def next_message(self, problem: Problem, completion: Completion) -> str | None:
        """Why the edits do not fit, or what the tests of the first try printed."""
        exercise = self._exercises[problem.id]
        state = self._state(exercise, completion)
        if state.error is not None:
            return state.error
        if state.num_tries + 1 >= NUM_TRIES:
            return None
        try:
            run = self._run(exercise, state.files)
        except SandboxFailure:
            with self._lock:
                self._cut.add(_hash(problem.id, completion))
            return None
        return None if run.has_passed else failure_message(run.output, state.files)

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        """Reward 1.0 when the tests pass after the last reply, within two tries.

        None when the sandbox failed, now or when the first try was tested: then the second
        was never asked for.
        """
        exercise = self._exercises.get(problem.id)
        if exercise is None:
            return Grade(None, reason=f"not run: no exercise {problem.id} here")
        if _hash(problem.id, completion) in self._cut:
            return Grade(None, reason="the sandbox failed after the first try")
        state = self._state(exercise, completion)
        try:
            run = self._run(exercise, state.files)
        except SandboxFailure as failure:
            return Grade(None, reason=f"the sandbox failed: {failure}")

        def score(reasoning: Reasoning) -> Score:
            verdict = "pass" if run.has_passed else "fail"
            return float(run.has_passed), None, f"try {state.num_tries + 1}: the tests {verdict}"

        grade = grade_reply(problem, completion, score)
        is_first = float(grade.reward == 1.0 and state.num_tries == 0)
        parts = {"pass_1": is_first, "well_formed": float(state.is_well_formed)}
        return replace(grade, parts={**grade.parts, **parts})

    def exercise(self, problem: Problem) -> Exercise:
        """The files behind a problem."""
        return self._exercises[problem.id]

    def example_reply(self, problem: Problem) -> str:
        """The exercise's own solution as a reply in the edit format."""
        exercise = self._exercises[problem.id]
        listings = []
        for name, content in exercise.example().items():
            old, new = (as_lines(text) for text in (exercise.stubs.get(name, ""), content))
            search = f"<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n"
            body = search if self._edit_format == "diff" else new
            listings.append(f"{name}\n```\n{body}```\n")
        return "\n".join(listings)

    def _state(self, exercise: Exercise, completion: Completion) -> _State:
        """Apply all replies in turn. What followed an earlier one tells what came of it."""
        files = before = dict(exercise.stubs)
        num_ended = num_returns = num_malformed = 0
        error: str | None = None
        for reply in [*(turn.reply for turn in completion.earlier), completion.text]:
            before = files
            files, error = self._edited(before, reply)
            num_malformed += error is not None
            is_returned = error is not None and num_returns < MAX_RETURNS
            num_returns = num_returns + 1 if is_returned else 0
            num_ended += not is_returned
        if error is not None and num_returns:
            message = return_message(error, files if files != before else None)
            return _State(files, num_ended, message, is_well_formed=False)
        return _State(files, num_ended - 1, None, num_malformed == 0)

    def _edited(self, files: dict[str, str], reply: str) -> tuple[dict[str, str], str | None]:
        """The files after one reply, and what aider says to edits that do not fit."""
        reasoning = split_reasoning(reply)
        if not reasoning.is_closed:
            return files, None
        try:
            if self._edit_format == "whole":
                return {**files, **parse_whole_files(reasoning.answer, list(files))}, None
            return apply_edits(files, parse_search_replace(reasoning.answer, list(files))), None
        except AppliedInPart as error:
            return error.files, str(error)
        except EditError as error:
            return files, str(error)

    def _run(self, exercise: Exercise, edited: Mapping[str, str]) -> TestRun:
        """Test the files, once for the message and the grade. Raises SandboxFailure."""
        files = exercise.box_files(edited)
        key = _hash(exercise.id, sorted((path, files[path]) for path in files))
        with self._lock:
            if key in self._runs:
                self._runs.move_to_end(key)
                return self._runs[key]
        run = self._run_reliably(exercise, files)
        with self._lock:
            self._runs[key] = run
            while len(self._runs) > _NUM_KEPT_RUNS:
                self._runs.popitem(last=False)
        return run

    def _run_reliably(self, exercise: Exercise, files: Mapping[str, bytes]) -> TestRun:
        for _ in range(_NUM_SANDBOX_ATTEMPTS - 1):
            try:
                return self._runner.run(exercise, files)
            except SandboxFailure:
                continue
        return self._runner.run(exercise, files)


def _hash(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()


def build_aider_polyglot(config: TaskConfig) -> AiderPolyglotTask:
    """The exercises that lie at `config.path`, of the languages in `options.languages`.

    Raises:
        TaskError: for data that is missing or unreadable, and for an unknown option.
    """
    refuse_unknown_options(config, _OPTIONS)
    options = config.options
    languages = _choice(options.get("languages", list(LANGUAGES)), LANGUAGES, "languages")
    formats = _choice([options.get("edit_format", "diff")], get_args(EditFormat), "edit_format")
    exercises = [e for e in read_exercises(_source(config.path)) if e.language in languages]
    runner = TestRunner(_toolchains(options))
    if config.num_test is not None:
        exercises = draw_test([e for e in exercises if not runner.missing(e)], config)
    return AiderPolyglotTask(exercises, runner, cast("EditFormat", formats[0]))


def _source(path: str | None) -> Path:
    """The repository's folder, or its archive."""
    roots = [Path(path).expanduser()] if path is not None else data_folders()
    for root in (place for folder in roots for place in (folder, folder / _FOLDER)):
        if any((root / language / "exercises" / "practice").is_dir() for language in LANGUAGES):
            return root
    return locate(path, _FOLDER, _ARCHIVES, _HOW_TO_GET)


def _choice(given: Any, known: Sequence[str], name: str) -> list[str]:
    values = [given] if isinstance(given, str) else list(given)
    wrong = [value for value in values if value not in known]
    if wrong or not values:
        expected = ", ".join(known)
        raise TaskError(f"task.options.{name}: {wrong or values}: expected some of {expected}")
    return values


def _toolchains(options: Mapping[str, Any]) -> Toolchains:
    modules, jars = options.get("node_modules"), options.get("java_jars", [])
    listed = [jars] if isinstance(jars, str) else jars
    return Toolchains(
        node_modules=None if modules is None else Path(str(modules)).expanduser(),
        java_jars=tuple(Path(str(jar)).expanduser() for jar in listed),
    )
