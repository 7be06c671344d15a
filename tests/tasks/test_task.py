from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from r1.records import Completion, Grade, Problem
from r1.tasks.task import Split, TaskConfig, TaskError, build_task, grade_all, preflight


@dataclass
class EchoTask:
    """A task without files: an answer is right when it equals the gold."""

    train: Sequence[Problem] = ()
    test: Sequence[Problem] = ()
    name: str = "echo"
    instruction: str = ""
    grader_version: str = "1"
    threads: set[str] = field(default_factory=set)

    def problems(self, split: Split) -> Sequence[Problem]:
        return self.train if split == "train" else self.test

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        self.threads.add(threading.current_thread().name)
        return Grade(float(completion.text == problem.answer), answer=completion.text)

    def gold_error(self, problem: Problem) -> str:
        return "" if (problem.answer or "").isdecimal() else "not a number"


def problem(name: str, question: str = "", answer: str | None = "1") -> Problem:
    return Problem(id=name, question=question or f"question {name}", answer=answer)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(TaskError, match=r"unknown task 'gms8k'; did you mean 'gsm8k'\? known: "):
        build_task(TaskConfig(name="gms8k"))


@pytest.mark.parametrize("num_pairs", [0, 1, 16, 17, 100])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_grade_all_keeps_the_order(num_pairs: int, num_threads: int) -> None:
    task = EchoTask()
    pairs = [(problem("p", answer=str(i)), Completion(str(i - i % 2))) for i in range(num_pairs)]
    grades = grade_all(task, pairs, num_threads)
    assert [grade.reward for grade in grades] == [float(i % 2 == 0) for i in range(num_pairs)]
    assert [grade.answer for grade in grades] == [str(i - i % 2) for i in range(num_pairs)]


def test_grade_all_uses_threads_for_many_pairs_only() -> None:
    few, many = EchoTask(), EchoTask()
    grade_all(few, [(problem("p"), Completion("1"))] * 10, num_threads=3)
    grade_all(many, [(problem("p"), Completion("1"))] * 100, num_threads=3)
    assert few.threads == {threading.current_thread().name}
    assert all(name.startswith("grade") for name in many.threads)


def test_a_sound_task_passes_preflight() -> None:
    preflight(EchoTask([problem("a"), problem("b")], [problem("c")]))
    preflight(EchoTask([], [problem("c")]), splits=("test",))


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([], [problem("a")], r"the train split is empty"),
        ([problem("a")], [], r"the test split is empty"),
        ([problem("a"), problem("a", "q")], [problem("c")], r"1 ids occur .*'a' \(2 times\)"),
        ([problem("a")], [problem("a", "q")], r"1 ids occur more than once"),
        (
            [problem("a", "How  many\nducks?")],
            [problem("b", "how many ducks?")],
            r"1 test questions are also in the train split, first b: 'how many ducks\?'",
        ),
        (
            [problem(str(i), answer="x" * 80) for i in range(5)],
            [problem("t")],
            r"5 of 6 answers cannot be verified, first 0: 'x{60}\.\.\.' \(not a number\), 1: .*, "
            r"2: .*, \.\.\.$",
        ),
        ([problem("a", answer=None)], [problem("t")], r"1 of 2 answers cannot .* a: '' \(not"),
    ],
)
def test_preflight_counts_and_shows(
    train: list[Problem], test: list[Problem], message: str
) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        preflight(EchoTask(train, test))
    assert str(caught.value).startswith("task 'echo': ")
    assert "\n" not in str(caught.value)


def test_preflight_tells_everything_at_once() -> None:
    task = EchoTask([problem("a", answer="x"), problem("a", "q")], [])
    with pytest.raises(TaskError, match=r"test split is empty; 1 ids .*; 1 of 2 answers"):
        preflight(task)


def test_config_refuses_senseless_numbers() -> None:
    for field_name, value in [("num_test", -1), ("verifier_workers", 0), ("score_threshold", 1.5)]:
        with pytest.raises(ValueError, match=field_name):
            TaskConfig.model_validate({"name": "gsm8k", field_name: value})
