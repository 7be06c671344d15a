from __future__ import annotations

from typing import Any

import pytest

from r1.evaluation.row_metrics.codeforces_rating import (
    Participant,
    codeforces_numbers,
    contest_result,
    expected_place,
    percentile,
    place_among,
    rating_of_place,
    score_attempts,
)
from r1.records import Problem

RATINGS = [2400.0, 2000.0, 1600.0, 1200.0]


def test_expected_place_by_hand() -> None:
    # 1 + 1/11 + 1/2: against one 400 better the newcomer loses 10 of 11, equals split.
    assert expected_place(1600, [1600]) == 1.5
    assert expected_place(1600, [2000]) == pytest.approx(1 + 10 / 11)
    assert expected_place(1600, [1200]) == pytest.approx(1 + 1 / 11)
    assert expected_place(1600, [2000, 1600, 1200]) == pytest.approx(1 + 10 / 11 + 0.5 + 1 / 11)
    assert expected_place(1600, [2000, 1600, 1200]) == pytest.approx(2.5)


def test_codeforces_own_example() -> None:
    # "If the difference of ratings is equal to 200 then stronger participant will win with
    # probability ~0.75": the one who is 200 stronger has the place 1 + 0.24.
    assert expected_place(1700, [1500]) == pytest.approx(1.2402530733520421)


def test_rating_of_place_inverts_the_expected_place() -> None:
    for rating in (700.0, 1450.0, 1800.0, 2300.0):
        place = expected_place(rating, RATINGS)
        assert rating_of_place(place, RATINGS) == pytest.approx(rating, abs=2e-6)


def test_second_of_two_equals() -> None:
    # 1 + 1/(1 + 10^((R - 1500)/400)) = 1.5 at R = 1500; place 2 is never expected: the bound.
    assert rating_of_place(1.5, [1500]) == pytest.approx(1500, abs=2e-6)
    assert rating_of_place(2, [1500, 1500]) == pytest.approx(1500, abs=2e-6)


def test_the_bounds_at_first_and_last() -> None:
    assert rating_of_place(1, RATINGS) == pytest.approx(2500, abs=2e-6)
    assert rating_of_place(5, RATINGS) == pytest.approx(0, abs=2e-6)
    for place in (0.5, 6):
        with pytest.raises(ValueError, match="among 4 participants"):
            rating_of_place(place, RATINGS)
    with pytest.raises(ValueError, match="without participants"):
        rating_of_place(1, [])


def test_a_better_place_is_a_higher_rating() -> None:
    ratings = [rating_of_place(place, RATINGS) for place in (1, 2, 3, 4, 5)]
    assert ratings == sorted(ratings, reverse=True)
    assert len(set(ratings)) == 5
    stronger = [rating + 300 for rating in RATINGS]
    assert rating_of_place(3, stronger) == pytest.approx(
        rating_of_place(3, RATINGS) + 300, abs=1e-5
    )


def test_places_and_ties() -> None:
    field = [Participant(0, 5, 30), Participant(0, 5, 60), Participant(0, 3, 10)]
    assert place_among(6, 0, field) == 1
    assert place_among(5, 30, field) == 1
    assert place_among(5, 31, field) == 2
    assert place_among(5, 60, field) == 2
    assert place_among(3, 10, field) == 3
    assert place_among(0, 0, field) == 4


def test_scores_of_attempts() -> None:
    attempts = {"A": [True], "B": [False, False, True], "C": [False, False], "D": [False, True]}
    points = {"A": 500.0, "B": 1000.0, "C": 1500.0, "D": 40.0}
    assert score_attempts(attempts, points) == (1400.0, 0.0)  # 500 + (1000 - 100) + 0 + 0
    assert score_attempts(attempts, dict.fromkeys("ABCD")) == (3.0, 30.0)
    assert score_attempts({}, points) == (0.0, 0.0)


def test_percentile() -> None:
    assert percentile(1500, [1000, 1500, 2000, 2500]) == 25.0
    assert percentile(1501, [1000, 1500, 2000, 2500]) == 50.0
    assert percentile(900, [1000]) == 0.0
    assert percentile(9000, [1000]) == 100.0
    with pytest.raises(ValueError, match="human ratings"):
        percentile(1500, [])


# ---------------------------------------------------------------- from records

CONTEST = {
    "contest_id": "77",
    "problems": [{"index": "A", "points": 500}, {"index": "B", "points": 1000}],
    "participants": [
        {"rating": 2400, "points": 1500, "penalty": 0},
        {"rating": 2000, "points": 1000, "penalty": 0},
        {"rating": 1600, "points": 500, "penalty": 0},
        {"rating": 1200, "points": 0, "penalty": 0},
    ],
}


def problems(contest: Any = CONTEST, ratings: tuple[float, ...] = ()) -> list[Problem]:
    standings = {"contest_id": "77", "contest": contest, "human_ratings": ratings}
    return [
        Problem(
            f"77{index}",
            "?",
            "tests",
            metadata={"contest_id": "77", "index": index, "standings": standings},
        )
        for index in "AB"
    ]


def record(problem_id: str, sample_index: int, reward: float | None) -> dict[str, Any]:
    return {"problem_id": problem_id, "sample_index": sample_index, "reward": reward}


def test_one_contest_by_hand() -> None:
    result = contest_result(CONTEST, "77", {"A": 1.0, "B": 0.0})
    # 500 points tie with the third of four: place 3.
    assert (result.points, result.place) == (500.0, 3)
    assert expected_place(result.rating, RATINGS) == pytest.approx(3, abs=1e-6)
    assert result.rating == pytest.approx(1800, abs=1e-4)  # by symmetry of the field


def test_the_rating_is_a_mean_over_participations() -> None:
    records = [record("77A", 0, 1.0), record("77B", 0, 0.0)]
    assert codeforces_numbers(records, problems())["rating"] == pytest.approx(1800, abs=1e-4)
    second = [record("77A", 1, 1.0), record("77B", 1, 1.0)]
    both = codeforces_numbers(records + second, problems())
    assert both["rating"] == pytest.approx((1800 + 2500) / 2, abs=1e-4)
    assert both["percentile"] == 75.0  # of the contest's own participants
    humans = codeforces_numbers(records, problems(ratings=(1000, 1700, 1900, 2000)))
    assert humans["percentile"] == 50.0


def test_what_was_not_graded_is_left_out() -> None:
    records = [record("77A", 0, 1.0), record("77B", 0, 0.0)]
    failed = [record("77A", 1, 1.0), record("77B", 1, None), record("77A", 2, 0.0)]
    assert codeforces_numbers(records + failed, problems()) == codeforces_numbers(
        records, problems()
    )
    nothing = {"rating": None, "percentile": None}
    assert codeforces_numbers(failed, problems()) == nothing
    assert codeforces_numbers(records, problems(contest=None)) == nothing
    assert codeforces_numbers([], problems()) == nothing
