"""What a rollout's groups say about the policy: numbers to plot and samples to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from r1.training.rollouts import Group


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float | None]:
    """Means over all replies of the rollout; None where nothing could be measured.

    `accuracy` and `reward_PART` are unweighted; `reward` is what is trained on.
    `truncated_rate` and `no_signal_rate` are shares of replies and of groups.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    lengths = [len(rollout.sample.token_ids) for rollout in rollouts]
    names = sorted({name for rollout in rollouts for name in rollout.grade.parts})
    accuracy = _mean(r.grade.reward for r in rollouts)
    parts = {f"reward_{name}": _mean(r.grade.parts.get(name) for r in rollouts) for name in names}
    return {
        "reward": _mean(r.reward for r in rollouts),
        "accuracy": accuracy,
        "reward_accuracy": accuracy,
        **parts,
        "response_tokens_mean": _mean(lengths),
        "response_tokens_max": max(lengths, default=0),
        "truncated_rate": _mean(r.sample.finish_reason == "length" for r in rollouts),
        "no_signal_rate": _mean(not group.has_signal for group in groups),
        "num_groups": len(groups),
        "num_ungraded": sum(r.reward is None for r in rollouts),
    }


def sample_rows(groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    """One row a reply, with what it was asked, what it earned and what it taught."""
    for group in groups:
        for rollout in group.rollouts:
            problem, sample, grade = rollout.problem, rollout.sample, rollout.grade
            yield {
                "task": group.question.task.name,
                "problem_id": problem.id,
                "question": problem.question,
                "gold": problem.answer,
                "text": sample.text,
                "answer": grade.answer,
                "reward": rollout.reward,
                "accuracy": grade.reward,
                "parts": dict(grade.parts),
                "reason": grade.reason,
                "advantage": rollout.advantage,
                "num_tokens": len(sample.token_ids),
                "finish_reason": sample.finish_reason,
            }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
