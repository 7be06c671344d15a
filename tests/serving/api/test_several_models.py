"""One server with several models: each request finds its own, and the status speaks of all."""

from __future__ import annotations

from collections import Counter
from typing import Any

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from r1.backends.openai_http_client import ServerConfig
from r1.serving.api.model_side import ModelLoad
from r1.serving.api.server_model import ServerModel
from r1.serving.api.settings import ServerSettings
from r1.text.tokenizer import Tokenizer
from tests.serving.api.conftest import LiveServer, MakeServer, RecitingModel, wait_until

QUESTION: Any = [{"role": "user", "content": "17 + 25 ="}]


def two_models() -> dict[str, RecitingModel]:
    return {
        "one": RecitingModel(["one thinks", "</think>", "1"]),
        "two": RecitingModel(["two thinks for long", "</think>", "2", "2"]),
    }


@pytest.fixture
def server(make_server: MakeServer) -> LiveServer:
    return make_server(two_models())


@pytest.mark.parametrize(
    ("asked", "answer"),
    [(None, "1"), ("one", "1"), ("two", "22"), ("deepseek-reasoner", "1"), ("deepseek-chat", "1")],
)
def test_a_request_chooses_its_model(server: LiveServer, asked: str | None, answer: str) -> None:
    reply = server.chat(model=asked)
    assert reply["choices"][0]["message"]["content"] == answer
    assert reply["model"] == (asked or "one")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any") as client:
        chunks = client.chat.completions.create(
            model=asked or "one", messages=QUESTION, stream=True
        )
        deltas = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(deltas) == answer
    text = server.post("/v1/completions", {"prompt": "a", "model": asked}).json()
    assert text["choices"][0]["text"].endswith(f"</think>{answer}")
    other = server.model["one" if answer == "22" else "two"]
    assert (other.chats, other.asked) == ([], [])


def test_a_model_keeps_the_name_that_is_deepseeks(make_server: MakeServer) -> None:
    one, two = two_models().values()
    server = make_server({"deepseek-reasoner": one, "deepseek-chat": two})
    assert server.chat(model="deepseek-chat")["choices"][0]["message"]["content"] == "22"
    assert server.chat(model="deepseek-reasoner")["choices"][0]["message"]["content"] == "1"
    assert [chat.is_thinking for chat in (one.chats[0], two.chats[0])] == [True, False]


@pytest.mark.parametrize("path", ["chat/completions", "completions", "tokenize", "detokenize"])
def test_an_unknown_model_is_told_with_those_that_are_here(server: LiveServer, path: str) -> None:
    body = {"messages": QUESTION} if path.startswith("chat") else {"prompt": "a"}
    body = {"tokens": [1]} if path == "detokenize" else body
    response = server.post(f"/v1/{path}", {**body, "model": "three"})
    error = response.json()["error"]
    known = "one, two, deepseek-reasoner, deepseek-chat"
    assert error["message"] == f"no model 'three' here: this server has {known}"
    assert (response.status_code, error["code"]) == (404, "model_not_found")


def test_models_and_tokens_of_each(
    make_server: MakeServer, tokenizer: Tokenizer, tiny_tokenizer: Tokenizer
) -> None:
    models = two_models()
    models["one"].tokenizer, models["one"].max_model_len = tokenizer, 100
    models["two"].tokenizer, models["two"].max_model_len = tiny_tokenizer, 200
    server = make_server(models)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any") as client:
        cards = client.models.list().data
    assert [card.id for card in cards] == ["one", "two"]
    for name, encoder, longest in (("one", tokenizer, 100), ("two", tiny_tokenizer, 200)):
        body = {"prompt": "12 + 5", "add_special_tokens": False, "model": name}
        value = server.post("/v1/tokenize", body).json()
        assert value["tokens"] == list(encoder.encode("12 + 5", allow_special=False))
        assert value["max_model_len"] == longest
        back = server.post("/v1/detokenize", {"tokens": value["tokens"], "model": name})
        assert back.json() == {"prompt": "12 + 5"}


def test_metrics_are_one_exposition(server: LiveServer) -> None:
    for model in ("one", "two", "two"):
        server.chat(model=model)
    with server.client() as client:
        text = client.get("/metrics").text
    heads = Counter(line.rsplit(" ", 1)[0] for line in text.splitlines() if line[:6] == "# TYPE")
    assert heads
    assert set(heads.values()) == {1}
    families = list(text_string_to_metric_families(text))
    assert max(Counter(family.name for family in families).values()) == 1
    samples = [sample for family in families for sample in family.samples]
    keys = Counter((sample.name, tuple(sorted(sample.labels.items()))) for sample in samples)
    assert max(keys.values()) == 1
    for sample in samples:
        assert sample.labels["model_name"] in ("one", "two")
    values = {
        (sample.name, sample.labels["model_name"]): sample.value
        for sample in samples
        if "le" not in sample.labels
    }
    assert values["vllm:generation_tokens_total", "one"] == 3
    assert values["vllm:generation_tokens_total", "two"] == 8
    assert values["vllm:request_success_total", "two"] == 2
    assert values["vllm:inter_token_latency_seconds_count", "two"] == 6
    assert values["vllm:num_requests_running", "one"] == 0


def test_several_models_of_another_server(make_server: MakeServer, server: LiveServer) -> None:
    fronts = {
        f"front-{name}": ServerModel(ServerConfig(url=f"{server.url}/v1", model=name))
        for name in server.model
    }
    front = make_server(fronts)
    answers = [front.chat(model=name)["choices"][0]["message"]["content"] for name in fronts]
    assert answers == ["1", "22"]


def test_each_model_has_its_own_queue(make_server: MakeServer) -> None:
    models = two_models()
    models["one"].hold.clear()
    server = make_server(models, max_running=1, max_waiting=0)
    with server.client() as client:
        body = {"messages": QUESTION, "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body):
            wait_until(lambda: server.service.num_active == 1)
            assert server.post("/v1/chat/completions", body).status_code == 429
            assert server.chat(model="two")["choices"][0]["message"]["content"] == "22"
            models["one"].hold.set()


def test_health_is_that_of_the_worst(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.client() as client:
        assert client.get("/health").json() == {"status": "ok"}
        ill = ModelLoad(is_healthy=False)
        monkeypatch.setattr(server.model["two"], "load", lambda: ill)
        response = client.get("/health")
    assert response.status_code == 503
    assert response.json()["error"]["message"] == "the model two does not answer"


def test_closing_ends_them_all() -> None:
    models = two_models()
    closed: list[str] = []

    def closing(name: str) -> Any:
        async def close() -> None:
            closed.append(name)

        return close

    for name, model in models.items():
        model.close = closing(name)
    with LiveServer(models, ServerSettings(port=0, drain_seconds=1)) as server:
        services = list(server.server._app.state.models)
        server.server.handle_exit(15, None)
    assert sorted(closed) == ["one", "two"]
    assert all(service.is_draining for service in services)
