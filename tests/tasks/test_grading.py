from __future__ import annotations

import pytest

from r1.records import Completion, Problem
from r1.rewards.format import FormatStyle
from r1.tasks.grading import (
    MathTask,
    Score,
    boxed_instruction,
    grade_reply,
    shared_verifier,
)
from r1.text.reasoning import Reasoning

PROBLEM = Problem(id="p", question="What is 3 * 14?", answer="42")
THOUGHT = "First I multiply three by fourteen, then I check the result again."


@pytest.fixture(scope="module")
def task() -> MathTask:
    return MathTask("sums", "", [PROBLEM], [], shared_verifier(1, 5.0))


@pytest.mark.parametrize(
    ("text", "reward", "answer"),
    [
        (f"<think>\n{THOUGHT}\n</think>\nIt is \\boxed{{42}}.", 1.0, "42"),
        (f"<think>\n{THOUGHT}\n</think>\n<answer>42</answer>", 1.0, "42"),
        (f"{THOUGHT}\n</think>\nIt is \\boxed{{42}}.", 1.0, "42"),
        ("It is \\boxed{42}.", 1.0, "42"),
        ("Answer: 42", 1.0, "42"),
        ("The result is 42", 1.0, "42"),
        ("\\boxed{41} no, wait: \\boxed{42}", 1.0, "42"),
        ("\\boxed{42} no, wait: \\boxed{41}", 0.0, "41"),
        (f"<think>\n{THOUGHT} \\boxed{{42}}\n</think>\nIt is \\boxed{{41}}.", 0.0, "41"),
        (f"<think>\n{THOUGHT} \\boxed{{42}}", 0.0, None),
        (f"<think>\n{THOUGHT} \\boxed{{42}}\n</think>\nI have said it.", 0.0, None),
        ("", 0.0, None),
        ("no idea", 0.0, None),
        ("<think></think>", 0.0, None),
    ],
)
def test_only_what_follows_the_thought_is_graded(
    task: MathTask, text: str, reward: float, answer: str | None
) -> None:
    grade = task.grade(PROBLEM, Completion(text))
    assert (grade.reward, grade.answer) == (reward, answer)
    assert set(grade.parts) == {"format", "language", "repetition"}
    assert all(0.0 <= value <= 1.0 for value in grade.parts.values())


@pytest.mark.parametrize(
    ("gold", "tagged", "reward", "answer"),
    [
        ("1/2", r"\frac{1}{2}", 1.0, r"\frac{1}{2}"),
        ("2", r"\frac{1}{2}", 0.0, r"\frac{1}{2}"),
        ("4", "(3, 4)", 0.0, "(3, 4)"),
        ("(3,4)", "(3, 4)", 1.0, "(3, 4)"),
        ("east", "east", 1.0, "east"),
        ("east", "The answer is east.", 1.0, "east"),
        ("42", "42 apples", 1.0, "42"),
        ("42", "40 + 2 = 42", 1.0, "42"),
        ("42", "(42)", 1.0, "42"),
        ("10080", r"10,\!080", 1.0, r"10,\!080"),
        ("42", "no idea", 0.0, None),
    ],
)
def test_a_formula_in_answer_tags_is_the_answer_whole(
    task: MathTask, gold: str, tagged: str, reward: float, answer: str | None
) -> None:
    reply = Completion(f"<think>{THOUGHT}</think> <answer>{tagged}</answer>")
    grade = task.grade(Problem(id="p", question="q", answer=gold), reply)
    assert (grade.reward, grade.answer) == (reward, answer)


@pytest.mark.parametrize(
    ("style", "chat", "r1_zero", "bare"),
    [(None, 1.0, 1.0, 0.0), ("chat", 1.0, 0.0, 0.0), ("r1_zero", 0.0, 1.0, 0.0)],
)
def test_the_format_part_by_style(
    style: FormatStyle | None, chat: float, r1_zero: float, bare: float
) -> None:
    task = MathTask("sums", "", [], [], shared_verifier(1, 5.0), style)
    replies = [
        f"<think>\n{THOUGHT}\n</think>\n\\boxed{{42}}",
        f"<think>{THOUGHT}</think>\n<answer>42</answer>",
        "\\boxed{42}",
    ]
    grades = [task.grade(PROBLEM, Completion(text)) for text in replies]
    assert [grade.parts["format"] for grade in grades] == [chat, r1_zero, bare]
    assert [grade.reward for grade in grades] == [1.0, 1.0, 1.0]


def test_the_language_part_looks_at_the_thought() -> None:
    def language(text: str, wanted: str) -> float:
        problem = Problem(id="p", question="q", answer="1", language=wanted)
        return grade_reply(problem, Completion(text), lambda _: (1.0, "1", "")).parts["language"]

    chinese = "<think>\n我们先算一下，再检查一遍。\n</think>\nThe answer is one, I am certain."
    assert language(chinese, "zh") == 1.0
    assert language(chinese, "en") == 0.0
    assert language("我们先算一下，再检查一遍。", "zh") == 1.0


def test_the_repetition_part_sees_a_loop() -> None:
    loop = "<think>\n" + "wait, let me check it again. " * 60 + "\n</think>\n\\boxed{42}"
    plain = f"<think>\n{THOUGHT}\n</think>\n\\boxed{{42}}"
    rates = [
        grade_reply(PROBLEM, Completion(text), lambda _: (1.0, "42", "")).parts["repetition"]
        for text in (loop, plain)
    ]
    assert rates[0] > 0.8 and rates[1] == 0.0


def test_a_verifier_failure_is_no_score() -> None:
    def failed(_: Reasoning) -> Score:
        return None, "x", "time limit"

    grade = grade_reply(PROBLEM, Completion("\\boxed{x}"), failed)
    assert (grade.reward, grade.answer, grade.reason) == (None, "x", "time limit")


def test_an_open_question_has_no_score(task: MathTask) -> None:
    problem = Problem(id="open", question="Write a poem.", answer=None)
    assert task.grade(problem, Completion("Roses are red.")).reward is None
    assert task.gold_error(problem) == "no answer"


def test_verifiers_are_shared_by_their_settings() -> None:
    assert shared_verifier(1, 5.0) is shared_verifier(1, 5.0)
    assert shared_verifier(1, 5.0) is not shared_verifier(1, 4.0)


def test_instructions_by_language() -> None:
    assert "\\boxed{}" in boxed_instruction("zh") and "最终答案" in boxed_instruction("zh")
    assert boxed_instruction("de") == boxed_instruction("en")
