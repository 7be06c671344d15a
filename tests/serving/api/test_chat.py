"""`/v1/chat/completions` on the embedded model, asked by the official `openai` client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from r1.records import Message
from r1.text.chat_template import encode_chat
from r1.text.tokenizer import Tokenizer
from tests.serving.api.conftest import LiveServer, MakeServer, RecitingModel

QUESTION: Any = [{"role": "user", "content": "17 + 25 ="}]


@pytest.fixture
def client(tiny_server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{tiny_server.url}/v1", api_key="any", max_retries=0, timeout=30
    ) as client:
        yield client


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    values = {"model": "tiny", "messages": QUESTION, "max_tokens": 24, "seed": 3} | fields
    return client.chat.completions.create(**values)


def joined(stream: Any) -> tuple[str, str, list[Any]]:
    """Thought, answer, and all chunks of a stream."""
    chunks = list(stream)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    return thought, "".join(delta.content or "" for delta in deltas), chunks


def test_a_stream_joined_is_the_whole_reply_of_the_same_seed(client: openai.OpenAI) -> None:
    whole = ask(client)
    message = whole.choices[0].message
    thought, answer, chunks = joined(ask(client, stream=True))
    assert (thought, answer) == (message.reasoning_content or "", message.content)
    assert thought
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    other = ask(client, seed=4).choices[0].message
    assert other.reasoning_content != message.reasoning_content


def test_usage_counts_thought_and_cache(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "How many? " * 10}]
    first = ask(client, messages=messages).usage
    again = ask(client, messages=messages).usage
    assert again.prompt_tokens == first.prompt_tokens > 16
    assert again.total_tokens == again.prompt_tokens + again.completion_tokens
    assert 0 < again.completion_tokens_details.reasoning_tokens <= again.completion_tokens
    # Whole blocks of 16 tokens are found again.
    assert again.prompt_tokens_details.cached_tokens == first.prompt_tokens // 16 * 16
    assert again.prompt_cache_hit_tokens == again.prompt_tokens_details.cached_tokens
    missed = again.prompt_tokens - again.prompt_cache_hit_tokens
    assert again.prompt_cache_miss_tokens == missed


def test_stream_options_put_the_usage_last(client: openai.OpenAI) -> None:
    _, _, chunks = joined(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])
    _, _, chunks = joined(ask(client, stream=True))
    assert all(chunk.choices for chunk in chunks)


def test_continuous_usage_grows_to_that_of_the_end(client: openai.OpenAI) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    _, _, (*chunks, last) = joined(ask(client, stream=True, stream_options=options))
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts == sorted(counts)
    assert (counts[0] > 0, chunks[-1].usage) == (True, last.usage)
    assert {chunk.usage.prompt_tokens for chunk in chunks} == {last.usage.prompt_tokens}


def test_n_gives_that_many_different_choices_streamed_and_whole(client: openai.OpenAI) -> None:
    whole = ask(client, n=3)
    texts = [choice.message.reasoning_content or choice.message.content for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len(set(texts)) > 1
    _, _, chunks = joined(ask(client, n=3, stream=True))
    streamed = ["", "", ""]
    for chunk in chunks:
        delta = chunk.choices[0].delta
        streamed[chunk.choices[0].index] += (
            getattr(delta, "reasoning_content", None) or delta.content or ""
        )
    assert streamed == texts
    single = ask(client, n=1).choices[0].message
    assert (single.reasoning_content or single.content) == texts[0]


def test_logprobs_tell_the_models_own_probabilities(client: openai.OpenAI) -> None:
    reply = ask(client, logprobs=True, top_logprobs=3, temperature=0)
    tokens = reply.choices[0].logprobs.reasoning_content
    assert len(tokens) == reply.usage.completion_tokens_details.reasoning_tokens
    for token in tokens:
        assert len(token["top_logprobs"]) == 3
        # Greedy: the most probable token is the one that came.
        assert token["top_logprobs"][0]["logprob"] == pytest.approx(token["logprob"], abs=1e-6)
        assert token["logprob"] <= 0
        assert bytes(token["bytes"]).decode("utf-8", "replace") == token["token"]
    assert ask(client).choices[0].logprobs is None


def test_a_stop_string_ends_the_reply_and_is_not_in_it(client: openai.OpenAI) -> None:
    full = ask(client, temperature=0, max_tokens=40).choices[0].message.reasoning_content
    stop = full[8:11]
    reply = ask(client, temperature=0, max_tokens=40, stop=[stop, "never this"])
    assert reply.choices[0].message.reasoning_content == full[: full.index(stop)].rstrip()
    assert reply.choices[0].finish_reason == "stop"


def test_max_completion_tokens_is_the_limit(client: openai.OpenAI) -> None:
    reply = ask(client, max_tokens=None, max_completion_tokens=2)
    assert (reply.usage.completion_tokens, reply.choices[0].finish_reason) == (2, "length")


def test_a_thinking_budget_closes_the_thought_and_the_answer_goes_on(
    client: openai.OpenAI,
) -> None:
    budget = {"thinking": {"type": "enabled", "budget_tokens": 2}}
    reply = ask(client, max_tokens=120, extra_body=budget)
    message = reply.choices[0].message
    assert message.reasoning_content.endswith("I give my answer from what I have.")
    assert reply.choices[0].finish_reason == "stop"
    streamed = joined(ask(client, max_tokens=120, extra_body=budget, stream=True))[:2]
    assert streamed == (message.reasoning_content, message.content)


@pytest.mark.parametrize(
    "fields",
    [
        {"extra_body": {"thinking": {"type": "disabled"}}},
        {"reasoning_effort": "none"},
        {"model": "deepseek-chat"},
    ],
)
def test_without_thinking_the_reply_is_an_answer(
    client: openai.OpenAI, fields: dict[str, Any]
) -> None:
    reply = ask(client, **fields)
    assert reply.choices[0].message.reasoning_content is None
    assert reply.usage.completion_tokens_details.reasoning_tokens == 0


SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["sum"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("is_thinking", [True, False])
def test_a_json_schema_holds_the_answer_and_not_the_thought(
    client: openai.OpenAI, is_thinking: bool
) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA}}
    thinking = {"type": "enabled", "budget_tokens": 4} if is_thinking else {"type": "disabled"}
    for seed in range(3):
        reply = ask(
            client,
            max_tokens=200,
            seed=seed,
            response_format=wanted,
            extra_body={"thinking": thinking},
        )
        value = json.loads(reply.choices[0].message.content)
        assert value.keys() == {"sum"}
        assert 0 <= value["sum"] <= 99
        assert bool(reply.choices[0].message.reasoning_content) == is_thinking


def test_json_mode_gives_an_object(client: openai.OpenAI) -> None:
    reply = ask(
        client,
        max_tokens=900,
        temperature=0,
        response_format={"type": "json_object"},
        extra_body={"thinking": {"type": "disabled"}},
    )
    content = reply.choices[0].message.content
    assert content.startswith("{")
    if reply.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(content), dict)


TOOL: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer", "maximum": 99, "minimum": 0}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_required_tool_is_called_with_arguments_of_its_schema(
    client: openai.OpenAI, choice: Any
) -> None:
    fields: dict[str, Any] = {
        "max_tokens": 400,
        "tools": [TOOL],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "extra_body": {"thinking": {"type": "disabled"}},
    }
    reply = ask(client, **fields).choices[0]
    assert reply.finish_reason == "tool_calls"
    assert reply.message.content is None
    [call] = reply.message.tool_calls
    assert (call.type, call.function.name) == ("function", "add")
    assert json.loads(call.function.arguments).keys() == {"a"}
    chunks = list(ask(client, stream=True, **fields))
    calls = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or ()]
    assert [c.function.arguments for c in calls] == [call.function.arguments]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_tool_conversation_goes_on(client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
    ]
    assert ask(client, messages=messages, tools=[TOOL]).usage.prompt_tokens > 50


def test_a_prefix_is_continued(client: openai.OpenAI, tiny_server: LiveServer) -> None:
    prefix = {"role": "assistant", "content": "The answer is", "prefix": True}
    reply = ask(client, messages=[*QUESTION, prefix], temperature=0)
    assert reply.choices[0].message.reasoning_content is None
    thought = {**prefix, "content": "", "reasoning_content": "17 + 25"}
    reply = ask(client, messages=[*QUESTION, thought], temperature=0)
    assert reply.choices[0].message.reasoning_content
    # The same ids by hand, through the plain endpoint.
    ids = tiny_server.post("/v1/tokenize", {"messages": QUESTION}).json()["tokens"]
    more = tiny_server.post(
        "/v1/tokenize", {"prompt": "17 + 25", "add_special_tokens": False}
    ).json()["tokens"]
    plain = client.completions.create(
        model="tiny", prompt=[*ids, *more], max_tokens=24, temperature=0
    )
    raw = plain.choices[0].text
    assert raw.split("</think>")[0].strip() == reply.choices[0].message.reasoning_content.strip()


def test_old_thoughts_are_dropped_and_a_system_message_is_folded(
    tiny_server: LiveServer, tiny_tokenizer: Tokenizer
) -> None:
    body = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "17 + 25 ="}]},
            {"role": "assistant", "content": "<think>old</think>42", "reasoning_content": "older"},
            {"role": "user", "content": "<｜User｜>?"},
        ]
    }
    expected = encode_chat(
        tiny_tokenizer,
        [
            Message("user", "Be brief.\n\n17 + 25 ="),
            Message("assistant", "42"),
            Message("user", "<｜User｜>?"),
        ],
    )
    ids = tiny_server.post("/v1/tokenize", body).json()["tokens"]
    assert tuple(ids) == expected.ids
    assert ids.count(tiny_tokenizer.token_id("<｜User｜>")) == 2
    assert ids.count(tiny_tokenizer.bos_id) == 1
    response = tiny_server.post("/v1/chat/completions", {**body, "max_tokens": 1})
    assert response.headers["x-r1-system-message"] == "folded into the first user turn"


def test_penalties_are_ignored_and_named(tiny_server: LiveServer) -> None:
    body = {"messages": QUESTION, "max_tokens": 1, "presence_penalty": 1, "logit_bias": {"5": 1}}
    response = tiny_server.post("/v1/chat/completions", body)
    assert response.headers["x-r1-ignored"] == "presence_penalty, logit_bias"


def test_the_defaults_are_the_rules_of_use(make_server: MakeServer) -> None:
    model = RecitingModel()
    server = make_server(model)
    server.chat()
    sampling = model.asked[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.6, 0.95, 32_768)
    assert model.chats[0].is_thinking
    server.chat(temperature=0, top_p=0.5, top_k=-1, reasoning_effort="low")
    assert (model.asked[1].sampling.temperature, model.asked[1].sampling.top_p) == (0.0, 0.5)
    assert model.asked[1].thinking_budget == 2048


BAD_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({"messages": []}, "messages"),
    "another role": ({"messages": [{"role": "robot", "content": "x"}]}, "role"),
    "n of 0": ({"n": 0}, "n:"),
    "n of 1,000": ({"n": 1000}, "n:"),
    "n as text": ({"n": "many"}, "n:"),
    "temperature": ({"temperature": 2.5}, "temperature"),
    "top_p of 0": ({"top_p": 0}, "top_p"),
    "max_tokens of 0": ({"max_tokens": 0}, "max_tokens"),
    "max_tokens beyond measure": ({"max_tokens": 10**12}, "max_tokens"),
    "17 stop strings": ({"stop": ["a"] * 17}, "stop"),
    "empty stop string": ({"stop": ""}, "stop"),
    "21 alternatives": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    "alternatives without logprobs": ({"top_logprobs": 1}, "needs logprobs"),
    "seed beyond 64 bits": ({"seed": 2**63}, "seed"),
    "tool choice without tools": ({"tool_choice": "required"}, "needs tools"),
    "a schema that is none": (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}},
        "schema cannot be used",
    ),
    "no schema": ({"response_format": {"type": "json_schema"}}, "json_schema is required"),
    "too long": ({"messages": [{"role": "user", "content": "x " * 2000}]}, "1024"),
    "half a character": ({"messages": [{"role": "user", "content": "\ud83d"}]}, ""),
}


@pytest.mark.parametrize(("fields", "message"), BAD_REQUESTS.values(), ids=list(BAD_REQUESTS))
def test_what_cannot_be_is_refused_in_one_line(
    tiny_server: LiveServer, fields: dict[str, Any], message: str
) -> None:
    content = json.dumps({"messages": QUESTION, **fields}).encode()
    headers = {"content-type": "application/json"}
    with tiny_server.client() as client:
        response = client.post("/v1/chat/completions", content=content, headers=headers)
    error = response.json()["error"]
    assert response.status_code == 400
    assert error.keys() == {"message", "type", "param", "code"}
    assert message in error["message"]
    assert "\n" not in error["message"]


def test_other_paths_models_and_bodies(tiny_server: LiveServer) -> None:
    body = {"messages": QUESTION}
    response = tiny_server.post("/v1/chat/completions", {**body, "model": "gpt-4"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert "this server has tiny" in response.json()["error"]["message"]
    assert tiny_server.post("/v1/nothing", body).status_code == 404
    with tiny_server.client() as client:
        assert client.get("/v1/chat/completions").status_code == 405
        headers = {"content-type": "application/json"}
        for content in (b"{", b"", b"[1]", b"[" * 100_000, b"\xff\xfe"):
            response = client.post("/v1/chat/completions", content=content, headers=headers)
            assert response.status_code == 400, content[:5]
            assert "error" in response.json()


def test_deepseeks_own_mode(make_server: MakeServer) -> None:
    model = RecitingModel()
    server = make_server(model, is_strict_deepseek=True)

    def status(**fields: Any) -> int:
        body = {"messages": QUESTION, **fields}
        return server.post("/chat/completions", body).status_code

    assert status(logprobs=True) == 400
    assert status(n=0) == 422
    old = {"role": "assistant", "content": "42", "reasoning_content": "hm"}
    assert status(messages=[*QUESTION, old, *QUESTION]) == 400
    with server.client() as client:
        headers = {"content-type": "application/json"}
        assert client.post("/chat/completions", content=b"{", headers=headers).status_code == 400
        body = {"messages": QUESTION, "temperature": 1.5, "stream": True}
        response = client.post("/beta/chat/completions", json=body)
    assert model.asked[-1].sampling.temperature == 0.6
    assert response.headers["x-r1-ignored"] == "temperature"
    last = json.loads(response.text.split("data: ")[-2])
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"]["completion_tokens"] == 3
