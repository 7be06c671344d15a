"""Export and import: a round trip, and files that somebody has tampered with."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from r1.serving.chats import chat_store
from tests.serving.chats.conftest import Page


def rich_chat(page: Page) -> str:
    chat_id = page.new_chat()
    files = {"file": ("notes.md", "# 笔记\ntext".encode(), "text/markdown")}
    file_id = page.ask("POST", "/api/files", files=files).json()["id"]
    first = page.say(chat_id, "<b>one</b> 一", file_ids=[file_id])
    page.say(chat_id, "two", parent_id=first["id"])
    page.say(chat_id, "other two", parent_id=first["id"])
    page.json("PATCH", f"/api/chats/{chat_id}", {"is_pinned": True, "title": "My “chat”"})
    return chat_id


def named(exported: dict[str, Any]) -> dict[str, Any]:
    """With ids by order of appearance, and without what an import sets anew."""
    text = copy.deepcopy(exported)
    names: dict[str | None, str | None] = {None: None}
    for item in [text["chat"], *text["messages"], *text["files"]]:
        names.setdefault(item["id"], f"id {len(names)}")
    text["chat"] |= {"updated_at": 0, "leaf_id": names[text["chat"]["leaf_id"]]}
    for item in [text["chat"], *text["messages"], *text["files"]]:
        item["id"] = names[item["id"]]
    for message in text["messages"]:
        message["parent_id"] = names[message["parent_id"]]
        for file in message["files"]:
            file["id"] = names[file["id"]]
    return text


def test_a_round_trip_keeps_everything_under_new_ids(page: Page) -> None:
    chat_id = rich_chat(page)
    exported = page.json("GET", f"/api/chats/{chat_id}/export")
    again = page.json("POST", "/api/chats/import", exported)
    assert (again["title"], again["is_pinned"]) == ("My “chat”", True)
    back = page.json("GET", f"/api/chats/{again['id']}/export")
    assert named(back) == named(exported)
    old = {item["id"] for item in [*exported["messages"], *exported["files"], exported["chat"]]}
    new = {item["id"] for item in [*back["messages"], *back["files"], back["chat"]]}
    assert not old & new
    # It goes on like any other, with its file.
    page.say(again["id"], "three", parent_id=again["leaf_id"])
    prompt = page.model.chats[-1].messages[0].content
    assert prompt.startswith("[file name]: notes.md\n[file content begin]\n# 笔记")


def test_markdown_shows_the_chosen_branch(page: Page) -> None:
    chat_id = rich_chat(page)
    response = page.ask("GET", f"/api/chats/{chat_id}/export", params={"format": "markdown"})
    assert response.headers["content-disposition"].startswith('attachment; filename="chat-')
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.text == (
        "# My “chat”\n\n## User\n\n- file: notes.md\n\n<b>one</b> 一\n\n"
        "## tiny\n\n> a thought\n\nan answer\n\n"
        "## User\n\nother two\n\n## tiny\n\n> a thought\n\nan answer\n"
    )


def spoil(exported: dict[str, Any], *path: Any, value: Any) -> dict[str, Any]:
    spoilt = copy.deepcopy(exported)
    place = spoilt
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return spoilt


def test_a_spoilt_export_is_refused_whole(page: Page) -> None:
    exported = page.json("GET", f"/api/chats/{rich_chat(page)}/export")
    first, second = exported["messages"][0], exported["messages"][1]
    spoilt = [
        spoil(exported, "format", value="other"),
        spoil(exported, "version", value=2),
        spoil(exported, "messages", value="x"),
        spoil(exported, "messages", value=[first, first]),
        spoil(exported, "messages", value=[second]),
        spoil(exported, "messages", 0, "parent_id", value=second["id"]),
        spoil(exported, "messages", 0, "parent_id", value=first["id"]),
        spoil(exported, "messages", 1, "parent_id", value=None),
        spoil(exported, "messages", 1, "role", value="user"),
        spoil(exported, "messages", 0, "role", value="system"),
        spoil(exported, "messages", 0, "content", value=7),
        spoil(exported, "messages", 0, "created_at", value=1e300),
        spoil(exported, "messages", 0, "status", value="secret"),
        spoil(exported, "messages", 0, "id", value="../x"),
        spoil(exported, "messages", 1, "usage", value={"prompt_tokens": -1}),
        spoil(exported, "messages", 1, "usage", value={"prompt_tokens": 2**70}),
        spoil(exported, "chat", value=None),
        spoil(exported, "chat", "title", value="x" * 1000),
        spoil(exported, "files", value=[{"id": first["id"]}]),
        [],
    ]
    before = page.json("GET", "/api/chats")
    for body in spoilt:
        error = page.json("POST", "/api/chats/import", body, 400)["error"]
        assert error["message"] and "\n" not in error["message"]
    assert page.json("GET", "/api/chats") == before


PUT_RIGHT: list[tuple[str, Any, Any]] = [
    ("status", "generating", "stopped"),
    ("content", "a\u0000b", "ab"),
    ("files", [{"id": "f" * 32, "name": "gone.txt", "num_bytes": 3}], []),
]


def test_what_an_import_puts_right(page: Page) -> None:
    exported = page.json("GET", f"/api/chats/{rich_chat(page)}/export")
    for field, value, kept in PUT_RIGHT:
        spoilt = spoil(exported, "messages", 1, field, value=value)
        chat = page.json("POST", "/api/chats/import", spoilt)
        assert page.messages(chat["id"])[1][field] == kept


def test_an_imported_source_runs_nothing(page: Page) -> None:
    exported = page.json("GET", f"/api/chats/{rich_chat(page)}/export")
    sources = [
        {"index": 1, "title": "a", "url": "javascript:alert(1)"},
        {"index": 2, "title": "b", "url": "https://example.org/"},
    ]
    spoilt = spoil(exported, "messages", 1, "sources", value=sources)
    chat = page.json("POST", "/api/chats/import", spoilt)
    urls = [source["url"] for source in page.messages(chat["id"])[1]["sources"]]
    assert urls == ["", "https://example.org/"]


def test_an_import_that_is_too_large_is_refused(page: Page) -> None:
    text = "x" * (page.server.settings.max_upload_bytes + 1)
    response = page.ask("POST", "/api/chats/import", content=text.encode())
    assert response.status_code == 413


def test_imported_files_count_as_the_owners(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = page.json("GET", f"/api/chats/{rich_chat(page)}/export")
    num_characters = len("# 笔记\ntext")
    monkeypatch.setattr(chat_store, "MAX_OWNER_CHARACTERS", 2 * num_characters)
    page.json("POST", "/api/chats/import", exported)
    error = page.json("POST", "/api/chats/import", exported, status=413)["error"]
    assert error["code"] == "storage_full"


def test_turns_that_share_a_file_stay_within_a_prompt(page: Page) -> None:
    exported = page.json("GET", f"/api/chats/{rich_chat(page)}/export")
    exported["files"][0]["text"] = "x" * 2_000_000
    exported["messages"][0]["files"] *= 50
    chat = page.json("POST", "/api/chats/import", exported)
    reply = page.say(chat["id"], "three", parent_id=chat["leaf_id"])
    assert reply["status"] == "failed"
    assert reply["error"].startswith("this chat is too long: it has 100,000,")
