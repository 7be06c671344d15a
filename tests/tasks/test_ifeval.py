from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from r1.records import Completion
from r1.tasks.ifeval import IfevalScores, IfevalTask, build_ifeval, official_scores
from r1.tasks.task import TaskConfig, TaskError, build_task, preflight
from tests.tasks.rows import write_rows

ROW: dict[str, Any] = {
    "key": 7,
    "prompt": "Write two bullets. Use no commas.",
    "instruction_id_list": ["punctuation:no_comma", "detectable_format:number_bullet_lists"],
    "kwargs": [{}, {"num_bullets": 2}],
}


def build(path: Path | None = None, **settings: Any) -> IfevalTask:
    return build_ifeval(TaskConfig(name="ifeval", path=path and str(path), **settings))


def reply(text: str) -> Completion:
    return Completion(f"<think>\nFirst, second, third.\n</think>\n\n{text}")


def test_the_541_prompts_come_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R1_DATA", raising=False)
    task = build_task(TaskConfig(name="ifeval"))
    problems = task.problems("test")
    assert len(problems) == 541 and len(task.problems("train")) == 0
    preflight(task, splits=("test",))
    assert problems[0].id == "1000" and problems[0].question.startswith("Write a 300+ word summ")
    assert sum(len(p.metadata["instruction_id_list"]) for p in problems) == 834
    kinds = {kind for p in problems for kind in p.metadata["instruction_id_list"]}
    assert len(kinds) == 25
    assert sum(problem.language != "en" for problem in problems) == 31
    assert task.instruction == ""


def test_packaged_prompts_are_the_published_ones(shared_dir: Path) -> None:
    assert build().problems("test") == build(shared_dir / "data").problems("test")


def test_a_grade_says_all_of_it(tmp_path: Path) -> None:
    task = build(write_rows(tmp_path / "i.jsonl", ROW))
    (problem,) = task.problems("test")
    grade = task.grade(problem, reply("* one\n* two"))
    assert (grade.reward, grade.answer, grade.reason) == (1.0, None, "all instructions followed")
    grade = task.grade(problem, reply("Sure, these:\n* one\n* two"))
    assert grade.reward == 0.0 and grade.reason == "not followed: punctuation:no_comma"
    kinds = ROW["instruction_id_list"]
    assert {name: grade.parts[name] for name in grade.parts if name not in
            ("format", "language", "repetition")} == {
        "num_instructions": 2.0,
        "prompt_strict": 0.0,
        "inst_strict": 0.5,
        f"strict:0:{kinds[0]}": 0.0,
        f"strict:1:{kinds[1]}": 1.0,
        "prompt_loose": 1.0,
        "inst_loose": 1.0,
        f"loose:0:{kinds[0]}": 1.0,
        f"loose:1:{kinds[1]}": 1.0,
    }  # fmt: skip


def test_a_thought_is_not_graded_and_an_unclosed_one_follows_nothing(tmp_path: Path) -> None:
    task = build(write_rows(tmp_path / "i.jsonl", ROW))
    (problem,) = task.problems("test")
    bare = task.grade(problem, Completion("* one\n* two"))
    assert bare.reward == 1.0
    grade = task.grade(problem, Completion("<think>\n* one\n* two"))
    assert (grade.reward, grade.parts["prompt_loose"], grade.parts["inst_loose"]) == (0, 0, 0)
    assert grade.reason == "the thought never closes, so there is no answer"
    assert task.grade(problem, reply("")).parts["inst_loose"] == 0.0


def test_the_four_official_numbers(tmp_path: Path) -> None:
    one = {**ROW, "key": 1, "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    task = build(write_rows(tmp_path / "i.jsonl", ROW, one))
    both, single = task.problems("test")
    parts = [
        task.grade(both, reply("Sure, these:\n* one\n* two")).parts,  # strict 1 of 2, loose 2 of 2
        task.grade(single, reply("a, b")).parts,  # 0 of 1
    ]
    assert official_scores(parts) == IfevalScores(
        prompt_strict=0.0, instruction_strict=1 / 3, prompt_loose=0.5, instruction_loose=2 / 3
    )
    with pytest.raises(ValueError, match="no grades"):
        official_scores([])


def test_the_form_of_the_hub(tmp_path: Path) -> None:
    empty = dict.fromkeys(("num_bullets", "keywords", "relation", "language"))
    row = {**ROW, "kwargs": [empty, {**empty, "num_bullets": 2}]}
    (problem,) = build(write_rows(tmp_path / "i.jsonl", row)).problems("test")
    assert problem.metadata["kwargs"] == [{}, {"num_bullets": 2}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x"}, r"i\.jsonl:1: not a record of IF-Eval: no field 'key'"),
        ({**ROW, "kwargs": [{}]}, r"2 instructions with 1 sets of arguments"),
        ({**ROW, "kwargs": [{}, {}]}, r"missing a required argument: 'num_bullets'"),
        ({**ROW, "instruction_id_list": ["a", "b"]}, r"unknown instruction 'a'"),
    ],
)
def test_records_of_another_form(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        build(write_rows(tmp_path / "i.jsonl", row))


def test_some_of_the_prompts() -> None:
    chosen = build(num_test=50, seed=3).problems("test")
    assert len(chosen) == 50 and chosen == build(num_test=50, seed=3).problems("test")
