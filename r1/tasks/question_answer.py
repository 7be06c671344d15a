"""Questions with checkable answers from rows: a file, a folder, or a Hugging Face data set.

GSM8K and MATH-500 are known by name: their fields, their homes on the hub, and
GSM8K's answer after `####`. `prompts` are questions of the same sources without an
answer, for reward models to judge.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r1.records import Problem
from r1.tasks.grading import MathTask, OpenTask, boxed_instruction, shared_verifier
from r1.tasks.row_files import READERS, Row, file_kind, read_rows
from r1.tasks.task import Split, TaskConfig, TaskError, nearest_names, question_key

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_OPTIONS = ("subset", "train_split", "test_split")
_MAX_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class RowFormat:
    """Which fields of a row hold what, and how its answer field is read."""

    question_field: str = "question"
    answer_field: str | None = "answer"
    """None: open questions."""
    id_field: str | None = None
    language_field: str | None = None
    read_answer: Callable[[Any], str] = lambda value: answer_text(value)
    hub_id: str | None = None
    hub_subset: str | None = None
    splits: tuple[Split, ...] = ("train", "test")


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


QUESTION_ANSWER = RowFormat()
ROW_FORMATS: dict[str, RowFormat] = {
    "gsm8k": RowFormat(read_answer=gsm8k_answer, hub_id="openai/gsm8k", hub_subset="main"),
    "prompts": RowFormat(answer_field=None),
    "math500": RowFormat(
        question_field="problem",
        id_field="unique_id",
        hub_id="HuggingFaceH4/MATH-500",
        splits=("test",),
    ),
}


def build_question_answer(config: TaskConfig) -> MathTask | OpenTask:
    """Read the rows that the config names into a task.

    Raises TaskError for rows that cannot be read, with the count and the first places.
    """
    for option in config.options:
        if option not in _HUB_OPTIONS:
            raise TaskError(f"unknown option {option!r}; {nearest_names(option, _HUB_OPTIONS)}")
    row_format = ROW_FORMATS.get(config.name, QUESTION_ANSWER)
    if row_format.answer_field is None and config.answer_field is not None:
        raise TaskError(f"task {config.name!r} takes no answer_field; question_answer does")
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


def _read_splits(config: TaskConfig, row_format: RowFormat) -> tuple[list[Problem], list[Problem]]:
    source = config.path or row_format.hub_id
    has_own_paths = config.train_path is not None or config.test_path is not None
    if source is None and not has_own_paths:
        raise TaskError(f"task {config.name!r}: set path, or train_path and test_path")
    if not has_own_paths and source is not None and Path(source).is_file():
        rows = read_rows(Path(source), _kind(config))
        return _divide(config, row_format, rows)
    shared = None if has_own_paths else source

    def split_problems(split: Split, path: str | None, wanted: int | None) -> list[Problem]:
        rows = _find_rows(config, row_format, split, path or shared)
        problems = _problems(config, row_format, rows, prefix=f"{split}-")
        return _draw(problems, wanted, f"{config.seed}:{split}", config.name)

    train = split_problems("train", config.train_path, config.num_train)
    return train, split_problems("test", config.test_path, config.num_test)


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
        is_benchmark = row_format.hub_id is not None
        num_test = len(problems) if is_benchmark and not config.num_train else 0
    test = _draw(problems, num_test, f"{config.seed}:test", config.name)
    # By text, so that a question that occurs twice cannot be on both sides.
    test_keys = {question_key(problem.question) for problem in test}
    rest = [problem for problem in problems if question_key(problem.question) not in test_keys]
    return _draw(rest, config.num_train, f"{config.seed}:train", config.name), test


def _draw(problems: list[Problem], wanted: int | None, seed: str, name: str) -> list[Problem]:
    """`wanted` problems at random by `seed`, in the order of the file; None takes all."""
    if wanted is None:
        return problems
    if wanted > len(problems):
        raise TaskError(
            f"task {name!r}: {wanted} {seed.rpartition(':')[2]} problems asked for, "
            f"{len(problems)} there"
        )
    chosen = sorted(random.Random(seed).sample(range(len(problems)), wanted))
    return [problems[index] for index in chosen]


# ---------------------------------------------------------------- finding the rows


def _kind(config: TaskConfig) -> str | None:
    return config.name if config.name in READERS else None


def _find_rows(
    config: TaskConfig, row_format: RowFormat, split: Split, source: str | None
) -> list[Row]:
    if source is None:
        return []
    path = Path(source).expanduser()
    if path.is_dir():
        files = _split_files(path, config.name, split)
        return [row for file in files for row in read_rows(file)]
    looks_like_file = file_kind(path) is not None or source.startswith(("/", ".", "~"))
    if path.exists() or looks_like_file or not _HUB_ID.fullmatch(source):
        return read_rows(path, _kind(config))
    if source == row_format.hub_id and split not in row_format.splits:
        return []
    return _read_hub(source, config, row_format, split)


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


def _read_hub(source: str, config: TaskConfig, row_format: RowFormat, split: Split) -> list[Row]:
    try:
        import datasets
    except ImportError:
        raise TaskError(
            f"{source}: not a file here, and data sets of the hub need datasets: "
            "pip install 'r1[data]'"
        ) from None
    subset = config.options.get("subset", row_format.hub_subset)
    hub_split = config.options.get(f"{split}_split", split)
    try:
        loaded = datasets.load_dataset(source, subset, split=hub_split)
    # Network, authentication, naming and parsing faults have no common class there.
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise TaskError(
            f"{source}: neither a file here nor a data set that the hub gives "
            f"(subset {subset}, split {hub_split}): {reason}"
        ) from None
    return [Row(f"{source} {hub_split}: row {i}", dict(row)) for i, row in enumerate(loaded, 1)]


# ---------------------------------------------------------------- rows to problems


def _problems(
    config: TaskConfig, row_format: RowFormat, rows: Sequence[Row], prefix: str
) -> list[Problem]:
    fields = _resolve_fields(config, row_format, rows)
    problems: list[Problem] = []
    faults: list[str] = []
    for index, row in enumerate(rows):
        try:
            problems.append(_problem(config, fields, row, f"{prefix}{index}"))
        except (ValueError, KeyError) as error:
            faults.append(f"{row.location}: {error.args[0]}")
    if faults:
        more = "; ..." if len(faults) > _MAX_EXAMPLES else ""
        examples = "; ".join(faults[:_MAX_EXAMPLES])
        raise TaskError(f"{len(faults)} of {len(rows)} rows cannot be used: {examples}{more}")
    return problems


def _resolve_fields(config: TaskConfig, row_format: RowFormat, rows: Sequence[Row]) -> RowFormat:
    """The config's fields over the format's own; an id of the format's own is optional."""
    id_field = row_format.id_field
    if id_field is not None and (not rows or id_field not in rows[0].data):
        id_field = None
    return replace(
        row_format,
        question_field=config.question_field or row_format.question_field,
        answer_field=config.answer_field or row_format.answer_field,
        id_field=config.id_field or id_field,
        language_field=config.language_field or row_format.language_field,
    )


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
        metadata={key: value for key, value in row.data.items() if key not in used},
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
