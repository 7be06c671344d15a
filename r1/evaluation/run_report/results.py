"""Read what a run left in its folder, finished or not, one verb or a whole pipeline."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from r1.run_log import JsonlLog, RunError

# Enough to pick examples from; the rest of a large benchmark stays in its file.
MAX_ROWS_KEPT = 2000


@dataclass(frozen=True)
class StageResults:
    """One stage: a verb's run folder as it is on disk. Absent files are empty here.

    `status` is `done` once stage.json exists, `running` before that. `records` are those
    of the first sample of each question, `samples` the first and the last that are kept.
    """

    name: str
    kind: str
    path: Path
    status: str
    seconds: float | None = None
    peak_rss_bytes: int | None = None
    evaluation: Mapping[str, Any] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[Mapping[str, Any]] = ()
    records: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class RunResults:
    """A run: its stages in order, and what is said of all of it.

    `final` names the stage whose model is the run's result, where run.json says so.
    """

    name: str
    path: Path
    command: str
    versions: Mapping[str, str]
    seed: int | None
    seconds: float | None
    peak_rss_bytes: int | None
    recipe: Any
    claims: Sequence[Any] | None
    stages: Sequence[StageResults]
    is_pipeline: bool
    final: str | None = None

    @property
    def is_finished(self) -> bool:
        return bool(self.stages) and all(stage.status == "done" for stage in self.stages)


def load_run(path: Path) -> RunResults:
    """Read a pipeline's run folder, or that of a single verb.

    Raises RunError when the folder is neither.
    """
    path = Path(path)
    run = _read_object(path / "run.json")
    is_pipeline = bool(run) or (path / "stages").is_dir()
    if (path / "stages").is_dir():
        folders = [folder for folder in (path / "stages").iterdir() if folder.is_dir()]
        stages = _in_order([_load_stage(folder) for folder in folders], run.get("stages"))
    elif any((path / name).exists() for name in ("config.json", "stage.json", "metrics.jsonl")):
        stages = [_load_stage(path)]
        run = {**_read_object(path / "stage.json"), **run, "name": path.resolve().name}
    elif run:
        stages = []
    else:
        raise RunError(f"{path}: not a run folder (no run.json, stages/, config.json or metrics)")
    known = [stage.seconds for stage in stages if stage.seconds is not None]
    peaks = [stage.peak_rss_bytes for stage in stages if stage.peak_rss_bytes is not None]
    recipe = run.get("recipe")
    listed = run.get("claims", recipe.get("claims") if isinstance(recipe, dict) else None)
    return RunResults(
        name=str(run.get("name", path.resolve().name)),
        path=path,
        command=str(run.get("command", "")),
        versions=run.get("versions") or {},
        seed=run.get("seed"),
        seconds=run.get("seconds") or (sum(known) if known else None),
        peak_rss_bytes=run.get("peak_rss_bytes") or max(peaks, default=None),
        recipe=recipe,
        claims=listed,
        stages=stages,
        is_pipeline=is_pipeline,
        final=run.get("final"),
    )


def _load_stage(path: Path) -> StageResults:
    stage = _read_object(path / "stage.json")
    records_path = path / "evaluation" / "records.jsonl"
    return StageResults(
        name=str(stage.get("name", path.resolve().name)),
        kind=str(stage.get("kind", "")),
        path=path,
        status="done" if stage else "running",
        seconds=stage.get("seconds"),
        peak_rss_bytes=stage.get("peak_rss_bytes"),
        evaluation=stage.get("evaluation"),
        config=_read_object(path / "config.json"),
        metrics=JsonlLog(path / "metrics.jsonl").rows(),
        samples=_both_ends(_read_rows(path / "samples.jsonl")),
        records=list(islice(_read_rows(records_path, only_sample=0), MAX_ROWS_KEPT)),
    )


def _both_ends(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first and the last rows: how replies looked before training, and after it."""
    first = list(islice(rows, MAX_ROWS_KEPT))
    return [*first, *deque(rows, maxlen=MAX_ROWS_KEPT)]


def _in_order(stages: list[StageResults], names: Sequence[str] | None) -> list[StageResults]:
    """In the order that run.json lists; else in that in which they were started."""
    rank = {name: index for index, name in enumerate(names or ())}

    def key(stage: StageResults) -> tuple[int, float, str]:
        config = stage.path / "config.json"
        started = (config if config.exists() else stage.path).stat().st_mtime
        return rank.get(stage.name, len(rank)), started, stage.name

    return sorted(stages, key=key)


def _read_object(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected an object of keys")
    return value


def _read_rows(path: Path, only_sample: int | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file, read line by line: records of a benchmark can be large."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith("\n"):
                return  # A row that is being written, or that a kill cut short.
            try:
                row = json.loads(line)
            except ValueError as error:
                raise RunError(f"{path}: line {number} is not JSON: {error}") from None
            if only_sample is None or row.get("sample_index") == only_sample:
                yield row
