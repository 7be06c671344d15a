from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1.records import Completion, Grade, Problem, Rollout, Sample
from r1.tasks.task import Split
from r1.training import rollouts
from r1.training.rollout_metrics import rollout_metrics, sample_rows
from r1.training.rollouts import Group, Question, QuestionSource


class NumberTask:
    """Problems 0, 1, 2, ...; nothing here is graded."""

    name = "numbers"
    instruction = ""
    grader_version = "1"

    def __init__(self, num_problems: int) -> None:
        self.num_problems = num_problems

    def problems(self, split: Split) -> list[Problem]:
        return [Problem(str(i), f"{i}?", "a") for i in range(self.num_problems)]

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        return Grade(1.0)

    def gold_error(self, problem: Problem) -> str:
        return ""


def source(num_problems: int, **settings: float) -> QuestionSource:
    task = NumberTask(num_problems)
    return QuestionSource(task, task.problems("train"), **settings)  # type: ignore[arg-type]


def rollout(reward: float | None, *, answer: str | None = "a", **parts: float) -> Rollout:
    sample = Sample("q", 0, (1,), (2, 3), "x", (-1.0, -1.0), (-1.0, -1.0), "stop")
    return Rollout(Problem("p", "?", answer), sample, Grade(reward, parts))


def group(*members: Rollout) -> Group:
    return Group(Question(members[0].problem, NumberTask(1), "0/0/p"), tuple(members))


def test_every_epoch_asks_every_question_once() -> None:
    questions, drawn = rollouts.draw_questions([source(7)], (0,), count=21, step=0, seed=1)
    ids = [question.problem.id for question in questions]
    epochs = [ids[:7], ids[7:14], ids[14:]]
    assert all(sorted(epoch) == list("0123456") for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert drawn == (21,)
    assert len({question.stream for question in questions}) == 21


@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 5))
def test_drawing_goes_on_where_it_stopped(first: int, second: int, seed: int) -> None:
    sources = [source(5), source(8, weight=3.0)]
    whole, end = rollouts.draw_questions(sources, (0, 0), count=first + second, step=0, seed=seed)
    head, middle = rollouts.draw_questions(sources, (0, 0), count=first, step=0, seed=seed)
    tail, resumed_end = rollouts.draw_questions(sources, middle, count=second, step=0, seed=seed)
    assert [q.stream for q in whole] == [q.stream for q in head + tail]
    assert end == resumed_end


def test_sources_are_mixed_by_weight_and_by_step() -> None:
    sources = [source(50, weight=1.0), source(50, weight=3.0), source(50, from_step=10)]
    questions, _ = rollouts.draw_questions(sources, (0, 0, 0), count=2000, step=0, seed=0)
    shares = Counter(question.stream.split("/")[0] for question in questions)
    assert shares["2"] == 0
    assert shares["1"] / 2000 == pytest.approx(0.75, abs=0.03)
    late = [source(5, until_step=3), source(5, from_step=3)]
    questions, drawn = rollouts.draw_questions(late, (9, 0), count=4, step=3, seed=0)
    assert drawn == (9, 4)
    with pytest.raises(ValueError, match="no task is active at step 5"):
        rollouts.draw_questions([source(5, until_step=3)], (0,), count=1, step=5, seed=0)


@pytest.mark.parametrize(
    ("member", "reward"),
    [
        (rollout(1.0, format=1.0), 1.5),
        (rollout(0.0, format=1.0), 0.5),
        (rollout(None, format=1.0), None),
        (rollout(None, answer=None, format=1.0), 0.5),
        (rollout(None, answer=None, format=1.0, preference=2.0), 4.5),
        (rollout(1.0, format=0.0, overlong=-0.25), 0.75),
    ],
)
def test_reward_is_the_weighted_sum(member: Rollout, reward: float | None) -> None:
    weights = {"accuracy": 1.0, "format": 0.5, "preference": 2.0}
    assert rollouts.reward_of(member, weights) == reward


def test_a_failed_grader_leaves_its_reply_out_of_the_group() -> None:
    failed = group(rollout(1.0), rollout(None), rollout(0.0))
    (rewarded,) = rollouts.reward_groups([failed], {"accuracy": 1.0})
    judged = rollouts.with_advantages(rewarded, divide_by_std=True)
    advantages = [member.advantage for member in judged.rollouts]
    assert advantages[1] is None
    assert advantages[0] == pytest.approx(1.0, abs=1e-5)
    assert advantages[2] == pytest.approx(-1.0, abs=1e-5)
    metrics = rollout_metrics([judged])
    assert metrics["num_ungraded"] == 1
    assert metrics["accuracy"] == 0.5 and metrics["reward"] == 0.5


def test_signal_needs_two_different_rewards() -> None:
    equal = group(*(replace(rollout(1.0), reward=1.0) for _ in range(3)))
    assert not equal.has_signal
    lonely = group(replace(rollout(1.0), reward=1.0), rollout(None))
    assert not lonely.has_signal
    assert group(replace(rollout(1.0), reward=1.0), replace(rollout(0.0), reward=0.0)).has_signal


def test_unknown_reward_part_is_named_with_the_choices() -> None:
    message = "reward_weights.formt: .*'sums' have no such part; known: accuracy, format, language"
    with pytest.raises(ValueError, match=message):
        rollouts.check_reward_parts({"accuracy": 1, "formt": 1}, {"format", "language"}, "sums")


def test_reward_models_score_open_questions_only() -> None:
    groups = [group(rollout(1.0)), group(rollout(None, answer=None))]
    completions = [[Completion("abc")], [Completion("de")]]

    def scorer(pairs: list[tuple[str, str]]) -> list[float]:
        return [float(len(response)) for _, response in pairs]

    scored = rollouts.score_with_models(groups, completions, {"preference": scorer})  # type: ignore[dict-item]
    assert [dict(g.rollouts[0].grade.parts) for g in scored] == [{}, {"preference": 2.0}]
    both = rollouts.score_with_models(groups, completions, {"safety": scorer}, which="all")  # type: ignore[dict-item]
    assert [g.rollouts[0].grade.parts["safety"] for g in both] == [3.0, 2.0]


def test_overlong_penalty_falls_to_minus_one_at_the_limit() -> None:
    (penalized,) = rollouts.penalize_overlong([group(rollout(1.0))], 2, 1)
    assert penalized.rollouts[0].grade.parts["overlong"] == -1.0
    (free,) = rollouts.penalize_overlong([group(rollout(1.0))], 10, 4)
    assert free.rollouts[0].grade.parts["overlong"] == 0.0


def test_sample_rows_can_be_read_back() -> None:
    judged = rollouts.with_advantages(
        group(replace(rollout(1.0), reward=1.0), replace(rollout(0.0), reward=0.0)),
        divide_by_std=False,
    )
    rows = list(sample_rows([judged]))
    assert [row["advantage"] for row in rows] == [0.5, -0.5]
    assert rows[0]["question"] == "?" and rows[0]["text"] == "x" and rows[0]["num_tokens"] == 2
    assert all(math.isfinite(row["reward"]) for row in rows)
