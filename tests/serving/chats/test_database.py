"""The database: opened, refused, full, locked, gone; and the API beside it, which goes on."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import event

from r1.serving.chats import reply_store
from r1.serving.chats.database import default_url, open_database
from r1.serving.chats.page import PageSettings, open_page
from r1.serving.chats.reply_store import is_lost
from tests.serving.chats.conftest import MakePage, PacedModel, Page


def test_the_default_is_the_users_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_url() == f"sqlite:///{tmp_path}/r1/chats.sqlite3"
    asyncio.run(open_database(default_url()).close())
    file = tmp_path / "r1" / "chats.sqlite3"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert open_page(PageSettings(is_served=False)) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nothing", "write sqlite:///FILE"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("oracle+nothing://x", "write sqlite:///FILE"),
        ("sqlite:////proc/nothing/chats.sqlite3", "--no-page"),
        ("sqlite:////dev", "--no-page"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as error:
        open_database(url)
    assert words in str(error.value)


def test_what_is_no_database_or_a_newer_one(tmp_path: Path) -> None:
    file = tmp_path / "x.sqlite3"
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(ValueError, match="file is not a database"):
        open_database(f"sqlite:///{file}")
    assert file.read_bytes() == b"not a database at all" * 100
    newer = tmp_path / "newer.sqlite3"
    asyncio.run(open_database(f"sqlite:///{newer}").close())
    with sqlite3.connect(newer) as db:
        db.execute("UPDATE r1_schema SET version = 99")
    db.close()
    with pytest.raises(ValueError, match="has schema 99 and this r1 knows 1: update r1"):
        open_database(f"sqlite:///{newer}")


def test_many_servers_open_a_new_database_at_once(tmp_path: Path) -> None:
    code = f"from r1.serving.chats.database import *; open_database('sqlite:///{tmp_path}/new')"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4


@pytest.fixture
def only_sqlite(database_url: str) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("SQLite alone")


def api_works(page: Page, answer: str = "an answer") -> None:
    assert page.server.chat()["choices"][0]["message"]["content"] == answer
    assert page.ask("GET", "/health").status_code == 200


@pytest.mark.usefixtures("only_sqlite")
def test_a_locked_database_is_one_error_and_the_api_goes_on(
    make_page: MakePage, tmp_path: Path
) -> None:
    page = make_page()
    chat_id = page.new_chat()
    db = sqlite3.connect(tmp_path / "chats.sqlite3", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    error = page.reply(chat_id, 503, content="q")["error"]
    assert error["message"] == "the chats' database failed: database is locked"
    assert error["code"] == "storage_failed"
    api_works(page)
    # Readers do not wait for a writer.
    assert page.messages(chat_id) == []
    db.execute("ROLLBACK")
    db.close()
    assert page.say(chat_id, "q")["status"] == "done"


@pytest.mark.usefixtures("only_sqlite")
def test_a_full_disk_is_one_error_and_a_reply_waits_for_room(make_page: MakePage) -> None:
    model = PacedModel(["thought", "</think>", "x" * 500_000])
    page = make_page(model)
    max_pages = [10**6]

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        # Less than there are means: not one more.
        connection.execute(f"PRAGMA max_page_count = {max_pages[0]}")

    event.listen(page.database.engine, "checkout", limit)
    chat_id = page.new_chat()
    message_id = page.reply(chat_id, content="q")["assistant_message"]["id"]
    max_pages[0] = 1
    model.allow()
    page.wait_for_text(message_id, "xxx")
    events = page.follow(message_id)
    error = page.reply(chat_id, 503, content="y" * 100_000)["error"]
    assert error["message"] == "the chats' database failed: database or disk is full"
    assert len(page.messages(chat_id)) == 2
    api_works(page, "x" * 500_000)
    max_pages[0] = 10**6
    done = list(events)[-1][1]["message"]
    assert (done["status"], len(done["content"])) == ("done", 500_000)
    assert page.message(chat_id, message_id) == done


def test_replies_of_dead_servers_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_store.time, "time", lambda: 1000.0)
    host = reply_store.socket.gethostname()
    process = reply_store.process_name()
    pid = os.getpid()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    cases = [
        (None, 999.0, True),
        (f"{host}:{pid}:{process}:a", 999.0, False),
        (f"{host}:{pid}:{process}:a", 900.0, True),
        (f"{host}:{pid}:other:a", 999.0, True),
        (f"{host}:{dead.pid}:x:a", 999.0, True),
        (f"{host}:{os.getppid()}:x:a", 999.0, False),
        (f"elsewhere:{dead.pid}:x:a", 999.0, False),
        (f"fe80::1:{dead.pid}:x:a", 960.0, True),
    ]
    assert [is_lost(writer, beat) for writer, beat, _ in cases] == [lost for _, _, lost in cases]
