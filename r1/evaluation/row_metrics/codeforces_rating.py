"""A Codeforces rating from what a model solved in past contests.

In each contest the model takes the place that its score would have had, and gets the rating
whose expected place is that one. The expected place of rating R is Codeforces's seed,
1 + sum of 1 / (1 + 10^((R - r_i) / 400)) over the participants' ratings r_i before the
contest (M. Mirzayanov, "Open Codeforces Rating System", codeforces.com/blog/entry/20762);
the way to score a model is CodeElo's (arXiv:2501.01257; QwenLM/CodeElo, calc_rating.py).
Different from that file: places count from 1 as the seed does (there the place found is one
too good), and ties share the better place, as in Codeforces's standings.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from r1.records import Problem

_PRECISION = 1e-6
# Ratings are looked for from 0 to 100 above the best participant's, as CodeElo does.
_LOWEST, _ABOVE_BEST = 0.0, 100.0
_POINTS_LOST, _PENALTY_MINUTES = 50.0, 10.0


@dataclass(frozen=True, slots=True)
class Participant:
    """One human in a contest: the rating before it, and the result (more points are better,
    at equal points a smaller penalty)."""

    rating: float
    points: float
    penalty: float = 0.0


@dataclass(frozen=True, slots=True)
class ContestResult:
    """What the model did in one contest."""

    contest_id: str
    points: float
    penalty: float
    place: int
    rating: float


def expected_place(rating: float, ratings: Sequence[float] | np.ndarray) -> float:
    """The seed of a newcomer with this rating among participants with `ratings`."""
    wins_against = 1 / (1 + 10 ** ((rating - np.asarray(ratings, dtype=np.float64)) / 400))
    return 1 + float(wins_against.sum())


def place_among(points: float, penalty: float, participants: Sequence[Participant]) -> int:
    """The place of a result: 1 + the number of strictly better ones."""
    return 1 + sum(
        other.points > points or (other.points == points and other.penalty < penalty)
        for other in participants
    )


def rating_of_place(place: float, ratings: Sequence[float]) -> float:
    """The rating whose expected place is `place`, to 1e-6, within 0 and the best + 100.

    No rating is expected to come first, nor last: these places get the bounds. Raises
    ValueError without participants and for a place that is none.
    """
    if not ratings:
        raise ValueError("a contest without participants gives no rating")
    if not 1 <= place <= len(ratings) + 1:
        raise ValueError(f"place {place} among {len(ratings)} participants")
    others = np.asarray(ratings, dtype=np.float64)
    low, high = _LOWEST, float(others.max()) + _ABOVE_BEST
    while high - low > _PRECISION:
        middle = (low + high) / 2
        if expected_place(middle, others) < place:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def score_attempts(
    attempts: Mapping[str, Sequence[bool]], problem_points: Mapping[str, float | None]
) -> tuple[float, float]:
    """(points, penalty) of attempts in order, by problem index.

    A problem counts from its first success: its points less 50 for each failure before, or,
    in contests without points, 1 with a penalty of 10 for each. Time is not counted.
    """
    points = penalty = 0.0
    for index, results in attempts.items():
        if True not in results:
            continue
        num_failed = list(results).index(True)
        full = problem_points.get(index)
        if full is None:
            points += 1
            penalty += _PENALTY_MINUTES * num_failed
        else:
            points += max(0.0, full - _POINTS_LOST * num_failed)
    return points, penalty


def percentile(rating: float, human_ratings: Sequence[float]) -> float:
    """The percentage of sorted human ratings that are below this one."""
    if not human_ratings:
        raise ValueError("a percentile needs human ratings")
    return 100 * bisect.bisect_left(human_ratings, rating) / len(human_ratings)


def codeforces_numbers(
    records: Sequence[Mapping[str, Any]], problems: Sequence[Problem]
) -> dict[str, float | None]:
    """`rating` and `percentile` of an evaluation; None where there are no standings.

    Every sample index is one participation with a single attempt at each problem, so that
    the rating is that of pass@1; the mean is over contests and participations. A sample
    that was not graded leaves its participation out of the contest.
    """
    by_id = {problem.id: problem for problem in problems}
    tries: dict[tuple[str, int], dict[str, float | None]] = defaultdict(dict)
    for record in records:
        problem = by_id.get(record["problem_id"])
        if problem is not None and problem.metadata["standings"]["contest"]:
            key = (problem.metadata["contest_id"], record["sample_index"])
            tries[key][problem.metadata["index"]] = record["reward"]
    standings = {p.metadata["contest_id"]: p.metadata["standings"] for p in problems}
    num_asked = defaultdict(int)
    for problem in problems:
        num_asked[problem.metadata["contest_id"]] += 1
    results = [
        contest_result(standings[contest_id]["contest"], contest_id, rewards)
        for (contest_id, _), rewards in sorted(tries.items())
        if len(rewards) == num_asked[contest_id] and None not in rewards.values()
    ]
    if not results:
        return {"rating": None, "percentile": None}
    rating = _mean_by_contest(results)
    humans = next(iter(standings.values()))["human_ratings"] or sorted(
        float(participant["rating"])
        for entry in standings.values()
        for participant in (entry["contest"] or {}).get("participants", ())
    )
    return {"rating": rating, "percentile": percentile(rating, humans)}


def contest_result(
    contest: Mapping[str, Any], contest_id: str, rewards: Mapping[str, float | None]
) -> ContestResult:
    """The model's place and rating in one contest, from one reward for each problem."""
    problem_points = {str(p["index"]): p.get("points") for p in contest["problems"]}
    attempts = {index: [reward == 1.0] for index, reward in rewards.items()}
    points, penalty = score_attempts(attempts, problem_points)
    participants = [
        Participant(float(p["rating"]), float(p["points"]), float(p.get("penalty") or 0))
        for p in contest["participants"]
    ]
    place = place_among(points, penalty, participants)
    rating = rating_of_place(place, [participant.rating for participant in participants])
    return ContestResult(contest_id, points, penalty, place, rating)


def _mean_by_contest(results: Sequence[ContestResult]) -> float:
    by_contest: dict[str, list[float]] = defaultdict(list)
    for result in results:
        by_contest[result.contest_id].append(result.rating)
    means = [math.fsum(ratings) / len(ratings) for ratings in by_contest.values()]
    return math.fsum(means) / len(means)
