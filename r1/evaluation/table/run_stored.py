"""`r1 evaluate` without a model: replies from elsewhere, stored replies, runs that are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1.config import load_config, save_config
from r1.evaluation.evaluate import asked_records, chosen_problems
from r1.evaluation.judges.judges import estimate_cost
from r1.evaluation.record_file import (
    Record,
    join_records,
    key_of,
    read_records,
    refuse_mixture,
)
from r1.evaluation.regrade import Regraded, regrade
from r1.evaluation.run_evaluate import RUN_RECORDS, EvaluateConfig, regrade_run
from r1.evaluation.table.benchmarks import Benchmark, find_benchmark
from r1.evaluation.table.report import write_outputs
from r1.evaluation.table.responses import OWN_PREFIX, Matched, grade_responses, match_responses
from r1.evaluation.table.row_plan import row_config
from r1.evaluation.table.row_result import (
    CONFIG_FILE,
    RECORDS_FILE,
    RowFacts,
    measure,
    row_facts,
    write_row_result,
)
from r1.evaluation.table.run_benchmarks import say
from r1.evaluation.verdicts import refuse_without_judge
from r1.records import Problem
from r1.run_log import RunError, RunFolder, write_jsonl
from r1.tasks.judged.judged import JudgedTask
from r1.tasks.task import TaskConfig, TaskError, build_task, preflight

if TYPE_CHECKING:
    from r1.tasks.judged.judged import Judge

# Questions of a row that is a part of a larger published set may come from all of that.
LARGER_SETS = {"math500": "math"}


def score_responses(
    name: str, path: Path, output: Path, overrides: Sequence[str], judge: Judge | None = None
) -> list[Path]:
    """Score replies from elsewhere on one row, without a model; the files of the table.

    Raises TaskError when no reply belongs to a question of the row.
    """
    benchmark = find_benchmark(name)
    config = row_config(benchmark, path.name, output, overrides)
    task = build_task(config.task, judge)
    refuse_without_judge(task)
    preflight(task, (config.split,))
    problems = chosen_problems(task, config)
    matched = match_responses(path, problems, lambda: larger_set(benchmark.name), task.instruction)
    if isinstance(task, JudgedTask):
        num_replies = {name: len(texts) for name, texts in matched.replies.items()}
        say(estimate_cost(task, num_replies, matched.problems.values()).line())
    with RunFolder.open(output):
        records = grade_responses(task, matched, str(path))
        save_config(config, config.output / CONFIG_FILE)
        write_jsonl(config.output / RECORDS_FILE, records)
        facts = row_facts(config, task, list(matched.problems.values()), matched.notes)
        facts = replace(facts, num_samples=matched.num_samples)
        if matched.file_scores:
            facts = _with_file_scores(facts, benchmark, matched, records)
        write_row_result(config.output, benchmark, records, facts)
        return write_outputs(output)


def regrade_folder(folder: Path, judge: Judge | None = None) -> list[str]:
    """Grade the stored replies of every row of a folder again; a line for each row.

    The folder may be that of a single task's config, too. Nothing is generated. Raises
    RunError where there are no records or a judge is not named, TaskError where a row's
    data is gone.
    """
    if (folder / RUN_RECORDS).is_file():
        return [_regraded_line(folder.name, regrade_run(folder))]
    rows = _row_folders(folder)
    with RunFolder.open(folder):
        lines = [_regraded_line(row.name, _regrade_row(row, judge)) for row in rows]
        write_outputs(folder)
    return lines


def _regraded_line(name: str, done: Regraded) -> str:
    return f"{name}: {done.num_records:,} replies graded again, {done.num_changed} changed"


def merge_folders(sources: Sequence[Path], output: Path) -> list[Path]:
    """Join the records of several runs of the same evaluation into a new folder.

    Their samples may be disjoint or overlap; two different samples under one key are
    refused, as are other weights, sampling or graders. Raises RunError.
    """
    if output.exists() and any(output.iterdir()):
        raise RunError(f"{output}: is not empty; merge into a new folder")
    rows: dict[str, list[Path]] = {}
    for source in sources:
        for row in _row_folders(source):
            rows.setdefault(str(row.relative_to(source)), []).append(row)
    merged = {name: _merge_row(folders) for name, folders in rows.items()}
    with RunFolder.open(output):
        for name, (config, records) in merged.items():
            config = config.model_copy(update={"output": output / name})
            task = build_task(config.task)
            save_config(config, config.output / CONFIG_FILE)
            write_jsonl(config.output / RECORDS_FILE, records)
            facts = row_facts(config, task, chosen_problems(task, config))
            # Nothing is graded here, so a judged row needs no judge: the records name theirs.
            facts = replace(facts, grader_version=records[0]["grader_version"])
            write_row_result(config.output, find_benchmark(task.name), records, facts)
        return write_outputs(output)


def larger_set(name: str) -> list[Problem]:
    """The problems of the set that a row is a part of; empty where there is none here."""
    if name not in LARGER_SETS:
        return []
    try:
        return list(build_task(TaskConfig(name=LARGER_SETS[name])).problems("test"))
    except TaskError as error:
        say(f"without the larger set {LARGER_SETS[name]}: {error}")
        return []


def _regrade_row(folder: Path, judge: Judge | None) -> Regraded:
    config = load_config(EvaluateConfig, folder / CONFIG_FILE)
    config = config.model_copy(update={"output": folder})
    benchmark = find_benchmark(config.task.name)
    task = build_task(config.task, judge)
    chosen = chosen_problems(task, config)
    before = read_records(folder / RECORDS_FILE)
    known = {p.id: p for p in [*_own_problems(before.values()), *chosen]}
    if any(problem_id not in known for problem_id, _ in before):
        known = {**{p.id: p for p in larger_set(benchmark.name)}, **known}
    done = regrade(task, known, folder / RECORDS_FILE, config.num_grading_retries)
    present = read_records(folder / RECORDS_FILE)
    records = asked_records(present, chosen, config)
    facts = row_facts(config, task, chosen)
    if any(record["seed"] is None for record in present.values()):
        # Replies from elsewhere: what was there was asked.
        records = list(present.values())
        ids = dict.fromkeys(record["problem_id"] for record in records)
        num_samples = max(record["sample_index"] for record in records) + 1
        facts = replace(facts, problems=[known[name] for name in ids], num_samples=num_samples)
    write_row_result(folder, benchmark, records, facts)
    return done


def _own_problems(records: Any) -> list[Problem]:
    """Questions that a file of responses brought itself: all that is known is in the record."""
    return [
        Problem(r["problem_id"], r["question"], r["gold"], r["language"])
        for r in records
        if r["problem_id"].startswith(OWN_PREFIX)
    ]


def _with_file_scores(
    facts: RowFacts, benchmark: Benchmark, matched: Matched, records: Sequence[Record]
) -> RowFacts:
    """The same numbers by the scores that the file itself holds, and where we differ."""
    theirs = [
        {**record, "reward": matched.file_scores[record["problem_id"]][record["sample_index"]]}
        for record in records
        if record["problem_id"] in matched.file_scores
    ]
    result = measure(benchmark, theirs, facts).to_json()
    ours = {key_of(record): record for record in records}
    differing = [r for r in theirs if r["reward"] != ours[key_of(r)]["reward"]]
    shown = ", ".join(
        f"{name} {value:.4g}"
        for name, value in result.items()
        if name.startswith(("pass_at_", "cons_at_")) and isinstance(value, float)
    )
    note = f"by the file's own scores: {shown}; they differ on {len(differing)} replies"
    examples = [
        f"{r['problem_id']} sample {r['sample_index']}: gold {r['gold']!r}, answer "
        f"{r['extracted']!r}, the file says {r['reward']:g}"
        for r in differing[:3]
    ]
    notes = [*facts.notes, "; ".join([note, *examples])]
    return replace(facts, notes=notes, file_scores=result)


def _merge_row(folders: Sequence[Path]) -> tuple[EvaluateConfig, list[Record]]:
    """The joined records of one row, and a config that asks for all of them."""
    configs = [load_config(EvaluateConfig, folder / CONFIG_FILE) for folder in folders]
    files = [folder / RECORDS_FILE for folder in folders]
    joined = join_records((str(file), read_records(file).values()) for file in files)
    records = list(joined.values())
    refuse_mixture(records, " and ".join(map(str, files)))
    first = min(config.first_sample_index for config in configs)
    end = max(config.sample_indices.stop for config in configs)
    sizes = [config.num_problems for config in configs if config.num_problems is not None]
    changes = {
        "first_sample_index": first,
        "num_samples": end - first,
        "num_problems": max(sizes) if len(sizes) == len(configs) else None,
    }
    return configs[0].model_copy(update=changes), records


def _row_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder")
    rows = sorted(path.parent for path in folder.rglob(RECORDS_FILE))
    rows = [row for row in rows if (row / CONFIG_FILE).is_file()]
    if not rows:
        raise RunError(f"{folder}: no evaluation there (no row with {RECORDS_FILE})")
    return rows
