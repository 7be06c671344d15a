"""The page API's replies as they are documented."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from r1.serving.api.responses import documented as documented_api
from r1.serving.chats.records import Chat, Message


class ChatList(BaseModel):
    """`GET /api/chats`."""

    chats: list[Chat]


class WholeChat(BaseModel):
    """`GET /api/chats/ID`."""

    chat: Chat
    messages: list[Message]


class Begun(BaseModel):
    """`POST /api/chats/ID/replies`."""

    chat: Chat
    user_message: Message | None
    assistant_message: Message


class OneMessage(BaseModel):
    """`POST /api/messages/ID/stop`."""

    message: Message


class ModelInfo(BaseModel):
    id: str
    is_reasoning: bool
    max_model_len: int | None


class Defaults(BaseModel):
    temperature: float
    top_p: float
    max_tokens: int
    thinking_budget: int | None


class FileLimits(BaseModel):
    max_bytes: int
    max_files: int
    types: list[str]


class SearchInfo(BaseModel):
    is_available: bool
    provider: str | None


class PageInfo(BaseModel):
    """`GET /api/page`."""

    models: list[ModelInfo]
    defaults: Defaults
    files: FileLimits
    search: SearchInfo
    version: str
    needs_key: bool


_TEXT = {"type": "string"}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "text/markdown": _TEXT,
    "text/event-stream": {
        "type": "object",
        "properties": {"event": _TEXT, "data": _TEXT},
        "required": ["event", "data"],
    },
}


def documented(model: type[BaseModel] | None = None, kind: str = "") -> dict[int | str, Any]:
    """FastAPI's `responses` of a route: a model, another kind of body, both, or none at all."""
    responses = documented_api(PageInfo if model is None else model)
    statuses = {409: "It does not go on from there.", 408: "The body did not come in time."}
    responses |= {
        status: responses[400] | {"description": text} for status, text in statuses.items()
    }
    if kind:
        # FastAPI adds the model's own kind, JSON.
        content = {kind: {"schema": _SCHEMAS[kind]}}
        body = responses[200] if model is not None else {"description": "The body."}
        return responses | {200: body | {"content": content}}
    if model is None:
        del responses[200]
        responses[204] = {"description": "It is gone."}
    return responses
