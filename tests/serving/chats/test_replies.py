"""Replies: new turns, branches, more of a reply, stopping, and what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from r1.serving.api.errors import ApiError
from r1.serving.api.model_side import ModelChunk
from tests.serving.api.conftest import RecitingModel, wait_until
from tests.serving.chats.conftest import MakePage, PacedModel, Page


def prompt_of(model: Any, index: int = -1) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in model.chats[index].messages]


def test_a_turn_is_stored_and_answered(page: Page) -> None:
    chat_id = page.new_chat()
    begun = page.reply(chat_id, content="What is 2 + 2? Think well.", model="tiny")
    user, reply = begun["user_message"], begun["assistant_message"]
    assert (user["role"], user["parent_id"], user["status"]) == ("user", None, "done")
    assert (reply["parent_id"], reply["status"]) == (user["id"], "generating")
    named = (begun["chat"]["title"], begun["chat"]["leaf_id"])
    assert named == ("What is 2 + 2? Think well.", reply["id"])
    done = page.ended(reply["id"])
    assert (done["reasoning_content"], done["content"]) == ("a thought", "an answer")
    assert (done["status"], done["finish_reason"], done["error"]) == ("done", "stop", None)
    assert done["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "reasoning_tokens": 2}
    chat = page.json("GET", f"/api/chats/{chat_id}")
    assert chat["chat"]["title"] == "What is 2 + 2? Think well."
    assert chat["chat"]["leaf_id"] == reply["id"]
    assert chat["messages"] == [user, done]


def test_a_reply_is_written_though_nobody_listens(page: Page) -> None:
    chat_id = page.new_chat()
    begun = page.reply(chat_id, content="hello")
    message_id = begun["assistant_message"]["id"]
    wait_until(lambda: page.message(chat_id, message_id)["status"] == "done", seconds=60)
    assert page.message(chat_id, message_id)["content"] == "an answer"


def test_history_is_the_branch_without_thoughts(page: Page) -> None:
    chat_id = page.new_chat()
    first = page.say(chat_id, "one")
    page.say(chat_id, "two", parent_id=first["id"])
    expected = [("user", "one"), ("assistant", "an answer"), ("user", "two")]
    assert prompt_of(page.model) == expected
    # An edit of the first turn: a second root, and nothing of the first branch.
    edited = page.say(chat_id, "uno", parent_id=None)
    assert prompt_of(page.model) == [("user", "uno")]
    # Another reply to the first question.
    again = page.reply(chat_id, parent_id=first["parent_id"], content=None)
    assert again["user_message"] is None
    page.ended(again["assistant_message"]["id"])
    assert prompt_of(page.model) == [("user", "one")]
    parents = [m["parent_id"] for m in page.messages(chat_id)]
    assert parents.count(None) == 2
    assert parents.count(first["parent_id"]) == 2
    assert edited["parent_id"] != first["parent_id"]


def test_settings_reach_the_model(page: Page) -> None:
    chat_id = page.new_chat()
    settings = {"temperature": 0.1, "top_p": 0.5, "max_tokens": 77, "thinking_budget": 5}
    page.say(chat_id, "x", settings=settings, thinking=False)
    asked = page.model.asked[-1]
    assert (asked.sampling.temperature, asked.sampling.top_p) == (0.1, 0.5)
    assert (asked.sampling.max_tokens, asked.thinking_budget) == (77, 5)
    assert page.model.chats[-1].is_thinking is False
    page.say(chat_id, "y")
    assert (page.model.asked[-1].sampling.temperature, page.model.asked[-1].loop_tokens) == (
        0.6,
        1024,
    )


@pytest.mark.parametrize(
    ("chunks", "num_allowed", "thought", "answer"),
    [
        (("I think", " hard", "</think>", "yes"), 1, "I think", ""),
        (("I think", "</think>", "so", " it is"), 3, "I think", "so"),
    ],
)
def test_stop_and_continue(
    make_page: MakePage, chunks: tuple[str, ...], num_allowed: int, thought: str, answer: str
) -> None:
    model = PacedModel(chunks)
    page = make_page(model)
    chat_id = page.new_chat()
    message_id = page.reply(chat_id, content="q")["assistant_message"]["id"]
    model.allow(num_allowed)
    page.wait_for_text(message_id, answer or thought)
    stopped = page.json("POST", f"/api/messages/{message_id}/stop")["message"]
    assert (stopped["status"], stopped["finish_reason"]) == ("stopped", None)
    assert (stopped["reasoning_content"], stopped["content"]) == (thought, answer)
    assert model.num_closed == 1
    assert page.message(chat_id, message_id) == stopped
    # Stopping it again changes nothing.
    assert page.json("POST", f"/api/messages/{message_id}/stop")["message"] == stopped

    model.chunks, model.starts_in_thought = [" and more"], not answer
    model.allow()
    begun = page.reply(chat_id, continue_id=message_id)
    assert begun["user_message"] is None
    assert (begun["chat"]["id"], begun["chat"]["leaf_id"]) == (chat_id, message_id)
    assert begun["assistant_message"]["id"] == message_id
    done = page.ended(message_id)
    prefix = model.chats[-1].prefix
    assert prefix is not None
    assert (prefix.thought, prefix.answer) == (thought, answer)
    grown = (done["reasoning_content"], done["content"])
    assert grown == ((thought, answer + " and more") if answer else (thought + " and more", ""))
    assert done["status"] == "done"
    assert done["usage"]["completion_tokens"] == 1 + stopped["usage"]["completion_tokens"]


def test_only_a_cut_reply_is_continued_and_only_once(make_page: MakePage) -> None:
    model = PacedModel(["a"], starts_in_thought=False)
    page = make_page(model)
    chat_id = page.new_chat()
    begun = page.reply(chat_id, content="q")
    message_id = begun["assistant_message"]["id"]
    page.reply(chat_id, 409, continue_id=message_id)
    page.reply(chat_id, 409, content="next", parent_id=message_id)
    page.reply(chat_id, 409, continue_id=begun["user_message"]["id"])
    model.allow()
    page.ended(message_id)
    page.reply(chat_id, 409, continue_id=message_id)

    model.num_allowed = 1
    message_id = page.reply(chat_id, content="q")["assistant_message"]["id"]
    page.json("POST", f"/api/messages/{message_id}/stop")
    statuses: list[int] = []

    def continue_it() -> None:
        path = f"/api/chats/{chat_id}/replies"
        statuses.append(page.ask("POST", path, json={"continue_id": message_id}).status_code)

    threads = [threading.Thread(target=continue_it) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 409, 409, 409, 409]


NO_TURNS: list[tuple[dict[str, Any], int]] = [
    ({}, 400),
    ({"content": "  "}, 400),
    ({"content": "x", "model": "other"}, 404),
    ({"content": "x", "continue_id": "0" * 32}, 400),
    ({"content": "x", "parent_id": "0" * 32}, 404),
    ({"content": "x", "parent_id": "../../etc"}, 400),
    ({"content": "x", "file_ids": ["0" * 32]}, 404),
    ({"content": None, "parent_id": "0" * 32}, 404),
    ({"content": "x", "settings": {"temperature": 3}}, 400),
    ({"content": "x", "settings": {"max_tokens": 10**12}}, 400),
    ({"content": {"a": 1}}, 400),
]


def test_what_is_no_turn_is_refused_and_stores_nothing(page: Page) -> None:
    chat_id = page.new_chat()
    for fields, status in NO_TURNS:
        error = page.reply(chat_id, status, **fields)["error"]
        assert error["message"] and "\n" not in error["message"]
    assert page.messages(chat_id) == []


def test_a_question_follows_a_reply(page: Page) -> None:
    chat_id = page.new_chat()
    begun = page.reply(chat_id, content="q")
    user_id = begun["user_message"]["id"]
    page.ended(begun["assistant_message"]["id"])
    page.reply(chat_id, 400, content="x", parent_id=user_id)
    page.reply(chat_id, 400, parent_id=begun["assistant_message"]["id"])
    assert len(page.messages(chat_id)) == 2


def test_a_full_queue_refuses_before_anything_is_stored(make_page: MakePage) -> None:
    model = PacedModel(["a"])
    page = make_page(model, max_running=1, max_waiting=1)
    chat_id = page.new_chat()
    ids = [page.reply(chat_id, content=text)["assistant_message"]["id"] for text in "ab"]
    error = page.reply(chat_id, 429, content="c")["error"]
    assert error["code"] == "queue_full"
    assert len(page.messages(chat_id)) == 4
    model.allow()
    assert [page.ended(message_id)["status"] for message_id in ids] == ["done", "done"]
    assert page.say(chat_id, "c")["status"] == "done"


def test_a_model_that_fails_leaves_one_line_and_its_text(make_page: MakePage) -> None:
    error = ApiError(502, "the model's server: gone")
    page = make_page(RecitingModel(["thought", "</think>", "half an"], error=error))
    chat_id = page.new_chat()
    failed = page.say(chat_id, "q")
    assert (failed["status"], failed["error"]) == ("failed", "the model's server: gone")
    assert failed["content"] == "half an"
    page.model.error = None
    page.model.chunks, page.model.starts_in_thought = [" answer"], False
    page.reply(chat_id, continue_id=failed["id"])
    done = page.ended(failed["id"])
    assert (done["status"], done["error"], done["content"]) == ("done", None, "half an answer")


def test_a_failure_inside_tells_nothing_of_the_inside(make_page: MakePage) -> None:
    class Broken(RecitingModel):
        def prepare_chat(self, chat: Any) -> Any:
            raise RuntimeError("secret /path")

    page = make_page(Broken())
    failed = page.say(page.new_chat(), "q")
    assert (failed["status"], failed["error"]) == ("failed", "internal error")


def test_a_chat_deleted_in_mid_reply_ends_it(make_page: MakePage) -> None:
    model = PacedModel(["a", "b"])
    page = make_page(model)
    chat_id = page.new_chat()
    message_id = page.reply(chat_id, content="q")["assistant_message"]["id"]
    events = page.follow(message_id)
    assert next(events)[0] == "snapshot"
    page.json("DELETE", f"/api/chats/{chat_id}", status=204)
    assert list(events)[-1][0] == "done"
    wait_until(lambda: model.num_closed == 1, seconds=60)
    assert page.ask("GET", f"/api/messages/{message_id}/stream").status_code == 404


def test_two_tabs_send_at_once(page: Page) -> None:
    chat_id = page.new_chat()
    first = page.say(chat_id, "one")
    ended: list[str] = []

    def send(text: str) -> None:
        ended.append(page.say(chat_id, text, parent_id=first["id"])["status"])

    threads = [threading.Thread(target=send, args=(f"tab {index}",)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == ["done"] * 6
    siblings = [m for m in page.messages(chat_id) if m["parent_id"] == first["id"]]
    assert sorted(m["content"] for m in siblings) == [f"tab {index}" for index in range(6)]


def test_text_that_no_database_holds(page: Page) -> None:
    chat_id = page.new_chat()
    path = f"/api/chats/{chat_id}/replies"
    headers = {"content-type": "application/json"}
    response = page.ask("POST", path, content=b'{"content": "a\\u0000b c"}', headers=headers)
    assert response.status_code == 200
    assert response.json()["user_message"]["content"] == "ab c"
    response = page.ask("POST", path, content=b'{"content": "\\ud800"}', headers=headers)
    assert response.status_code == 400
    assert "unicode" in response.json()["error"]["message"]


def test_an_endless_reply_says_why_it_was_cut(make_page: MakePage) -> None:

    class Looping(RecitingModel):
        async def stream(
            self, prompt: Any, settings: Any
        ) -> AsyncGenerator[list[ModelChunk], None]:
            yield [ModelChunk("x")]
            yield [ModelChunk("", finish_reason="stop", stop_reason="loop")]

    done = (page := make_page(Looping())).say(page.new_chat(), "q")
    assert (done["status"], done["finish_reason"]) == ("done", "length")
    assert "circle" in done["error"]


def test_a_reply_is_the_asked_models(make_page: MakePage) -> None:
    models = {"one": PacedModel(["</think>", "1"]), "two": RecitingModel(["</think>", "2"])}
    models["two"].is_reasoning, models["two"].max_model_len = False, 200
    page = make_page(models, max_running=1, max_waiting=0)
    assert page.json("GET", "/api/page")["models"] == [
        {"id": "one", "is_reasoning": True, "max_model_len": None},
        {"id": "two", "is_reasoning": False, "max_model_len": 200},
    ]
    chat_id = page.new_chat()
    first = page.reply(chat_id, content="hello")["assistant_message"]
    assert first["model"] == "one"
    # The first has no room for another; the second is asked all the same.
    page.reply(chat_id, 429, content="more")
    second = page.say(chat_id, "more", model="two")
    assert (second["model"], second["content"]) == ("two", "2")
    models["one"].allow()
    assert page.ended(first["id"])["content"] == "1"
    error = page.reply(chat_id, 404, content="more", model="three")["error"]
    known = "one, two, deepseek-reasoner, deepseek-chat"
    assert error["message"] == f"no model 'three' here: this server has {known}"
    assert error["code"] == "model_not_found"
