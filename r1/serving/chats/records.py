"""Chats, messages and files as they are stored and served; times in seconds since 1970."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_TITLE_CHARACTERS = 200
MAX_TEXT_CHARACTERS = 4 * 2**20
MAX_CHAT_MESSAGES = 10_000
_TITLE_CHARACTERS = 60

Role = Literal["user", "assistant"]
Status = Literal["done", "generating", "stopped", "failed"]


def storable(text: str) -> str:
    """What every database holds: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def clean_line(text: str) -> str:
    """One line without control characters."""
    words = "".join(" " if unicodedata.category(c) == "Cc" else c for c in storable(text))
    return " ".join(words.split())


def title_of(question: str) -> str:
    """The first words of a question."""
    line = clean_line(question[: 4 * _TITLE_CHARACTERS])
    if len(line) <= _TITLE_CHARACTERS:
        return line
    words, _, cut = line[: _TITLE_CHARACTERS + 1].rpartition(" ")
    # Chinese and Japanese have no spaces to cut at.
    return (words if len(cut) < _TITLE_CHARACTERS // 2 else line[:_TITLE_CHARACTERS]) + "…"


def _web_link(url: str) -> str:
    """A link that may be shown; another scheme (`javascript:`) is none."""
    return url if url.lower().startswith(("http://", "https://")) else ""


Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS), AfterValidator(storable)]
Line = Annotated[str, Field(max_length=1024), AfterValidator(clean_line)]
Title = Annotated[str, Field(max_length=MAX_TITLE_CHARACTERS), AfterValidator(clean_line)]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Time = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class Record(BaseModel):
    """What all records derive from; fields that are not known are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class FileRef(Record):
    """A file of a message."""

    id: Id
    name: Line
    num_bytes: Count


class UploadedFile(FileRef):
    """A file whose text has been read."""

    num_characters: Count
    kind: Line


class Source(Record):
    """A page that was found; `text` is what of it the model reads, and is not served."""

    index: Count
    title: Line
    url: Annotated[str, Field(max_length=4096), AfterValidator(_web_link)] = ""
    site: Line = ""
    date: Line = ""
    snippet: Annotated[str, Field(max_length=8192), AfterValidator(storable)] = ""
    text: Annotated[Text, Field(exclude=True)] = ""


class Usage(Record):
    """Tokens; of a reply that was continued, all its parts' together."""

    prompt_tokens: Count
    completion_tokens: Count
    reasoning_tokens: Count


class Chat(Record):
    """A chat; `leaf_id` is the last message of the branch that is shown."""

    id: Id
    title: Title
    is_pinned: bool
    created_at: Time
    updated_at: Time
    leaf_id: Id | None


class Message(Record):
    """A message of a chat's tree.

    `error` tells why a reply failed, or what is missing in one that is done (its search).
    """

    id: Id
    parent_id: Id | None
    role: Role
    content: Text
    reasoning_content: Text = ""
    thinking_seconds: Time | None = None
    files: Annotated[tuple[FileRef, ...], Field(max_length=100)] = ()
    search_query: Annotated[str, Field(max_length=4096), AfterValidator(storable)] | None = None
    sources: Annotated[tuple[Source, ...], Field(max_length=100)] = ()
    model: Line | None = None
    status: Status = "done"
    error: Line | None = None
    finish_reason: Line | None = None
    usage: Usage | None = None
    seconds: Time | None = None
    tokens_per_second: Time | None = None
    created_at: Time
