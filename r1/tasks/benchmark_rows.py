"""The rows of a benchmark: a local file, or a data set of the Hugging Face hub.

What every benchmark task shares: where its records come from, which of its problems are
taken, and that it has none to train on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from r1.tasks.benchmark_data import locate
from r1.tasks.row_files import Row, file_kind, read_rows
from r1.tasks.task import TaskConfig, TaskError, nearest_names

Item = TypeVar("Item")

HUB_OPTIONS = ("subset", "train_split", "test_split")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class BenchmarkFiles:
    """A benchmark's own records: the local file's folder and names, and its home on the hub.

    Where the subjects are files of their own, `subject_files` is the end of their names,
    such as `_val.csv`; where they are subsets on the hub, `hub_subjects` gives them. Rows
    read that way get the field `subject`.
    """

    folder: str
    names: tuple[str, ...]
    hub_id: str | None = None
    hub_subset: str | None = None
    hub_split: str = "test"
    how_to_get: str = ""
    subject_files: str = ""
    hub_subjects: Callable[[], Iterable[str]] | None = None

    @property
    def directions(self) -> str:
        """How a user comes by the records, for an error."""
        if self.hub_id is None:
            return self.how_to_get
        on_the_hub = f"it is {self.hub_id} on the Hugging Face hub; set path={self.hub_id}"
        return f"{on_the_hub}, or {self.how_to_get}" if self.how_to_get else on_the_hub


def read_benchmark(config: TaskConfig, files: BenchmarkFiles) -> list[Row]:
    """All rows of a benchmark, from the config's path or where it is looked for without one.

    Raises:
        TaskError: where there is no such file or data set, for settings of training data,
            and for options that are not those of a data set.
    """
    if config.train_path is not None or config.num_train:
        raise TaskError(f"task {config.name!r} is a benchmark: it has no problems to train on")
    path = config.test_path or config.path
    if path is not None and is_hub_id(path):
        return _hub_rows(config, files, path)
    if path is not None and files.subject_files:
        found = sorted(Path(path).expanduser().glob(f"*{files.subject_files}"))
        by_subject = ((file.name.removesuffix(files.subject_files), file) for file in found)
        rows = [row for subject, file in by_subject for row in _of(subject, read_rows(file))]
        if rows:
            return rows
    return read_rows(locate(path, files.folder, files.names, files.directions))


def _hub_rows(config: TaskConfig, files: BenchmarkFiles, source: str) -> list[Row]:
    own = files if source == files.hub_id else BenchmarkFiles("", ())
    subset = config.options.get("subset", own.hub_subset)
    split = config.options.get("test_split", files.hub_split)
    if subset is None and own.hub_subjects is not None:
        subjects = own.hub_subjects()
        return [row for name in subjects for row in _of(name, read_hub(source, name, split))]
    return read_hub(source, subset, split)


def _of(subject: str, rows: Iterable[Row]) -> list[Row]:
    return [Row(row.location, {"subject": subject, **row.data}) for row in rows]


def refuse_unknown_options(config: TaskConfig, known: Collection[str]) -> None:
    """Raise TaskError for the first option that the task does not have."""
    for option in config.options:
        if option not in known:
            raise TaskError(f"unknown option {option!r}; {nearest_names(option, known)}")


def draw(items: Sequence[Item], wanted: int | None, seed: str, name: str) -> list[Item]:
    """`wanted` items at random by `seed`, in their own order; None takes all.

    `seed` ends in the split's name, as in `0:test`. Raises TaskError for more than there are.
    """
    if wanted is None:
        return list(items)
    if wanted > len(items):
        raise TaskError(
            f"task {name!r}: {wanted} {seed.rpartition(':')[2]} problems asked for, "
            f"{len(items)} there"
        )
    chosen = sorted(random.Random(seed).sample(range(len(items)), wanted))
    return [items[index] for index in chosen]


def draw_test(items: Sequence[Item], config: TaskConfig) -> list[Item]:
    """The config's `num_test` items, drawn by its seed."""
    return draw(items, config.num_test, f"{config.seed}:test", config.name)


def is_hub_id(source: str) -> bool:
    """Whether a source can only be a data set's id: no file is there or is meant."""
    looks_like_file = file_kind(Path(source)) is not None or source.startswith(("/", ".", "~"))
    is_path = looks_like_file or Path(source).expanduser().exists()
    return not is_path and _HUB_ID.fullmatch(source) is not None


def read_hub(source: str, subset: str | None, split: str) -> list[Row]:
    """The rows of a data set of the hub; TaskError where it cannot be had."""
    try:
        import datasets
    except ImportError:
        raise TaskError(
            f"{source}: not a file here, and data sets of the hub need datasets: "
            "pip install 'r1[data]'"
        ) from None
    try:
        loaded = datasets.load_dataset(source, subset, split=split)
    # Network, authentication, naming and parsing faults have no common class there.
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise TaskError(
            f"{source}: neither a file here nor a data set that the hub gives "
            f"(subset {subset}, split {split}): {reason}"
        ) from None
    return [Row(f"{source} {split}: row {i}", dict(row)) for i, row in enumerate(loaded, 1)]
