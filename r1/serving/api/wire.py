"""Parts of replies as JSON values: usage, log-probs, tool calls, events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from r1.records import ToolCall
from r1.serving.api.errors import json_bytes
from r1.serving.api.ids import new_id
from r1.serving.api.model_side import TokenLogprob
from r1.serving.api.replies import Delta, TokenCounts

DONE = b"data: [DONE]\n\n"


def envelope(kind: str, prefix: str, model: str) -> dict[str, Any]:
    """What all parts of one reply begin with."""
    return {
        "id": f"{prefix}-{new_id()}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json_bytes(value) + b"\n\n"


def usage(counts: TokenCounts) -> dict[str, Any]:
    """OpenAI's usage with DeepSeek's cache fields."""
    return {
        "prompt_tokens": counts.num_prompt,
        "completion_tokens": counts.num_completion,
        "total_tokens": counts.num_prompt + counts.num_completion,
        "prompt_cache_hit_tokens": counts.num_cached,
        "prompt_cache_miss_tokens": counts.num_prompt - counts.num_cached,
        "prompt_tokens_details": {"cached_tokens": counts.num_cached},
        "completion_tokens_details": {"reasoning_tokens": counts.num_reasoning},
    }


def tool_calls(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Calls, each with a new id."""
    return [
        {
            "id": f"call_{new_id()[:24]}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]


def chat_logprobs(delta: Delta) -> dict[str, Any]:
    """Log-probs of a chat reply: the answer's tokens, and the thought's beside them."""
    return {
        "content": [_token(item) for item in delta.answer_logprobs],
        "reasoning_content": [_token(item) for item in delta.thought_logprobs],
        "refusal": None,
    }


def text_logprobs(items: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    """Log-probs of a plain completion; `offset` is where the first token's text begins."""
    offsets = []
    for item in items:
        offsets.append(offset)
        offset += len(item.token)
    return {
        "tokens": [item.token for item in items],
        "token_logprobs": [item.logprob for item in items],
        "top_logprobs": [{top.token: top.logprob for top in item.top} for item in items],
        "text_offset": offsets,
    }


def _token(item: TokenLogprob) -> dict[str, Any]:
    return _plain(item) | {"top_logprobs": [_plain(top) for top in item.top]}


def _plain(item: TokenLogprob) -> dict[str, Any]:
    return {"token": item.token, "logprob": item.logprob, "bytes": list(item.token_bytes)}
