"""An index of a folder's files in SQLite's FTS5: passages, found by words and by characters.

Chinese, Japanese and Korean are not split by spaces. Their text is indexed by pairs of
neighbouring characters, so that words of two characters are found, which FTS5's own trigram
tokenizer cannot do.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from r1.serving.files.documents import DocumentError, DocumentLimits, read_document

MAX_FILES = 50_000
_VERSION = 2
_PASSAGE_CHARACTERS = 1200
_MAX_QUERY_TOKENS = 48
_SKIPPED_FOLDERS = frozenset(("node_modules", "__pycache__"))

_SCHEMA = """
CREATE TABLE files (id INTEGER PRIMARY KEY, path BLOB UNIQUE, mtime_ns INTEGER, size INTEGER);
CREATE TABLE passages (id INTEGER PRIMARY KEY, file_id INTEGER, number INTEGER, text TEXT);
CREATE INDEX passages_of_file ON passages (file_id);
CREATE VIRTUAL TABLE words USING fts5(tokens, tokenize='porter unicode61');
"""

_CJK = re.compile(
    "[\u3005\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f]+"
)
_WORD = re.compile(r"\w+")
# What a question has and the text that answers it has everywhere.
_STOP_NAMES = (
    "a about an and are as at be by can could did do does for from had has have how i in is it me "
    "my of on or our please should tell that the their there this to was we were what when where "
    "which who why will with would you your"
)
_STOP_WORDS = frozenset(_STOP_NAMES.split(" "))
_STOP_CJK = re.compile(
    "什么|怎么|怎样|如何|多少|哪些|哪个|为什么|请问|告诉|[的了是吗呢在和与]|です|ますか?|ですか"
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a file that matches; `score` is BM25, lower is better."""

    path: str
    mtime_ns: int
    number: int
    text: str
    score: float


class FolderIndex:
    """The index of one folder (or one file), kept in a database file of its own."""

    def __init__(self, folder: Path, database: Path, limits: DocumentLimits) -> None:
        self.folder = folder
        self._database = database
        self._limits = limits

    def refresh(self, stop: threading.Event) -> int:
        """Read what is new or changed (by time and size), forget what is gone.

        Returns how many files were read. Files that cannot be read are left out, and tried
        again when they change. Ends early, keeping what it has, when `stop` is set.
        """
        num_read = 0
        with closing(self._open()) as db:
            rows = db.execute("SELECT path, id, mtime_ns, size FROM files")
            known = {os.fsdecode(path): (key, *state) for path, key, *state in rows}
            for path, stat in self._walk():
                if stop.is_set():
                    return num_read
                key, *state = known.pop(path, (None, 0, 0))
                if state == [stat.st_mtime_ns, stat.st_size] and key is not None:
                    continue
                texts = self._passages(path)
                with db:
                    _forget(db, key)
                    _add(db, (path, stat.st_mtime_ns, stat.st_size), texts)
                num_read += 1
            with db:
                for key, *_ in known.values():
                    _forget(db, key)
        return num_read

    def find(self, query: str, count: int) -> list[Passage]:
        """The best passages for a query, best first."""
        match = match_expression(query)
        if not match:
            return []
        with closing(self._open()) as db:
            rows = db.execute(
                "SELECT path, mtime_ns, number, text, rank FROM words "
                "JOIN passages ON passages.id = words.rowid "
                "JOIN files ON files.id = passages.file_id "
                "WHERE words MATCH ? ORDER BY rank LIMIT ?",
                (match, count),
            )
            return [Passage(os.fsdecode(path), *rest) for path, *rest in rows]

    def _open(self) -> sqlite3.Connection:
        """The database, made anew when it is another version's or no database."""
        self._database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for _ in range(2):
            db = sqlite3.connect(self._database, timeout=30)
            try:
                db.execute("PRAGMA journal_mode=WAL")
                if db.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
                    return db
                is_new = not db.execute("SELECT 1 FROM sqlite_master").fetchone()
            except sqlite3.OperationalError:  # locked, or out of reach: it may be in use
                db.close()
                raise
            except sqlite3.DatabaseError:
                is_new = False
            if is_new:
                db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
                return db
            db.close()
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._database}{suffix}").unlink(missing_ok=True)
        raise AssertionError("a new database has no tables")

    def _walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Regular files, by their path in the folder; nothing hidden, no links out of it."""
        if self.folder.is_file():
            yield self.folder.name, self.folder.stat()
            return
        num_files = 0
        for top, folders, names in os.walk(self.folder):
            folders[:] = sorted(
                name for name in folders if name[0] != "." and name not in _SKIPPED_FOLDERS
            )
            for name in sorted(names):
                path = Path(top, name)
                if name[0] == "." or path.is_symlink() or not path.is_file():
                    continue
                num_files += 1
                if num_files > MAX_FILES:
                    return
                with contextlib.suppress(FileNotFoundError):  # it has gone meanwhile
                    yield str(path.relative_to(self.folder)), path.stat()

    def _passages(self, path: str) -> list[str]:
        source = self.folder if self.folder.is_file() else self.folder / path
        try:
            return split_passages(read_document(source, path, self._limits).text)
        except DocumentError:
            return []  # a picture, a program, a broken file: nothing to find in it


def _forget(db: sqlite3.Connection, file_id: int | None) -> None:
    if file_id is not None:
        passages = "SELECT id FROM passages WHERE file_id = ?"
        db.execute(f"DELETE FROM words WHERE rowid IN ({passages})", (file_id,))
        db.execute("DELETE FROM passages WHERE file_id = ?", (file_id,))
        db.execute("DELETE FROM files WHERE id = ?", (file_id,))


def _add(db: sqlite3.Connection, file: tuple[str, int, int], texts: list[str]) -> None:
    insert = "INSERT INTO files (path, mtime_ns, size) VALUES (?, ?, ?)"
    path, *state = file
    # As bytes: a name may be no UTF-8, which SQLite's text must be.
    file_id = db.execute(insert, (os.fsencode(path), *state)).lastrowid
    name = index_tokens(printable(Path(path).stem))
    for number, text in enumerate(texts):
        insert = "INSERT INTO passages (file_id, number, text) VALUES (?, ?, ?)"
        passage_id = db.execute(insert, (file_id, number, text)).lastrowid
        tokens = f"{name} {index_tokens(text)}"
        db.execute("INSERT INTO words (rowid, tokens) VALUES (?, ?)", (passage_id, tokens))


def printable(path: str) -> str:
    """A path as text that can be stored and sent, whatever bytes its names have."""
    return os.fsencode(path).decode("utf-8", "replace")


def split_passages(text: str) -> list[str]:
    """Whole paragraphs together up to a passage's length; longer ones are cut."""
    passages: list[str] = []
    current = ""
    for paragraph in re.split(r"\n\s*\n", text):
        while len(paragraph) > _PASSAGE_CHARACTERS:
            end = paragraph.rfind("\n", 0, _PASSAGE_CHARACTERS) + 1 or _PASSAGE_CHARACTERS
            passages += [current] if current else []
            current, paragraph = paragraph[:end], paragraph[end:]
        if current and len(current) + len(paragraph) > _PASSAGE_CHARACTERS:
            passages.append(current)
            current = ""
        current = f"{current}\n\n{paragraph}" if current else paragraph
    return [passage.strip() for passage in [*passages, current] if passage.strip()]


def index_tokens(text: str) -> str:
    """Text for FTS5: words as they are, and runs of CJK as pairs, the last character alone too."""
    return _CJK.sub(lambda run: f" {' '.join(_pairs(run[0]))} ", _normal(text))


def match_expression(query: str) -> str:
    """An FTS5 expression that any word of the query satisfies; empty when it has none."""
    text = _STOP_CJK.sub(" ", _normal(query))
    terms: list[str] = []
    for word in _WORD.findall(_CJK.sub(lambda run: f" {run[0]} ", text)):
        if _CJK.match(word):
            # A character alone is the beginning of a pair, or of the end of a run.
            terms += [f'"{pair}"' for pair in _pairs(word)[:-1]] or [f'"{word}" *']
        elif word not in _STOP_WORDS:
            terms.append(f'"{word}"')
    return " OR ".join(list(dict.fromkeys(terms))[:_MAX_QUERY_TOKENS])


def _pairs(run: str) -> list[str]:
    return [run[index : index + 2] for index in range(len(run))]


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()
