"""`r1 decontaminate`: training rows without those that repeat a benchmark.

Rows are read and written one by one, so that a file may be larger than the memory.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from r1.atomic_files import explain_write_errors
from r1.tasks.row_files import READERS, Row, file_kind, read_rows
from r1.tasks.task import TaskConfig, TaskError, build_task
from r1.text.decontamination import NGRAM_WORDS, Decontaminator

# Fields of a problem's metadata that are reference solutions.
_SOLUTION_FIELDS = ("solution", "patch")
# What a question is called in rows from a file, and what a solution.
_QUESTION_FIELDS = ("question", "problem", "prompt", "instruction", "problem_statement", "text")


@dataclass(frozen=True, slots=True)
class BenchmarkText:
    """A question or a reference solution of a benchmark."""

    benchmark: str
    question_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Options:
    """How to compare and where to write: `output` is a folder, None the data's own.

    `fields` are the row's top fields to look at; empty: every text in the row, at any
    depth. A dry run writes nothing.
    """

    num_words: int = NGRAM_WORDS
    fields: tuple[str, ...] = ()
    output: Path | None = None
    is_dry_run: bool = False


@dataclass(slots=True)
class FileReport:
    """What came of one data file; `by_benchmark` counts the rows that repeat each."""

    data: Path
    kept_path: Path | None
    removed_path: Path | None
    num_rows: int = 0
    num_removed: int = 0
    num_bytes: int = 0
    seconds: float = 0.0
    by_benchmark: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count:,}" for name, count in self.by_benchmark.most_common())
        speed = f"{self.num_bytes / 1e6 / max(self.seconds, 1e-9):.1f} MB/s"
        removed = f"{self.num_removed:,} removed" + (f" ({counts})" if counts else "")
        return f"{self.data}: {self.num_rows:,} rows, {removed}; {speed}"


def run_decontaminate(
    data: Sequence[Path],
    against: Sequence[str],
    options: Options,
    report: Callable[[str], None] = print,
) -> list[FileReport]:
    """Write each data file again without the rows that share an n-gram with a benchmark.

    `against` are task names (`math500`, or `gpqa=FILE` with the task's data) or files of
    rows. `rows.jsonl` becomes `rows.clean.jsonl`, and what was taken out
    `rows.removed.jsonl`, with the shared words and the question. `report` gets the lines
    that a person reads.

    Raises:
        TaskError: for an unknown benchmark, one without test questions, a data file that
            cannot be read, and two data files that would be written to one place.
    """
    if options.num_words < 1:
        raise TaskError(f"--ngram {options.num_words}: expected 1 word or more")
    if not against:
        raise TaskError("--against: name at least one benchmark, such as --against math500")
    paths = _output_paths(data, options)
    tests = [text for name in against for text in read_benchmark_texts(name)]
    groups = [text.benchmark for text in tests]
    index = Decontaminator([text.text for text in tests], options.num_words, groups)
    ids = {(text.benchmark, text.question_id) for text in tests}
    for name, count in Counter(benchmark for benchmark, _ in ids).items():
        report(f"against {name}: {count:,} questions")
    reports = []
    for path, (kept, removed) in zip(data, paths, strict=True):
        reports.append(_clean_file(path, kept, removed, _Comparison(index, tests, options, report)))
        report(str(reports[-1]))
    return reports


# ---------------------------------------------------------------- benchmarks


def read_benchmark_texts(name: str) -> list[BenchmarkText]:
    """The questions and reference solutions of a benchmark, or of a file of rows."""
    is_file = file_kind(Path(name)) is not None and "=" not in name
    if is_file or Path(name).is_file():
        texts = _texts_of_file(Path(name))
    else:
        task_name, _, path = name.partition("=")
        texts = _texts_of_task(TaskConfig(name=task_name, path=path or None))
    if not texts:
        raise TaskError(f"--against {name}: no test questions there")
    return texts


def _texts_of_task(config: TaskConfig) -> list[BenchmarkText]:
    texts = []
    for problem in build_task(config).problems("test"):
        found = [problem.question, *map(problem.metadata.get, _SOLUTION_FIELDS)]
        texts += [BenchmarkText(config.name, problem.id, text) for text in found if _is_text(text)]
    return texts


def _texts_of_file(path: Path) -> list[BenchmarkText]:
    texts = []
    for row in read_rows(path):
        wanted = [*_QUESTION_FIELDS, *_SOLUTION_FIELDS]
        # A short answer alone, such as 42, would remove every row that has such a field.
        found = [row.data[name] for name in wanted if _is_text(row.data.get(name))]
        name = str(row.data.get("id") or row.location.removeprefix(f"{path}:").strip())
        texts += [BenchmarkText(path.name, name, text) for text in found or texts_in(row.data)]
    return texts


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


# ---------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class _Comparison:
    index: Decontaminator
    tests: Sequence[BenchmarkText]
    options: Options
    report: Callable[[str], None]

    def overlaps(self, row: Row) -> list[dict[str, str]]:
        """The first question of each benchmark that the row repeats."""
        found: dict[str, dict[str, str]] = {}
        for text in texts_in(row.data, self.options.fields):
            for overlap in self.index.overlaps(text):
                test = self.tests[overlap.text_index]
                found.setdefault(
                    test.benchmark,
                    {
                        "benchmark": test.benchmark,
                        "question_id": test.question_id,
                        "ngram": overlap.ngram,
                    },
                )
        return list(found.values())


def texts_in(value: Any, fields: Sequence[str] = ()) -> list[str]:
    """Every string inside a JSON value in order, of the given top fields or of all."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        members = [value.get(name) for name in fields] if fields else value.values()
    else:
        members = value if isinstance(value, list | tuple) else ()
    return [text for member in members for text in texts_in(member)]


def _clean_file(
    path: Path, kept_path: Path | None, removed_path: Path | None, compare: _Comparison
) -> FileReport:
    result = FileReport(path, kept_path, removed_path)
    started = time.perf_counter()
    with _new_file(kept_path) as kept, _new_file(removed_path) as removed:
        for row, line in stream_rows(path):
            result.num_rows += 1
            result.num_bytes += len(line)
            overlaps = compare.overlaps(row)
            if not overlaps:
                kept.write(line + b"\n")
                continue
            result.num_removed += 1
            result.by_benchmark.update(overlap["benchmark"] for overlap in overlaps)
            entry = {"location": row.location, "overlaps": overlaps, "row": row.data}
            removed.write(_json_line(entry) + b"\n")
            if compare.options.is_dry_run:
                compare.report(_removal(row, overlaps[0]))
    result.seconds = time.perf_counter() - started
    return result


def _removal(row: Row, overlap: Mapping[str, str]) -> str:
    question = f"{overlap['benchmark']} {overlap['question_id']}"
    return f"{row.location}: {question}: {overlap['ngram']}"


def stream_rows(path: Path) -> Iterator[tuple[Row, bytes]]:
    """Each row with its line of JSON: of a JSONL file the very bytes, without the newline.

    Raises TaskError as `read_rows` does. Other kinds of file are read whole.
    """
    if file_kind(path) != "jsonl" or not path.is_file():
        yield from ((row, _json_line(row.data)) for row in read_rows(path))
        return
    is_gzip = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if is_gzip else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parsed(line, f"{path}:{number}"), line.rstrip(b"\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise TaskError(f"{path}: cannot be read: {error}") from None


def _parsed(line: bytes, location: str) -> Row:
    try:
        value = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{location}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise TaskError(f"{location}: expected an object, got {type(value).__name__}")
    return Row(location, value)


def _json_line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=str).encode()


# ---------------------------------------------------------------- places


def _output_paths(
    data: Sequence[Path], options: Options
) -> list[tuple[Path, Path] | tuple[None, None]]:
    """Where the kept and the removed rows of each file go; nowhere in a dry run."""
    if options.is_dry_run:
        return [(None, None)] * len(data)
    places = [(options.output or path.parent) / _stem(path) for path in data]
    repeated = [str(place) for place, count in Counter(places).items() if count > 1]
    if repeated:
        raise TaskError(f"two data files would both be written to {repeated[0]}.clean.jsonl")
    return [
        (
            place.with_name(f"{place.name}.clean.jsonl"),
            place.with_name(f"{place.name}.removed.jsonl"),
        )
        for place in places
    ]


def _stem(path: Path) -> str:
    if file_kind(path) is None:
        known = ", ".join(f".{name}" for name in READERS)
        raise TaskError(f"{path}: unknown kind of file; expected {known} (or the same with .gz)")
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return name.rsplit(".", 1)[0]


@contextlib.contextmanager
def _new_file(path: Path | None) -> Iterator[IO[bytes]]:
    """A file to fill, which takes its place when the block succeeds; None writes nowhere."""
    if path is None:
        with open(os.devnull, "wb") as nowhere:
            yield nowhere
        return
    temporary = path.with_name(f".{path.name}.new")
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                yield file
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
