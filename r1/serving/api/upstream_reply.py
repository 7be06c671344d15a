"""One streamed reply of another server as raw text: thought, answer and tool calls in tags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from r1.backends.openai_http_reply import error_message
from r1.records import ToolCall
from r1.serving.api.errors import ApiError
from r1.serving.api.model_side import ModelChunk, TokenLogprob
from r1.text.reasoning import THINK_CLOSE, THINK_OPEN
from r1.text.tool_calls import render_calls

_FINISH_REASONS = {"length": "length", "insufficient_system_resource": None, "error": None}


@dataclass(slots=True)
class _Call:
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class UpstreamReader:
    """Turns chunks into text. A server without `usage` has its pieces counted as tokens.

    `is_think_forced`: the server's content begins within the thought that its template opens.
    """

    is_think_forced: bool = False
    num_tokens: int = 0
    finish_reason: str | None = None
    num_prompt_tokens: int | None = None
    num_cached_tokens: int | None = None
    _is_in_thought: bool = False
    _has_begun: bool = False
    _reported_tokens: int | None = None
    _calls: dict[int, _Call] = field(default_factory=dict)

    def read(self, chunk: Any) -> ModelChunk | None:
        """What a chunk adds to the text. Raises ApiError for an error or an unknown form."""
        try:
            if chunk.get("error"):
                raise ApiError(502, f"the model's server failed: {error_message(chunk)[:300]}")
            self._read_usage(chunk.get("usage") or {})
            choices = chunk.get("choices") or []
            return self._read_choice(choices[0]) if choices else None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ApiError(502, f"the model's server sent an unknown form ({error})") from None

    def end(self) -> ModelChunk:
        """The last chunk. Raises ApiError when the server never said why the reply ended."""
        if self.finish_reason is None:
            raise ApiError(502, "the model's server broke the reply off")
        reason = _FINISH_REASONS.get(self.finish_reason, "stop")
        if reason is None:
            raise ApiError(503, f"the model's server gave up: {self.finish_reason}")
        calls = [ToolCall(call.name, call.arguments or "{}") for call in self._calls.values()]
        surplus = max(0, (self._reported_tokens or 0) - self.num_tokens)
        closing = f"\n{THINK_CLOSE}\n\n" if self._is_in_thought and calls else ""
        return ModelChunk(
            text=closing + render_calls(calls),
            num_tokens=surplus,
            finish_reason=reason,
            num_prompt_tokens=self.num_prompt_tokens,
            num_cached_tokens=self.num_cached_tokens,
        )

    def _read_usage(self, usage: dict[str, Any]) -> None:
        if not usage:
            return
        self.num_prompt_tokens = usage.get("prompt_tokens")
        self._reported_tokens = usage.get("completion_tokens")
        details = usage.get("prompt_tokens_details") or {}
        self.num_cached_tokens = details.get("cached_tokens", usage.get("prompt_cache_hit_tokens"))

    def _read_choice(self, choice: dict[str, Any]) -> ModelChunk | None:
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta = choice.get("delta") or {}
        thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
        content = delta.get("content") or choice.get("text") or ""
        for call in delta.get("tool_calls") or []:
            self._read_call(call)
        text = self._thought(thought) + self._content(content)
        if not text:
            return None
        self.num_tokens += 1
        return ModelChunk(text, logprobs=_logprobs(choice.get("logprobs")))

    def _thought(self, text: str) -> str:
        if not text:
            return ""
        opening = "" if self._has_begun else f"{THINK_OPEN}\n"
        self._has_begun = self._is_in_thought = True
        return opening + text

    def _content(self, text: str) -> str:
        if not text:
            return ""
        opening = f"\n{THINK_CLOSE}\n\n" if self._is_in_thought else ""
        if not self._has_begun and self.is_think_forced:
            opening = f"{THINK_OPEN}\n"
        self._has_begun, self._is_in_thought = True, False
        return opening + text

    def _read_call(self, piece: dict[str, Any]) -> None:
        call = self._calls.setdefault(int(piece.get("index", len(self._calls))), _Call())
        function = piece.get("function") or {}
        call.name += function.get("name") or ""
        call.arguments += function.get("arguments") or ""


def _logprobs(value: Any) -> tuple[TokenLogprob, ...]:
    items = (value or {}).get("content") or []
    return tuple(_logprob(item) for item in items)


def _logprob(item: dict[str, Any]) -> TokenLogprob:
    token = item["token"]
    raw = bytes(item.get("bytes") or token.encode())
    top = tuple(_logprob(other) for other in item.get("top_logprobs") or [])
    return TokenLogprob(token, raw, float(item["logprob"]), top)
