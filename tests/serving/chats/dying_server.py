"""A server that is killed by the tests: it recites numbers, one every few milliseconds."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator, Sequence

import uvicorn

from r1.serving.api.app import build_app
from r1.serving.api.model_side import (
    ChatInput,
    ModelChunk,
    ModelLoad,
    ModelPrompt,
    ReplySettings,
)
from r1.serving.api.settings import ServerSettings
from r1.serving.chats.database import open_database
from r1.serving.chats.page import add_page
from r1.text.tokenizer import Tokenizer


class CountingModel:
    """Counts for ever, a number every 5 ms; asked to wait, it waits after 60."""

    is_reasoning = True
    tokenizer: Tokenizer | None = None
    max_model_len: int | None = None

    def prepare_chat(self, chat: ChatInput) -> ModelPrompt:
        return ModelPrompt(starts_in_thought=True, chat=chat)

    def prepare_text(self, prompt: str | Sequence[int]) -> ModelPrompt:
        return ModelPrompt(text=str(prompt))

    async def stream(
        self, prompt: ModelPrompt, settings: ReplySettings
    ) -> AsyncGenerator[list[ModelChunk], None]:
        assert prompt.chat is not None
        is_to_wait = prompt.chat.messages[-1].content == "wait"
        for number in range(10**9):
            if is_to_wait and number == 60:
                await asyncio.Event().wait()
            await asyncio.sleep(0.005)
            yield [ModelChunk(f"{number} " if number != 20 else "</think>")]

    def load(self) -> ModelLoad:
        return ModelLoad()

    async def close(self) -> None:
        return None


def main(url: str, port: int = 0) -> None:
    """Serve on a port (0: a free one), which is printed."""
    app = build_app({"counting": CountingModel()}, ServerSettings(port=0, loop_tokens=0))
    add_page(app, open_database(url), None)
    listener = socket.create_server(("127.0.0.1", port))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
