"""Plain completions, tokens, models, health and metrics on the embedded model."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from r1.text.tokenizer import Tokenizer
from tests.serving.api.conftest import LiveServer


def complete(server: LiveServer, **fields: Any) -> dict[str, Any]:
    body = {"prompt": "17 + 25 =", "max_tokens": 8, "temperature": 0, **fields}
    response = server.post("/v1/completions", body)
    assert response.status_code == 200, response.text
    return response.json()


def test_text_and_ids_are_the_same_prompt(
    tiny_server: LiveServer, tiny_tokenizer: Tokenizer
) -> None:
    ids = tiny_server.post("/v1/tokenize", {"prompt": "17 + 25 ="}).json()
    assert ids["tokens"][0] == tiny_tokenizer.bos_id
    assert (ids["count"], ids["max_model_len"]) == (len(ids["tokens"]), 1024)
    by_text = complete(tiny_server)
    assert complete(tiny_server, prompt=ids["tokens"])["choices"] == by_text["choices"]
    assert by_text["usage"]["prompt_tokens"] == ids["count"]


def test_several_prompts_choices_echo_and_stream(tiny_server: LiveServer) -> None:
    prompts = ["1 + 1 =", "2 + 2 ="]
    whole = complete(tiny_server, prompt=prompts, n=2, echo=True)
    texts = [choice["text"] for choice in whole["choices"]]
    assert [text[:7] for text in texts] == [prompts[0]] * 2 + [prompts[1]] * 2
    with openai.OpenAI(base_url=f"{tiny_server.url}/v1", api_key="any") as client:
        streamed = [""] * 4
        for chunk in client.completions.create(
            model="tiny", prompt=prompts, n=2, echo=True, max_tokens=8, temperature=0, stream=True
        ):
            streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == texts


def test_logprobs_in_the_older_form(tiny_server: LiveServer) -> None:
    choice = complete(tiny_server, logprobs=2, echo=True)["choices"][0]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"].removeprefix("17 + 25 =")
    assert len(logprobs["token_logprobs"]) == 8
    assert logprobs["text_offset"][0] == len("17 + 25 =")


def test_a_form_holds_a_completion_from_its_first_character(tiny_server: LiveServer) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
    form = {
        "type": "json_schema",
        "json_schema": {"schema": schema | {"additionalProperties": False}},
    }
    (choice,) = complete(tiny_server, response_format=form, max_tokens=100)["choices"]
    assert (json.loads(choice["text"]), choice["finish_reason"]) == ({"a": 1}, "stop")


def test_special_tokens_in_a_text_stay_text(
    tiny_server: LiveServer, tiny_tokenizer: Tokenizer
) -> None:
    text = "<｜User｜>hi<think>"
    body = {"prompt": text, "add_special_tokens": False, "return_token_strs": True}
    value = tiny_server.post("/v1/tokenize", body).json()
    assert not set(value["tokens"]) & set(tiny_tokenizer.special_tokens.values())
    assert len(value["token_strs"]) == value["count"]
    back = tiny_server.post("/v1/detokenize", {"tokens": value["tokens"]}).json()
    assert back == {"prompt": text}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": []}),
        ("/v1/completions", {"prompt": [5, 10**9]}),
        ("/v1/completions", {"prompt": [-7326], "echo": True}),
        ("/v1/completions", {"prompt": ["a"] * 65}),
        ("/v1/completions", {"prompt": ["a"] * 60, "n": 16}),
        ("/v1/completions", {"prompt": [[1] * 2000]}),
        ("/v1/detokenize", {"tokens": [10**9]}),
        ("/v1/detokenize", {"tokens": [-1]}),
        ("/v1/tokenize", {}),
        ("/v1/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}),
    ],
)
def test_what_cannot_be_is_refused(tiny_server: LiveServer, path: str, body: Any) -> None:
    response = tiny_server.post(path, body)
    assert response.status_code == 400
    assert "\n" not in response.json()["error"]["message"]


def test_models_and_health(tiny_server: LiveServer) -> None:
    with openai.OpenAI(base_url=f"{tiny_server.url}/v1", api_key="any") as client:
        [card] = client.models.list().data
    assert (card.id, card.owned_by) == ("tiny", "r1")
    with tiny_server.client() as client:
        assert client.get("/health").json() == {"status": "ok"}


def test_metrics_have_vllms_names_and_count(tiny_server: LiveServer) -> None:
    def read() -> dict[str, float]:
        with tiny_server.client() as client:
            text = client.get("/metrics").text
        sums: dict[str, float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] += sample.value * ("le" not in sample.labels)
        return sums

    before = read()
    usage = complete(tiny_server)["usage"]
    after = read()

    def grown(name: str) -> float:
        return after[name] - before[name]

    assert grown("vllm:generation_tokens_total") == usage["completion_tokens"]
    assert grown("vllm:prompt_tokens_total") == usage["prompt_tokens"]
    assert grown("vllm:request_success_total") == 1
    assert grown("vllm:time_to_first_token_seconds_count") == 1
    assert grown("vllm:inter_token_latency_seconds_count") == usage["completion_tokens"] - 1
    assert grown("vllm:request_time_per_output_token_seconds_count") == 1
    assert grown("vllm:e2e_request_latency_seconds_count") == 1
    assert after["vllm:num_requests_running"] == after["vllm:num_requests_waiting"] == 0
    assert after["vllm:kv_cache_usage_perc"] == 0
