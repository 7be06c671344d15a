from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1.records import Completion, Problem
from r1.tasks.grading import MathTask
from r1.tasks.math_sets import MATH_SETS, boxed_or_plain, build_math_set
from r1.tasks.task import TaskConfig, TaskError, build_task, grade_all, preflight
from tests.tasks.rows import write_rows


def build(name: str, path: Path | str | None = None, **settings: Any) -> MathTask:
    path = None if path is None else str(path)
    # A long limit: a busy machine must not turn a slow answer into a failed test.
    task = build_math_set(
        TaskConfig(name=name, path=path, verifier_timeout_seconds=60.0, **settings)
    )
    assert isinstance(task, MathTask)
    return task


def reply(answer: str) -> Completion:
    return Completion(f"<think>\nLet me see.\n</think>\nThe answer is \\boxed{{{answer}}}.")


def by_id(task: MathTask, name: str) -> Problem:
    return next(problem for problem in task.problems("test") if problem.id == name)


@pytest.mark.parametrize(
    ("name", "num_problems", "language"),
    [
        ("aime2024", 30, "en"),
        ("aime2025", 30, "en"),
        ("amc23", 40, "en"),
        ("cnmo2024", 30, "en"),
        ("gaokao2024", 91, "zh"),
        ("minerva_math", 272, "en"),
        ("cmath", 600, "zh"),
        # 675, less the one whose gold is a sentence.
        ("olympiadbench", 674, "en"),
        ("math", 5000, "en"),
    ],
)
def test_every_gold_is_readable_and_correct_against_itself(
    shared_dir: Path, name: str, num_problems: int, language: str
) -> None:
    task = build(name, shared_dir / "data")
    problems = task.problems("test")
    assert len(problems) == num_problems and not task.problems("train")
    assert {problem.language for problem in problems} == {language}
    assert ("请" in task.instruction) == (language == "zh") and "\\boxed{}" in task.instruction
    preflight(task, splits=("test",))
    grades = grade_all(task, [(problem, reply(problem.answer or "")) for problem in problems])
    wrong = [
        (problem.id, problem.answer, grade.reason)
        for problem, grade in zip(problems, grades, strict=True)
        if grade.reward != 1.0
    ]
    assert wrong == []


def test_the_file_of_all_aimes_gives_those_of_2024(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "aime2024"
    of_all = build("aime2024", folder / "AIME_1983_2024.csv").problems("test")
    known = build("aime2024", folder).problems("test")
    golds = [sorted(int(problem.answer or "") for problem in each) for each in (of_all, known)]
    assert len(of_all) == 30 and golds[0] == golds[1]


def test_questions_of_math_with_several_answers(shared_dir: Path) -> None:
    task = build("math", shared_dir / "data")
    several = [p for p in task.problems("test") if "accepted_answers" in p.metadata]
    assert [p.answer for p in several] == [
        "3", "(0,0)", "\\left(-\\tfrac52, -\\tfrac52\\right)", "(0,0)",
    ]  # fmt: skip
    foci = several[1]
    rewards = [task.grade(foci, reply(text)).reward for text in ("(0,0)", "(10, 0)", "(5,0)")]
    assert rewards == [1.0, 1.0, 0.0]
    vertex = "\\left(\\frac{3}{2}, -\\frac{5}{2}\\right)"
    assert task.grade(several[2], reply(vertex)).reward == 1.0


def test_math_without_its_annotation_and_with_a_wrong_one(tmp_path: Path) -> None:
    row = {"problem": "1+1?", "level": "Level 1", "type": "Algebra", "solution": "\\boxed{2}"}
    path = write_rows(tmp_path / "math_test_5000.jsonl", row)
    (problem,) = build("math", path).problems("test")
    assert problem.answer == "2" and "accepted_answers" not in problem.metadata
    annotation = tmp_path / "math_testset_annotation.json"
    annotation.write_text(json.dumps([{"question": "1+1?", "answer": ["2", "two"]}]))
    (problem,) = build("math", path).problems("test")
    assert problem.metadata["accepted_answers"] == ["2", "two"]
    annotation.write_text('[{"q": 1}]')
    with pytest.raises(TaskError, match=r"annotation\.json: not MARIO_EVAL's annotation of MATH"):
        build("math", path)


def test_letters_and_values_of_gaokao(shared_dir: Path) -> None:
    task = build("gaokao2024", shared_dir / "data")
    choice = by_id(task, "test-1")
    assert choice.answer == "C. 1-\\mathrm{i}"
    answers = ("C", "(C)", "1-i", "C. 1-\\mathrm{i}", "A", "-1-i")
    assert [task.grade(choice, reply(a)).reward for a in answers] == [1, 1, 1, 1, 0, 0]
    words = by_id(task, "test-4")
    assert (words.answer, words.metadata["choice_answer"]) == ("必要不充分条件", "B")
    assert [task.grade(words, reply(a)).reward for a in ("B", "A")] == [1, 0]


def test_units_and_tolerance_of_olympiadbench(shared_dir: Path) -> None:
    task = build("olympiadbench", shared_dir / "data")
    assert all(problem.id != "1965" for problem in task.problems("test"))
    river = by_id(task, "2253")
    assert river.metadata["accepted_answers"] == ["45 minute"]
    answers = ("45", "45\\text{ minutes}", "0.75\\text{ hours}", "44")
    assert [task.grade(river, reply(answer)).reward for answer in answers] == [1, 1, 1, 0]
    growth = by_id(task, "2592")
    assert growth.metadata["accepted_answers"] == ["4.2 %", "4.1", "4.3"]
    rewards = [task.grade(growth, reply(answer)).reward for answer in ("4.2", "4.1", "4.4")]
    assert rewards == [1, 1, 0]


@pytest.mark.parametrize(
    ("value", "gold"),
    [
        ("So \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("\\fbox{x}", "x"),
        ("7", "7"),
        (27.0, "27"),
    ],
)
def test_golds_in_boxes(value: Any, gold: str) -> None:
    assert boxed_or_plain(value) == gold


def test_a_solution_with_a_broken_box(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl", {"problem": "1+1?", "solution": "\\boxed{2"})
    with pytest.raises(TaskError, match=r"answer field 'solution' has no complete \\boxed"):
        build("math", path)


def test_forms_of_the_hub(tmp_path: Path) -> None:
    rows = {
        "aime2025": {"problem": "q?", "answer": "70", "id": 0},  # math-ai/aime25
        "minerva_math": {"question": "q?", "answer": "1.6"},  # math-ai/minervamath
        "cmath": {"question": "q?", "golden": "9", "grade": 1},  # weitianwen/cmath
        "math": {"problem": "q?", "solution": "\\boxed{2}"},  # DigitalLearningGmbH/MATH-lighteval
    }
    for name, row in rows.items():
        (problem,) = build(name, write_rows(tmp_path / f"{name}.jsonl", row)).problems("test")
        assert (problem.question, problem.answer) == ("q?", {
            "aime2025": "70", "minerva_math": "1.6", "cmath": "9", "math": "2",
        }[name])  # fmt: skip


@pytest.mark.parametrize("name", ["cnmo2024", "gaokao2024"])
def test_sets_that_no_hub_has(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R1_DATA", raising=False)
    with pytest.raises(TaskError, match=r"download .*jsonl of github.com") as caught:
        build(name)
    assert "\n" not in str(caught.value)


def test_the_sets_are_tasks() -> None:
    with pytest.raises(TaskError, match="aime2024"):
        build_task(TaskConfig(name="aime_2024"))
    assert all(row_format.splits == ("test",) for row_format in MATH_SETS.values())
