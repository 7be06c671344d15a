from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1.evaluation.metrics import (
    SampleCounts,
    Vote,
    confidence_interval_95,
    cons_at_k,
    consensus_of_question,
    count_samples,
    error_by_question,
    group_votes,
    paired_difference,
    pass_at_1,
    pass_at_k,
    pass_at_k_of_question,
    rerun_error,
)


def same(a: str, b: str) -> bool:
    return a == b


def same_number(a: str, b: str) -> bool:
    return float(a) == float(b)


def test_pass_at_1_is_the_mean_of_question_means() -> None:
    assert pass_at_1([[1, 1, 0, 0], [1, 1, 1, 1]]) == 0.75


def test_pass_at_1_divides_by_samples_present() -> None:
    # 7 of the 16 samples that exist are correct, whatever number was asked for.
    assert pass_at_1([[1, 0] * 7 + [0, 0], [], []]) == 0.4375


def test_ungraded_samples_are_left_out_and_counted() -> None:
    scores = [[1.0, None, 0.0, 1.0], [None, None], [0.0, 0.0, 0.0, 0.0]]
    assert pass_at_1(scores) == pytest.approx((2 / 3 + 0) / 2)
    assert count_samples(scores, 4) == SampleCounts(present=10, missing=2, ungraded=3)


def test_all_ungraded_is_refused() -> None:
    with pytest.raises(ValueError, match="every sample is ungraded"):
        pass_at_1([[None, None]])


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (8, 1, 1, 1 / 8),
        (8, 1, 4, 0.5),
        (5, 2, 3, 0.9),  # 1 - C(3,3)/C(5,3) = 1 - 1/10
        (4, 0, 4, 0.0),
        (4, 4, 1, 1.0),
        (4, 3, 2, 1.0),  # fewer than k wrong ones
    ],
)
def test_pass_at_k_by_hand(n: int, c: int, k: int, expected: float) -> None:
    assert pass_at_k_of_question(n, c, k) == pytest.approx(expected)


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_success(
    scores: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(scores)))
    subsets = list(itertools.combinations(scores, k))
    share = sum(any(subset) for subset in subsets) / len(subsets)
    assert pass_at_k_of_question(len(scores), sum(scores), k) == pytest.approx(share)


def test_pass_at_k_refuses_what_it_cannot_estimate() -> None:
    with pytest.raises(ValueError, match=r"1 <= k <= 2"):
        pass_at_k([[1, 0]], 3)
    with pytest.raises(ValueError, match="1 of 2 questions have missing"):
        pass_at_k([[1, 0], [1]], 2)
    with pytest.raises(ValueError, match="1 of 2 questions have missing or ungraded"):
        pass_at_k([[1, 0], [1, None]], 1)
    with pytest.raises(ValueError, match="not fractions"):
        pass_at_k([[0.5, 1.0]], 1)


def votes(text: str, gold: str) -> list[Vote]:
    """One character a vote; '-' abstains."""
    return [Vote(None, 0.0) if c == "-" else Vote(c, float(c == gold)) for c in text]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("7773", 1.0),
        ("7333", 0.0),
        ("7733", 0.5),
        ("773312", 0.5),
        ("712", 1 / 3),
        ("7-----", 1.0),  # five abstentions do not outvote one answer
        ("------", 0.0),
    ],
)
def test_consensus_by_hand(answers: str, expected: float) -> None:
    assert consensus_of_question(votes(answers, "7"), same) == pytest.approx(expected)


def test_equal_answers_in_different_words_vote_together() -> None:
    ballots = [Vote("0.5", 1.0), Vote(".50", 1.0), Vote("3", 0.0), Vote("3", 0.0), Vote("1/2e", 0)]
    ballots = [*ballots[:4], Vote("5e-1", 1.0)]
    assert consensus_of_question(ballots, same) == 0.0
    assert consensus_of_question(ballots, same_number) == 1.0
    assert [len(members) for members in group_votes(ballots, same_number)] == [3, 2]


def test_ungraded_winner_leaves_the_question_out() -> None:
    unknown = [Vote("9", None), Vote("9", None), Vote("7", 1.0)]
    assert consensus_of_question(unknown, same) is None
    assert cons_at_k([unknown, votes("777", "7")], 3, same) == 1.0
    with pytest.raises(ValueError, match="graded majority"):
        cons_at_k([unknown], 3, same)


def test_cons_at_k_uses_the_first_k_and_needs_them() -> None:
    questions = [votes("7733", "7"), votes("3777", "7")]
    assert cons_at_k(questions, 1, same) == 0.5
    assert cons_at_k(questions, 4, same) == 0.75
    with pytest.raises(ValueError, match="cons@5 needs 5 samples a question; 2 of 2"):
        cons_at_k(questions, 5, same)


def test_both_errors_by_hand() -> None:
    scores = [[1, 1, 1, 0], [0, 0, 0, 1]]
    # Means .75 and .25: sample sd .35355, over sqrt 2 = .25.
    assert error_by_question(scores) == pytest.approx(0.25)
    # mean(p(1-p) 4/3) = .25; over N K = 8; root.
    assert rerun_error(scores) == pytest.approx((0.25 / 8) ** 0.5)
    assert error_by_question([[1, 0]]) is None
    assert rerun_error([[1], [0]]) is None


def test_aime_with_one_sample_reruns_to_nine_points() -> None:
    # 30 questions at p = .5, n = 64: sqrt(.25 * 64/63 / (30 * 64)) is 1.15 points,
    # and eight times that for a single sample: why AIME is sampled 64 times.
    scores = [[1.0] * 32 + [0.0] * 32] * 30
    assert rerun_error(scores) == pytest.approx(0.0115, abs=1e-4)


def test_confidence_interval_is_clipped() -> None:
    assert confidence_interval_95(0.5, 0.1) == pytest.approx((0.304, 0.696), abs=1e-3)
    assert confidence_interval_95(0.99, 0.1)[1] == 1.0
    assert confidence_interval_95(0.01, 0.1)[0] == 0.0
    assert confidence_interval_95(0.4, None) == (0.0, 1.0)


def test_paired_difference_by_hand() -> None:
    a = {"x": [1, 0], "y": [0, 0], "z": [0, 1], "only a": [1]}
    b = {"x": [1, 1], "y": [0, 1], "z": [1, 1]}
    result = paired_difference(a, b)
    # Every question gains .5: no spread, although the scores themselves differ.
    assert (result.difference, result.error) == (0.5, 0.0)
    assert (result.num_questions, result.num_unpaired) == (3, 1)
    with pytest.raises(ValueError, match="in common"):
        paired_difference({"x": [1]}, {"y": [1]})


def test_paired_interval_is_narrower_than_the_unpaired_one() -> None:
    a = {str(i): [float(i % 2), float(i % 2)] for i in range(40)}
    b = {key: ([1.0, 1.0] if key == "0" else scores) for key, scores in a.items()}
    result = paired_difference(a, b)
    unpaired = error_by_question(list(a.values()))
    assert result.difference == pytest.approx(0.025)
    assert result.error is not None and unpaired is not None
    assert result.error < unpaired / 3


def test_real_responses_of_a_math_model(shared_dir: Path) -> None:
    """800 responses of Qwen2.5-Math to 100 MATH problems, scored by its authors."""
    path = shared_dir / "data" / "math500" / "qwen_math_cot_100x8.jsonl"
    if not path.exists():
        pytest.skip(f"benchmark data is absent: {path}")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    scores = [[float(score) for score in row["score"]] for row in rows]
    assert pass_at_1(scores) == pytest.approx(0.910, abs=5e-5)
    assert [pass_at_k(scores, k) for k in (2, 4, 8)] == pytest.approx(
        [0.9329, 0.951, 0.960], abs=5e-4
    )
    assert error_by_question(scores) == pytest.approx(0.0250, abs=5e-5)
    ballots = [
        [
            Vote(pred or None, float(score))
            for pred, score in zip(r["pred"], r["score"], strict=True)
        ]
        for r in rows
    ]
    consensus = cons_at_k(ballots, 8, same)
    assert 0.910 < consensus < 0.960
