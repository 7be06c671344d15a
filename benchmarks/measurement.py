"""Rounds of contestants in turn, what came of them, and the floors to beat."""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from r1.atomic_files import write_json

Measured = Mapping[str, float]


class ContestantError(RuntimeError):
    """A contestant that could not do what it was asked; the others go on."""


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one contestant, a round each."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Half the distance of the extremes, as a part of the median."""
        return (max(self.values) - min(self.values)) / 2 / self.median if self.median else 0.0

    def __str__(self) -> str:
        return f"{short(self.median)} ±{self.spread:.0%}"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours over another's; `sure` is our worst round over its best."""

    median: float
    sure: float

    @classmethod
    def of(cls, ours: Series, other: Series, *, is_less_better: bool = False) -> Ratio:
        if is_less_better:
            return cls(other.median / ours.median, min(other.values) / max(ours.values))
        return cls(ours.median / other.median, min(ours.values) / max(other.values))


@dataclass(frozen=True, slots=True)
class Rounds:
    """How long a case may take, about; a first round that warms up is not counted."""

    budget_seconds: float = 30.0
    least: int = 2
    most: int = 7
    warm_up: bool = True


def in_turn(
    contestants: Mapping[str, Callable[[], Measured]],
    rounds: Rounds,
    notes: list[str] | None = None,
) -> dict[str, dict[str, Series]]:
    """Contestant -> measure -> series. Every other round goes backwards.

    So that slow changes of the machine's speed meet all alike. One that fails is left
    out, and `notes` says why. `round_seconds` is added, and of the first round only
    `warm_seconds` is kept.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in contestants}
    started = time.perf_counter()
    print(f"{', '.join(contestants)}: in turn", file=sys.stderr, flush=True)
    for number in range(1 - rounds.warm_up, 1 + rounds.most):
        if number > rounds.least:
            elapsed = time.perf_counter() - started
            if elapsed + elapsed / number > rounds.budget_seconds:
                break
        for name in [*found] if number % 2 == 0 else [*found][::-1]:
            begun = time.perf_counter()
            try:
                measured = contestants[name]()
            except ContestantError as error:
                del found[name]
                if notes is not None:
                    notes.append(f"{name}: {error}")
                continue
            seconds = time.perf_counter() - begun
            if number == 0:
                measured = {"warm_seconds": seconds}
            else:
                measured = {**measured, "round_seconds": seconds}
            for measure, value in measured.items():
                found[name].setdefault(measure, []).append(value)
    return {
        name: {measure: Series(tuple(values)) for measure, values in measures.items()}
        for name, measures in found.items()
    }


def growth(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The exponent k of cost ~ size^k, by least squares of the logarithms."""
    xs, ys = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    return statistics.linear_regression(xs, ys).slope


def short(value: float) -> str:
    """Three digits that say something: 1,234  56.7  0.890."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown; all but the first column to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


@dataclass
class Floors:
    """What was reached before, and has to be again: name -> the least ratio or share.

    A floor that is beaten rises to what is sure: our worst round against the other's best.
    """

    path: Path
    floors: dict[str, float] = field(default_factory=dict)
    reached: dict[str, Ratio | str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Floors:
        return cls(path, json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})

    def judge(
        self, name: str, ours: Series | None, others: Mapping[str, Series | None],
        *, is_less_better: bool = False,
    ) -> Ratio | None:  # fmt: skip
        """The ratio to the best of `others`; only complete fields are held against the floor."""
        if not others:
            return None
        missing = [other for other, series in others.items() if series is None]
        there = [series for series in others.values() if series is not None]
        if ours is None or not there:
            self.reached[name] = f"not measured: {', '.join(missing) or 'ours'} missing"
            return None
        ratios = [Ratio.of(ours, other, is_less_better=is_less_better) for other in there]
        worst = Ratio(min(r.median for r in ratios), min(r.sure for r in ratios))
        self.reached[name] = (
            f"without {', '.join(missing)}: {worst.median:.2f}" if missing else worst
        )
        return worst

    def rows(self) -> list[list[str]]:
        """For the table: name, floor, reached, sure, verdict."""
        rows = []
        for name, reached in self.reached.items():
            floor = self.floors.get(name)
            shown = "-" if floor is None else f"{floor:.2f}"
            if isinstance(reached, str):
                rows.append([name, shown, reached, "", ""])
                continue
            is_met = floor is None or reached.median >= floor
            verdict = "met" if is_met else "**missed**"
            if floor is None or reached.sure > floor:
                verdict = "raised"
            rows.append([name, shown, f"{reached.median:.2f}", f"{reached.sure:.2f}", verdict])
        return rows

    def raise_and_save(self) -> None:
        """Write the file with the floors that rose (rounded down)."""
        for name, reached in self.reached.items():
            if isinstance(reached, Ratio):
                sure = math.floor(reached.sure * 100) / 100
                self.floors[name] = max(self.floors.get(name, sure), sure)
        write_json(self.path, dict(sorted(self.floors.items())))
