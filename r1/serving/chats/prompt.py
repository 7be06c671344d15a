"""From a branch of a chat to what the model is asked, made anew from what is stored each time.

A question with files is put into the official file prompt in every later turn too; what a
search found is put only before the reply that it was made for, and later turns see the
answer alone. Files and pages are text to the model, never control tokens (`ChatRequest`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from r1.serving.api.errors import ApiError
from r1.serving.api.requests import ChatRequest
from r1.serving.chats.database import Database
from r1.serving.chats.file_store import FileStore
from r1.serving.chats.records import Message
from r1.serving.chats.requests import ReplySettingsIn


@dataclass(frozen=True, slots=True)
class ReplyWish:
    """How a reply is to be made."""

    model: str
    is_thinking: bool
    is_search: bool
    settings: ReplySettingsIn


class PromptBuilder:
    """Builds requests of the chats of one database."""

    def __init__(self, database: Database, files: FileStore) -> None:
        self._database = database
        self._files = files

    async def sources(self, history: Sequence[Message]) -> dict[str, Any]:
        """The fields of a reply that a search fills."""
        return {"error": "web search is not set up on this server; answered without it"}

    async def request(
        self, history: Sequence[Message], reply: Message, wish: ReplyWish
    ) -> ChatRequest:
        """The request for a reply, or for more of it, after its history.

        Raises ApiError 400 for a branch that is too long for any model.
        """
        turns: list[dict[str, Any]] = [
            {"role": message.role, "content": message.content}
            for message in history
            # A reply that was stopped before its answer would teach the model to say nothing.
            if message.role == "user" or message.content
        ]
        if reply.content or reply.reasoning_content:
            prefix = {"content": reply.content, "reasoning_content": reply.reasoning_content}
            turns.append({"role": "assistant", "prefix": True, **prefix})
        settings = wish.settings
        thinking = {
            "type": "enabled" if wish.is_thinking else "disabled",
            "budget_tokens": settings.thinking_budget,
        }
        sampling = settings.model_dump(include={"temperature", "top_p", "max_tokens"})
        try:
            return ChatRequest.model_validate(
                {"model": wish.model, "messages": turns, "thinking": thinking, **sampling}
            )
        except ValidationError as error:
            raise ApiError(400, f"this chat is too long: {error.errors()[0]['msg']}") from None
