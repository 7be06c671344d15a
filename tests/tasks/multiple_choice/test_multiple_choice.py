from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1.records import Completion, Problem
from r1.tasks.multiple_choice.formats import corrected_letters
from r1.tasks.multiple_choice.multiple_choice import MultipleChoiceTask, build_multiple_choice
from r1.tasks.task import TaskConfig, TaskError, preflight
from tests.tasks.rows import write_rows

MMLU = {"question": "2+2?", "choices": ["3", "4", "5", "6"], "answer": "B", "subject": "anatomy"}
GPQA = {
    "Question": "Which?",
    "Correct Answer": "right\n",
    "Incorrect Answer 1": "one",
    "Incorrect Answer 2": "two",
    "Incorrect Answer 3": "three",
    "High-level domain": "Physics",
}


def build(name: str, path: Path | str | None = None, **settings: Any) -> MultipleChoiceTask:
    path = None if path is None else str(path)
    return build_multiple_choice(TaskConfig(name=name, path=path, **settings))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def reply(text: str) -> Completion:
    return Completion(f"<think>\nIt may be (A), Answer: A.\n</think>\n\n{text}")


def letters(task: MultipleChoiceTask) -> str:
    return "".join(problem.answer or "" for problem in task.problems("test"))


def score_of_letter(task: MultipleChoiceTask, problem: Problem, letter: str) -> float | None:
    return task.grade(problem, reply(f"So it is that one.\n\nAnswer: {letter}")).reward


# ---------------------------------------------------------------- published data


@pytest.mark.parametrize(
    ("name", "num_problems", "num_subjects", "num_categories"),
    [
        ("mmlu", 14042, 57, 4),
        ("mmlu_redux", 5700, 57, 4),
        ("ceval", 1346, 52, 4),
        ("cluewsc", 976, 0, 0),
    ],
)
def test_published_sets(
    shared_dir: Path, name: str, num_problems: int, num_subjects: int, num_categories: int
) -> None:
    task = build(name, shared_dir / "data")
    problems = task.problems("test")
    assert len(problems) == num_problems and not task.problems("train")
    preflight(task, splits=("test",))
    for field, count in (("subject", num_subjects), ("category", num_categories)):
        assert len({p.metadata[field] for p in problems if p.metadata.get(field)}) == count
    sample = problems[::97]
    assert all(score_of_letter(task, problem, problem.answer or "") == 1.0 for problem in sample)
    wrong = [score_of_letter(task, p, "A" if "A" not in p.metadata["accepted"] else "B")
             for p in sample if len(p.metadata["accepted"]) == 1]  # fmt: skip
    assert set(wrong) == {0.0}


def test_mmlu_pro(shared_dir: Path) -> None:
    pytest.importorskip("pyarrow")
    problems = build("mmlu_pro", shared_dir / "data").problems("test")
    assert len(problems) == 12032
    counts = Counter(len(problem.metadata["options"]) for problem in problems)
    assert (min(counts), max(counts), counts[10]) == (3, 10, 9981)
    assert len({problem.metadata["category"] for problem in problems}) == 14
    of_three = next(p for p in problems if len(p.metadata["options"]) == 3)
    assert "where LETTER is one of ABC. Think" in of_three.question
    assert problems[0].id == "70" and problems[0].answer == "I"


def test_golds_of_mmlu_redux(shared_dir: Path) -> None:
    tasks = {
        gold: build("mmlu_redux", shared_dir / "data", options={"gold": gold})
        for gold in ("original", "corrected", "ok_only")
    }
    sizes = {gold: len(task.problems("test")) for gold, task in tasks.items()}
    assert sizes == {"original": 5700, "corrected": 5700, "ok_only": 5330}
    used = Counter(
        (problem.metadata["error_type"], problem.metadata["gold"])
        for problem in tasks["corrected"].problems("test")
    )
    assert sum(count for (_, gold), count in used.items() if gold == "corrected") == 130
    assert used["wrong_groundtruth", "corrected"] == 101
    assert used["multiple_correct_answers", "corrected"] == 29
    changed = sum(a != b for a, b in zip(letters(tasks["original"]), letters(tasks["corrected"]),
                                         strict=True))  # fmt: skip
    assert changed == 112
    default = build("mmlu_redux", shared_dir / "data")
    assert letters(default) == letters(tasks["corrected"])
    versions = [task.grader_version for task in (*tasks.values(), default)]
    assert versions == [f"choice-1-{gold}" for gold in (*tasks, "corrected")]


def test_a_pronoun_is_marked_where_it_stands(shared_dir: Path) -> None:
    problem = build("cluewsc", shared_dir / "data").problems("test")[0]
    assert "用【】标出的“他”是否指代“毛豆”" in problem.question
    assert "也是因为，【他】毛豆怎么" in problem.question
    assert (problem.id, problem.answer, problem.language) == ("1180", "A", "zh")


# ---------------------------------------------------------------- prompts and records


def test_the_prompt_of_simple_evals(tmp_path: Path) -> None:
    problem = build("mmlu", write_rows(tmp_path / "m.jsonl", MMLU)).problems("test")[0]
    assert problem.question == (
        "Answer the following multiple choice question. The last line of your response should be "
        "of the following format: 'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. "
        "Think step by step before answering.\n\n2+2?\n\nA) 3\nB) 4\nC) 5\nD) 6"
    )
    assert problem.metadata["category"] == "Other"


@pytest.mark.parametrize(
    "row",
    [
        MMLU,
        {**MMLU, "answer": 1},  # cais/mmlu
        {"Question": "2+2?", "A": "3", "B": "4", "C": "5", "D": "6", "Answer": "B",
         "Subject": "anatomy"},  # simple-evals
    ],
)  # fmt: skip
def test_forms_of_mmlu_records(tmp_path: Path, row: dict[str, Any]) -> None:
    problem = build("mmlu", write_rows(tmp_path / "m.jsonl", row)).problems("test")[0]
    assert (problem.answer, problem.metadata["subject"]) == ("B", "anatomy")
    assert problem.metadata["options"] == ["3", "4", "5", "6"]


def test_gpqa_is_permuted_as_simple_evals_does(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "gpqa_diamond.csv", [GPQA] * 5)
    problems = build("gpqa_diamond", path).problems("test")
    # random.Random(0).sample(range(4), 4), five times.
    assert [problem.metadata["permutation"] for problem in problems] == [
        [3, 1, 0, 2], [3, 1, 2, 0], [2, 3, 0, 1], [2, 0, 3, 1], [1, 3, 0, 2],
    ]  # fmt: skip
    for problem in problems:
        options, permutation = problem.metadata["options"], problem.metadata["permutation"]
        assert options == [["right", "one", "two", "three"][index] for index in permutation]
        assert options["ABCD".index(problem.answer or "")] == "right"
        assert f"{problem.answer}) right" in problem.question
    again = build("gpqa_diamond", path, options={"seed": 1}).problems("test")
    assert [p.metadata["permutation"] for p in again] != [
        p.metadata["permutation"] for p in problems
    ]


def test_gpqa_must_be_supplied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R1_DATA", raising=False)
    with pytest.raises(TaskError, match=r"no gpqa_diamond\.csv .*accept its terms") as caught:
        build("gpqa_diamond")
    assert "\n" not in str(caught.value)


def test_cluewsc_in_the_file_that_fewclue_has(tmp_path: Path) -> None:
    target = {"span1_text": "小明", "span1_index": 0, "span2_text": "他", "span2_index": 4}
    row = {"target": target, "idx": 7, "label": "false", "text": "小明说，他来了"}
    path = write_rows(tmp_path / "test_public.json", row, row)
    task = build("cluewsc", path)
    problem = task.problems("test")[0]
    assert problem.answer == "B" and "小明说，【他】来了\n\nA) 是\nB) 否" in problem.question
    for text, reward in (("答案：否", 1.0), ("答案：B", 1.0), ("答案：是", 0.0), ("否", 1.0)):
        assert task.grade(problem, reply(text)).reward == reward


def test_ceval_as_the_folder_of_its_archive(tmp_path: Path) -> None:
    row = {"id": 0, "question": "哪个？", "A": "甲", "B": "乙", "C": "丙", "D": "丁", "answer": "C"}
    for subject in ("accountant", "art_studies"):
        write_csv(tmp_path / f"{subject}_val.csv", [row, {**row, "id": 1}])
    problems = build("ceval", tmp_path).problems("test")
    assert [problem.id for problem in problems] == [
        "accountant-0", "accountant-1", "art_studies-0", "art_studies-1",
    ]  # fmt: skip
    assert problems[0].question.startswith(
        "以下是中国关于注册会计师考试的单项选择题，请选出其中的正确答案。"
    )
    assert problems[3].metadata["category"] == "Humanities"


def test_subjects_that_are_subsets_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(source: str, subset: str, split: str) -> list[dict[str, Any]]:
        asked.append((source, subset, split))
        return [{**{k: MMLU[k] for k in ("question", "choices")}, "answer": 1, "error_type": "ok"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    problems = build("mmlu_redux", "edinburgh-dawg/mmlu-redux-2.0").problems("test")
    assert len(problems) == len(asked) == 57
    assert asked[0] == ("edinburgh-dawg/mmlu-redux-2.0", "abstract_algebra", "test")
    assert problems[0].metadata["subject"] == "abstract_algebra"
    asked.clear()
    one = {"subset": "anatomy"}
    problems = build("mmlu_redux", "edinburgh-dawg/mmlu-redux-2.0", options=one).problems("test")
    assert len(asked) == 1 and problems[0].metadata["subject"] == "anatomy"


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        ("2", "C"),
        ("C", "C"),
        ("2 and 3", "CD"),
        ("1, 3", "BD"),
        ("A,D", "AD"),
        ("(0, 1)", "AB"),
        ("0 1 2 3", "ABCD"),
        ("0 or 2", "AC"),
        ("depends on interpretation", ""),
        ("30", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_corrections_of_mmlu_redux(correction: str | None, expected: str) -> None:
    assert "".join(corrected_letters(correction)) == expected


# ---------------------------------------------------------------- grading


def test_only_what_follows_the_thought_counts(tmp_path: Path) -> None:
    task = build("mmlu", write_rows(tmp_path / "m.jsonl", MMLU))
    problem = task.problems("test")[0]
    grade = task.grade(problem, reply("Answer: B"))
    assert (grade.reward, grade.answer, grade.reason) == (1.0, "B", "letter")
    assert task.grader_version == "choice-1"
    grade = task.grade(problem, reply("Answer: B or C"))
    assert (grade.reward, grade.answer) == (0.0, None)
    assert grade.reason == "several options: B, C"
    grade = task.grade(problem, Completion("<think>\nAnswer: B"))
    assert (grade.reward, grade.answer) == (0.0, None)
    grade = task.grade(problem, Completion("<think>hm</think> <answer>B</answer>"))
    assert grade.reward == 1.0


def test_every_correct_option_of_a_redone_question_is_accepted(tmp_path: Path) -> None:
    row = {**MMLU, "answer": 0, "error_type": "multiple_correct_answers", "correct_answer": "1, 3"}
    task = build("mmlu_redux", write_rows(tmp_path / "r.jsonl", row))
    problem = task.problems("test")[0]
    json_reply = '```json\n{{"reasoning": "...", "answer": "{}"}}\n```'
    rewards = [task.grade(problem, reply(json_reply.format(x))).reward for x in "ABCD"]
    assert rewards == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("name", "row", "options", "message"),
    [
        ("mmlu", {**MMLU, "answer": "E"}, {}, r"1 of 1 rows .*m\.jsonl:1: answer is 'E', not one "),
        ("mmlu", {**MMLU, "choices": ["a"]}, {}, r"1 options, expected 2 to 10"),
        ("mmlu", {"question": "q"}, {}, r"no field 'a'"),
        ("mmlu", MMLU, {"gold": "ok"}, r"unknown option 'gold'"),
        ("mmlu_redux", MMLU, {"gold": "best"}, r"gold is 'best'; choose from corrected, orig"),
        ("cluewsc", {"target": {}, "text": "x", "label": 1}, {}, r"label is 1, not 'true' or"),
    ],
)
def test_records_and_options_that_cannot_be_used(
    tmp_path: Path, name: str, row: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        build(name, write_rows(tmp_path / "m.jsonl", row), options=options)
    assert "\n" not in str(caught.value)


def test_a_benchmark_has_no_training_problems(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl", *[MMLU] * 5)
    assert len(build("mmlu", path, num_test=3).problems("test")) == 3
    with pytest.raises(TaskError, match="no problems to train on"):
        build("mmlu", path, num_train=3)
    with pytest.raises(TaskError, match="6 test problems asked for, 5 there"):
        build("mmlu", path, num_test=6)
