"""`/v1/completions`: plain continuation of text or token ids, no template and no split."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from r1.serving.api import rules, wire
from r1.serving.api.errors import ApiError, json_bytes
from r1.serving.api.ids import new_id
from r1.serving.api.live_response import LiveResponse
from r1.serving.api.model_side import ModelPrompt, ReplySettings, TokenLogprob
from r1.serving.api.replies import ReplyReader
from r1.serving.api.requests import MAX_CHOICES, CompletionRequest
from r1.serving.api.service import Reply, Service, total_counts


def answer_completion(service: Service, body: CompletionRequest) -> LiveResponse:
    """The response to a completion request."""
    name = body.model or service.name
    num_choices = body.n or 1
    if len(body.prompts) * num_choices > 4 * MAX_CHOICES:
        message = (
            f"{len(body.prompts)} prompts x n {num_choices}: at most {4 * MAX_CHOICES} replies"
        )
        raise ApiError(400, message, param="n")
    try:
        prompts = [service.model.prepare_text(prompt) for prompt in body.prompts]
        replies = _replies(service, body, prompts)
    except ValueError as error:
        raise ApiError(400, str(error), param="prompt") from None
    _check(service, body, prompts)
    parts = _stream if body.stream else _whole
    return LiveResponse(
        parts(service, body, replies, name),
        service.settings,
        is_event_stream=bool(body.stream),
        headers={},
    )


def _replies(service: Service, body: CompletionRequest, prompts: list[ModelPrompt]) -> list[Reply]:
    request_id, seed = new_id(), rules.seed_of(body)
    sampling = rules.sampling_of(body, service.settings, body.max_tokens)
    num_choices = body.n or 1
    return [
        Reply(
            prompt,
            ReplySettings(
                id=f"{request_id}-{number}-{index}",
                sampling=sampling,
                seed=seed,
                sample_index=index,
                num_top_logprobs=body.logprobs,
                form=rules.json_form(body.response_format),
            ),
            ReplyReader(starts_in_thought=False, is_split=False),
        )
        for number, prompt in enumerate(prompts)
        for index in range(num_choices)
    ]


def _check(service: Service, body: CompletionRequest, prompts: list[ModelPrompt]) -> None:
    longest = service.model.max_model_len
    for prompt in prompts:
        if not prompt.ids and not prompt.text:
            raise ApiError(400, "the prompt is empty", param="prompt")
        if body.echo and not prompt.text and service.model.tokenizer is None:
            message = "token ids cannot be repeated as text: the tokenizer is on another server"
            raise ApiError(400, message, param="echo")
        if longest is not None and len(prompt.ids) >= longest:
            message = f"the prompt has {len(prompt.ids)} tokens; this model has room for {longest}"
            raise ApiError(400, message, code="context_length_exceeded", param="prompt")


def _echo(service: Service, body: CompletionRequest, index: int) -> str:
    """The prompt of a choice as text, where it is to be repeated."""
    if not body.echo:
        return ""
    prompt = body.prompts[index // (body.n or 1)]
    if isinstance(prompt, str):
        return prompt
    assert service.model.tokenizer is not None
    return service.model.tokenizer.decode(prompt)


async def _stream(
    service: Service, body: CompletionRequest, replies: list[Reply], name: str
) -> AsyncGenerator[bytes, None]:
    head = wire.envelope("text_completion", "cmpl", name)
    offsets = [len(_echo(service, body, index)) for index in range(len(replies))]
    begun = [not body.echo for _ in replies]
    async with aclosing(service.deltas(replies)) as deltas:
        async for index, delta in deltas:
            text = delta.answer if begun[index] else _echo(service, body, index) + delta.answer
            begun[index] = True
            choice: dict[str, Any] = {"index": index, "text": text, "logprobs": None}
            if body.logprobs is not None:
                choice["logprobs"] = wire.text_logprobs(delta.answer_logprobs, offsets[index])
            offsets[index] += len(delta.answer)
            choice["finish_reason"] = delta.finish_reason
            choice["stop_reason"] = delta.stop_reason
            chunk = {**head, "choices": [choice]}
            if body.has_continuous_usage:
                chunk["usage"] = wire.usage(replies[index].reader.counts)
            yield wire.event(chunk)
    if body.has_usage_chunk:
        counts = total_counts(replies, body.n or 1)
        yield wire.event({**head, "choices": [], "usage": wire.usage(counts)})
    yield wire.DONE


async def _whole(
    service: Service, body: CompletionRequest, replies: list[Reply], name: str
) -> AsyncGenerator[bytes, None]:
    head = wire.envelope("text_completion", "cmpl", name)
    texts = [[_echo(service, body, index)] for index in range(len(replies))]
    offsets = [len(text[0]) for text in texts]
    logprobs: list[list[TokenLogprob]] = [[] for _ in replies]
    ends: list[tuple[str | None, str | None]] = [(None, None)] * len(replies)
    async with aclosing(service.deltas(replies)) as deltas:
        async for index, delta in deltas:
            texts[index].append(delta.answer)
            logprobs[index] += delta.answer_logprobs
            if delta.finish_reason is not None:
                ends[index] = delta.finish_reason, delta.stop_reason
    choices = [
        {
            "index": index,
            "text": "".join(text),
            "logprobs": None
            if body.logprobs is None
            else wire.text_logprobs(logprobs[index], offsets[index]),
            "finish_reason": ends[index][0],
            "stop_reason": ends[index][1],
        }
        for index, text in enumerate(texts)
    ]
    counts = total_counts(replies, body.n or 1)
    yield json_bytes({**head, "choices": choices, "usage": wire.usage(counts)})
