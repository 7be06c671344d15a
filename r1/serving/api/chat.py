"""`/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from r1.serving.api import rules, wire
from r1.serving.api.errors import ApiError, json_bytes
from r1.serving.api.ids import new_id
from r1.serving.api.live_response import LiveResponse
from r1.serving.api.model_side import ModelPrompt, ReplySettings
from r1.serving.api.replies import Delta, ReplyReader
from r1.serving.api.requests import ChatRequest
from r1.serving.api.service import Reply, Service, total_counts

TOO_LONG = "context_length_exceeded"


def answer_chat(service: Service, body: ChatRequest) -> LiveResponse:
    """The response to a chat request; the model begins when the response does."""
    name = body.model or service.name
    replies, headers = prepare_replies(service, body)
    is_stream = bool(body.stream)
    parts = _stream if is_stream else _whole
    return LiveResponse(
        parts(service, body, replies, name),
        service.settings,
        is_event_stream=is_stream,
        headers=headers,
    )


def prepare_replies(service: Service, body: ChatRequest) -> tuple[list[Reply], dict[str, str]]:
    """The replies to a request with the rules of use applied, and headers that tell of them.

    Raises ApiError for a request that cannot be answered.
    """
    plan = rules.plan_chat(body, service.settings, is_reasoning=service.model.is_reasoning)
    try:
        prompt = service.model.prepare_chat(plan.chat)
        replies = _replies(service, body, plan, prompt)
    except ValueError as error:
        raise ApiError(400, str(error)) from None
    _check_length(service, prompt)
    return replies, plan.headers


def _replies(
    service: Service, body: ChatRequest, plan: rules.ChatPlan, prompt: ModelPrompt
) -> list[Reply]:
    settings = service.settings
    request_id, seed = new_id(), rules.seed_of(body)
    max_tokens = body.max_completion_tokens or body.max_tokens
    sampling = rules.sampling_of(body, settings, max_tokens)
    prefix = plan.chat.prefix
    goes_on_with = "" if prefix is None else prefix.answer or prefix.thought or ""
    return [
        Reply(
            prompt,
            ReplySettings(
                id=f"{request_id}-{index}",
                sampling=sampling,
                seed=seed,
                sample_index=index,
                thinking_budget=plan.thinking_budget,
                loop_tokens=settings.loop_tokens,
                num_top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
                form=plan.form,
            ),
            ReplyReader(
                starts_in_thought=prompt.starts_in_thought,
                already=goes_on_with,
                has_tools=bool(plan.chat.tools),
            ),
        )
        for index in range(body.n or 1)
    ]


def _check_length(service: Service, prompt: ModelPrompt) -> None:
    longest = service.model.max_model_len
    if longest is not None and len(prompt.ids) >= longest:
        message = (
            f"the prompt has {len(prompt.ids)} tokens; this model reads and writes {longest} in all"
        )
        raise ApiError(400, message, code=TOO_LONG, param="messages")


# ---------------------------------------------------------------- streamed


async def _stream(
    service: Service, body: ChatRequest, replies: list[Reply], name: str
) -> AsyncGenerator[bytes, None]:
    head = wire.envelope("chat.completion.chunk", "chatcmpl", name)
    num_calls = [0] * len(replies)
    begun = [False] * len(replies)
    is_strict = service.settings.is_strict_deepseek
    num_open = len(replies)
    last = b""
    async with aclosing(service.deltas(replies)) as deltas:
        async for index, delta in deltas:
            fields = _delta_fields(delta, num_calls[index])
            num_calls[index] += len(delta.tool_calls)
            if not begun[index]:
                begun[index] = True
                fields = {"role": "assistant", "content": "", **fields}
            choice = {"index": index, "delta": fields, "logprobs": None}
            if body.logprobs:
                choice["logprobs"] = wire.chat_logprobs(delta)
            choice["finish_reason"] = delta.finish_reason
            if delta.finish_reason is not None:
                choice["stop_reason"] = delta.stop_reason
                num_open -= 1
            chunk = {**head, "choices": [choice]}
            if body.has_continuous_usage:
                chunk["usage"] = wire.usage(replies[index].reader.counts)
            elif body.has_usage_chunk:
                chunk["usage"] = None
            elif is_strict and num_open == 0:
                chunk["usage"] = wire.usage(total_counts(replies, len(replies)))
            if num_open:
                yield wire.event(chunk)
            else:  # goes out with what ends the stream
                last += wire.event(chunk)
    if body.has_usage_chunk:
        counts = total_counts(replies, len(replies))
        last += wire.event({**head, "choices": [], "usage": wire.usage(counts)})
    yield last + wire.DONE


def _delta_fields(delta: Delta, num_calls: int) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if delta.thought:
        fields |= {"reasoning_content": delta.thought, "reasoning": delta.thought}
    if delta.answer:
        fields["content"] = delta.answer
    if delta.tool_calls:
        calls = wire.tool_calls(delta.tool_calls)
        fields["tool_calls"] = [{"index": num_calls + i, **call} for i, call in enumerate(calls)]
    return fields


# ---------------------------------------------------------------- whole


@dataclass(slots=True)
class _Parts:
    """What one reply has come to."""

    thought: list[str] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    content_logprobs: list[Any] = field(default_factory=list)
    thought_logprobs: list[Any] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | None = None

    def add(self, delta: Delta) -> None:
        self.thought.append(delta.thought)
        self.answer.append(delta.answer)
        self.tool_calls += wire.tool_calls(delta.tool_calls)
        logprobs = wire.chat_logprobs(delta)
        self.content_logprobs += logprobs["content"]
        self.thought_logprobs += logprobs["reasoning_content"]
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.stop_reason = delta.stop_reason or self.stop_reason

    def choice(self, index: int, *, has_logprobs: bool) -> dict[str, Any]:
        """The choice of a whole response."""
        thought, answer = "".join(self.thought) or None, "".join(self.answer)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer if answer or not self.tool_calls else None,
            "reasoning_content": thought,
            "reasoning": thought,
        }
        if self.tool_calls:
            message["tool_calls"] = self.tool_calls
        logprobs = {
            "content": self.content_logprobs,
            "reasoning_content": self.thought_logprobs,
            "refusal": None,
        }
        return {
            "index": index,
            "message": message,
            "logprobs": logprobs if has_logprobs else None,
            "finish_reason": self.finish_reason,
            "stop_reason": self.stop_reason,
        }


async def _whole(
    service: Service, body: ChatRequest, replies: list[Reply], name: str
) -> AsyncGenerator[bytes, None]:
    head = wire.envelope("chat.completion", "chatcmpl", name)
    parts = [_Parts() for _ in replies]
    async with aclosing(service.deltas(replies)) as deltas:
        async for index, delta in deltas:
            parts[index].add(delta)
    choices = [
        part.choice(index, has_logprobs=bool(body.logprobs)) for index, part in enumerate(parts)
    ]
    counts = total_counts(replies, len(replies))
    yield json_bytes({**head, "choices": choices, "usage": wire.usage(counts)})
