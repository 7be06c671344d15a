"""A file of judges' replies, so that no question is paid for twice.

SQLite, because two evaluations may judge at once: a reply is there completely or not at
all, and of two for one question the first stays, so that both see the same.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from r1.atomic_files import explain_write_errors
from r1.backends.openai_http_reply import Reply

_LOCK_TIMEOUT_SECONDS = 60.0
_TABLE = "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, judge TEXT, reply TEXT)"


class ReplyCache:
    """Replies by key; safe for several threads and processes.

    Raises ValueError for a file that is something else, RunError where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        with explain_write_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            database.execute(_TABLE)

    def get(self, key: str) -> Reply | None:
        """The reply that is kept under `key`, or None."""
        with self._open() as database:
            row = database.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else Reply(**json.loads(row[0]))

    def put(self, key: str, judge: str, reply: Reply) -> Reply:
        """Keep a reply and return the one that is kept: the first under its key."""
        row = (key, judge, json.dumps(asdict(reply)))
        with self._open() as database:
            database.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?)", row)
        return self.get(key) or reply

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for each use: SQLite's are not shared between threads."""
        try:
            opened = sqlite3.connect(self._path, timeout=_LOCK_TIMEOUT_SECONDS)
            with closing(opened) as database, database:
                yield database
        except sqlite3.Error as error:
            raise ValueError(
                f"{self._path}: not a usable cache of judges' replies: {error}"
            ) from None
