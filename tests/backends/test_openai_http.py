from __future__ import annotations

import threading
from typing import Any

import pytest

from r1.backends.openai_http import OpenAIGenerator, sample_seed
from r1.backends.openai_http_client import Server, ServerConfig, ServerError
from r1.records import GenerationRequest, Message, Sample, SamplingParams
from r1.text.reasoning import split_reasoning
from tests.backends.conftest import (
    DONE,
    Handler,
    Script,
    answers,
    delta,
    event,
    fails,
    streams,
    usage,
)


def request(name: str = "q", **settings: Any) -> GenerationRequest:
    messages = (Message("user", "2 + 2?"),)
    return GenerationRequest(**{"id": name, "prompt_ids": (), "messages": messages, **settings})


def generator(script: Script, slept: list[float] | None = None, **settings: Any) -> OpenAIGenerator:
    config = script.config(**settings)
    sleeps = [] if slept is None else slept
    return OpenAIGenerator(config, server=Server(config, sleep=sleeps.append))


def one(script: Script, **settings: Any) -> Sample:
    with generator(script, **settings) as opened:
        return opened.generate([request()])[0][0]


def test_a_reply_with_its_thought_and_usage(script: Script) -> None:
    script.default = answers("It is 4.", reasoning="2 and 2\nis 4")
    sample = one(script)
    assert sample.text == "<think>\n2 and 2\nis 4\n</think>\n\nIt is 4."
    assert (sample.finish_reason, sample.reported_tokens, sample.num_tokens) == ("stop", 7, 7)
    reasoning = split_reasoning(sample.text)
    assert (reasoning.thought, reasoning.answer) == ("2 and 2\nis 4", "It is 4.")


def test_what_is_sent(script: Script) -> None:
    sampling = SamplingParams(temperature=0.6, top_p=0.95, max_tokens=99, stop=("\n\n",))
    with generator(script, extra={"thinking": {"type": "enabled"}}, omit=("top_p",)) as opened:
        opened.generate([request(sampling=sampling, seed=3)])
        opened.generate([request(sampling=SamplingParams(top_k=20, min_p=0.1))])
    path, body, headers = script.requests[0]
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "2 + 2?"}],
        "temperature": 0.6,
        "max_tokens": 99,
        "stop": ["\n\n"],
        "seed": sample_seed(3, "q", 0),
        "thinking": {"type": "enabled"},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert script.requests[1][1]["top_k"] == 20
    assert script.requests[1][1]["min_p"] == 0.1


def test_earlier_thoughts_are_not_sent_again(script: Script) -> None:
    said = (Message("user", "2 + 2?"), Message("assistant", "<think>\nhm\n</think>\n\n5"))
    with generator(script) as opened:
        sample = opened.generate([request(messages=(*said, Message("user", "Sure?")))])[0][0]
    contents = [message["content"] for message in script.requests[0][1]["messages"]]
    assert contents == ["2 + 2?", "5", "Sure?"]
    assert sample.generation_seconds is not None and sample.generation_seconds > 0


def test_every_sample_is_a_request_with_its_own_seed(script: Script) -> None:
    with generator(script, num_concurrent=4) as opened:
        seen: list[tuple[str, int]] = []
        threads = set()

        def on_sample(sample: Sample) -> None:
            seen.append((sample.request_id, sample.sample_index))
            threads.add(threading.current_thread())

        requests = [request("a", num_samples=3, first_sample_index=5), request("b", num_samples=2)]
        result = opened.generate(requests, on_sample)
    assert [[s.sample_index for s in group] for group in result] == [[5, 6, 7], [0, 1]]
    assert sorted(seen) == [("a", 5), ("a", 6), ("a", 7), ("b", 0), ("b", 1)]
    assert threads == {threading.current_thread()}
    wanted = {sample_seed(0, name, index) for name, index in seen}
    assert {body["seed"] for _, body, _ in script.requests} == wanted
    assert len(wanted) == 5
    assert all(0 <= seed < 2**31 for seed in wanted)


def test_the_completions_endpoint_takes_ids_or_text(script: Script) -> None:
    def completes(handler: Handler, body: dict[str, Any]) -> None:
        choice = {"index": 0, "text": "so 4</think>4", "finish_reason": "length"}
        handler.stream([event({"choices": [choice]}), usage(9), DONE])

    script.default = completes
    plain = GenerationRequest(id="q", prompt_ids=(5, 6))
    with generator(script, endpoint="completions") as opened:
        sample = opened.generate([plain])[0][0]
    config = script.config(endpoint="completions")
    with OpenAIGenerator(config, decode=lambda ids: f"text of {list(ids)}") as opened:
        opened.generate([plain])
    assert (sample.text, sample.finish_reason, sample.prompt_ids) == (
        "so 4</think>4",
        "length",
        (5, 6),
    )
    assert [body["prompt"] for _, body, _ in script.requests] == [[5, 6], "text of [5, 6]"]
    assert script.requests[0][0] == "/v1/completions"


def test_a_server_that_does_not_stream(script: Script) -> None:
    def whole(handler: Handler, body: dict[str, Any]) -> None:
        message = {"role": "assistant", "content": "4", "reasoning": "hm"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        content = {"choices": [choice], "usage": {"completion_tokens": 11}}
        # DeepSeek sends empty lines while it waits.
        handler.send(200, b"\n\n" + event(content).removeprefix(b"data: "))

    script.default = whole
    sample = one(script, is_streaming=False)
    assert (sample.text, sample.reported_tokens) == ("<think>\nhm\n</think>\n\n4", 11)
    assert "stream" not in script.requests[0][1]
    # A server that ignores `stream` is understood as well.
    assert one(script).text == sample.text


def test_a_thought_without_an_answer_stays_open(script: Script) -> None:
    script.default = answers("", finish_reason="length", reasoning="still thinking")
    assert not split_reasoning(one(script).text).is_closed


def test_a_template_that_opens_the_thought(script: Script) -> None:
    script.default = answers("thinking on and on", finish_reason="length")
    assert split_reasoning(one(script).text).is_closed
    assert not split_reasoning(one(script, is_think_forced=True).text).is_closed
    script.default = answers("thought</think>4")
    assert split_reasoning(one(script, is_think_forced=True).text).answer == "4"


def test_retry_after_is_honoured_and_back_off_grows(script: Script) -> None:
    script.behaviours = [fails(429, retry_after="7"), fails(500), fails(503), answers("4")]
    slept: list[float] = []
    with generator(script, slept) as opened:
        assert opened.generate([request()])[0][0].text == "4"
        assert opened.failures == []
    assert slept[0] == 7
    assert 1 <= slept[1] <= 2
    assert 2 <= slept[2] <= 4
    bodies = [body for _, body, _ in script.requests]
    assert all(body == bodies[0] for body in bodies)


def hangs_up(handler: Handler, body: dict[str, Any]) -> None:
    handler.connection.close()


BROKEN = {
    "torn in the middle": streams(delta(content="half a rep")),
    "torn within a character": streams(delta(content="€")[:-12]),
    "malformed JSON": streams(b"data: {not json}\n\n"),
    "a list": streams(b"data: [1]\n\n"),
    "content of a wrong type": streams(delta("stop", content=[{"type": "text"}])),
    "interrupted": streams(delta("insufficient_system_resource", content="half"), DONE),
    "an error chunk": streams(event({"error": {"message": "CUDA out of memory", "code": 500}})),
    "a web page": lambda handler, body: handler.send(200, b"<html>busy</html>", "text/html"),
    "connection closed": hangs_up,
    "bad gateway": lambda handler, body: handler.send(502, b"<html>502</html>", "text/html"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_asked_again(script: Script, name: str) -> None:
    script.behaviours = [BROKEN[name]]
    assert one(script).text == "four"
    assert len(script.requests) == 2


def test_a_slow_stream_is_given_up_and_asked_again(script: Script) -> None:
    def slow(handler: Handler, body: dict[str, Any]) -> None:
        handler.stream([delta(content="a"), b": keep-alive\n\n"])

    def stalls(handler: Handler, body: dict[str, Any]) -> None:
        handler.stream([delta(content="a")])
        threading.Event().wait(0.5)

    script.behaviours = [stalls, slow]
    assert one(script, read_timeout_seconds=0.1).text == "four"


def test_a_reply_that_never_ends(script: Script) -> None:
    ticks = iter(range(0, 10_000, 100))
    script.default = streams(*[delta(content="a")] * 9)
    config = script.config(reply_timeout_seconds=250, max_attempts=1)
    server = Server(config, sleep=lambda _: None, clock=lambda: float(next(ticks)))
    with (
        OpenAIGenerator(config, server=server) as opened,
        pytest.raises(ServerError, match="no end after 250 s"),
    ):
        opened.generate([request()])


def test_characters_split_over_chunks_and_odd_line_ends(script: Script) -> None:
    # U+2028 and U+0085 end lines for str.splitlines, and are text within a JSON string.
    text = "三角形 \u2028 \u0085 😀"
    content = delta(content=text) + delta("stop") + DONE
    script.default = streams(*[content[i : i + 1] for i in range(len(content))])
    assert one(script).text == text
    script.default = streams(content.replace(b"\n", b"\r\n"))
    assert one(script).text == text


def test_a_stream_without_done_or_usage(script: Script) -> None:
    script.default = streams(delta(content="4"), delta("eos"))
    sample = one(script)
    assert (sample.text, sample.finish_reason, sample.reported_tokens) == ("4", "stop", None)


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_what_no_request_can_mend_stops_at_once(script: Script, status: int) -> None:
    script.default = fails(status, "it is\nnot allowed")
    with generator(script) as opened, pytest.raises(ServerError) as caught:
        opened.generate([request("a", num_samples=50)])
    assert len(script.requests) == 1
    text = str(caught.value)
    assert text.startswith(f"{script.url}/chat/completions: {status} ")
    assert "it is not allowed" in text
    assert "\n" not in text


def test_spent_credit_is_not_waited_for(script: Script) -> None:
    def no_credit(handler: Handler, body: dict[str, Any]) -> None:
        handler.send(429, b'{"error": {"message": "credit", "code": "insufficient_quota"}}')

    script.default = no_credit
    with pytest.raises(ServerError, match="429"):
        one(script)


def test_the_key_is_sent_and_shown_nowhere(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-secret")
    config = script.config(api_key_variable="TEST_KEY")
    script.default = fails(401, "Incorrect API key provided: sk-secret")
    with OpenAIGenerator(config) as opened, pytest.raises(ServerError) as caught:
        opened.generate([request()])
    assert script.requests[0][2]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in str(caught.value)
    assert "$TEST_KEY" in str(caught.value)
    assert "sk-secret" not in config.model_dump_json()
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ServerError, match=r"\$TEST_KEY holds no key"):
        OpenAIGenerator(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"api_key_variable": "sk-secret"}, "not the key itself"),
        ({"url": "localhost:8000"}, "not a server's address"),
        ({"url": "http://[::1"}, "not a server's address"),
        ({"url": "http://me:secret@host/v1"}, "holds a password"),
        ({"url": "http://localhost:99999/v1"}, "has the port 99999"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerConfig(**{"url": "http://localhost/v1", "model": "m", **settings})


def test_a_url_with_its_path_is_understood() -> None:
    url = "http://localhost/v1/chat/completions"
    assert ServerConfig(url=url, model="m").url == "http://localhost/v1"


def test_a_sample_that_fails_is_missing_and_said(script: Script) -> None:
    too_long = fails(400, "maximum context length is 4096 tokens")
    script.behaviours = [answers("1"), too_long, answers("3"), *[fails(500)] * 2, answers("5")]
    with generator(script, max_attempts=2) as opened:
        result = opened.generate([request("a", num_samples=5)])
        failures = opened.failures
        assert [s.sample_index for s in result[0]] == [0, 2, 4]
        assert [(f.sample_index, f.is_refused) for f in failures] == [(1, True), (3, False)]
        assert "400 Bad Request: maximum context length" in failures[0].reason
        assert "500" in failures[1].reason and "2 attempts" in failures[1].reason
        # The next round adds its own.
        opened.generate([request()])
        assert len(opened.failures) == 2


def test_a_server_is_asked_whether_it_answers_at_all(script: Script) -> None:
    Server(script.config()).check()
    assert script.requests[0][1]["max_tokens"] == 16
    script.default = fails(401, "bad key")
    with pytest.raises(ServerError, match="401 Unauthorized: bad key"):
        Server(script.config()).check()
    script.default = fails(400, "Model Not Exist")
    with pytest.raises(ServerError, match=r"400 Bad Request: Model Not Exist \(model 'm'\)"):
        Server(script.config()).check()
    script.default = fails(503, "loading")
    with pytest.raises(ServerError, match=r"503 .*loading \(3 attempts\)"):
        Server(script.config(), sleep=lambda _: None).check()


def test_an_odd_end_is_a_failure_not_an_answer(script: Script) -> None:
    script.behaviours = [answers("I", finish_reason="content_filter")]
    with generator(script) as opened:
        result = opened.generate([request(num_samples=2)])
        assert [s.sample_index for s in result[0]] == [1]
        assert "content_filter" in opened.failures[0].reason


def test_a_prompt_that_is_too_long_does_not_stop_the_others(script: Script) -> None:
    def refuses_long(handler: Handler, body: dict[str, Any]) -> None:
        is_long = len(body["messages"][0]["content"]) > 100
        (fails(400, "too long") if is_long else answers("4"))(handler, body)

    script.default = refuses_long
    long = request("long", num_samples=30, messages=(Message("user", "x" * 101),))
    with generator(script) as opened:
        result = opened.generate([long, request("short")])
        assert [len(group) for group in result] == [0, 1]
        assert len(opened.failures) == 30
        assert opened.generate([long]) == [[]]


def test_a_server_that_is_gone_stops_the_run(script: Script) -> None:
    script.default = fails(503, "overloaded")
    with (
        generator(script, max_attempts=2) as opened,
        pytest.raises(ServerError, match=r"overloaded.*16 failures in a row"),
    ):
        opened.generate([request(num_samples=1000)])
    assert len(script.requests) <= 2 * 20
    config = ServerConfig(url="http://127.0.0.1:9", model="m", max_attempts=1)
    with OpenAIGenerator(config) as opened, pytest.raises(ServerError, match="ConnectError"):
        opened.generate([request(num_samples=2)])


def test_an_error_in_on_sample_ends_the_run(script: Script) -> None:
    def on_sample(sample: Sample) -> None:
        raise RuntimeError("disk full")

    with generator(script, num_concurrent=2) as opened:
        with pytest.raises(RuntimeError, match="disk full"):
            opened.generate([request(num_samples=200)], on_sample)
        assert len(script.requests) < 100
        assert len(opened.generate([request()])[0]) == 1


def test_what_it_cannot_do(script: Script) -> None:
    with generator(script) as opened:
        with pytest.raises(ValueError, match="weights of a server"):
            opened.load_weights([], 1)
        with pytest.raises(ValueError, match="'q' has no messages"):
            opened.generate([GenerationRequest(id="q", prompt_ids=(1,))])
        assert opened.generate([]) == []


def test_halves_of_a_character_in_two_chunks_are_one(script: Script) -> None:
    pieces = [delta(content=mark) for mark in ("a<1>", "<2>", "<3>")] + [delta("stop")]
    escapes = ((b"<1>", b"\\ud83d"), (b"<2>", b"\\ude00"), (b"<3>", b"\\ud800"))
    for mark, escape in escapes:
        pieces = [piece.replace(mark, escape) for piece in pieces]
    script.default = streams(*pieces)
    with generator(script) as opened:
        assert opened.generate([request()])[0][0].text == "a\U0001f600\ufffd"


def test_usage_that_is_no_number_is_not_known(script: Script) -> None:
    odd = event({"choices": [], "usage": {"prompt_tokens": -3, "completion_tokens": "many"}})
    script.default = streams(delta(content="x"), delta("stop"), odd, DONE)
    assert one(script).reported_tokens is None


def test_json_too_deep_to_read_is_a_broken_reply(script: Script) -> None:
    script.default = lambda handler, body: handler.send(200, b"[" * 100_000)
    with pytest.raises(ServerError, match="not valid JSON"):
        Server(script.config(max_attempts=1)).check()
