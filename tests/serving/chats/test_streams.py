"""Listening to a reply: from its beginning, in its middle, slowly, through another server."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from r1.serving.api.replies import Delta
from r1.serving.chats.live_reply import LiveReply
from r1.serving.chats.records import Message
from tests.serving.api.conftest import wait_until
from tests.serving.chats.conftest import Event, MakePage, PacedModel, joined

CHUNKS = [f"w{index} " for index in range(60)]
THOUGHT, ANSWER = "".join(CHUNKS[:30]).strip(), "".join(CHUNKS[30:]).strip()
PARTS = [*CHUNKS[:30], "</think>", *CHUNKS[30:]]


def test_who_comes_back_reads_what_an_undisturbed_listener_reads(make_page: MakePage) -> None:
    model = PacedModel(PARTS)
    page = make_page(model)
    message_id = page.reply(page.new_chat(), content="q")["assistant_message"]["id"]
    undisturbed: list[Event] = []
    listener = threading.Thread(target=lambda: undisturbed.extend(page.follow(message_id)))
    listener.start()
    for num_more in (1, 9, 21, 17):
        model.allow(num_more)
        events = page.follow(message_id)
        wanted = "".join(PARTS[: model.num_allowed]).replace("</think>", "")
        seen = ""
        for name, data in events:
            if name == "snapshot":
                seen = data["message"]["reasoning_content"] + data["message"]["content"]
            elif name in ("reasoning", "content"):
                seen += data["text"]
            # The space at the end waits for what comes after it.
            if len(seen.replace(" ", "")) == len(wanted.replace(" ", "")):
                break
        events.close()  # pyright: ignore[reportAttributeAccessIssue] - a generator
    model.allow()
    late = page.events(message_id)
    listener.join(30)
    assert joined(undisturbed) == joined(late) == (THOUGHT, ANSWER)
    assert undisturbed[-1] == late[-1]
    assert late[-1][1]["message"]["content"] == ANSWER
    assert model.num_closed == 1
    after = page.events(message_id)
    assert [name for name, _ in after] == ["snapshot", "done"]
    assert joined(after) == (THOUGHT, ANSWER)


def test_saved_says_what_another_server_would_find(make_page: MakePage) -> None:
    model = PacedModel(PARTS)
    page, other = make_page(model), make_page()
    chat_id = page.new_chat()
    message_id = page.reply(chat_id, content="q")["assistant_message"]["id"]
    model.allow(40)
    for name, data in page.follow(message_id):
        if name != "saved":
            continue
        stored = other.message(chat_id, message_id)
        assert len(stored["reasoning_content"]) >= data["num_reasoning_characters"]
        assert len(stored["content"]) >= data["num_content_characters"]
        if data["num_content_characters"]:
            break
    events = page.follow(message_id)
    next(events)
    model.allow()
    last = [data for name, data in events if name == "saved"][-1]
    lengths = (last["num_reasoning_characters"], last["num_content_characters"])
    assert lengths == (len(THOUGHT), len(ANSWER))


def test_another_server_follows_and_stops(make_page: MakePage) -> None:
    model = PacedModel(PARTS)
    page, other = make_page(model), make_page()
    chat_id = page.new_chat()
    message_id = page.reply(chat_id, content="q")["assistant_message"]["id"]
    model.allow(10)
    events = other.follow(message_id)
    for name, data in events:  # the first may have the text already
        assert (name, data["message"]["status"]) == ("snapshot", "generating")
        if data["message"]["reasoning_content"]:
            break
    stopped = other.json("POST", f"/api/messages/{message_id}/stop")["message"]
    assert stopped["status"] == "stopped"
    assert list(events)[-1] == ("done", {"message": stopped})
    wait_until(lambda: model.num_closed == 1, seconds=60)
    ended = page.ended(message_id)
    assert (ended["status"], page.message(chat_id, message_id)) == ("stopped", stopped)
    assert stopped["reasoning_content"] == "".join(CHUNKS[:10]).strip()


def test_a_starting_server_leaves_the_replies_of_a_living_one(make_page: MakePage) -> None:
    model = PacedModel(PARTS)
    page = make_page(model)
    chat_id = page.new_chat()
    message_id = page.reply(chat_id, content="q")["assistant_message"]["id"]
    other = make_page()
    assert other.message(chat_id, message_id)["status"] == "generating"
    model.allow()
    assert page.ended(message_id)["status"] == "done"


def test_a_server_that_ends_saves_what_it_has(make_page: MakePage) -> None:
    model = PacedModel(PARTS)
    page, other = make_page(model), make_page()
    chat_id = page.new_chat()
    message_id = page.reply(chat_id, content="q")["assistant_message"]["id"]
    model.allow(5)
    page.wait_for_text(message_id, "w4")
    page.server.__exit__()
    saved = other.message(chat_id, message_id)
    assert (saved["status"], saved["reasoning_content"]) == ("stopped", "w0 w1 w2 w3 w4")


def new_live() -> LiveReply:
    begun: dict[str, Any] = {"id": "0" * 32, "parent_id": None, "role": "assistant"}
    return LiveReply(Message(**begun, content="", status="generating", created_at=0))


def test_a_slow_listener_gets_more_at_once_and_holds_nothing() -> None:
    async def listen() -> list[Event]:
        live = new_live()
        events = live.events()
        got = [await anext(events)]
        for index in range(1000):
            live.add(Delta(thought=f"{index} "))
        got.append(await anext(events))
        for index in range(1000):
            live.add(Delta(answer=f"{index} "))
        live.add(Delta(finish_reason="stop"))
        live.close(live.end("done"), is_saved=True)
        return got + [event async for event in events]

    events = asyncio.run(listen())
    names = [name for name, _ in events]
    assert names == ["snapshot", "reasoning", "content", "saved", "done"]
    text = "".join(f"{index} " for index in range(1000))
    assert joined(events) == (text, text)
