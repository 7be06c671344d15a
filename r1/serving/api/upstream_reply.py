"""One streamed reply of another server as raw text with thought and answer in tags."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from r1.backends.openai_http_reply import (
    CHARACTERS_PER_TOKEN,
    INTERRUPTED,
    error_message,
    token_count,
)
from r1.records import ToolCall
from r1.serving.api.errors import ApiError
from r1.serving.api.model_side import LOWEST_LOGPROB, ModelChunk, TokenLogprob
from r1.text.reasoning import THINK_CLOSE, THINK_OPEN

_FINISH_REASONS = {"length": "length", "content_filter": "content_filter"}
# Chunks of their own, so that what stands beside them is counted to its own part.
_OPENING = ModelChunk(f"{THINK_OPEN}\n", num_tokens=0)
_CLOSING = ModelChunk(f"\n{THINK_CLOSE}\n\n", num_tokens=0)


@dataclass(slots=True)
class _Call:
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class UpstreamReader:
    """Turns chunks into text and counts their tokens.

    `is_think_forced`: the server's content begins within the thought that its template opens.
    `num_tokens` are those that the server has told of, by usage or by log-probs, else its
    pieces; it may send many tokens in one.
    """

    is_think_forced: bool = False
    num_tokens: int = 0
    finish_reason: str | None = None
    num_prompt_tokens: int | None = None
    num_cached_tokens: int | None = None
    _num_characters: int = 0
    _is_counted: bool = False
    _is_in_thought: bool = False
    _has_thought: bool = False
    _has_begun: bool = False
    _reported_tokens: int | None = None
    _reported_reasoning_tokens: int | None = None
    _calls: dict[int, _Call] = field(default_factory=dict)

    @property
    def num_likely_tokens(self) -> int:
        """The tokens so far; where the server does not tell, by the length of the text too."""
        if self._is_counted:
            return self.num_tokens
        return max(self.num_tokens, self._num_characters // CHARACTERS_PER_TOKEN)

    def read(self, chunk: Any) -> list[ModelChunk]:
        """What a chunk adds to the text. Raises ApiError for an error or an unknown form."""
        try:
            if chunk.get("error"):
                raise ApiError(502, f"the model's server failed: {error_message(chunk)[:300]}")
            choices = chunk.get("choices") or []
            pieces = self._read_choice(choices[0]) if choices else []
            return self._counted(pieces, chunk.get("usage") or {})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ApiError(502, f"the model's server sent an unknown form ({error})") from None

    def end(self) -> ModelChunk:
        """The last chunk. Raises ApiError when the server never said why the reply ended."""
        if self.finish_reason is None:
            raise ApiError(502, "the model's server broke the reply off")
        if self.finish_reason in INTERRUPTED:
            raise ApiError(503, f"the model's server gave up: {self.finish_reason}")
        calls = (ToolCall(call.name, call.arguments or "{}") for call in self._calls.values())
        return ModelChunk(
            text="",
            num_tokens=max(0, (self._reported_tokens or 0) - self.num_tokens),
            tool_calls=tuple(calls),
            finish_reason=_FINISH_REASONS.get(self.finish_reason, "stop"),
            num_prompt_tokens=self.num_prompt_tokens,
            num_cached_tokens=self.num_cached_tokens,
            # A server that has not split the thought off counts none.
            num_reasoning_tokens=self._reported_reasoning_tokens if self._has_thought else None,
        )

    def _counted(self, pieces: list[ModelChunk], usage: dict[str, Any]) -> list[ModelChunk]:
        """The pieces with their tokens, as told by a usage that comes with them."""
        if usage:
            self._read_usage(usage)
        if pieces and usage and self._reported_tokens is not None:
            self._is_counted = True
            pieces = [replace(piece, num_tokens=0) for piece in pieces]
            num_new = max(0, self._reported_tokens - self.num_tokens)
            pieces[-1] = replace(pieces[-1], num_tokens=num_new)
        self.num_tokens += sum(piece.num_tokens for piece in pieces)
        return pieces

    def _read_usage(self, usage: dict[str, Any]) -> None:
        self.num_prompt_tokens = token_count(usage.get("prompt_tokens"))
        self._reported_tokens = token_count(usage.get("completion_tokens"))
        details = usage.get("prompt_tokens_details") or {}
        cached = details.get("cached_tokens", usage.get("prompt_cache_hit_tokens"))
        self.num_cached_tokens = token_count(cached)
        details = usage.get("completion_tokens_details") or {}
        self._reported_reasoning_tokens = token_count(details.get("reasoning_tokens"))

    def _read_choice(self, choice: dict[str, Any]) -> list[ModelChunk]:
        self.finish_reason = _checked(choice.get("finish_reason"), self.finish_reason)
        delta = choice.get("delta") or {}
        thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
        content = delta.get("content") or choice.get("text") or ""
        for call in delta.get("tool_calls") or []:
            self._read_call(call)
        logprobs = choice.get("logprobs") or {}
        of_thought = _chat_logprobs(logprobs.get("reasoning_content"))
        of_content = _chat_logprobs(logprobs.get("content")) or _text_logprobs(logprobs)
        # vLLM has one list for both.
        if of_content and not content and (thought or self._is_in_thought):
            of_thought, of_content = of_thought + of_content, ()
        return self._thought(thought, of_thought) + self._content(content, of_content)

    def _thought(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> list[ModelChunk]:
        if not text:
            return self._piece("", logprobs)
        opening = [] if self._has_begun else [_OPENING]
        self._has_begun = self._is_in_thought = self._has_thought = True
        return opening + self._piece(text, logprobs)

    def _content(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> list[ModelChunk]:
        if not text:
            return self._piece("", logprobs)
        tag = [_CLOSING] if self._is_in_thought else []
        if self.is_think_forced and not self._has_begun:
            tag = [_OPENING]
        self._has_begun, self._is_in_thought = True, False
        return tag + self._piece(text, logprobs)

    def _piece(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> list[ModelChunk]:
        """Log-probs may come before the text that their tokens become."""
        if not text and not logprobs:
            return []
        self._num_characters += len(text)
        self._is_counted |= bool(logprobs)
        return [ModelChunk(text, num_tokens=len(logprobs) or 1, logprobs=logprobs)]

    def _read_call(self, piece: dict[str, Any]) -> None:
        call = self._calls.setdefault(int(piece.get("index", len(self._calls))), _Call())
        function = piece.get("function") or {}
        call.name += function.get("name") or ""
        call.arguments += function.get("arguments") or ""


def _checked(reason: Any, before: str | None) -> str | None:
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"finish_reason {reason!r}"[:80])
    return reason or before


def _chat_logprobs(items: Any) -> tuple[TokenLogprob, ...]:
    return tuple(_logprob(item) for item in items or [])


def _logprob(item: dict[str, Any]) -> TokenLogprob:
    token = item["token"]
    raw = bytes(item.get("bytes") or token.encode("utf-8", "replace"))
    top = _chat_logprobs(item.get("top_logprobs"))
    return TokenLogprob(token, raw, _finite(item["logprob"]), top)


def _text_logprobs(value: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    """Those of the completions endpoint: lists side by side."""
    tokens, numbers = value.get("tokens") or [], value.get("token_logprobs") or []
    tops = value.get("top_logprobs") or [None] * len(tokens)
    return tuple(
        _logprob(
            {
                "token": token,
                "logprob": number,
                "top_logprobs": [{"token": t, "logprob": n} for t, n in (top or {}).items()],
            }
        )
        for token, number, top in zip(tokens, numbers, tops, strict=True)
    )


def _finite(logprob: Any) -> float:
    number = max(float(logprob), LOWEST_LOGPROB)
    if not math.isfinite(number):
        raise ValueError(f"logprob {logprob}")
    return number
