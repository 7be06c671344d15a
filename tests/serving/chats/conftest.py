"""Live servers with the page on databases of their own, and a model that waits for the test."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy

from r1.serving.api.model_side import ModelChunk, ModelPrompt, ReplySettings
from r1.serving.api.settings import ServerSettings
from r1.serving.chats.database import METADATA, Database, open_database
from r1.serving.chats.page import add_page
from tests.serving.api.conftest import LiveServer, RecitingModel, wait_until

Event = tuple[str, dict[str, Any]]


class PacedModel(RecitingModel):
    """Gives each chunk when the test allows it; at the end it waits for the last allowance."""

    def __init__(self, chunks: Sequence[str], **options: Any) -> None:
        super().__init__(chunks, **options)
        self.num_allowed = 0

    def allow(self, count: int = 10**9) -> None:
        self.num_allowed += count

    async def stream(
        self, prompt: ModelPrompt, settings: ReplySettings
    ) -> AsyncGenerator[list[ModelChunk], None]:
        self.asked.append(settings)
        try:
            for index, chunk in enumerate(self.chunks):
                await self._wait(index)
                yield [ModelChunk(chunk)]
            await self._wait(len(self.chunks))
            last = ModelChunk("", num_tokens=0, finish_reason="stop", num_prompt_tokens=2)
            yield [last]
        finally:
            self.num_closed += 1

    async def _wait(self, index: int) -> None:
        while self.num_allowed <= index:
            await asyncio.sleep(0.002)


@dataclass
class Page:
    """A server with the page, spoken to as the page does."""

    server: LiveServer
    model: Any
    database: Database
    key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.key is None else {"authorization": f"Bearer {self.key}"}

    def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        headers = self.headers | options.pop("headers", {})
        with self.server.client() as client:
            return client.request(method, path, headers=headers, **options)

    def json(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        response = self.ask(method, path, **({} if body is None else {"json": body}))
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    def new_chat(self) -> str:
        return self.json("POST", "/api/chats", {})["id"]

    def reply(self, chat_id: str, status: int = 200, **fields: Any) -> Any:
        return self.json("POST", f"/api/chats/{chat_id}/replies", fields, status)

    def say(self, chat_id: str, content: str, **fields: Any) -> dict[str, Any]:
        """A turn, and its reply when it has ended."""
        begun = self.reply(chat_id, content=content, **fields)
        return self.ended(begun["assistant_message"]["id"])

    def ended(self, message_id: str) -> dict[str, Any]:
        return self.events(message_id)[-1][1]["message"]

    def events(self, message_id: str) -> list[Event]:
        return list(self.follow(message_id))

    def follow(self, message_id: str) -> Iterator[Event]:
        """The events of a reply; closing it is leaving."""
        with self.server.client(headers=self.headers) as client:
            path = f"/api/messages/{message_id}/stream"
            with client.stream("GET", path) as response:
                assert response.status_code == 200
                for event in httpx2.EventSource(response):
                    yield event.event, json.loads(event.data)

    def messages(self, chat_id: str) -> list[dict[str, Any]]:
        return self.json("GET", f"/api/chats/{chat_id}")["messages"]

    def message(self, chat_id: str, message_id: str) -> dict[str, Any]:
        return next(m for m in self.messages(chat_id) if m["id"] == message_id)

    def wait_for_text(self, message_id: str, text: str) -> None:
        """Until a reply that is being written ends with a text."""

        def has_come() -> bool:
            with_snapshot = next(self.follow(message_id))[1]["message"]
            return (with_snapshot["reasoning_content"] + with_snapshot["content"]).endswith(text)

        wait_until(has_come, seconds=60)

    def as_owner(self, key: str) -> Page:
        return Page(self.server, self.model, self.database, key)


def joined(events: Sequence[Event]) -> tuple[str, str]:
    """Thought and answer as a listener has put them together."""
    assert events[0][0] == "snapshot"
    thought = events[0][1]["message"]["reasoning_content"]
    answer = events[0][1]["message"]["content"]
    for name, data in events[1:]:
        assert name in ("sources", "reasoning", "content", "saved", "done")
        thought += data["text"] if name == "reasoning" else ""
        answer += data["text"] if name == "content" else ""
    return thought, answer


MakePage = Callable[..., Page]


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite, or the database that R1_TEST_DATABASE_URL names: it is emptied."""
    url = os.environ.get("R1_TEST_DATABASE_URL")
    if url is not None:
        engine = sqlalchemy.create_engine(url)
        METADATA.drop_all(engine)
        engine.dispose()
    return url or f"sqlite:///{tmp_path}/chats.sqlite3"


@pytest.fixture
def make_page(database_url: str) -> Iterator[MakePage]:
    """Starts servers on one database; all of them end with the test."""
    servers: list[LiveServer] = []

    def make(model: Any = None, *, search: Any = None, key: str | None = None, **settings: Any):
        model = model or RecitingModel()
        values = {"port": 0, "drain_seconds": 1} | settings
        database = open_database(database_url)
        page = functools.partial(add_page, database=database, search=search)
        server = LiveServer(model, ServerSettings.model_validate(values), page)
        servers.append(server.__enter__())
        return Page(server, model, database, key)

    yield make
    for server in servers:
        server.__exit__()


@pytest.fixture
def page(make_page: MakePage) -> Page:
    return make_page()
