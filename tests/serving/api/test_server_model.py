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


def values_of(stream: str) -> list[Any]:
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize("is_stream", [True, False])
def test_thought_and_answer_come_through(make_server: MakeServer, is_stream: bool) -> None:
    back = RecitingModel(["I a", "dd.</th", "ink>", "\n\n4", "2"])
    front = in_front_of(make_server, make_server(back).url)
    messages = [{"role": "system", "content": "Be brief."}, *QUESTION]
    if is_stream:
        body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        text = front.post("/v1/chat/completions", body).text
        chunks = values_of(text)
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
    "a reason that is none": ('data: {"choices":[{"delta":{},"finish_reason":["stop"]}]}\n\n', 502),
    "a log-prob that is none": (
        'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop",'
        '"logprobs":{"content":[{"token":"a","logprob":NaN}]}}]}\n\n',
        502,
    ),
    "nested without end": (f"data: {'[' * 100_000}\n\n", 502),
    "not a stream": ("{}", 502),
}


class ScriptedServer:
    """Answers requests with these streams in turn, and keeps what was asked."""

    def __init__(self, *streams: str, kind: str = "text/event-stream") -> None:
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self._streams = list(streams)
        self._kind = kind

    def model(self) -> ServerModel:
        client = httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))
        return ServerModel(ServerConfig(url="http://back/v1", model="m"), client)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.paths.append(request.url.path)
        self.bodies.append(json.loads(request.content))
        headers = {"content-type": self._kind}
        return httpx2.Response(200, headers=headers, content=self._streams.pop(0))


def events(*chunks: dict[str, Any]) -> str:
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def piece(reason: str | None = None, usage: Any = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"delta": delta, "finish_reason": reason}], "usage": usage}


def text(content: str, reason: str | None = None, usage: Any = None) -> dict[str, Any]:
    return {"choices": [{"text": content, "finish_reason": reason}], "usage": usage}


@pytest.mark.parametrize(("content", "status"), REPLIES.values(), ids=list(REPLIES))
def test_a_broken_server_is_an_error_and_never_an_answer(
    make_server: MakeServer, content: str, status: int
) -> None:
    kind = "application/json" if content == "{}" else "text/event-stream"
    front = make_server(ScriptedServer(content, kind=kind).model())
    response = front.post("/v1/chat/completions", {"messages": QUESTION, "logprobs": True})
    assert (response.status_code, "error" in response.json()) == (status, True)


def test_a_usage_that_is_none_is_no_usage(make_server: MakeServer) -> None:
    usage = {"prompt_tokens": "5", "completion_tokens": 2.5, "prompt_tokens_details": {}}
    stream = events(piece(reasoning_content="hm"), piece("stop", usage, content="42"))
    reply = make_server(ScriptedServer(stream).model()).chat()
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (0, 2)


@pytest.mark.parametrize(
    ("usages", "num_tokens"),
    # 400 characters a piece: about 100 tokens where the server does not say how many.
    [((None, None, None), 100), ((7, 60, 90), 60)],
    ids=["counted by us", "told"],
)
def test_a_budget_counts_tokens_and_not_pieces(
    make_server: MakeServer, usages: tuple[int | None, ...], num_tokens: int
) -> None:
    told = [u and {"prompt_tokens": 9, "completion_tokens": u} for u in usages]
    thought = [piece(usage=usage, reasoning_content="x" * 400) for usage in told]
    usage = {"prompt_tokens": 9 + num_tokens, "completion_tokens": 3}
    back = ScriptedServer(events(*thought, piece("stop")), events(text("42", "stop", usage)))
    front = make_server(back.model())
    form = {"type": "json_object"}
    reply = front.chat(max_tokens=400, thinking={"budget_tokens": 50}, response_format=form)
    assert back.paths == ["/v1/chat/completions", "/v1/completions"]
    assert back.bodies[0]["stream_options"]["continuous_usage_stats"] is True
    # The form is the answer's, wherever it is written.
    assert [body["response_format"] for body in back.bodies] == [form, form]
    assert back.bodies[1]["max_tokens"] == 400 - num_tokens
    assert reply["choices"][0]["message"]["content"] == "42"
    usage = reply["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (9, num_tokens + 3)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == num_tokens


def test_what_a_text_has_no_form_for_is_refused_or_ends_the_reply(make_server: MakeServer) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    back = ScriptedServer(events(piece(reasoning_content="x" * 400)))
    front = make_server(back.model())
    choice = front.chat(tools=tools, tool_choice="required", thinking={"budget_tokens": 9})
    assert choice["choices"][0]["finish_reason"] == "length"
    begun = [*QUESTION, {"role": "assistant", "content": "It is", "prefix": True}]
    response = front.post("/v1/chat/completions", {"messages": begun, "tools": tools})
    assert (response.status_code, len(back.paths)) == (400, 1)
    ids = front.post("/v1/completions", {"prompt": [1, 2], "echo": True})
    assert (ids.status_code, ids.json()["error"]["param"]) == (400, "echo")


def test_plain_completions_pass_on_all_they_are_asked(make_server: MakeServer) -> None:
    logprobs = {
        "tokens": ["4", "2"],
        "token_logprobs": [-0.5, float("-inf")],
        "top_logprobs": [{"4": -0.5, "5": -1.0}, None],
    }
    choice = {"text": "42", "finish_reason": "length", "logprobs": logprobs}
    back = ScriptedServer(events({"choices": [choice]}))
    body = {"prompt": "17 + 25 =", "ignore_eos": True, "logprobs": 2, "max_tokens": 2}
    reply = make_server(back.model()).post("/v1/completions", body).json()
    sent = back.bodies[0]
    assert (sent["ignore_eos"], sent["logprobs"], sent["max_tokens"]) == (True, 2, 2)
    found = reply["choices"][0]["logprobs"]
    assert (found["tokens"], found["token_logprobs"]) == (["4", "2"], [-0.5, -9999.0])
    assert found["top_logprobs"] == [{"4": -0.5, "5": -1.0}, {}]


def test_calls_and_reasons_come_through_as_they_are(make_server: MakeServer) -> None:
    call = {"index": 0, "function": {"name": "add", "arguments": "{not JSON"}}
    back = ScriptedServer(
        events(piece(reasoning_content="hm"), piece("tool_calls", tool_calls=[call])),
        events(piece(reasoning_content="hm"), piece("content_filter", content="I")),
    )
    front = make_server(back.model())
    tools = [{"type": "function", "function": {"name": "add"}}]
    choice = front.chat(tools=tools)["choices"][0]
    (found,) = choice["message"]["tool_calls"]
    assert found["function"] == {"name": "add", "arguments": "{not JSON"}
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert front.chat()["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize("is_stream", [True, False])
def test_log_probs_and_counts_are_those_of_the_server(
    make_server: MakeServer, tiny_server: LiveServer, is_stream: bool
) -> None:
    front = in_front_of(make_server, tiny_server.url)
    body = {"messages": QUESTION, "seed": 14, "logprobs": True}
    if is_stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}

    def found(server: LiveServer) -> Any:
        """The tokens of the thought and of the answer that have log-probs, and the usage."""
        response = server.post("/v1/chat/completions", body)
        values = [response.json()] if not is_stream else values_of(response.text)
        logprobs = [choice["logprobs"] for value in values for choice in value["choices"]]
        parts = [
            [item["token"] for part in logprobs for item in part[name]]
            for name in ("reasoning_content", "content")
        ]
        return parts, values[-1]["usage"]

    (direct, usage), (through, counted) = found(tiny_server), found(front)
    assert through == direct
    assert all(direct)
    names = "completion_tokens", "prompt_tokens", "completion_tokens_details"
    assert [counted[name] for name in names] == [usage[name] for name in names]
