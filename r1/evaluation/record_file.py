"""Records on disk: one JSON row for each (question, sample), joined without losing any.

Everything that is measured is computed from these rows, so two files are merged by
joining rows, and a file is graded again by replacing what the grader said in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r1.run_log import JsonlLog, RunError

Record = Mapping[str, Any]
Key = tuple[str, int]

# Two runs of the same evaluation differ in nothing else.
TIME_FIELDS = ("seconds", "asked_at", "finished_at", "generation_seconds", "grading_seconds")


def key_of(record: Record) -> Key:
    """(problem id, sample index)."""
    return record["problem_id"], record["sample_index"]


def content_of(record: Record) -> dict[str, Any]:
    """A record without its times."""
    return {name: value for name, value in record.items() if name not in TIME_FIELDS}


def read_records(path: Path) -> dict[Key, Record]:
    """The records of a file by key; raises RunError for two of a key that differ."""
    return join_records([(str(path), JsonlLog(path).rows())])


def join_records(sources: Iterable[tuple[str, Iterable[Record]]]) -> dict[Key, Record]:
    """Records of several sources, given as (name, records); of equal ones the first is kept.

    Raises RunError when two sources hold different samples under one key, or were not
    asked, sampled or graded in the same way.
    """
    joined: dict[Key, Record] = {}
    origin: dict[Key, str] = {}
    for name, records in sources:
        for record in records:
            key = key_of(record)
            if key not in joined:
                joined[key], origin[key] = record, name
            elif content_of(joined[key]) != content_of(record):
                fields = _differing(joined[key], record)
                raise RunError(
                    f"question {key[0]!r}, sample {key[1]} is in {origin[key]} and in {name} with "
                    f"another {fields[0]}; sample under another first_sample_index, or keep one"
                )
    return joined


def refuse_mixture(records: Sequence[Record], where: str) -> None:
    """Raise RunError when records were made by other weights or settings, or graders, than others.

    `where` names them in the error.
    """
    for field in ("settings_hash", "grader_version"):
        values = sorted({str(record.get(field, "")) for record in records})
        if len(values) > 1:
            advice = "they cannot be merged" if field == "settings_hash" else "regrade them first"
            raise RunError(f"{where}: {field} differs ({', '.join(values)}); {advice}")


def _differing(a: Record, b: Record) -> list[str]:
    return [name for name in {**a, **b} if a.get(name) != b.get(name) and name not in TIME_FIELDS]
