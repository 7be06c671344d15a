"""The statistics of repeated sampling: pass@k, majority votes and two errors.

Scores come as one list a question with one entry a sample: 1.0 or 0.0, or None
where the grader itself failed. A failure is left out of every mean and counted,
so pass@1 divides by the samples that have a score, never by the number that was
asked for. Nothing here knows about models, files or tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

Ties = Literal["expectation", "first"]
Scores = Sequence[Sequence[float | None]]

# How a majority is found, in the words that go beside every cons@k.
VOTE_RULE = (
    "equal answers vote together; replies without an answer do not vote; ties by expectation "
    "(the mean over the tied answers)"
)

# Two-sided 95% of the normal distribution: questions are many, so no t is needed.
Z_95 = 1.959963984540054


def pass_at_1(scores: Scores) -> float:
    """Mean over questions of the question's mean score, in [0, 1].

    Questions without any graded sample are left out (see `count_samples`).
    Raises ValueError when no question has one.
    """
    means = _question_means(scores)
    if not means:
        raise ValueError("pass@1 needs at least one graded sample; every sample is ungraded")
    return _mean(means)


def pass_at_k_of_question(num_samples: int, num_correct: int, k: int) -> float:
    """Unbiased chance that one of k samples, drawn from n without return, is correct.

    1 - C(n - c, k) / C(n, k), from "Evaluating Large Language Models Trained on
    Code" (Chen et al. 2021, section 2.1). Raises ValueError for k > n.
    """
    if not 1 <= k <= num_samples:
        raise ValueError(f"pass@{k} needs 1 <= k <= {num_samples}, the number of samples")
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"{num_correct} correct of {num_samples} samples is not possible")
    return 1.0 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def pass_at_k(scores: Scores, k: int) -> float:
    """Mean over questions of the unbiased pass@k, in [0, 1].

    Raises ValueError when k exceeds the samples of a question, when some question
    has fewer graded samples than another (the estimate would mix sizes), or when
    a score is neither 0 nor 1.
    """
    graded = [_graded(question) for question in scores]
    num_samples = max((len(question) for question in scores), default=0)
    num_short = sum(len(question) < num_samples for question in graded)
    if num_short:
        raise ValueError(
            f"pass@{k} needs all {num_samples} samples graded; {num_short} of {len(graded)} "
            "questions have missing or ungraded samples"
        )
    if any(score not in (0.0, 1.0) for question in graded for score in question):
        raise ValueError(f"pass@{k} needs scores of 0 or 1, not fractions")
    if not graded:
        raise ValueError(f"pass@{k} needs at least one question")
    return _mean([pass_at_k_of_question(num_samples, int(sum(q)), k) for q in graded])


@dataclass(frozen=True, slots=True)
class Vote:
    """One sample of a question as a voter: its answer (None abstains) and its score."""

    answer: str | None
    score: float | None


def group_votes(votes: Sequence[Vote], equivalent: Callable[[str, str], bool]) -> list[list[Vote]]:
    """Put the votes into classes of equal answers, in order of first appearance.

    Each answer is compared with the first of every class; abstentions do not
    appear. Equal strings are never passed to `equivalent`.
    """
    classes: list[list[Vote]] = []
    for vote in votes:
        if vote.answer is None:
            continue
        for members in classes:
            first = members[0].answer
            assert first is not None
            if first == vote.answer or equivalent(first, vote.answer):
                members.append(vote)
                break
        else:
            classes.append([vote])
    return classes


def consensus_of_question(
    votes: Sequence[Vote], equivalent: Callable[[str, str], bool], ties: Ties = "expectation"
) -> float | None:
    """Score of the majority answer of one question.

    A tie is broken by expectation, the mean over the tied classes as if one were drawn
    at random, or goes to the answer that came first. Without any vote the consensus is
    wrong (0.0). None when no sample of the winning classes could be graded.
    """
    classes = group_votes(votes, equivalent)
    if not classes:
        return None if votes and all(vote.score is None for vote in votes) else 0.0
    most = max(len(members) for members in classes)
    winners = [
        [vote.score for vote in members if vote.score is not None]
        for members in classes
        if len(members) == most
    ]
    if ties == "first":
        winners = winners[:1]
    class_scores = [_mean(scores) for scores in winners if scores]
    return _mean(class_scores) if class_scores else None


def cons_at_k(
    votes: Sequence[Sequence[Vote]],
    k: int,
    equivalent: Callable[[str, str], bool],
    ties: Ties = "expectation",
) -> float:
    """Share of questions whose majority answer of the first k samples is correct.

    Called cons@k in the DeepSeek-R1 report (section 3, cons@64 on AIME 2024).
    `equivalent(a, b)` says whether two answers mean the same. Questions whose
    winner could not be graded are left out. Raises ValueError when a question
    has fewer than k samples, or when no question is left.
    """
    num_short = sum(len(question) < k for question in votes)
    if k < 1 or num_short:
        raise ValueError(
            f"cons@{k} needs {k} samples a question; {num_short} of {len(votes)} have fewer"
        )
    per_question = [consensus_of_question(question[:k], equivalent, ties) for question in votes]
    known = [score for score in per_question if score is not None]
    if not known:
        raise ValueError(f"cons@{k} needs at least one question with a graded majority")
    return _mean(known)


def error_by_question(scores: Scores) -> float | None:
    """Standard error of pass@1 for other questions of the same kind.

    The sample standard deviation of the per-question means over sqrt(N). None
    for fewer than two questions.
    """
    means = _question_means(scores)
    if len(means) < 2:
        return None
    return math.sqrt(_sample_variance(means) / len(means))


def rerun_error(scores: Scores) -> float | None:
    """Standard error of pass@1 for the same questions sampled again.

    sqrt(mean(p (1 - p) K / (K - 1)) / (N K)) for K samples a question, written
    for any K per question as sqrt(sum of variance_i / K_i) / N. None when some
    question has only one graded sample, which tells nothing about its spread.
    """
    graded = [question for question in map(_graded, scores) if question]
    if not graded or any(len(question) < 2 for question in graded):
        return None
    variance = sum(_sample_variance(question) / len(question) for question in graded)
    return math.sqrt(variance) / len(graded)


def confidence_interval_95(mean: float, error: float | None) -> tuple[float, float]:
    """(low, high) = mean +- 1.96 error, clipped to [0, 1]; all of [0, 1] without an error."""
    if error is None:
        return 0.0, 1.0
    return max(0.0, mean - Z_95 * error), min(1.0, mean + Z_95 * error)


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """How many samples there are (`present`), were not made, and had no score."""

    present: int
    missing: int
    ungraded: int


def count_samples(scores: Scores, num_samples: int) -> SampleCounts:
    """Count what is present, missing (of `num_samples` a question) and ungraded."""
    return SampleCounts(
        present=sum(len(question) for question in scores),
        missing=sum(max(0, num_samples - len(question)) for question in scores),
        ungraded=sum(score is None for question in scores for score in question),
    )


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """pass@1 of model b minus that of model a on the questions both have answered."""

    difference: float
    error: float | None
    low: float
    high: float
    num_questions: int
    num_unpaired: int


def paired_difference(
    scores_a: Mapping[str, Sequence[float | None]], scores_b: Mapping[str, Sequence[float | None]]
) -> PairedDifference:
    """Compare two models question by question; keys are problem ids.

    The spread between questions, which both models share, cancels, so this
    interval is narrower than that of two separate scores. Raises ValueError
    when they have no graded question in common.
    """
    means_a = {key: _mean(_graded(scores)) for key, scores in scores_a.items() if _graded(scores)}
    means_b = {key: _mean(_graded(scores)) for key, scores in scores_b.items() if _graded(scores)}
    shared = sorted(means_a.keys() & means_b.keys())
    if not shared:
        raise ValueError("a paired comparison needs at least one graded question in common")
    differences = [means_b[key] - means_a[key] for key in shared]
    difference = _mean(differences)
    error = None
    if len(shared) > 1:
        error = math.sqrt(_sample_variance(differences) / len(shared))
    margin = math.inf if error is None else Z_95 * error
    return PairedDifference(
        difference=difference,
        error=error,
        low=max(-1.0, difference - margin),
        high=min(1.0, difference + margin),
        num_questions=len(shared),
        num_unpaired=len(scores_a.keys() | scores_b.keys()) - len(shared),
    )


def _graded(question: Sequence[float | None]) -> list[float]:
    return [score for score in question if score is not None]


def _question_means(scores: Scores) -> list[float]:
    return [_mean(question) for question in map(_graded, scores) if question]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _sample_variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
