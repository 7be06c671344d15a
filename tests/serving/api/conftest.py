"""Live servers on a free port: the embedded tiny model, and a model that recites a script."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from r1.engine.engine import Engine, EngineConfig
from r1.engine.open_model import open_model
from r1.serving.api.app import build_app
from r1.serving.api.engine_model import EngineModel
from r1.serving.api.model_side import (
    ChatInput,
    ModelChunk,
    ModelLoad,
    ModelPrompt,
    ModelSide,
    ReplySettings,
)
from r1.serving.api.run_server import DrainingServer, bind
from r1.serving.api.settings import ServerSettings
from r1.text.tokenizer import Tokenizer

TINY = "tiny"
CLOSE = "Connection: close\r\n"


@dataclass
class LiveServer:
    """A server in a thread of its own, for a model named tiny or several by their names."""

    model: Any
    settings: ServerSettings
    add_page: Callable[[FastAPI], None] | None = None
    server: DrainingServer = field(init=False)
    port: int = field(init=False)

    def __enter__(self) -> LiveServer:
        listener = bind(self.settings)
        self.port = listener.getsockname()[1]
        models = self.model if isinstance(self.model, dict) else {TINY: self.model}
        app = build_app(models, self.settings)
        if self.add_page is not None:
            self.add_page(app)
        self.service = app.state.models.first
        self.server = DrainingServer(app, self.settings)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        while not self.server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.should_exit = True
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=30, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx2.Response:
        with self.client() as client:
            return client.post(path, json=body, **options)

    def chat(self, content: str = "17 + 25 =", **fields: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": content}]
        response = self.post("/v1/chat/completions", {"messages": messages, **fields})
        assert response.status_code == 200, response.text
        return response.json()

    def connect(self, path: str, body: bytes, headers: str = "") -> socket.socket:
        return connect(self.port, path, body, headers)


def connect(port: int, path: str, body: bytes, headers: str = "") -> socket.socket:
    """A raw connection with a request on it; the caller closes it."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    length = f"Content-Length: {len(body)}\r\n"
    connection.sendall(f"{head}{length}{headers}\r\n".encode() + body)
    return connection


def wait_until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    """Poll until something becomes true."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class RecitingModel:
    """Answers every request with the same chunks; `hold` keeps it waiting before the last."""

    tokenizer: Tokenizer | None = None
    max_model_len: int | None = None

    def __init__(
        self,
        chunks: Sequence[str] = ("a thought", "</think>", "an answer"),
        *,
        starts_in_thought: bool = True,
        error: Exception | None = None,
    ) -> None:
        self.is_reasoning = True
        self.chunks = list(chunks)
        self.starts_in_thought = starts_in_thought
        self.error = error
        self.hold = threading.Event()
        self.hold.set()
        self.chats: list[ChatInput] = []
        self.asked: list[ReplySettings] = []
        self.num_closed = 0

    def prepare_chat(self, chat: ChatInput) -> ModelPrompt:
        self.chats.append(chat)
        return ModelPrompt(starts_in_thought=self.starts_in_thought, ids=(1, 2), chat=chat)

    def prepare_text(self, prompt: str | Sequence[int]) -> ModelPrompt:
        return ModelPrompt(ids=(1, 2), text=str(prompt))

    async def stream(
        self, prompt: ModelPrompt, settings: ReplySettings
    ) -> AsyncGenerator[list[ModelChunk], None]:
        self.asked.append(settings)
        try:
            if self.error is not None and not self.chunks:
                raise self.error
            for chunk in self.chunks:
                yield [ModelChunk(chunk)]
            while not self.hold.is_set():
                await asyncio.sleep(0.01)
            if self.error is not None:
                raise self.error
            yield [
                ModelChunk(
                    "", num_tokens=0, finish_reason="stop", num_prompt_tokens=2, num_cached_tokens=1
                )
            ]
        finally:
            self.num_closed += 1

    def load(self) -> ModelLoad:
        return ModelLoad()

    async def close(self) -> None:
        return None


MakeServer = Callable[..., LiveServer]


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    """Starts a server on a model; all of them end with the test."""
    servers: list[LiveServer] = []

    def make(model: ModelSide | dict[str, ModelSide], **settings: Any) -> LiveServer:
        values = {"port": 0, "drain_seconds": 1} | settings
        server = LiveServer(model, ServerSettings.model_validate(values))
        servers.append(server.__enter__())
        return server

    yield make
    for server in servers:
        server.__exit__()


def tiny_engine_model(max_model_len: int = 1024, **settings: Any) -> EngineModel:
    """The embedded model of R1-Zero's miniature."""

    def open_engine() -> Engine:
        config = EngineConfig(
            max_num_seqs=16, kv_cache_bytes=32 * 2**20, max_model_len=max_model_len
        )
        return Engine(*open_model(TINY), config)

    return EngineModel(open_engine, ServerSettings.model_validate(settings))


@pytest.fixture(scope="session")
def tiny_server() -> Iterator[LiveServer]:
    """One server on the embedded model for all tests that leave no trace on it."""
    settings = ServerSettings(port=0, drain_seconds=1, loop_tokens=0)
    with LiveServer(tiny_engine_model(), settings) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    return open_model(TINY)[1]
