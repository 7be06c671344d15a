"""Where a benchmark's data lies: a path that was given, a folder of the user's, or the package.

The layout is one folder a benchmark (`math500/math500_test.jsonl`), so that one folder
of data serves every row of the table.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from r1.tasks.task import TaskError

DATA_VARIABLE = "R1_DATA"

# Looked through in this order after $R1_DATA, relative to the working folder.
_FOLDERS = ("data", "shared/data", "../shared/data")
_PACKAGED = Path(__file__).resolve().parent.parent / "assets" / "benchmarks"


def locate(path: str | None, folder: str, names: Sequence[str], how_to_get: str) -> Path:
    """The file that `find_file` finds.

    Raises:
        TaskError: when there is none, with the places and `how_to_get`.
    """
    found = find_file(path, folder, names)
    if found is None:
        places = ", ".join(map(str, _roots(path)))
        raise TaskError(
            f"no {' or '.join(names)} in {places} (nor in {folder}/ there): {how_to_get}"
        )
    return found


def find_file(path: str | None, folder: str, names: Sequence[str]) -> Path | None:
    """The first file of `names` that is there, or None.

    `path` is what the user gave: a file (whatever its name), or a folder that holds one
    of the names, itself or in its subfolder `folder`. Without it the user's data folders
    are looked through, then the data that comes with the package.
    """
    if path is not None and Path(path).expanduser().is_file():
        return Path(path).expanduser()
    for root in _roots(path):
        for place in (root / folder, root):
            for name in names:
                if (place / name).is_file():
                    return place / name
    return None


def _roots(path: str | None) -> list[Path]:
    return data_folders() if path is None else [Path(path).expanduser()]


def data_folders() -> list[Path]:
    """The folders that are looked through, the user's first, the package's own last."""
    given = os.environ.get(DATA_VARIABLE)
    return [*([Path(given).expanduser()] if given else []), *map(Path, _FOLDERS), _PACKAGED]
