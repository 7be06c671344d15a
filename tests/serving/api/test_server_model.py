"""The API in front of another server: here, our own API in front of a model that recites."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from r1.backends.openai_http_client import ServerConfig
from r1.serving.api.errors import ApiError
from r1.serving.api.reply_constraint import BUDGET_CLOSING, LOOP_CLOSING
from r1.serving.api.server_model import ServerModel
from tests.serving.api.conftest import LiveServer, MakeServer, RecitingModel, wait_until

QUESTION: Any = [{"role": "user", "content": "17 + 25 ="}]


def in_front_of(make_server: MakeServer, url: str, **settings: Any) -> LiveServer:
    config = ServerConfig(url=f"{url}/v1", model="tiny")
    return make_server({"front": ServerModel(config)}, **settings)


@pytest.mark.parametrize("is_stream", [True, False])
def test_thought_and_answer_come_through(make_server: MakeServer, is_stream: bool) -> None:
    back = RecitingModel(["I a", "dd.</th", "ink>", "\n\n4", "2"])
    front = in_front_of(make_server, make_server(back).url)
    messages = [{"role": "system", "content": "Be brief."}, *QUESTION]
    if is_stream:
        body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        text = front.post("/v1/chat/completions", body).text
        chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        thought = "".join(delta.get("reasoning_content", "") for delta in deltas)
        answer = "".join(delta.get("content", "") for delta in deltas)
        usage = chunks[-1]["usage"]
    else:
        reply = front.post("/v1/chat/completions", {"messages": messages}).json()
        message, usage = reply["choices"][0]["message"], reply["usage"]
        thought, answer = message["reasoning_content"], message["content"]
    assert (thought, answer) == ("I add.", "42")
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (2, 5)
    assert usage["prompt_cache_hit_tokens"] == 1
    assert [m.content for m in back.chats[0].messages] == ["Be brief.\n\n17 + 25 ="]
    sampling = back.asked[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.6, 0.95, 32_768)


def test_tool_calls_come_through(make_server: MakeServer) -> None:
    call = (
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{"a": 1}\n'
        "```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    )
    back = RecitingModel(["hm</think>", call])
    front = in_front_of(make_server, make_server(back).url)
    tools = [{"type": "function", "function": {"name": "add"}}]
    choice = front.chat(tools=tools)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {
        "name": "add",
        "arguments": '{"a": 1}',
    }
    history = [
        *QUESTION,
        {"role": "assistant", "content": "", "tool_calls": choice["message"]["tool_calls"]},
        {"role": "tool", "tool_call_id": "any", "content": "2"},
    ]
    assert front.post("/v1/chat/completions", {"messages": history}).status_code == 200
    assert [m.role for m in back.chats[-1].messages] == ["user", "assistant", "tool"]
    assert back.chats[-1].messages[1].tool_calls[0].name == "add"


@pytest.mark.parametrize(
    ("thought", "fields", "settings", "closing"),
    [
        (["word "] * 50, {"thinking": {"budget_tokens": 5}}, {}, BUDGET_CLOSING),
        (["again "] * 5000, {}, {"loop_tokens": 64}, LOOP_CLOSING),
    ],
)
def test_a_long_thought_is_closed_and_the_answer_asked_for_as_text(
    make_server: MakeServer,
    thought: list[str],
    fields: dict[str, Any],
    settings: dict[str, Any],
    closing: str,
) -> None:
    class Back(RecitingModel):
        def prepare_text(self, prompt: Any) -> Any:
            self.prompt = prompt
            self.chunks = ["So ", "42."]
            return super().prepare_text(prompt)

    back = Back(thought)
    front = in_front_of(make_server, make_server(back).url, **settings)
    message = front.chat("17 <｜User｜>", **fields)["choices"][0]["message"]
    assert message["content"] == "So 42."
    assert message["reasoning_content"].endswith(closing.strip())
    wait_until(lambda: back.num_closed == 2)
    assert back.prompt.startswith("<｜User｜>17 < ｜User｜><｜Assistant｜><think>\n")
    assert back.prompt.endswith(f"{closing}</think>\n\n")


def test_errors_are_told_by_whose_they_are(make_server: MakeServer) -> None:
    back = RecitingModel([])
    front = in_front_of(make_server, make_server(back).url)

    def status(error: ApiError) -> int:
        back.error = error
        return front.post("/v1/chat/completions", {"messages": QUESTION}).status_code

    assert status(ApiError(402, "no balance")) == 402
    assert status(ApiError(429, "busy")) == 429
    assert status(ApiError(401, "wrong key")) == 502
    assert status(ApiError(500, "broken")) == 502
    gone = in_front_of(make_server, "http://127.0.0.1:9")
    assert gone.post("/v1/chat/completions", {"messages": QUESTION}).status_code == 502
    assert front.post("/v1/tokenize", {"prompt": "a"}).status_code == 404


def test_a_client_that_leaves_ends_the_request_behind(make_server: MakeServer) -> None:
    back = RecitingModel(["on and on"])
    back.hold.clear()
    front = in_front_of(make_server, make_server(back).url)
    body = json.dumps({"messages": QUESTION, "stream": True}).encode()
    with front.connect("/v1/chat/completions", body) as connection:
        assert b"200 OK" in connection.recv(4096)
    wait_until(lambda: back.num_closed == 1)
    back.hold.set()


REPLIES: dict[str, tuple[str, int]] = {
    "no end": ('data: {"choices":[{"delta":{"content":"a"}}]}\n\n', 502),
    "no JSON": ("data: {\n\n", 502),
    "another form": ('data: {"choices":[[1]]}\n\n', 502),
    "an error": ('data: {"error":{"message":"boom"}}\n\n', 502),
    "gave up": ('data: {"choices":[{"delta":{},"finish_reason":"error"}]}\n\n', 503),
    "not a stream": ("{}", 502),
}


@pytest.mark.parametrize(("content", "status"), REPLIES.values(), ids=list(REPLIES))
def test_a_broken_server_is_an_error_and_never_an_answer(
    make_server: MakeServer, content: str, status: int
) -> None:
    kind = "application/json" if content == "{}" else "text/event-stream"
    headers = {"content-type": kind}
    transport = httpx2.MockTransport(
        lambda request: httpx2.Response(200, headers=headers, content=content)
    )
    model = ServerModel(
        ServerConfig(url="http://back/v1", model="m"), httpx2.AsyncClient(transport=transport)
    )
    response = make_server(model).post("/v1/chat/completions", {"messages": QUESTION})
    assert (response.status_code, "error" in response.json()) == (status, True)
