"""`predictions.jsonl` of SWE-bench from records: one patch an instance, chosen by majority.

The choice is Agentless's rerank without its tests (arXiv 2407.01489, section 3.3): patches that
change the same lines, up to white space and comments, vote together; the largest group wins,
of equal ones the group that was sampled first, and its first patch is taken. The file is the
official harness's, `python -m swebench.harness.run_evaluation --predictions_path FILE`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1.atomic_files import write_jsonl
from r1.evaluation.record_file import Key, Record, read_records
from r1.tasks.task import TaskError
from r1.text.unified_diff import normalized_changes, parse_diff


def choose_patch(patches: Sequence[str]) -> str | None:
    """The patch that most samples propose; None where there is none."""
    groups = [normalized_changes(parse_diff(patch)) for patch in patches]
    if not groups:
        return None
    # most_common keeps the order of first occurrence among equal counts.
    winner = Counter(groups).most_common(1)[0][0]
    return patches[groups.index(winner)]


def predictions_of(records: Mapping[Key, Record], model: str) -> list[dict[str, Any]]:
    """One row an instance in order of its id; `model_patch` is empty where no reply had one."""
    patches: dict[str, list[str]] = {}
    for problem_id, index in sorted(records):
        extracted = records[problem_id, index]["extracted"]
        found = patches.setdefault(problem_id, [])
        if extracted:
            found.append(extracted)
    return [
        {
            "instance_id": instance_id,
            "model_name_or_path": model,
            "model_patch": choose_patch(found) or "",
        }
        for instance_id, found in patches.items()
    ]


def write_predictions(records_path: Path, output: Path, model: str) -> tuple[int, int]:
    """Write the predictions; gives the number of instances, and of those with a patch.

    Raises:
        TaskError: where the records are none of SWE-bench, or there are none.
    """
    if not records_path.is_file():
        raise TaskError(f"{records_path}: no such file; give an evaluation's records.jsonl")
    records = read_records(records_path)
    try:
        rows = predictions_of(records, model)
    except (ValueError, KeyError) as error:
        raise TaskError(f"{records_path}: not records of a SWE-bench row: {error}") from None
    if not rows:
        raise TaskError(f"{records_path}: no records in it")
    write_jsonl(output, rows)
    return len(rows), sum(bool(row["model_patch"]) for row in rows)
