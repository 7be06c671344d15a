"""`r1 serve` as a user starts it: every feature by the `openai` client and by curl.

On the embedded model, and on SmolLM2, which is no reasoning model (slow: it is fetched once).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.serving.api.test_chat import QUESTION, SCHEMA, TOOL, joined

KEY = "a-key"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@dataclass(frozen=True)
class Served:
    """A model that answers at an address."""

    name: str
    url: str

    @property
    def is_reasoning(self) -> bool:
        return self.name == "tiny"

    def curl(self, path: str, body: Any = None, *options: str, key: str = KEY) -> str:
        """What curl prints."""
        command = ["curl", "-sS", "--max-time", "300", *options]
        command += ["-H", f"Authorization: Bearer {key}"]
        if body is not None:
            command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        return subprocess.run(
            [*command, self.url + path], capture_output=True, text=True, check=True
        ).stdout

    def ask(self, **fields: Any) -> Any:
        values = {"model": self.name, "messages": QUESTION, "max_tokens": 16, "seed": 3} | fields
        with openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=300
        ) as client:
            reply = client.chat.completions.create(**values)
            return joined(reply) if fields.get("stream") else reply


@pytest.fixture(scope="module", params=["tiny", pytest.param("smollm2", marks=pytest.mark.slow)])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    log = folder / "log"
    command = [sys.executable, "-m", "r1", "serve", request.param, "--port", "0"]
    command += ["--api-key-file", str(folder / "keys")]
    (folder / "keys").write_text(f"{KEY}\n")
    with log.open("w") as output, subprocess.Popen(command, stderr=output) as process:
        try:
            yield Served(request.param, _address(process, log))
        finally:
            process.terminate()
            process.wait(timeout=60)
    assert "Traceback" not in log.read_text()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that the server prints once it answers."""
    while process.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if found and _answers(found[0]):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", headers={"authorization": f"Bearer {KEY}"}).is_success
    except httpx2.ConnectError:
        return False


def test_chat_whole_and_streamed(served: Served) -> None:
    whole = served.ask()
    message = whole.choices[0].message
    thought, answer, chunks = served.ask(stream=True, stream_options={"include_usage": True})
    assert (thought, answer) == (message.reasoning_content or "", message.content or "")
    assert bool(thought) == served.is_reasoning
    # What is cached differs: the second prompt is the first one's.
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    details = whole.usage.completion_tokens_details
    assert bool(details.reasoning_tokens) == served.is_reasoning


def test_choices_logprobs_stop_and_limits(served: Served) -> None:
    reply = served.ask(n=2, logprobs=True, top_logprobs=2, max_completion_tokens=4)
    assert [choice.index for choice in reply.choices] == [0, 1]
    tokens = reply.choices[0].logprobs.content or reply.choices[0].logprobs.reasoning_content
    alternatives = [t["top_logprobs"] if isinstance(t, dict) else t.top_logprobs for t in tokens]
    assert {len(each) for each in alternatives} == {2}
    assert reply.choices[0].finish_reason == "length"
    greedy = served.ask(temperature=0).choices[0].message
    text = greedy.reasoning_content if served.is_reasoning else greedy.content
    cut = served.ask(temperature=0, stop=text[5:8]).choices[0]
    shown = cut.message.reasoning_content if served.is_reasoning else cut.message.content
    assert (shown, cut.finish_reason) == (text[: text.index(text[5:8])].rstrip(), "stop")


def test_thinking_can_be_bounded_or_off(served: Served) -> None:
    off = served.ask(extra_body={"thinking": {"type": "disabled"}}).choices[0].message
    assert off.reasoning_content is None
    budget = {"thinking": {"type": "enabled", "budget_tokens": 2}}
    short = served.ask(max_tokens=60, extra_body=budget).choices[0].message
    if served.is_reasoning:
        assert short.reasoning_content.endswith("I give my answer from what I have.")


def test_answers_in_json_and_by_tools(served: Served) -> None:
    off = {"thinking": {"type": "disabled"}}
    wanted = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA}}
    reply = served.ask(max_tokens=60, response_format=wanted, extra_body=off)
    assert json.loads(reply.choices[0].message.content).keys() == {"sum"}
    fields = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    reply = served.ask(max_tokens=200, extra_body=off, **fields).choices[0]
    assert reply.finish_reason == "tool_calls"
    assert json.loads(reply.message.tool_calls[0].function.arguments).keys() == {"a"}


def test_a_prefix_is_continued(served: Served) -> None:
    prefix = {"role": "assistant", "content": "The answer is", "prefix": True}
    reply = served.ask(messages=[*QUESTION, prefix], temperature=0)
    assert reply.choices[0].message.content


def test_curl_does_it_all(served: Served) -> None:
    body = {"messages": QUESTION, "max_tokens": 8, "seed": 3}
    whole = json.loads(served.curl("/v1/chat/completions", body))
    assert whole["choices"][0]["message"]["role"] == "assistant"
    events = served.curl("/v1/chat/completions", {**body, "stream": True}, "-N").split("\n\n")
    assert events[-2] == "data: [DONE]"
    text = json.loads(served.curl("/v1/completions", {"prompt": "1 + 1 =", "max_tokens": 4}))
    assert text["usage"]["completion_tokens"] == 4
    tokens = json.loads(served.curl("/v1/tokenize", {"prompt": "1 + 1 ="}))["tokens"]
    back = json.loads(served.curl("/v1/detokenize", {"tokens": tokens}))["prompt"]
    assert back.endswith("1 + 1 =")
    assert json.loads(served.curl("/v1/models"))["data"][0]["id"] == served.name
    assert json.loads(served.curl("/health")) == {"status": "ok"}
    assert "vllm:generation_tokens_total" in served.curl("/metrics")


def test_curl_is_told_what_is_wrong(served: Served) -> None:
    status = ("-o", "/dev/null", "-w", "%{http_code}")
    assert served.curl("/v1/models", None, *status, key="another") == "401"
    assert served.curl("/v1/chat/completions", {"messages": []}, *status) == "400"
    assert served.curl("/v1/nothing", None, *status) == "404"
    wrong = json.loads(served.curl("/v1/chat/completions", {"messages": QUESTION, "n": 0}))
    assert "n" in wrong["error"]["message"]
