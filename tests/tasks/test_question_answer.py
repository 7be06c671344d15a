from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1.records import Completion, Problem
from r1.tasks.grading import MathTask
from r1.tasks.question_answer import answer_text, build_question_answer, field_value, gsm8k_answer
from r1.tasks.task import TaskConfig, TaskError, grade_all, preflight
from tests.tasks.rows import write_rows


def sums(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"What is {i}+1?", "answer": str(i + 1)} for i in range(first, first + count)
    ]


def build(**settings: Any) -> MathTask:
    # A long limit: a busy machine must not turn a slow answer into a failed test.
    defaults = {"name": "jsonl", "verifier_timeout_seconds": 60.0}
    paths = {key: str(value) for key, value in settings.items() if isinstance(value, Path)}
    task = build_question_answer(TaskConfig(**{**defaults, **settings, **paths}))
    assert isinstance(task, MathTask)
    return task


def boxed(problem: Problem) -> Completion:
    return Completion(f"<think>\nLet me see.\n</think>\nThe answer is \\boxed{{{problem.answer}}}.")


# ---------------------------------------------------------------- published data


def test_gsm8k_graded_against_itself(shared_dir: Path) -> None:
    task = build(name="gsm8k", path=str(shared_dir / "data"))
    problems = task.problems("test")
    assert (len(problems), len(task.problems("train"))) == (1319, 0)
    assert problems[0].id == "test-0" and problems[0].answer == "18"
    assert all(re.fullmatch(r"-?[\d.]+", problem.answer or "") for problem in problems)
    preflight(task, splits=("test",))
    grades = grade_all(task, [(problem, boxed(problem)) for problem in problems])
    assert sum(grade.reward or 0 for grade in grades) == 1319
    wrong = [(problem, boxed(problems[i - 1])) for i, problem in enumerate(problems)]
    num_alike = sum(problem.answer == problems[i - 1].answer for i, problem in enumerate(problems))
    assert sum(grade.reward or 0 for grade in grade_all(task, wrong)) == num_alike


def test_math500_graded_against_itself(shared_dir: Path) -> None:
    task = build(name="math500", path=str(shared_dir / "data/math500/math500_test.jsonl"))
    problems = task.problems("test")
    assert len(problems) == 500 and task.problems("train") == []
    assert problems[0].id == "test/precalculus/807.json"
    assert problems[0].metadata["level"] == 2
    grades = grade_all(task, [(problem, boxed(problem)) for problem in problems])
    assert sum(grade.reward or 0 for grade in grades) == 500


def test_math500_solutions_hold_their_own_answer(shared_dir: Path) -> None:
    path = shared_dir / "data/math500/math500_test.jsonl"
    task = build(name="math500", path=str(path), num_test=60, verifier_workers=1)
    pairs = [
        (problem, Completion("<think>\nhm\n</think>\n" + problem.metadata["solution"]))
        for problem in task.problems("test")
    ]
    grades = grade_all(task, pairs)
    assert [grade.reward for grade in grades] == [1.0] * 60


def test_chinese_rows_ask_in_chinese(shared_dir: Path) -> None:
    path = shared_dir / "data/extra_math/cmath_test.jsonl"
    task = build(test_path=str(path), language="zh", num_test=20)
    assert "最终答案" in task.instruction
    problem = task.problems("test")[0]
    assert problem.language == "zh"
    chinese = Completion(f"<think>\n我们先算一下，再检查。\n</think>\n答案是{problem.answer}。")
    english = Completion(f"<think>\nLet us compute it first.\n</think>\n答案是{problem.answer}。")
    assert [task.grade(problem, reply).reward for reply in (chinese, english)] == [1.0, 1.0]
    assert task.grade(problem, chinese).parts["language"] == 1.0
    assert task.grade(problem, english).parts["language"] == 0.0


# ---------------------------------------------------------------- splits


def test_one_file_is_divided_by_the_seed(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", *sums(0, 50))
    task = build(path=path, num_test=10, seed=3)
    again = build(path=path, num_test=10, num_train=5, seed=3)
    other = build(path=path, num_test=10, seed=4)
    test = {problem.id for problem in task.problems("test")}
    assert len(test) == 10 and len(task.problems("train")) == 40
    assert test.isdisjoint(problem.id for problem in task.problems("train"))
    assert test == {problem.id for problem in again.problems("test")}
    assert len(again.problems("train")) == 5
    assert test != {problem.id for problem in other.problems("test")}
    preflight(task)


def test_a_question_that_occurs_twice_stays_on_one_side(tmp_path: Path) -> None:
    rows = sums(0, 10) + [{**row, "question": row["question"].upper()} for row in sums(0, 10)]
    task = build(path=write_rows(tmp_path / "a.jsonl", *rows), num_test=6)
    keys = {
        split: {p.question.casefold() for p in task.problems(split)} for split in ("train", "test")
    }
    assert keys["train"].isdisjoint(keys["test"])


def test_without_num_test_a_file_is_training_data_and_a_benchmark_is_not(tmp_path: Path) -> None:
    task = build(path=write_rows(tmp_path / "a.jsonl", *sums(0, 3)))
    assert (len(task.problems("train")), len(task.problems("test"))) == (3, 0)
    rows = [{"question": "q", "answer": "so\n#### 1,234"}]
    task = build(name="gsm8k", path=write_rows(tmp_path / "b.jsonl", *rows))
    assert [problem.answer for problem in task.problems("test")] == ["1234"]


@pytest.mark.parametrize(
    "names",
    [
        ("train.jsonl", "test.jsonl"),
        ("gsm8k_train.jsonl", "gsm8k_test.jsonl"),
        ("gsm8k/gsm8k-train.jsonl", "gsm8k/gsm8k-test.jsonl"),
        ("data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl"),
    ],
)
def test_folders_as_data_sets_lay_them_out(tmp_path: Path, names: tuple[str, str]) -> None:
    for first, name in enumerate(names):
        rows = [{"question": f"q{first}", "answer": f"#### {first}"}]
        write_rows(tmp_path / name, *rows)
    task = build(name="gsm8k", path=str(tmp_path))
    assert [p.answer for split in ("train", "test") for p in task.problems(split)] == ["0", "1"]


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    for shard in range(3):
        write_rows(tmp_path / f"train-{shard:05}-of-00003.jsonl", *sums(shard * 10, 2))
    answers = [problem.answer for problem in build(path=str(tmp_path)).problems("train")]
    assert answers == ["1", "2", "11", "12", "21", "22"]


def test_train_and_test_paths_that_share_a_question_fail_preflight(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "x.jsonl", *sums(0, 5))
    test = write_rows(tmp_path / "y.jsonl", *sums(4, 5))
    task = build(train_path=train, test_path=test)
    with pytest.raises(TaskError, match=r"1 test questions are also in the train split, first te"):
        preflight(task)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"set path, or train_path and test_path"),
        ({"path": "{tmp}/a.jsonl", "num_test": 6}, r"6 test problems asked for, 5 there"),
        ({"path": "{tmp}/a.jsonl", "num_test": 3, "num_train": 3}, r"3 train .* for, 2 there"),
        ({"path": "{tmp}/none.jsonl"}, r"none\.jsonl: no such file; .* holds a\.jsonl"),
        ({"path": "{tmp}/none"}, r"none: no such file"),
        ({"path": "{tmp}"}, r"no (train|test) data; looked for (train|test) or jsonl_"),
        ({"path": "who/what?"}, r"no such file"),
        (
            {"path": "owner/set", "options": {"subst": 1}},
            r"option 'subst'; did you mean 'subset'\?",
        ),
    ],
)
def test_sources_that_are_not_there(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    write_rows(tmp_path / "a.jsonl", *sums(0, 5))
    settings = {
        key: value.format(tmp=tmp_path) if isinstance(value, str) else value
        for key, value in settings.items()
    }
    with pytest.raises(TaskError, match=message):
        build(**settings)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, str]]:
    """A hub without a network; the list of what was asked of it."""
    asked: list[tuple[str, str | None, str]] = []

    def load_dataset(source: str, subset: str | None, split: str) -> list[dict[str, str]]:
        asked.append((source, subset, split))
        if split == "dev":
            raise ConnectionError("offline\nand more")
        return [{"question": f"{split}?", "answer": "#### 7", "problem": "p", "unique_id": "u"}]

    # The package itself takes seconds to import, and would go to the network.
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_hub_data_sets(hub: list[tuple[str, str | None, str]]) -> None:
    task = build(name="gsm8k", path="openai/gsm8k")
    assert hub == [("openai/gsm8k", "main", "test"), ("openai/gsm8k", "main", "train")]
    assert task.problems("test")[0].answer == "7"
    hub.clear()
    assert build(name="math500", path="HuggingFaceH4/MATH-500").problems("test")[0].id == "u"
    assert hub == [("HuggingFaceH4/MATH-500", None, "test")]
    with pytest.raises(TaskError, match=r"owner/set: neither a file .*split dev\): offline$"):
        build(path="owner/set", options={"test_split": "dev"})


def test_benchmarks_that_come_with_the_package(
    hub: list[tuple[str, str | None, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R1_DATA", raising=False)
    gsm8k, math500 = build(name="gsm8k"), build(name="math500")
    assert (len(gsm8k.problems("test")), len(math500.problems("test"))) == (1319, 500)
    assert gsm8k.problems("test")[0].answer == "18"
    assert hub == []
    # What only training needs is fetched when training asks for it, and once.
    train = gsm8k.problems("train")
    assert (len(train), train[0].question, list(train[:1])) == (1, "train?", list(train))
    assert hub == [("openai/gsm8k", "main", "train")]
    assert len(math500.problems("train")) == 0


def test_packaged_data_is_the_published_data(shared_dir: Path, tmp_path: Path) -> None:
    for name, file in (("gsm8k", "gsm8k_test.jsonl"), ("math500", "math500_test.jsonl")):
        packaged = build(name=name).problems("test")
        published = build(name=name, path=str(shared_dir / "data" / name / file)).problems("test")
        assert [p.question for p in packaged] == [p.question for p in published]
        assert [p.answer for p in packaged] == [p.answer for p in published]


# ---------------------------------------------------------------- fields


def test_fields_of_any_name_and_depth(tmp_path: Path) -> None:
    rows = [
        {"a.b": "dotted name?", "m": {"golds": [["4"], 5]}, "key": 9, "lang": "zh-CN", "x": 1},
        {"a.b": "second?", "m": {"golds": [[6.0], 5]}, "key": "k", "lang": "EN_us", "x": 2},
    ]
    task = build(
        path=write_rows(tmp_path / "a.jsonl", *rows),
        question_field="a.b",
        answer_field="m.golds.0",
        id_field="key",
        language_field="lang",
    )
    first, second = task.problems("train")
    assert (first.id, first.question, first.answer, first.language) == (
        "9", "dotted name?", "4", "zh",
    )  # fmt: skip
    assert (second.id, second.answer, second.language) == ("k", "6", "en")
    assert first.metadata["x"] == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"question": "q", "answr": "1"}] * 2,
            r"2 of 2 rows cannot be used: .*a\.jsonl:1: no field 'answer'; did you mean "
            r"'answr'\? known: answr, question; .*:2: ",
        ),
        ([*sums(0, 4), {"question": "q", "answer": None}], r"1 of 5 .*:5: answer .* is None"),
        ([{"question": "q", "answer": ""}], r"answer field 'answer' is '', not an answer"),
        ([{"question": "q", "answer": ["1", "2"]}], r"holds 2 answers; name one"),
        ([{"question": "q", "answer": {}}], r"is \{\}, not an answer"),
        ([{"question": " ", "answer": "1"}], r"question field 'question' is ' ', not text"),
        ([{"question": 5, "answer": "1"}], r"question field 'question' is 5, not text"),
        ([{"question": "q\ud83d", "answer": "1"}], r"half a character \(lone surrogate\) at 1"),
        ([{"question": "", "answer": "1"}] * 9, r"9 of 9 rows .*:3: .*; \.\.\.$"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path: Path, rows: list[Any], message: str) -> None:
    path = write_rows(tmp_path / "a.jsonl", *rows)
    with pytest.raises(TaskError, match=message) as caught:
        build(path=path)
    assert "\n" not in str(caught.value)


def test_an_empty_file_fails_preflight(tmp_path: Path) -> None:
    task = build(path=write_rows(tmp_path / "a.jsonl"))
    with pytest.raises(TaskError, match=r"the train split is empty; the test split is empty"):
        preflight(task)


def test_unreadable_golds_and_double_ids_fail_preflight(tmp_path: Path) -> None:
    rows = [
        {"question": "a?", "answer": "12", "id": 1},
        {"question": "b?", "answer": "see the picture on the page above, all of it", "id": 1},
    ]
    task = build(path=write_rows(tmp_path / "a.jsonl", *rows), id_field="id")
    with pytest.raises(TaskError, match=r"1 ids occur .*'1' \(2 times\); 1 of 2 answers cannot"):
        preflight(task, splits=("train",))


@pytest.mark.parametrize(
    ("value", "gold"),
    [
        ("She has 9\n#### 18", "18"),
        ("#### 1,234,567", "1234567"),
        ("a #### 1\nno, #### 2", "2"),
        ("####-5", "-5"),
        ("#### $70,000", "70000"),
        ("#### 0.5 ", "0.5"),
    ],
)
def test_gsm8k_golds(value: str, gold: str) -> None:
    assert gsm8k_answer(value) == gold


@pytest.mark.parametrize("value", ["18", "#### ", "", None, ["#### 1", "#### 2"]])
def test_what_is_no_gsm8k_gold(value: Any) -> None:
    with pytest.raises(ValueError):
        gsm8k_answer(value)


def test_answers_as_text() -> None:
    values = [27.0, 0.5, 7, " x ", ["4"], True, 10**20]
    assert [answer_text(value) for value in values] == [
        "27", "0.5", "7", "x", "4", "True", "100000000000000000000",
    ]  # fmt: skip
    for value in (None, "", " ", [], [1, 2], {}, float("nan"), float("inf")):
        with pytest.raises(ValueError):
            answer_text(value)


def test_field_value_does_not_guess() -> None:
    data = {"a": {"b": [1, 2]}, "a.b": "whole"}
    assert field_value(data, "a.b") == "whole"
    assert field_value(data, "a.b.1") == 2
    for field in ("a.b.2", "a.b.-1", "a.c", "b", "a.b.x", "a.b.1.0", ""):
        with pytest.raises(KeyError, match="no field"):
            field_value(data, field)


# ---------------------------------------------------------------- open questions


def test_prompts_have_no_answer_and_no_reward_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"question": "Write a poem."}\n{"question": "Who are you?"}\n')
    config = TaskConfig(name="prompts", path=str(path), format_style="chat")
    task = build_question_answer(config)
    preflight(task, ("train",))
    problems = task.problems("train")
    assert [(p.question, p.answer) for p in problems] == [
        ("Write a poem.", None),
        ("Who are you?", None),
    ]
    assert task.instruction == ""
    grade = task.grade(problems[0], Completion("<think>\nHm.\n</think>\n\nRoses are red."))
    assert grade.reward is None
    assert grade.parts["format"] == 1.0
    # Without an answer the thought that never closes is no wrong answer either.
    assert task.grade(problems[0], Completion("<think>\nHm.")).reward is None


def test_prompts_take_no_answer_field(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="'prompts' takes no answer_field"):
        build_question_answer(TaskConfig(name="prompts", path="x.jsonl", answer_field="gold"))
