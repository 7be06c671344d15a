"""What the page may ask, every number bounded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from r1.serving.api.requests import MAX_TOKENS
from r1.serving.chats.records import (
    MAX_CHAT_MESSAGES,
    Chat,
    Id,
    Line,
    Message,
    Record,
    Text,
    Title,
    UploadedFile,
)

MAX_MESSAGE_FILES = 20


class NewChat(Record):
    """`POST /api/chats`."""

    title: Title = ""


class ChatChanges(Record):
    """`PATCH /api/chats/ID`: what is left out stays."""

    title: Title | None = None
    is_pinned: bool | None = None
    leaf_id: Id | None = None


class ReplySettingsIn(Record):
    """How to sample one reply; what is left out is the server's default."""

    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None
    thinking_budget: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None


class ReplyRequest(Record):
    """`POST /api/chats/ID/replies`.

    A new or an edited turn: `content` after `parent_id`. Another reply to a user's message:
    its id as `parent_id`. More of a reply: `continue_id`.
    """

    parent_id: Id | None = None
    content: Text | None = None
    file_ids: Annotated[tuple[Id, ...], Field(max_length=MAX_MESSAGE_FILES)] = ()
    model: Line | None = None
    thinking: bool = True
    search: bool = False
    settings: ReplySettingsIn = ReplySettingsIn()
    continue_id: Id | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> ReplyRequest:
        if self.continue_id is not None and self.content is not None:
            raise ValueError("give either content or continue_id")
        if self.content is None and self.file_ids:
            raise ValueError("file_ids needs content")
        if self.content is not None and not self.content.strip() and not self.file_ids:
            raise ValueError("content is empty")
        if self.content is None and self.parent_id is None and self.continue_id is None:
            raise ValueError("give content, parent_id or continue_id")
        return self


class ExportedFile(UploadedFile):
    """A file with the text that was read from it."""

    text: Text


class ExportedChat(Record):
    """A whole chat as a file: what export gives and import takes."""

    format: Literal["r1-chat"]
    version: Literal[1]
    chat: Chat
    messages: Annotated[tuple[Message, ...], Field(max_length=MAX_CHAT_MESSAGES)]
    files: Annotated[tuple[ExportedFile, ...], Field(max_length=1000)] = ()
