"""What a person sees while a run goes on: where its time goes, and how far it is."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

PLAIN_LINE_INTERVAL_SECONDS = 30.0


class StepTimer:
    """Seconds by phase within one step: `with timer.phase("generate"): ...`."""

    def __init__(self) -> None:
        self.reset()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's time as `time_{name}`; entered again, it adds up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            key = f"time_{name}"
            self._seconds[key] = self._seconds.get(key, 0.0) + time.perf_counter() - start

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each phase, and `time_step` since the last reset."""
        return {**self._seconds, "time_step": time.perf_counter() - self._start}

    def reset(self) -> None:
        """Start a new step."""
        self._seconds: dict[str, float] = {}
        self._start = time.perf_counter()


class Progress:
    """A bar with the metrics of the step and the share of its time that each phase took.

    Where there is no terminal, or R1_QUIET is set, it prints a plain line now and then
    (R1_QUIET=1: none at all but the last).
    """

    def __init__(self, total: int, description: str = "", *, console: Console | None = None):
        self.total = total
        self.description = description
        self._console = console or Console(stderr=True)
        self._is_live = self._console.is_terminal and not os.environ.get("R1_QUIET")
        self._last_line_time = time.monotonic()
        self._bar: RichProgress | None = None

    def __enter__(self) -> Progress:
        if self._is_live:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[shown]}"),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total, shown="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away from the terminal's control."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def update(self, step: int, **metrics: float | int | str | None) -> None:
        """Show that `step` steps are done, with what is worth seeing of the last one."""
        shown = format_metrics(metrics)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, shown=shown)
            return
        is_due = time.monotonic() - self._last_line_time >= PLAIN_LINE_INTERVAL_SECONDS
        is_last = step >= self.total
        if is_last or (is_due and not os.environ.get("R1_QUIET")):
            self._last_line_time = time.monotonic()
            line = f"{self.description} {step}/{self.total} {shown}".strip()
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def format_metrics(metrics: dict[str, float | int | str | None]) -> str:
    """`reward 0.82 length 31.4 | 1.9 s: generate 61% update 30%`."""
    phases = {k.removeprefix("time_"): v for k, v in metrics.items() if k.startswith("time_")}
    values = [
        f"{name.replace('_', ' ')} {_format_value(value)}"
        for name, value in metrics.items()
        if not name.startswith("time_") and value is not None
    ]
    seconds = {name: value for name, value in phases.items() if isinstance(value, int | float)}
    step = seconds.pop("step", sum(seconds.values()))
    if step:
        shares = [f"{name} {value / step:.0%}" for name, value in seconds.items()]
        values.append(f"| {step:.1f} s" + (f": {' '.join(shares)}" if shares else ""))
    return " ".join(values)


def _format_value(value: float | int | str) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
