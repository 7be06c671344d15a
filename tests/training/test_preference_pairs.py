"""Preference pairs: who is shown first, what is kept, what a failing judge leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from r1.tasks.judged.judged import JudgeFailure
from r1.training.preference_pairs import PreferencesConfig, run_preferences
from tests.backends.conftest import Script, answers, script

__all__ = ["script"]  # the fixture

Rule = Callable[[str, str, int], str]


class Scripted:
    """A judge by rule: from the answers shown as A and B, and the attempt, its reply."""

    name = "scripted"

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.asked: list[tuple[str, str, int]] = []

    def ask(self, prompt: str, system: str = "", attempt: int = 0) -> str:
        shown = [
            prompt.split(f"Start of Assistant {name}'s Answer|>\n")[1].split("\n<|The End")[0]
            for name in "AB"
        ]
        self.asked.append((shown[0], shown[1], attempt))
        return self.rule(shown[0], shown[1], attempt)

    def first_token(self, prompt: str, system: str = "", attempt: int = 0) -> dict[str, float]:
        raise AssertionError("not asked for")


def likes(word: str) -> Rule:
    return lambda a, b, _: "[[A>>B]]" if word in a else "[[B>>A]]" if word in b else "[[A=B]]"


def reply(answer: str) -> str:
    return f"<think>\nthe good one?\n</think>\n\n{answer}"


def make_config(folder: Path, replies: Sequence[tuple[str, str]], **settings: Any):
    data = folder / "replies.jsonl"
    rows = [json.dumps({"prompt": p, "completion": c}, ensure_ascii=False) for p, c in replies]
    data.write_text("\n".join(rows) + "\n", encoding="utf-8")
    server = {"url": "http://127.0.0.1:9/v1", "model": "judge"}
    values = {
        "output": folder / "run",
        "data": data,
        "judge": {"server": server, "temperature": 0.7},
        "num_threads": 1,
    }
    return PreferencesConfig.model_validate(values | settings)


def kept(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def left_out(folder: Path) -> dict[str, int]:
    return json.loads((folder / "run" / "summary.json").read_text())["left_out"]


TWO = [
    ("One?", reply("good é")),
    ("Two?", reply("plain")),
    ("One?", reply("bad é")),
    ("Two?", reply("a good")),
]


def test_each_order_is_judged_twice_on_the_answers_alone(tmp_path: Path) -> None:
    judge = Scripted(likes("good"))
    rows = kept(run_preferences(make_config(tmp_path, TWO), judge=judge))
    assert [(r["prompt"], r["chosen"], r["rejected"]) for r in rows] == [
        ("One?", reply("good é"), reply("bad é")),
        ("Two?", reply("a good"), reply("plain")),
    ]
    assert {row["score_difference"] for row in rows} == {2.0}
    # Attempts 1 and 3 are second tries of a judgement without a verdict.
    both = [("good é", "bad é"), ("bad é", "good é")]
    assert judge.asked[:4] == [(*pair, attempt) for pair in both for attempt in (0, 2)]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    replies = [
        *TWO,
        ("Same?", reply("yes")),
        ("Same?", reply("yes")),
        ("Long?", reply("good")),
        ("Long?", reply("far too long beside it")),
        ("Cut?", "<think>\nand so on"),
        ("Cut?", reply("good")),
        ("Close?", reply("good, but")),
        ("Close?", reply("close to")),
        ("Mute?", reply("good mute")),
        ("Mute?", reply("the mute")),
        ("First?", reply("some first")),
        ("First?", reply("no matter")),
    ]

    def rule(a: str, b: str, attempt: int) -> str:
        if "mute" in a:
            return "I cannot say" if attempt > 1 else "[[A>>B]]"
        if "first" in a + b:
            return "[[A>>B]]"
        if "close" in a + b:  # a mean of 1, which is not above 1
            return "[[A>B]]" if "good" in a else "[[B>A]]"
        return likes("good")(a, b, attempt)

    rows = kept(run_preferences(make_config(tmp_path, replies), judge=Scripted(rule)))
    assert [row["prompt"] for row in rows] == ["One?", "Two?"]
    assert left_out(tmp_path) == {
        "no_answer_or_the_same": 2,
        "lengths_differ": 1,
        "too_close": 2,
        "no_verdict": 1,
    }


def test_several_pairs_a_prompt_share_no_reply(tmp_path: Path) -> None:
    replies = [("Q", reply(f"{word} {n}")) for n in range(3) for word in ("good", "bad!")]
    path = run_preferences(
        make_config(tmp_path, replies, pairs_per_prompt=2), judge=Scripted(likes("good"))
    )
    assert [(r["chosen"][-6:], r["rejected"][-6:]) for r in kept(path)] == [
        ("good 0", "bad! 0"),
        ("good 1", "bad! 1"),
    ]


def test_a_failing_judge_is_no_preference_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    config = make_config(tmp_path, TWO)

    def broken(a: str, b: str, attempt: int) -> str:
        if "plain" in a + b:
            raise KeyboardInterrupt
        return "[[A>>B]]" if "good" in a else "[[B>>A]]"

    with pytest.raises(KeyboardInterrupt):
        run_preferences(config, judge=Scripted(broken))
    assert not (tmp_path / "run" / "data.jsonl").exists()

    def failing(a: str, b: str, attempt: int) -> str:
        raise JudgeFailure("HTTP 500")

    second = Scripted(failing)
    assert [row["prompt"] for row in kept(run_preferences(config, judge=second))] == ["One?"]
    assert all("plain" in a + b for a, b, _ in second.asked)
    assert left_out(tmp_path)["judge_failed"] == 1
    third = Scripted(failing)
    run_preferences(config, judge=third)
    assert not third.asked


def test_by_a_server(script: Script, tmp_path: Path) -> None:
    script.default = answers("My verdict: [[A=B]]")
    # The check, then A>>B and A>>B for the first order, B>>A twice for the other.
    verdicts = ["[[A>>B]]", "[[A>B]]", "[[B>>A]]", "[[B>A]]"]
    script.behaviours = [answers("ok"), *map(answers, verdicts)]
    server = script.config(max_attempts=1).model_dump()
    config = make_config(tmp_path, TWO[::2], judge={"server": server, "temperature": 0.7})
    assert kept(run_preferences(config))[0]["score_difference"] == 1.5
    bodies = [body for _, body, _ in script.requests[1:]]
    assert len(bodies) == 4 == len({body["seed"] for body in bodies})
    assert all("the good one?" not in str(body["messages"]) for body in bodies)


@pytest.mark.parametrize(
    ("replies", "message"),
    [
        ([("Q", reply("a")), ("R", reply("b"))], "no prompt has two completions"),
        ([("Q", reply("a")), ("Q", "")], r"replies.jsonl:2: completion is ''"),
        ([("Q", reply("a")), ("Q", reply("a"))], r"no pair .* was kept"),
        ([], "no prompt has two completions"),
    ],
)
def test_bad_data(tmp_path: Path, replies: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_preferences(make_config(tmp_path, replies), judge=Scripted(likes("good")))


def test_bad_settings(tmp_path: Path) -> None:
    server = {"url": "http://127.0.0.1:9/v1", "model": "judge"}
    with pytest.raises(ValueError, match=r"judge.temperature = 0 .* 0.7, or num_judgements = 2"):
        make_config(tmp_path, TWO, judge={"server": server})
    with pytest.raises(ValueError, match="multiple of 2"):
        make_config(tmp_path, TWO, num_judgements=3)
