from __future__ import annotations

import pytest

from r1.records import Completion, Problem
from r1.tasks.judged.answers import GoldRubric, read_simpleqa_label, simpleqa_parts
from r1.tasks.judged.judged import JudgedTask, JudgeTemplate, ask_for, load_template, shortened
from tests.tasks.judged.judge_script import ScriptedJudge

PROBLEM = Problem("0", "Capital of France?", "Paris")
REPLY = Completion("<think>\nSecret: B\n</think>\n\nIt is Paris.")


def task(judge: ScriptedJudge | None) -> JudgedTask:
    rubric = GoldRubric(
        load_template("simpleqa-1"), read_simpleqa_label, simpleqa_parts, "NOT_ATTEMPTED", 1
    )
    return JudgedTask("simpleqa", [PROBLEM], rubric, judge)


def test_the_judge_sees_the_answer_and_never_the_thought() -> None:
    judge = ScriptedJudge(["A"])
    grade = task(judge).grade(PROBLEM, REPLY)
    prompt = judge.asked[0][0]
    assert (
        "Question: Capital of France?\nGold target: Paris\nPredicted answer: It is Paris." in prompt
    )
    assert "Secret" not in prompt
    assert grade.reward == 1.0
    assert grade.answer is None
    assert (grade.parts["correct"], grade.parts["attempted"]) == (1.0, 1.0)
    assert {"format", "language", "repetition"} <= grade.parts.keys()
    identity = load_template("simpleqa-1").identity
    assert grade.reason == f"CORRECT (judge told, prompt {identity})"


@pytest.mark.parametrize(
    ("letter", "reward", "attempted"), [("A", 1.0, 1.0), ("B", 0.0, 1.0), ("C", 0.0, 0.0)]
)
def test_labels(letter: str, reward: float, attempted: float) -> None:
    grade = task(ScriptedJudge([letter])).grade(PROBLEM, REPLY)
    assert (grade.reward, grade.parts["attempted"]) == (reward, attempted)


@pytest.mark.parametrize("text", ["<think>\nIt is Paris", "<think>\nhm\n</think>\n\n", ""])
def test_a_reply_without_an_answer_needs_no_judge(text: str) -> None:
    judge = ScriptedJudge(["A"])
    grade = task(judge).grade(PROBLEM, Completion(text, "length"))
    assert grade.reward == 0.0
    assert (grade.parts["correct"], grade.parts["attempted"]) == (0.0, 0.0)
    assert judge.asked == []


def test_a_failure_of_the_judge_is_no_score() -> None:
    grade = task(ScriptedJudge([None])).grade(PROBLEM, REPLY)
    assert grade.reward is None
    assert grade.reason.startswith("the judge failed: the server is gone (judge told")
    assert "correct" not in grade.parts
    assert task(None).grade(PROBLEM, REPLY).reason == "no judge"
    assert task(None).grade(PROBLEM, REPLY).reward is None


def test_an_unreadable_verdict_is_asked_for_once_more() -> None:
    judge = ScriptedJudge(["I would say maybe", "B"])
    assert task(judge).grade(PROBLEM, REPLY).reward == 0.0
    assert [attempt for _, _, attempt in judge.asked] == [0, 1]
    grade = task(ScriptedJudge(["hm"])).grade(PROBLEM, REPLY)
    assert grade.reward is None
    assert grade.reason.startswith("no verdict in the judge's reply 'hm'")


def test_the_grader_version_names_prompt_and_judge() -> None:
    assert task(None).grader_version == "simpleqa-1"
    assert task(ScriptedJudge(["A"])).grader_version == "simpleqa-1 by told"


def test_filling_a_template_replaces_each_field_once() -> None:
    template = JudgeTemplate("t-1", '{"a": {question}, "b": {answer}}', "be fair to {question}")
    prompt = template.fill(question="{answer}", answer="{question} {x}")
    assert prompt.user == '{"a": {answer}, "b": {question} {x}}'
    assert prompt.system == "be fair to {question}"


def test_the_identity_changes_with_the_text() -> None:
    first, second = JudgeTemplate("t-1", "a"), JudgeTemplate("t-1", "b")
    assert first.identity.startswith("t-1#") and len(first.identity) == len("t-1#") + 8
    assert first.identity != second.identity != JudgeTemplate("t-1", "b", "system").identity


TEMPLATES = {
    "alpaca_eval-1": ("instruction", "output_1", "output_2"),
    "arena_hard-1": ("question", "answer_1", "answer_2"),
    "chinese_simpleqa-1": ("question", "target", "predicted_answer"),
    "frames-1": ("question", "target", "predicted_answer"),
    "graded-1": ("question", "answer"),
    "pairwise-1": ("question", "answer_1", "answer_2"),
    "simpleqa-1": ("question", "target", "predicted_answer"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_has_its_fields(name: str) -> None:
    template = load_template(name)
    filled = template.fill(**{field: f"<<{field}>>" for field in TEMPLATES[name]})
    for field in TEMPLATES[name]:
        assert filled.user.count(f"<<{field}>>") == 1
    assert (template.system != "") == (
        name.split("_")[0] in ("alpaca", "arena", "pairwise-1", "graded-1")
    )


def test_a_prompt_does_not_change_under_its_version() -> None:
    assert sorted(load_template(name).identity for name in TEMPLATES) == [
        "alpaca_eval-1#60f4d783",
        "arena_hard-1#12fa5171",
        "chinese_simpleqa-1#85c3932b",
        "frames-1#68efab2d",
        "graded-1#480714d7",
        "pairwise-1#fbc98f27",
        "simpleqa-1#2d670521",
    ]


def test_asking_returns_the_last_reply() -> None:
    judge = ScriptedJudge(["x", "7"])
    prompt = JudgeTemplate("t-1", "?").fill()
    assert ask_for(judge, prompt, lambda reply: int(reply) if reply.isdigit() else None) == (7, "7")


def test_shortened() -> None:
    assert shortened("a\nb") == "'a b'"
    assert shortened("x" * 100, 10) == f"'...{'x' * 10}'"
