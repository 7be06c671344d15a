"""An endless, repeatable stream of generated entries, kept on disk where asked.

Some generators make 4 to 30 problems a second. With a cache folder, what was made once
is read back by the next run, and a killed run goes on where it was.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasoning_gym.dataset import ProceduralDataset

from r1.run_log import JsonlLog
from r1.tasks.task import TaskError

Entry = dict[str, Any]

# Some families draw all their problems from a list as long as `size`, so a stream is
# made of chunks with seeds of their own. The length is part of what a seed means.
_CHUNK_SIZE = 1000


@dataclass(frozen=True)
class ProblemStream:
    """Entries 0, 1, 2, ... of one family and split.

    `label` names it in files and errors; `key` holds all else that the entries depend
    on; `make_dataset(seed, size)` builds a chunk.
    """

    label: str
    key: Mapping[str, Any]
    make_dataset: Callable[[int, int], ProceduralDataset]
    cache_folder: Path | None = None

    def entries(self, limit: int) -> Iterator[tuple[int, Entry]]:
        """The first `limit` entries with their indices, cached ones first."""
        cached = self._read_cache()
        log = None if self.cache_folder is None else JsonlLog(self._cache_path())
        dataset, chunk = None, -1
        for index in range(limit):
            if index in cached:
                yield index, cached[index]
                continue
            if dataset is None or chunk != index // _CHUNK_SIZE:
                chunk = index // _CHUNK_SIZE
                dataset = self.make_dataset(self._seed(chunk), _CHUNK_SIZE)
            entry = self._generate(dataset, index)
            if log is not None and _is_literal(entry):
                log.append(_to_row(index, entry))
            yield index, entry

    def _generate(self, dataset: ProceduralDataset, index: int) -> Entry:
        try:
            return dataset[index % _CHUNK_SIZE]
        # Other people's generators: whatever they raise on odd options is for the user.
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
            raise TaskError(f"{self.label}: problem {index} cannot be made: {fault}") from error

    def _seed(self, chunk: int) -> int:
        """32 bits, so that numpy takes it too; different for every split and chunk."""
        text = f"{self.label}/{self.key['seed']}/{chunk}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

    def _cache_path(self) -> Path:
        assert self.cache_folder is not None
        version = importlib.metadata.version("reasoning-gym")
        text = json.dumps({**self.key, "version": version}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.cache_folder / f"{self.label}-{digest}.jsonl"

    def _read_cache(self) -> dict[int, Entry]:
        if self.cache_folder is None:
            return {}
        return {row["index"]: _from_row(row) for row in JsonlLog(self._cache_path()).rows()}


def _to_row(index: int, entry: Entry) -> dict[str, Any]:
    # JSON would turn the tuples that scorers rely on into lists: a Python literal does not.
    return {"index": index, "entry": repr(entry)}


def _is_literal(entry: Entry) -> bool:
    """False for the odd family that puts objects into its entries; those are made anew."""
    try:
        return ast.literal_eval(repr(entry)) == entry
    except (ValueError, SyntaxError):
        return False


def _from_row(row: Mapping[str, Any]) -> Entry:
    return ast.literal_eval(row["entry"])
