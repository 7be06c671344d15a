from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from r1.records import Completion
from r1.tasks.drop import DropTask, build_drop
from r1.tasks.task import TaskConfig, TaskError, preflight


def record(number: int, ref_text: str = "") -> dict[str, str]:
    return {
        "context": f"Passage: Tom ran {number} yards.\nQuestion: How far did Tom run?\nAnswer:",
        "completion": f"{number} yards",
        "ref_text": ref_text or f"{number} yards|{number}",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, start, count in (("dev", 10, 4), ("train", 50, 20)):
        rows = [record(start + index) for index in range(count)]
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (tmp_path / "drop").mkdir(exist_ok=True)
        (tmp_path / "drop" / f"drop_v0_{name}.jsonl.gz").write_bytes(gzip.compress(content))
    return tmp_path


def build(path: Path | None, **settings: Any) -> DropTask:
    return build_drop(TaskConfig(name="drop", path=path and str(path), **settings))


def reply(text: str) -> Completion:
    return Completion(f"<think>\nAnswer: 99\n</think>\n\n{text}")


def test_the_prompt_of_simple_evals(folder: Path) -> None:
    task = build(folder)
    problems = task.problems("test")
    assert len(problems) == 4 and not task.problems("train")
    preflight(task, splits=("test",))
    question = problems[0].question
    start = (
        "You will be asked to read a passage and answer a question. Some examples of passages "
        "and Q&A are provided below.\n\n# Examples\n---\nPassage: Tom ran "
    )
    end = (
        " yards\n\n# Your Task\n\n---\nPassage: Tom ran 10 yards.\nQuestion: How far did Tom run?"
        '\nAnswer: \n\nThink step by step, then write a line of the form "Answer: $ANSWER" at the '
        "end of your response."
    )
    assert question.startswith(start) and question.endswith(end)
    assert question.count("\n---\n") == 4
    assert problems[0].metadata["golds"] == ["10 yards", "10"]


def test_examples_are_the_same_each_time_and_differ_between_questions(folder: Path) -> None:
    first = [problem.question for problem in build(folder).problems("test")]
    assert first == [problem.question for problem in build(folder).problems("test")]
    of_last = build(folder, num_test=1).problems("test")[0]
    assert of_last.question in first
    shots = {question.split("# Your Task")[0] for question in first}
    assert len(shots) == 4


def test_any_number_of_examples(folder: Path) -> None:
    assert build(folder, options={"num_shots": 5}).problems("test")[0].question.count("---") == 6
    (folder / "drop" / "drop_v0_train.jsonl.gz").unlink()
    zero = build(folder, options={"num_shots": 0}).problems("test")[0]
    assert "# Examples\n# Your Task\n\n---\n" in zero.question
    with pytest.raises(TaskError, match=r"no drop_v0_train.jsonl.gz .*: download drop_v0_dev"):
        build(folder)


@pytest.mark.parametrize(
    ("text", "f1", "exact", "answer"),
    [
        ("He ran.\nAnswer: 10 yards", 1.0, 1.0, "10 yards"),
        ("Answer: 10", 1.0, 1.0, "10"),
        ("**Answer:** 10", 1.0, 1.0, "10"),
        ("**Answer: 10 yards**", 1.0, 1.0, "10 yards"),
        ("Answer: 9\nNo.\nAnswer: 10", 1.0, 1.0, "10"),
        ("Answer: $\\boxed{10}$", 1.0, 1.0, "10"),
        ("It is \\boxed{10}.", 1.0, 1.0, "10"),
        ("Answer: 10 whole yards", 0.8, 0.0, "10 whole yards"),
        ("Answer: 11 yards", 0.0, 0.0, "11 yards"),
        ("10 yards", 1.0, 1.0, "10 yards"),
        ("Tom ran 10 yards", 0.6667, 0.0, "Tom ran 10 yards"),
        ("", 0.0, 0.0, None),
    ],
)
def test_grades(folder: Path, text: str, f1: float, exact: float, answer: str | None) -> None:
    task = build(folder)
    grade = task.grade(task.problems("test")[0], reply(text))
    assert (grade.reward, grade.parts["exact_match"], grade.answer) == (f1, exact, answer)


def test_an_unclosed_thought_is_no_answer(folder: Path) -> None:
    task = build(folder)
    grade = task.grade(task.problems("test")[0], Completion("<think>\nAnswer: 10 yards"))
    assert (grade.reward, grade.parts["exact_match"]) == (0.0, 0.0)


def test_what_cannot_be_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError, match="option num_shots is -1, not a number from 0"):
        build(folder, options={"num_shots": -1})
    with pytest.raises(TaskError, match="20 examples, 21 wanted"):
        build(folder, options={"num_shots": 21})
    with pytest.raises(TaskError, match="unknown option 'shots'"):
        build(folder, options={"shots": 3})
    dev = folder / "drop" / "drop_v0_dev.jsonl.gz"
    for row, message in (
        (record(1, "|"), r"gz:1: ref_text holds no answer"),
        ({"passage": "x"}, r"gz:1: ref_text is None, not text"),
    ):
        dev.write_text(json.dumps(row))
        with pytest.raises(TaskError, match=message):
            build(folder)
    monkeypatch.chdir(folder / "drop")
    monkeypatch.delenv("R1_DATA", raising=False)
    with pytest.raises(TaskError, match=r"no drop_v0_dev.jsonl.gz .*openaipublic.blob"):
        build(None)
