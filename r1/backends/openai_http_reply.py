"""Putting one reply together from what an OpenAI-compatible server sends.

A stream of chunks and a whole response differ only in where the text stands, so both
are read here. Field names: OpenAI's chat and completions reference; `reasoning_content`
is DeepSeek's and SGLang's name for the thought, `reasoning` vLLM's since late 2025.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# About: a server's tokenizer is not here.
CHARACTERS_PER_TOKEN = 4
# The server gave up in the middle; the same request may succeed later.
INTERRUPTED = ("insufficient_system_resource", "abort", "error")


class BrokenReply(Exception):
    """A reply that was cut short or makes no sense; asking again may help."""


class RefusedReply(Exception):
    """An error inside a reply that asking again will not mend."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One finished reply: its text, why it ended, and what the server says it used.

    `first_token_logprobs` are the alternatives of the first token, where asked for.
    """

    content: str
    reasoning: str = ""
    finish_reason: str = "stop"
    num_prompt_tokens: int | None = None
    num_completion_tokens: int | None = None
    first_token_logprobs: Mapping[str, float] = field(default_factory=dict)


def assemble(chunks: Iterable[Any]) -> Reply:
    """The reply that the chunks make; a whole response is one chunk.

    Raises BrokenReply when no chunk says why the reply ended or one is not of the
    protocol's form, RefusedReply for an error that the server will repeat.
    """
    parts = _Parts()
    for chunk in chunks:
        try:
            parts.add(chunk)
        except (AttributeError, KeyError, IndexError, TypeError) as error:
            raise BrokenReply(f"a reply of unknown form ({error}): {str(chunk)[:120]}") from None
    if parts.finish_reason is None:
        raise BrokenReply("the reply broke off: the server never said why it ended")
    if parts.finish_reason in INTERRUPTED:
        raise BrokenReply(f"the server interrupted the reply: {parts.finish_reason}")
    return Reply(
        content=_whole("".join(parts.content)),
        reasoning=_whole("".join(parts.reasoning)),
        finish_reason=parts.finish_reason,
        num_prompt_tokens=parts.num_prompt_tokens,
        num_completion_tokens=parts.num_completion_tokens,
        first_token_logprobs=parts.first_token_logprobs or {},
    )


def _whole(text: str) -> str:
    """Text whose surrogates, the halves of a character that a stream has cut, are joined."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def error_message(value: Any) -> str:
    """What an error body says: `error.message`, `error`, `message` or `detail`."""
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(key):
            return error_message(value[key])
    return " ".join(str(value).split())


class _Parts:
    """What has been received of one reply."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.finish_reason: str | None = None
        self.num_prompt_tokens: int | None = None
        self.num_completion_tokens: int | None = None
        self.first_token_logprobs: dict[str, float] | None = None

    def add(self, chunk: Any) -> None:
        if chunk.get("error"):
            _raise_error(chunk)
        if usage := chunk.get("usage"):  # null in all chunks but the last
            self.num_prompt_tokens = token_count(usage.get("prompt_tokens"))
            self.num_completion_tokens = token_count(usage.get("completion_tokens"))
        for choice in chunk.get("choices") or []:
            if choice.get("index", 0) == 0:
                self._add_choice(choice)

    def _add_choice(self, choice: dict[str, Any]) -> None:
        message = choice.get("delta") or choice.get("message") or {}
        text = message.get("content") or choice.get("text") or ""
        thought = message.get("reasoning_content") or message.get("reasoning") or ""
        if not isinstance(text, str) or not isinstance(thought, str):
            raise TypeError("its content is not text")
        self.content.append(text)
        self.reasoning.append(thought)
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        logprobs = (choice.get("logprobs") or {}).get("content") or []
        if logprobs and self.first_token_logprobs is None:
            top = logprobs[0].get("top_logprobs") or [logprobs[0]]
            self.first_token_logprobs = {item["token"]: float(item["logprob"]) for item in top}


def token_count(value: Any) -> int | None:
    """A number of tokens; None for what is none."""
    return value if type(value) is int and value >= 0 else None


def _raise_error(chunk: dict[str, Any]) -> None:
    """vLLM and SGLang report an error within a stream as a chunk of its own."""
    error = chunk["error"]
    code = error.get("code") if isinstance(error, dict) else None
    message = error_message(chunk)
    if isinstance(code, int) and 400 <= code < 500 and code not in (408, 429):
        raise RefusedReply(message)
    raise BrokenReply(message)
