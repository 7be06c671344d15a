"""From a branch of a chat to what the model is asked, made anew from what is stored each time.

A question keeps its files, in the official prompt, in every later turn. What a search found
is put only before the reply that it was made for; later turns see the answer alone. Files
and pages are text to the model, never control tokens (`r1.text.chat_template`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from r1.serving.api.errors import ApiError
from r1.serving.api.requests import ChatRequest
from r1.serving.chats.records import Message, Source, clean_line, storable
from r1.serving.chats.requests import ReplySettingsIn
from r1.serving.files.documents import Document
from r1.serving.prompts import with_files, with_search
from r1.serving.search.results import SearchError
from r1.serving.search.web_search import WebSearch

# Eight characters a token of the longest context that is known.
_MAX_PROMPT_CHARACTERS = 8 * 2**20
NO_SEARCH = "this server has no web search"


@dataclass(frozen=True, slots=True)
class ReplyWish:
    """How a reply is to be made."""

    model: str
    is_thinking: bool
    is_search: bool
    settings: ReplySettingsIn


async def find_sources(
    search: WebSearch | None, history: Sequence[Message], max_model_len: int | None
) -> dict[str, Any]:
    """The fields of a reply that a search fills.

    A search that fails leaves a line in `error`, and the question is answered without it: a
    reader who is told so prefers that to no answer.
    """
    *earlier, question = [m.content for m in history if m.role == "user"]
    try:
        if search is None:
            raise SearchError(NO_SEARCH)
        # A character is a token or less: the sources leave room for the rest.
        room = None if max_model_len is None else max(200, max_model_len // 2)
        found = await search.find_sources(question, earlier, room)
    except SearchError as error:
        return no_search(str(error))
    return {
        "search_query": storable(found.query),
        "sources": tuple(
            Source(
                index=source.index,
                title=source.title[:1024],
                url=source.url[:4096],
                site=source.site[:1024],
                date=source.date[:1024],
                snippet=source.snippet[:2048],
                text=source.text,
            )
            for source in found.sources
        ),
    }


def no_search(why: str) -> dict[str, Any]:
    """The fields of a reply that had to do without its search."""
    error = clean_line(f"answered without a web search: {why}")[:1024]
    return {"search_query": None, "sources": (), "error": error}


def build_request(
    history: Sequence[Message], reply: Message, wish: ReplyWish, documents: Mapping[str, Document]
) -> ChatRequest:
    """The request for a reply, or for more of it, after its history.

    Raises ApiError 400 for a branch that is too long for any model.
    """
    _check_size(history, reply, documents)
    *earlier, question = history
    turns: list[dict[str, Any]] = [
        {"role": message.role, "content": with_files(message.content, _files(message, documents))}
        for message in earlier
        # A reply that was stopped before its answer would teach the model to say nothing.
        if message.role == "user" or message.content
    ]
    # Of its own day, so that a reply is continued from what it was begun with.
    day = datetime.fromtimestamp(reply.created_at).date()
    files = _files(question, documents)
    asked = with_search(question.content, reply.sources, day, files)
    turns.append({"role": "user", "content": asked})
    if reply.content or reply.reasoning_content:
        prefix = {"content": reply.content, "reasoning_content": reply.reasoning_content}
        turns.append({"role": "assistant", "prefix": True, **prefix})
    thinking = {
        "type": "enabled" if wish.is_thinking else "disabled",
        "budget_tokens": wish.settings.thinking_budget,
    }
    sampling = wish.settings.model_dump(include={"temperature", "top_p", "max_tokens"})
    try:
        return ChatRequest.model_validate(
            {"model": wish.model, "messages": turns, "thinking": thinking, **sampling}
        )
    except ValidationError as error:
        raise ApiError(400, f"this chat is too long: {error.errors()[0]['msg']}") from None


def file_ids(history: Sequence[Message]) -> list[str]:
    """The files that a branch needs."""
    return list(dict.fromkeys(file.id for message in history for file in message.files))


def _check_size(
    history: Sequence[Message], reply: Message, documents: Mapping[str, Document]
) -> None:
    """Before it is put together: turns may share a file, and so be far longer than all texts."""
    sizes = {file_id: len(document.text) for file_id, document in documents.items()}
    num_characters = sum(len(source.text) for source in reply.sources) + sum(
        len(message.content) + sum(sizes.get(file.id, 0) for file in message.files)
        for message in history
    )
    if num_characters > _MAX_PROMPT_CHARACTERS:
        text = f"this chat is too long: it has {num_characters:,} characters with its files"
        raise ApiError(400, text)


def _files(message: Message, documents: Mapping[str, Document]) -> list[Document]:
    return [documents[file.id] for file in message.files if file.id in documents]
