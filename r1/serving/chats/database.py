"""The database of the chats: its tables, how it is opened, and threads of its own for it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import platformdirs
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from r1.serving.api.errors import ApiError

SCHEMA_VERSION = 1
_BUSY_SECONDS = 5.0
_NUM_THREADS = 4

P = ParamSpec("P")
T = TypeVar("T")

METADATA = sa.MetaData()

SCHEMA = sa.Table("r1_schema", METADATA, sa.Column("version", sa.Integer, nullable=False))

CHATS = sa.Table(
    "chats",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("is_pinned", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("leaf_id", sa.String(32)),
    sa.Index("chats_in_order", "owner", "is_pinned", "updated_at", "id"),
)


def _chat_id(**options: Any) -> sa.Column[Any]:
    key = sa.ForeignKey("chats.id", ondelete="CASCADE")
    return sa.Column("chat_id", sa.String(32), key, index=True, **options)


# `number` orders siblings and names the row of the search index. `writer` is the server that
# writes a reply, `beat_at` when it last said so.
MESSAGES = sa.Table(
    "messages",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    _chat_id(nullable=False),
    sa.Column("parent_id", sa.String(32)),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("reasoning_content", sa.Text, nullable=False),
    sa.Column("thinking_seconds", sa.Double),
    sa.Column("files", sa.JSON, nullable=False),
    sa.Column("search_query", sa.Text),
    sa.Column("sources", sa.JSON, nullable=False),
    sa.Column("model", sa.Text),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("error", sa.Text),
    sa.Column("finish_reason", sa.String(1024)),
    sa.Column("usage", sa.JSON(none_as_null=True)),
    sa.Column("seconds", sa.Double),
    sa.Column("tokens_per_second", sa.Double),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("writer", sa.Text),
    sa.Column("beat_at", sa.Double),
    sqlite_autoincrement=True,
)

# `chat_id` is set when a message of that chat first holds the file.
FILES = sa.Table(
    "files",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False, index=True),
    _chat_id(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("num_bytes", sa.BigInteger, nullable=False),
    sa.Column("num_characters", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)

# Trigrams find any substring, and so words of languages that put no spaces between them. A
# reply is indexed when it has ended: not at each save.
_SEARCH_INDEX = (
    "CREATE VIRTUAL TABLE message_search USING fts5(content, tokenize='trigram')",
    "CREATE TRIGGER message_added AFTER INSERT ON messages WHEN new.status <> 'generating' BEGIN "
    "INSERT INTO message_search (rowid, content) VALUES (new.number, new.content); END",
    "CREATE TRIGGER message_changed AFTER UPDATE OF content, status ON messages "
    "WHEN new.status <> 'generating' BEGIN "
    "DELETE FROM message_search WHERE rowid = new.number; "
    "INSERT INTO message_search (rowid, content) VALUES (new.number, new.content); END",
    "CREATE TRIGGER message_removed AFTER DELETE ON messages BEGIN "
    "DELETE FROM message_search WHERE rowid = old.number; END",
)


class Database:
    """Connections, and threads of their own for what waits for the disk or for a lock.

    The API's own threads thus never wait for a database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._writing = engine.execution_options(is_write=True)
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="chats")

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite, with its search index."""
        return self.engine.dialect.name == "sqlite"

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that only reads."""
        return self.engine.begin()

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that writes: the only one at its time in SQLite."""
        return self._writing.begin()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that uses the database in one of its threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))

    async def close(self) -> None:
        """End the threads and the connections."""
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()


def default_url() -> str:
    """SQLite in the user's data folder."""
    path = Path(platformdirs.user_data_dir("r1", appauthor=False)) / "chats.sqlite3"
    return f"sqlite:///{path}"


def open_database(url: str) -> Database:
    """Open or make a database. Raises ValueError with one line when it cannot be used."""
    try:
        parsed = sa.make_url(url)
        engine = _sqlite_engine(parsed) if parsed.get_backend_name() == "sqlite" else None
        engine = engine or sa.create_engine(parsed, pool_size=_NUM_THREADS, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError) as error:
        message = f"--database-url {url!r}: {error}; write sqlite:///FILE or postgresql+psycopg://…"
        raise ValueError(message) from None
    except ImportError as error:
        raise ValueError(f"--database-url: {error.name} is not installed") from None
    shown = parsed.render_as_string(hide_password=True)
    try:
        database = Database(engine)
        with database.writing() as db:
            _check_schema(db, shown)
    except SQLAlchemyError as error:
        engine.dispose()
        advice = "choose another with --database-url, or serve without chats: --no-page"
        raise ValueError(f"{shown}: {error_line(error)}; {advice}") from None
    except ValueError:
        engine.dispose()
        raise
    return database


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    if url.database in (None, "", ":memory:"):
        raise ValueError(f"--database-url {url}: name a file, as in sqlite:///chats.sqlite3")
    path = Path(url.database or "").expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Chats are private: only their owner reads the file; its journals take its mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        advice = "choose another file with --database-url, or serve without chats: --no-page"
        raise ValueError(f"{path}: {error.strerror}; {advice}") from None
    engine = sa.create_engine(
        url.set(database=str(path)),
        connect_args={"timeout": _BUSY_SECONDS},
        pool_size=_NUM_THREADS,
    )
    event.listen(engine, "connect", _prepare_connection)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare_connection(connection: sqlite3.Connection, _: object) -> None:
    # The driver begins transactions too late for us (see `_begin`).
    connection.isolation_level = None
    # FULL: what is announced as saved survives a power cut as well.
    for pragma in ("foreign_keys=ON", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads first and then writes would fail where another one wrote between.
    is_write = connection.get_execution_options().get("is_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _check_schema(db: sa.Connection, shown: str) -> None:
    """Make the tables of a new database; refuse one that a newer version has made."""
    if not sa.inspect(db).has_table(SCHEMA.name):
        METADATA.create_all(db)
        db.execute(SCHEMA.insert().values(version=SCHEMA_VERSION))
        for statement in _SEARCH_INDEX if db.dialect.name == "sqlite" else ():
            db.exec_driver_sql(statement)
    version = db.execute(sa.select(SCHEMA.c.version)).scalar_one()
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"{shown} has schema {version} and this r1 knows {SCHEMA_VERSION}: "
            "update r1, or choose another with --database-url"
        )


def error_line(error: SQLAlchemyError) -> str:
    """What the database said, without our statements and their values."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0][:200] if lines else type(cause).__name__


def storage_error(error: SQLAlchemyError) -> ApiError:
    """A database that fails, as the page is told."""
    message = f"the chats' database failed: {error_line(error)}"
    return ApiError(503, message, code="storage_failed", headers={"retry-after": "5"})
