from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1.records import Completion, Problem
from r1.tasks.judged.judged import load_template
from r1.tasks.judged.pairs import (
    TwoGames,
    WeightedChoice,
    battle_scores,
    is_switched,
    read_outcome,
)
from r1.tasks.task import TaskConfig, TaskError, build_task
from tests.tasks.judged.judge_script import ScriptedJudge

OUTCOMES = [
    ("My final verdict is: [[A>>B]]", 2),
    ("[[A>B]]", 1),
    ("[[A=B]] and so [[A=B]]", 0),
    ("[[B>A]]", -1),
    ("[[B>>A]].", -2),
    ("[[A<B]]", -1),
    ("[[B<<A]]", 2),
    ("[[A>B]] or rather [[B>A]]", None),
    ("[[A]]", None),
    ("A>>B", None),
    ("", None),
]


@pytest.mark.parametrize(("reply", "outcome"), OUTCOMES)
def test_outcomes(reply: str, outcome: int | None) -> None:
    assert read_outcome(reply) == outcome


def test_a_strong_verdict_is_three_battles() -> None:
    assert battle_scores([2, 1, 0, -1, -2]) == [1, 1, 1, 1, 0.5, 0, 0, 0, 0]


PROBLEM = Problem("u", "Write.", None, metadata={"baseline": "theirs"})
GAMES = TwoGames(load_template("arena_hard-1"))


def test_two_games_in_both_orders() -> None:
    judge = ScriptedJudge(["[[B>>A]]", "[[A>B]]"])
    verdict = GAMES.decide(judge, PROBLEM, "mine")
    first, second = (prompt for prompt, _, _ in judge.asked)
    assert first.index("theirs") < first.index("mine")
    assert second.index("mine") < second.index("theirs")
    assert all(
        system.startswith("Please act as an impartial judge") for _, system, _ in judge.asked
    )
    assert verdict.parts == {"game_1": 2.0, "game_2": 1.0}
    assert verdict.reward == 1.0
    assert verdict.reason == "game 1: +2; game 2: +1"


def test_a_judge_that_prefers_the_first_place_gives_half() -> None:
    verdict = GAMES.decide(ScriptedJudge(["[[A>>B]]"]), PROBLEM, "mine")
    assert verdict.parts == {"game_1": -2.0, "game_2": 2.0}
    assert verdict.reward == 0.5


def test_a_game_without_a_verdict_does_not_count() -> None:
    judge = ScriptedJudge(["[[B>A]]", "no idea", "none", ""])
    verdict = GAMES.decide(judge, PROBLEM, "mine")
    assert verdict.parts == {"game_1": 1.0}
    assert verdict.reward == 1.0
    assert "game 2: no verdict in 'none'" in verdict.reason
    assert GAMES.decide(ScriptedJudge(["?"]), PROBLEM, "mine").reward is None


def test_no_answer_loses_both_games(tmp_path: Path) -> None:
    built = build_task(arena_config(tmp_path), ScriptedJudge(["[[B>>A]]"]))
    problem = built.problems("test")[0]
    grade = built.grade(problem, Completion("<think>on and on", "length"))
    assert grade.reward == 0.0
    assert (grade.parts["game_1"], grade.parts["game_2"]) == (-2.0, -2.0)


def arena_config(folder: Path) -> TaskConfig:
    question = {"uid": "u1", "cluster": "c", "prompt": "Sing."}
    messages = [{"role": "user", "content": "Sing."}, {"content": {"answer": "La"}}]
    (folder / "question.jsonl").write_text(json.dumps(question) + "\n")
    answer = {"uid": "u1", "model": "gpt-4-0314", "messages": messages}
    (folder / "gpt-4-0314.jsonl").write_text(json.dumps(answer) + "\n")
    return TaskConfig(name="arena_hard", path=str(folder / "question.jsonl"))


def test_arena_hard_from_files(tmp_path: Path) -> None:
    config = arena_config(tmp_path)
    problem = build_task(config).problems("test")[0]
    assert (problem.id, problem.question, problem.metadata["baseline"]) == ("u1", "Sing.", "La")
    # The form of before 2025.
    old = {"question_id": "u1", "turns": [{"content": "Sing."}]}
    (tmp_path / "question.jsonl").write_text(json.dumps(old) + "\n")
    old_answer = {"question_id": "u1", "choices": [{"turns": [{"content": "Lo"}]}]}
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(old_answer) + "\n")
    given = config.model_copy(update={"options": {"baseline": str(path)}})
    assert build_task(given).problems("test")[0].metadata["baseline"] == "Lo"
    path.write_text(json.dumps({"question_id": "u2", "choices": [{"turns": [{"content": "L"}]}]}))
    with pytest.raises(TaskError, match="the baseline has no answer to u1"):
        build_task(given)
    path.write_text(json.dumps({"question_id": "u2"}))
    with pytest.raises(TaskError, match="expected uid and messages"):
        build_task(given)


def test_the_weighted_preference() -> None:
    rubric = WeightedChoice(load_template("alpaca_eval-1"))
    first = Problem(
        "0", next(q for q in "abcdefgh" if not is_switched(q)), None, metadata={"baseline": "base"}
    )
    second = Problem(
        "1", next(q for q in "abcdefgh" if is_switched(q)), None, metadata={"baseline": "base"}
    )
    judge = ScriptedJudge([""], tokens={"m": 0.6, "M": 0.2, "The": 0.2})
    verdict = rubric.decide(judge, first, "mine!")
    assert verdict.reward == pytest.approx(0.25)
    assert verdict.parts == {
        "preference": pytest.approx(0.25),
        "length": 5.0,
        "baseline_length": 4.0,
    }
    prompt, system, _ = judge.asked[0]
    assert prompt.index('"""base"""') < prompt.index('"""mine!"""')
    assert system.startswith("You are a highly efficient assistant")
    switched = rubric.decide(judge, second, "mine!")
    assert switched.reward == pytest.approx(0.75)
    assert judge.asked[1][0].index("mine!") < judge.asked[1][0].index("base")
    assert rubric.decide(ScriptedJudge([""], tokens={"M": 0.9}), first, "x").reward == 1.0
    assert rubric.decide(ScriptedJudge([""], tokens={"The": 1.0}), first, "x").reward is None
    assert rubric.no_answer_parts(first) == {
        "preference": 0.0,
        "length": 0.0,
        "baseline_length": 4.0,
    }


def test_the_published_files(shared_dir: Path) -> None:
    path = str(shared_dir / "data")
    alpaca = build_task(TaskConfig(name="alpaca_eval", path=path))
    assert [p.id for p in alpaca.problems("test")] == [str(i) for i in range(805)]
    assert all(alpaca.gold_error(p) == "" for p in alpaca.problems("test"))
    # About half of the orders are switched.
    assert 350 < sum(is_switched(p.question) for p in alpaca.problems("test")) < 455
    arena = build_task(TaskConfig(name="arena_hard", path=path))
    problems = arena.problems("test")
    assert len({p.id for p in problems}) == len(problems) == 500
    assert all(arena.gold_error(p) == "" for p in problems)
    assert problems[0].question == "Use ABC notation to write a melody in the style of a folk tune."
