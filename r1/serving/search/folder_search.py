"""Search in a folder of the user's own: no network, found again as files change."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sqlite3
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from r1.serving.files.documents import DocumentLimits
from r1.serving.search.folder_index import FolderIndex, Passage, match_expression, printable
from r1.serving.search.results import SearchError, SearchResult

_NUM_PASSAGES = 60
_PASSAGES_OF_FILE = 4
_SNIPPET_CHARACTERS = 240
_POLL_SECONDS = 0.01
# BM25 of the best passage is s < 0: what is above this part of it shares but a common word.
_MIN_SHARE_OF_BEST = 0.2


class FolderSearch:
    """A provider over a folder or a file.

    A search first looks for changes, for `wait_seconds` at most: a large folder is read on
    behind it, in a thread, and what has been read so far is found. `start` does so at once.
    """

    name = "folder"

    def __init__(
        self,
        folder: Path,
        database: Path | None = None,
        limits: DocumentLimits | None = None,
        wait_seconds: float = 10.0,
    ) -> None:
        folder = folder.expanduser().resolve()
        if not folder.exists():
            raise ValueError(f"{folder}: no such folder or file to search in")
        self._index = FolderIndex(folder, database or _default_path(folder), limits or _limits())
        self._wait_seconds = wait_seconds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._is_fresh = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure = ""

    def start(self) -> None:
        """Look for changes in a thread, unless one does."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._is_fresh.clear()
                # A daemon: an interrupted refresh loses one file and is taken up again.
                self._thread = threading.Thread(target=self._refresh, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread after the file that it reads."""
        self._stop.set()

    async def search(self, query: str, count: int) -> list[SearchResult]:
        """At most `count` files, best first, each with its best passages.

        Raises SearchError when the index cannot be written or read.
        """
        self.start()
        # Polled: threads that wait here would be missing elsewhere in the server.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_seconds):
                while not self._is_fresh.is_set():
                    await asyncio.sleep(_POLL_SECONDS)
        try:
            passages = await asyncio.to_thread(self._index.find, query, _NUM_PASSAGES)
        except (OSError, sqlite3.Error) as error:
            raise SearchError(f"the folder's index cannot be read ({error})") from None
        if self._failure and not passages:
            raise SearchError(f"the folder cannot be indexed ({self._failure})")
        by_path: dict[str, list[Passage]] = {}
        for passage in passages:
            if passage.score <= _MIN_SHARE_OF_BEST * passages[0].score:
                by_path.setdefault(passage.path, []).append(passage)
        found = [of_file[:_PASSAGES_OF_FILE] for of_file in by_path.values()]
        return [self._result(of_file, query) for of_file in found[:count]]

    def _refresh(self) -> None:
        try:
            self._index.refresh(self._stop)
            self._failure = ""
        except Exception as error:  # nobody sees what ends a thread; the search tells it
            self._failure = str(error) or type(error).__name__
        finally:
            self._is_fresh.set()

    def _result(self, passages: Sequence[Passage], query: str) -> SearchResult:
        """One file: its best passages in the order in which they are read."""
        best = passages[0]
        in_order = sorted(passages, key=lambda passage: passage.number)
        changed = datetime.fromtimestamp(best.mtime_ns / 1e9, UTC)
        return SearchResult(
            title=printable(best.path),
            url="",
            snippet=snippet(best.text, query),
            date=changed.date().isoformat(),
            site=printable(self._index.folder.name),
            text="\n…\n".join(passage.text for passage in in_order),
        )


def snippet(text: str, query: str) -> str:
    """The part of a passage around the first of the query's words that it has."""
    plain = " ".join(text.split())
    lower = plain.lower()
    terms = [term.strip('" *') for term in match_expression(query).split(" OR ")]
    places = [place for place in (lower.find(term) for term in terms if term) if place >= 0]
    start = max(0, min(places, default=0) - _SNIPPET_CHARACTERS // 3)
    end = start + _SNIPPET_CHARACTERS
    return ("…" if start else "") + plain[start:end].strip() + ("…" if end < len(plain) else "")


def _limits() -> DocumentLimits:
    return DocumentLimits(
        max_characters=5_000_000, max_pages=2_000, cpu_seconds=120, wall_seconds=240
    )


def _default_path(folder: Path) -> Path:
    digest = hashlib.sha256(str(folder).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return Path(platformdirs.user_cache_dir("r1", appauthor=False)) / "search" / f"{digest}.sqlite3"
