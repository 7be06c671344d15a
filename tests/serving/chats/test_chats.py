"""Chats: listed, searched, renamed, pinned, deleted, and nobody else's."""

from __future__ import annotations

from typing import Any

import pytest

from r1.serving.chats.records import title_of
from tests.serving.api.conftest import RecitingModel, wait_until
from tests.serving.chats.conftest import MakePage, Page


def ids(page: Page, **parameters: Any) -> list[str]:
    response = page.ask("GET", "/api/chats", params=parameters)
    assert response.status_code == 200, response.text
    return [chat["id"] for chat in response.json()["chats"]]


def test_what_the_page_is_told_first(page: Page) -> None:
    told = page.json("GET", "/api/page")
    assert told["models"] == [{"id": "tiny", "is_reasoning": True, "max_model_len": None}]
    assert told["defaults"] == {
        "temperature": 0.6,
        "top_p": 0.95,
        "max_tokens": 32_768,
        "thinking_budget": None,
    }
    assert told["search"] == {"is_available": False, "provider": None}
    assert ".pdf" in told["files"]["types"]
    assert told["needs_key"] is False


def test_newest_first_pinned_before(page: Page) -> None:
    a, b, c, d = (page.new_chat() for _ in range(4))
    assert ids(page) == [d, c, b, a]
    pinned = page.json("PATCH", f"/api/chats/{b}", {"is_pinned": True})
    assert (pinned["id"], pinned["is_pinned"]) == (b, True)
    assert ids(page) == [b, d, c, a]
    page.say(a, "hello")
    assert ids(page) == [b, a, d, c]
    assert ids(page, limit=2) == [b, a]
    assert ids(page, limit=2, before=a) == [d, c]
    assert ids(page, limit=2, before=c) == []
    page.json("DELETE", f"/api/chats/{b}", status=204)
    assert ids(page) == [a, d, c]
    page.json("GET", f"/api/chats/{b}", status=404)


def test_the_shown_branch_is_kept(page: Page) -> None:
    chat_id = page.new_chat()
    first = page.say(chat_id, "a")
    second = page.say(chat_id, "b")
    assert page.json("GET", f"/api/chats/{chat_id}")["chat"]["leaf_id"] == second["id"]
    page.json("PATCH", f"/api/chats/{chat_id}", {"leaf_id": first["id"]})
    assert page.json("GET", f"/api/chats/{chat_id}")["chat"]["leaf_id"] == first["id"]
    other = page.say(page.new_chat(), "c")
    page.json("PATCH", f"/api/chats/{chat_id}", {"leaf_id": other["id"]}, 400)


QUERIES = [
    ("weather", "en"),
    ("WEATHER paris", "en"),
    ("ather", "en"),
    ("paris tokyo", None),
    ("天气", "zh"),
    ("的天气怎", "zh"),
    ("怎", "zh"),
    ("東京の天気", "ja"),
    ("서울", "ko"),
    ("날씨가", "ko"),
    ("100%", "odd"),
    ("50%", None),
    ("_", "odd"),
    ('"quoted', "odd"),
    ("NEAR(", "odd"),
    ("content:x*", None),
    ("' OR 1=1 --", None),
    ("\\", "odd"),
    ("\0quo\0ted\0", "odd"),
]


def test_search_in_titles_and_messages(page: Page) -> None:
    texts = {
        "en": "What is the weather in Paris?",
        "zh": "北京今天的天气怎么样",
        "ja": "東京の天気を教えてください",
        "ko": "서울 날씨가 어때요",
        "odd": 'snake_case 100% "quoted" NEAR( back\\slash OR',
    }
    chats = {name: page.new_chat() for name in texts}
    for name, text in texts.items():
        # The words stand in an answer, behind a title that lacks them.
        page.model.chunks = ["thought", "</think>", text]
        page.say(chats[name], "?")
    for query, expected in QUERIES:
        found = ids(page, query=query)
        assert found == ([] if expected is None else [chats[expected]]), query


def test_search_follows_titles_and_deletions(page: Page) -> None:
    a, b = page.new_chat(), page.new_chat()
    page.json("PATCH", f"/api/chats/{a}", {"title": "Über die Quadratur"})
    page.say(b, "quadratur des Kreises")
    assert ids(page, query="quadratur") == [b, a]
    page.json("DELETE", f"/api/chats/{b}", status=204)
    assert ids(page, query="quadratur") == [a]
    page.model.chunks = ["hidden thought", "</think>", "seen"]
    page.say(a, "x")
    assert ids(page, query="hidden") == []


def test_nobody_sees_what_is_anothers(make_page: MakePage) -> None:
    page = make_page(api_keys=("alice", "bob"), key="alice")
    bob = page.as_owner("bob")
    chat_id = page.new_chat()
    done = page.say(chat_id, "secret of alice")
    files = {"file": ("a.txt", b"text", "text/plain")}
    file_id = page.ask("POST", "/api/files", files=files).json()["id"]
    exported = page.json("GET", f"/api/chats/{chat_id}/export")
    own = bob.new_chat()
    routes: list[tuple[str, str, Any]] = [
        ("GET", f"/api/chats/{chat_id}", None),
        ("PATCH", f"/api/chats/{chat_id}", {"title": "x"}),
        ("DELETE", f"/api/chats/{chat_id}", None),
        ("GET", f"/api/chats/{chat_id}/export", None),
        ("GET", f"/api/chats?before={chat_id}", None),
        ("POST", f"/api/chats/{chat_id}/replies", {"content": "x"}),
        ("POST", f"/api/chats/{own}/replies", {"content": "x", "parent_id": done["id"]}),
        ("POST", f"/api/chats/{own}/replies", {"parent_id": done["parent_id"]}),
        ("POST", f"/api/chats/{own}/replies", {"continue_id": done["id"]}),
        ("POST", f"/api/chats/{own}/replies", {"content": "x", "file_ids": [file_id]}),
        ("GET", f"/api/messages/{done['id']}/stream", None),
        ("POST", f"/api/messages/{done['id']}/stop", None),
        ("DELETE", f"/api/files/{file_id}", None),
    ]
    for method, path, body in routes:
        error = bob.json(method, path, body, 404)["error"]
        # The same words as for an id that nobody has.
        nobody = path
        for known in (chat_id, done["id"], file_id):
            nobody = nobody.replace(known, "f" * 32)
        if nobody != path and body is None:
            other = bob.json(method, nobody, body, 404)["error"]["message"]
            assert other.replace("f" * 32, "ID") == error["message"].replace(chat_id, "ID").replace(
                done["id"], "ID"
            ).replace(file_id, "ID")
    assert ids(bob) == [own]
    assert ids(bob, query="secret") == []
    assert bob.messages(own) == []
    assert page.json("GET", f"/api/chats/{chat_id}/export") == exported
    for method, path, body in routes:
        keyless = page.as_owner("wrong")
        assert keyless.json(method, path, body, 401)["error"]["code"] == "invalid_api_key"


TITLES = [
    ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ("a\nb\tc\u0000\u001b[31m", "a b c [31m"),
    ("  ", ""),
    ("']; DROP TABLE chats; --", "']; DROP TABLE chats; --"),
    ("\u202eevil\U0001f9d1\u200d\U0001f680", "\u202eevil\U0001f9d1\u200d\U0001f680"),
]


def test_hostile_titles_are_text(page: Page) -> None:
    chat_id = page.new_chat()
    for title, kept in TITLES:
        assert page.json("PATCH", f"/api/chats/{chat_id}", {"title": title})["title"] == kept
        assert page.json("GET", f"/api/chats/{chat_id}")["chat"]["title"] == kept


REQUESTS = [
    ("POST", "/api/chats", b"[]"),
    ("POST", "/api/chats", b"{"),
    ("POST", "/api/chats", b'{"title": 1}'),
    ("POST", "/api/chats", b'{"title": "' + b"x" * 201 + b'"}'),
    ("POST", "/api/chats", b"[" * 100_000),
    ("PATCH", "/api/chats/nothing", b"{}"),
    ("PATCH", "/api/chats/" + "0" * 32, b'{"is_pinned": "perhaps"}'),
    ("GET", "/api/chats?limit=0", b""),
    ("GET", "/api/chats?limit=1000000", b""),
    ("GET", "/api/chats?query=" + "x" * 201, b""),
    ("GET", "/api/chats?before='", b""),
    ("GET", "/api/chats/" + "0" * 32 + "/export?format=exe", b""),
]


def test_hostile_requests_are_one_line(page: Page) -> None:
    headers = {"content-type": "application/json"}
    for method, path, body in REQUESTS:
        response = page.ask(method, path, content=body, headers=headers)
        assert response.status_code == 400, path
        assert "\n" not in response.json()["error"]["message"]


def test_titles_are_the_first_words() -> None:
    assert title_of("  How do\nI sort?  ") == "How do I sort?"
    long = "Explain why the derivative of a function at a maximum is zero in detail"
    assert title_of(long) == "Explain why the derivative of a function at a maximum is…"
    assert title_of("解" * 100) == "解" * 60 + "…"
    assert title_of("") == ""


def test_two_servers_on_one_database(make_page: MakePage) -> None:
    one, two = make_page(), make_page(RecitingModel(["other", "</think>", "server"]))
    chat_id = one.new_chat()
    first = one.say(chat_id, "a")
    second = two.say(chat_id, "b", parent_id=first["id"])
    assert one.messages(chat_id) == two.messages(chat_id)
    assert second["content"] == "server"
    for index in range(10):
        (one, two)[index % 2].reply(chat_id, content=str(index))
    wait_until(lambda: all(m["status"] == "done" for m in one.messages(chat_id)), seconds=60)
    assert len(two.messages(chat_id)) == 24


def test_chats_made_without_keys_are_spoken_of(
    make_page: MakePage, capsys: pytest.CaptureFixture[str]
) -> None:
    make_page(api_keys=("k",))
    page = make_page()
    page.new_chat()
    assert capsys.readouterr().err == ""
    keyed = make_page(api_keys=("k",), key="k")
    assert "chats that were made without keys are not shown" in capsys.readouterr().err
    assert ids(keyed) == [] and len(ids(page)) == 1
