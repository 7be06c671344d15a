"""Which curves a stage has: the metrics of its steps, named and described once for all plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

Format = Literal["number", "percent"]


@dataclass(frozen=True, slots=True)
class CurveKind:
    """A metric worth a plot: the keys it may have in metrics.jsonl, the first present counts.

    The page folds what is secondary.
    """

    name: str
    title: str
    keys: tuple[str, ...]
    note: str = ""
    format: Format = "number"
    is_secondary: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric over steps: `points` as logged, `smooth` as a moving average."""

    kind: CurveKind
    points: tuple[tuple[float, float], ...]
    smooth: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        return self.smooth[-1][1]


CURVE_KINDS: tuple[CurveKind, ...] = (
    CurveKind("reward", "Reward", ("reward_mean", "reward"), "mean over samples"),
    CurveKind("accuracy", "Accuracy", ("reward_accuracy", "accuracy"), "correct", "percent"),
    CurveKind("length", "Response length", ("response_tokens_mean", "response_tokens"), "tokens"),
    CurveKind("language", "Language consistency", ("reward_language", "language"), "", "percent"),
    CurveKind("format", "Format", ("reward_format", "format"), "of the right form", "percent"),
    CurveKind("entropy", "Entropy", ("entropy",), "nats a token"),
    CurveKind("kl", "KL to reference", ("kl_to_reference", "kl"), "nats a token"),
    CurveKind(
        "logprob_gap", "Log-prob gap", ("logprob_gap_mean_abs",), "sampler to trainer, mean |Δ|"
    ),
    CurveKind(
        "truncated", "Truncated", ("truncated_rate",), "cut at the token limit", "percent", True
    ),
    CurveKind("no_signal", "Groups without signal", ("no_signal_rate",), "", "percent", True),
    CurveKind("clip", "Clip fraction", ("clip_fraction",), "of tokens", "percent", True),
    CurveKind("loss", "Loss", ("loss",)),
    CurveKind("eval_loss", "Held-out loss", ("eval_loss",)),
    CurveKind("pair_accuracy", "Preference accuracy", ("pair_accuracy",), "of pairs", "percent"),
    CurveKind("grad_norm", "Gradient norm", ("grad_norm",), "before clipping", is_secondary=True),
    CurveKind(
        "throughput", "Throughput", ("tokens_per_second",), "tokens a second", is_secondary=True
    ),
)

# A curve of fewer steps is read as it is; above it, noise hides the course.
MIN_STEPS_TO_SMOOTH = 20


def curves_of(metrics: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """The curves that a stage's metrics hold, in the order of the table.

    Rows without a number for a metric, or with NaN, leave a curve's step out.
    """
    curves = []
    for kind in CURVE_KINDS:
        key = next((key for key in kind.keys if any(key in row for row in metrics)), None)
        points = _points(metrics, key) if key else ()
        if len(points) >= 2:
            curves.append(Curve(kind, points, smooth(points)))
    return curves


def smooth(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Centred average over about a tenth of the curve: without the lag of a running one."""
    if len(points) < MIN_STEPS_TO_SMOOTH:
        return tuple(points)
    reach = max(2, len(points) // 20)
    averaged = []
    for i, (x, _) in enumerate(points):
        # Narrower towards the ends, where a wide window would lean inwards.
        near = min(reach, i + reach // 2, len(points) - 1 - i + reach // 2)
        window = points[max(0, i - near) : i + near + 1]
        averaged.append((x, sum(y for _, y in window) / len(window)))
    return tuple(averaged)


def phase_seconds(metrics: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds by phase (`generate`, `update`, ...), summed over the steps, longest first."""
    totals: dict[str, float] = {}
    for row in metrics:
        for key, value in row.items():
            if key.startswith("time_") and key != "time_step" and _is_number(value):
                phase = key.removeprefix("time_")
                totals[phase] = totals.get(phase, 0.0) + value
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def _points(metrics: Sequence[Mapping[str, Any]], key: str) -> tuple[tuple[float, float], ...]:
    rows = [(float(row.get("step", i)), row.get(key)) for i, row in enumerate(metrics, start=1)]
    return tuple((step, float(value)) for step, value in rows if _is_number(value))


def _is_number(value: Any) -> TypeGuard[float]:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value)
