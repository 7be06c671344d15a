"""Questions with checkable answers from rows: a file, a folder, or a Hugging Face data set.

GSM8K and MATH-500 are known by name, and more sets in `math_sets`: their fields, their
files and homes on the hub, and GSM8K's answer after `####`. `prompts` are questions of
the same sources without an answer, for reward models to judge.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from r1.records import Problem
from r1.tasks.benchmark_data import find_file
from r1.tasks.benchmark_rows import (
    HUB_OPTIONS,
    BenchmarkFiles,
    draw,
    is_hub_id,
    read_hub,
    refuse_unknown_options,
)
from r1.tasks.grading import MathTask, OpenTask, boxed_instruction, shared_verifier
from r1.tasks.row_files import READERS, Row, file_kind, read_rows
from r1.tasks.task import Split, TaskConfig, TaskError, first_of, nearest_names, question_key


@dataclass(frozen=True, slots=True)
class RowFormat:
    """Which fields of a row hold what, and how its answer field is read.

    A field may have several names, as in `problem|question`: the first that is there.
    `files` is the home of a benchmark known by name.
    """

    question_field: str = "question"
    answer_field: str | None = "answer"
    """None: open questions."""
    id_field: str | None = None
    language_field: str | None = None
    read_answer: Callable[[Any], str] = lambda value: answer_text(value)
    read_metadata: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda row: {}
    """What is added to a problem's metadata, such as `accepted_answers`."""
    is_wanted: Callable[[Mapping[str, Any]], bool] = lambda row: True
    files: BenchmarkFiles | None = None
    splits: tuple[Split, ...] = ("test",)
    language: str = "en"


def answer_text(value: Any) -> str:
    """An answer field as text. Raises ValueError for what is not one answer."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"is {value!r}, not an answer")
    if isinstance(value, str | int | float) and str(value).strip():
        return str(value).strip()
    if isinstance(value, list) and len(value) == 1:
        return answer_text(value[0])
    if isinstance(value, list) and value:
        raise ValueError(f"holds {len(value)} answers; name one, as in answer_field='golds.0'")
    raise ValueError(f"is {value!r}, not an answer")


def gsm8k_answer(value: Any) -> str:
    """GSM8K's gold: what follows the last `####`, without thousands separators."""
    text = answer_text(value)
    _, mark, final = text.rpartition("####")
    if not mark:
        raise ValueError("has no '#### answer' line")
    return answer_text(final.strip().lstrip("$").replace(",", ""))


_BOTH: tuple[Split, ...] = ("train", "test")
QUESTION_ANSWER = RowFormat(splits=_BOTH)
ROW_FORMATS: dict[str, RowFormat] = {
    "gsm8k": RowFormat(
        read_answer=gsm8k_answer,
        splits=_BOTH,
        files=BenchmarkFiles(
            "gsm8k", ("gsm8k_test.jsonl", "gsm8k_test.jsonl.gz"), "openai/gsm8k", "main"
        ),
    ),
    "prompts": RowFormat(answer_field=None, splits=_BOTH),
    "math500": RowFormat(
        question_field="problem",
        id_field="unique_id",
        files=BenchmarkFiles(
            "math500", ("math500_test.jsonl", "math500_test.jsonl.gz"), "HuggingFaceH4/MATH-500"
        ),
    ),
}


def build_question_answer(config: TaskConfig) -> MathTask | OpenTask:
    """Read the rows that the config names into a task.

    Raises TaskError for rows that cannot be read, with the count and the first places.
    """
    return build_rows(config, ROW_FORMATS.get(config.name, QUESTION_ANSWER))


def build_rows(config: TaskConfig, row_format: RowFormat) -> MathTask | OpenTask:
    """Read rows of a form into a task, as `build_question_answer` does."""
    refuse_unknown_options(config, HUB_OPTIONS)
    if row_format.answer_field is None and config.answer_field is not None:
        raise TaskError(f"task {config.name!r} takes no answer_field; question_answer does")
    if "language" not in config.model_fields_set:
        config = config.model_copy(update={"language": row_format.language})
    train, test = _read_splits(config, row_format)
    instruction = config.instruction
    if row_format.answer_field is None:
        return OpenTask(config.name, train, test, instruction or "", config.format_style)
    return MathTask(
        name=config.name,
        instruction=boxed_instruction(config.language) if instruction is None else instruction,
        train=train,
        test=test,
        verifier=shared_verifier(config.verifier_workers, config.verifier_timeout_seconds),
        format_style=config.format_style,
    )


def _read_splits(
    config: TaskConfig, row_format: RowFormat
) -> tuple[Sequence[Problem], Sequence[Problem]]:
    has_own_paths = config.train_path is not None or config.test_path is not None
    if config.path is None and row_format.files is None and not has_own_paths:
        raise TaskError(f"task {config.name!r}: set path, or train_path and test_path")
    if not has_own_paths and config.path is not None and Path(config.path).is_file():
        rows = read_rows(Path(config.path), _kind(config))
        return _divide(config, row_format, rows)

    def split_problems(split: Split, path: str | None, wanted: int | None) -> list[Problem]:
        if path is None and (has_own_paths or split not in row_format.splits):
            return []
        rows = _find_rows(config, row_format, split, path or config.path)
        problems = _problems(config, row_format, rows, prefix=f"{split}-")
        return draw(problems, wanted, f"{config.seed}:{split}", config.name)

    test = split_problems("test", config.test_path, config.num_test)
    if config.path is None and not has_own_paths:
        # Measuring on a benchmark must not fetch what only training needs.
        return _ReadOnUse(lambda: split_problems("train", None, config.num_train)), test
    return split_problems("train", config.train_path, config.num_train), test


class _ReadOnUse(Sequence[Problem]):
    """Problems that are read when the first of them is asked for."""

    def __init__(self, read: Callable[[], list[Problem]]) -> None:
        self._read = read

    @cached_property
    def _problems(self) -> list[Problem]:
        return self._read()

    def __len__(self) -> int:
        return len(self._problems)

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | Sequence[Problem]:
        return self._problems[index]


def _divide(
    config: TaskConfig, row_format: RowFormat, rows: Sequence[Row]
) -> tuple[list[Problem], list[Problem]]:
    """One file for both splits: `num_test` drawn for the test, the rest for training.

    Without `num_test` all rows go to one side: to the test for a benchmark known by
    name, else to training.
    """
    problems = _problems(config, row_format, rows, prefix="row-")
    num_test = config.num_test
    if num_test is None:
        is_benchmark = row_format.files is not None
        num_test = len(problems) if is_benchmark and not config.num_train else 0
    test = draw(problems, num_test, f"{config.seed}:test", config.name)
    # By text, so that a question that occurs twice cannot be on both sides.
    test_keys = {question_key(problem.question) for problem in test}
    rest = [problem for problem in problems if question_key(problem.question) not in test_keys]
    return draw(rest, config.num_train, f"{config.seed}:train", config.name), test


# ---------------------------------------------------------------- finding the rows


def _kind(config: TaskConfig) -> str | None:
    return config.name if config.name in READERS else None


def _find_rows(
    config: TaskConfig, row_format: RowFormat, split: Split, source: str | None
) -> list[Row]:
    files = row_format.files
    if files is not None and split == "test" and (source is None or Path(source).is_dir()):
        found = find_file(source, files.folder, files.names)
        if found is not None:
            return read_rows(found)
    if source is None:
        assert files is not None, "checked when the splits are read"
        if files.hub_id is None:
            raise TaskError(f"task {config.name!r}: no {files.names[0]}: {files.directions}")
        source = files.hub_id
    path = Path(source).expanduser()
    if path.is_dir():
        files_of_split = _split_files(path, config.name, split)
        return [row for file in files_of_split for row in read_rows(file)]
    if not is_hub_id(source):
        return read_rows(path, _kind(config))
    own = files if files is not None and source == files.hub_id else BenchmarkFiles("", ())
    subset = config.options.get("subset", own.hub_subset)
    default_split = own.hub_split if split == "test" else split
    return read_hub(source, subset, config.options.get(f"{split}_split", default_split))


def _split_files(folder: Path, name: str, split: Split) -> list[Path]:
    """The files of one split in a folder laid out as data sets commonly are.

    None when the folder has files of the other split only; TaskError when of neither.
    """
    folders = [folder, folder / name, folder / "data", folder / "data" / name]
    for place in folders:
        found = {each: _matching_files(place, name, each) for each in ("train", "test")}
        if any(found.values()):
            return found[split]
    kinds = ", ".join(f".{kind}" for kind in READERS)
    raise TaskError(
        f"{folder}: no {split} data; looked for {split} or {name}_{split} ({kinds}), "
        f"there and in {name}/ and data/"
    )


def _matching_files(folder: Path, name: str, split: str) -> list[Path]:
    stems = re.compile(rf"({re.escape(name)}[_-])?{split}(-\d+-of-\d+)?")
    if not folder.is_dir():
        return []
    files = [
        file
        for file in sorted(folder.iterdir())
        if file_kind(file) is not None and stems.fullmatch(file.name.split(".", 1)[0])
    ]
    # Several files are shards of one kind; the same rows in two kinds are not read twice.
    return [file for file in files if file_kind(file) == file_kind(files[0])]


# ---------------------------------------------------------------- rows to problems


def _problems(
    config: TaskConfig, row_format: RowFormat, rows: Sequence[Row], prefix: str
) -> list[Problem]:
    fields = _resolve_fields(config, row_format, rows)
    problems: list[Problem] = []
    faults: list[str] = []
    for index, row in enumerate(rows):
        if not row_format.is_wanted(row.data):
            continue
        try:
            problems.append(_problem(config, fields, row, f"{prefix}{index}"))
        except (ValueError, KeyError) as error:
            faults.append(f"{row.location}: {error.args[0]}")
    if faults:
        examples = first_of(faults, "; ")
        raise TaskError(f"{len(faults)} of {len(rows)} rows cannot be used: {examples}")
    return problems


def _resolve_fields(config: TaskConfig, row_format: RowFormat, rows: Sequence[Row]) -> RowFormat:
    """The config's fields over the format's own; an id of the format's own is optional."""
    id_field = row_format.id_field
    if id_field is not None and (not rows or id_field not in rows[0].data):
        id_field = None
    return replace(
        row_format,
        question_field=config.question_field or _present(row_format.question_field, rows),
        answer_field=config.answer_field or _present(row_format.answer_field, rows),
        id_field=config.id_field or id_field,
        language_field=config.language_field or row_format.language_field,
    )


def _present(names: str | None, rows: Sequence[Row]) -> str | None:
    """The first of `problem|question` that the rows have; the first of all if there is none."""
    if names is None or "|" not in names:
        return names
    choices = names.split("|")
    return next((name for name in choices if rows and name in rows[0].data), choices[0])


def _problem(config: TaskConfig, fields: RowFormat, row: Row, default_id: str) -> Problem:
    question = field_value(row.data, fields.question_field)
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"question field {fields.question_field!r} is {question!r}, not text")
    answer = None
    if fields.answer_field is not None:
        try:
            answer = fields.read_answer(field_value(row.data, fields.answer_field))
        except ValueError as error:
            raise ValueError(f"answer field {fields.answer_field!r} {error}") from None
    _refuse_surrogates(question, answer or "")
    name = field_value(row.data, fields.id_field) if fields.id_field else default_id
    language = config.language
    if fields.language_field:
        language = str(field_value(row.data, fields.language_field))
    used = {fields.question_field, fields.answer_field}
    return Problem(
        id=str(name),
        question=question.strip(),
        answer=answer,
        language=language.lower().replace("_", "-").split("-", 1)[0],
        task=config.name,
        metadata={
            **{key: value for key, value in row.data.items() if key not in used},
            **fields.read_metadata(row.data),
        },
    )


def field_value(data: Mapping[str, Any], field: str) -> Any:
    """The value of a field, whose dots go into objects and lists (`golds.0`).

    Raises KeyError with a message that names the fields there are.
    """
    if field in data:
        return data[field]
    value: Any = data
    for part in field.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise KeyError(f"no field {field!r}; {nearest_names(field, map(str, data))}")
    return value


def _refuse_surrogates(*texts: str) -> None:
    # JSON can carry half a character ("\ud83d"), which no tokenizer can encode.
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"half a character (lone surrogate) at {error.start}") from None
