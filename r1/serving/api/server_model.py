"""The model side that is another server: vLLM, SGLang, DeepSeek's platform, llama.cpp."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np

from r1.backends.openai_http_client import ServerConfig, read_key
from r1.backends.openai_http_reply import CHARACTERS_PER_TOKEN, error_message
from r1.records import Message
from r1.serving.api.errors import ApiError
from r1.serving.api.loops import loop_period
from r1.serving.api.model_side import (
    AnswerForm,
    ChatInput,
    ModelChunk,
    ModelLoad,
    ModelPrompt,
    ReplyPrefix,
    ReplySettings,
)
from r1.serving.api.reply_constraint import BUDGET_CLOSING, LOOP_CLOSING
from r1.serving.api.upstream_reply import UpstreamReader
from r1.text.chat_template import R1_CHAT_TEMPLATE, render_chat
from r1.text.reasoning import THINK_CLOSE, THINK_OPEN, ReasoningParser
from r1.text.tokenizer import Tokenizer

_EOS = "<｜end▁of▁sentence｜>"
_LOOP_INTERVAL_CHARACTERS = 512


class ServerModel:
    """Asks a server's chat endpoint; goes on within a reply through its completions endpoint.

    A thought that is over its budget or in a loop is stopped, closed and continued as text
    in R1's template. Where the server has no such endpoint the reply ends there, as too long.
    Such a text has no form for tools. Special tokens in text that people wrote are broken up,
    because a server reads them.
    """

    tokenizer: Tokenizer | None = None
    max_model_len: int | None = None
    is_reasoning = True

    def __init__(self, config: ServerConfig, client: httpx2.AsyncClient | None = None) -> None:
        self._config = config
        key = read_key(config)
        self._client = client or httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(
                config.read_timeout_seconds, connect=config.connect_timeout_seconds, pool=None
            ),
            limits=httpx2.Limits(max_connections=None),
        )
        self._num_running = 0

    def prepare_chat(self, chat: ChatInput) -> ModelPrompt:
        """The conversation as messages; as text where the reply has begun already."""
        if chat.prefix is None:
            return ModelPrompt(chat=chat)
        text = _render(chat) + _opening(chat.prefix)
        return ModelPrompt(starts_in_thought=not chat.prefix.answer, chat=chat, text=text)

    def prepare_text(self, prompt: str | Sequence[int]) -> ModelPrompt:
        """A text as it is, or token ids, for the completions endpoint."""
        if isinstance(prompt, str):
            return ModelPrompt(text=_broken_up(prompt))
        return ModelPrompt(ids=tuple(prompt))

    async def stream(
        self, prompt: ModelPrompt, settings: ReplySettings
    ) -> AsyncGenerator[list[ModelChunk], None]:
        """See ModelSide."""
        self._num_running += 1
        try:
            watch = _ThoughtWatch(settings, is_in_thought=prompt.starts_in_thought)
            reader = self._reader(prompt)
            async with aclosing(self._ask(prompt, settings, reader)) as stream:
                async for chunks in stream:
                    yield chunks
                    if chunks[-1].finish_reason is not None:
                        return
                    text = "".join(chunk.text for chunk in chunks)
                    closing = watch.closing_after(text, reader.num_likely_tokens)
                    if closing is not None:
                        break
                else:
                    return
            thought = watch.text.removeprefix(THINK_OPEN).lstrip("\n") + closing
            yield [_cut_off(reader, f"{closing}{THINK_CLOSE}\n\n")]
            async with aclosing(self._go_on(prompt, settings, thought, reader)) as stream:
                async for chunks in stream:
                    yield chunks
        finally:
            self._num_running -= 1

    def load(self) -> ModelLoad:
        """What is under way from here; the server's own load is on its own metrics."""
        return ModelLoad(num_running=self._num_running)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    # ------------------------------------------------------------ inside

    def _reader(self, prompt: ModelPrompt) -> UpstreamReader:
        is_think_forced = _is_chat(prompt) and self._config.is_think_forced
        return UpstreamReader(is_think_forced=is_think_forced)

    async def _ask(
        self, prompt: ModelPrompt, settings: ReplySettings, reader: UpstreamReader
    ) -> AsyncGenerator[list[ModelChunk], None]:
        """One request, until its last chunk."""
        body = self._body(prompt, settings)
        url = f"{self._config.url}/{'chat/completions' if _is_chat(prompt) else 'completions'}"
        try:
            async with self._client.stream("POST", url, json=body) as response:
                if response.status_code != 200:
                    raise await _refusal(response)
                async for event in httpx2.EventSource(response):
                    if event.data.strip() == "[DONE]":
                        break
                    if chunks := reader.read(json.loads(event.data)):
                        yield chunks
                yield [reader.end()]
        except (httpx2.HTTPError, ValueError, RecursionError) as error:
            kind = type(error).__name__
            raise ApiError(502, f"the model's server: {kind}: {error}"[:300]) from None

    async def _go_on(
        self, prompt: ModelPrompt, settings: ReplySettings, thought: str, begun: UpstreamReader
    ) -> AsyncGenerator[list[ModelChunk], None]:
        """Have the answer written behind a closed thought."""
        assert prompt.chat is not None
        num_left = settings.sampling.max_tokens - begun.num_likely_tokens
        sampling = replace(settings.sampling, max_tokens=max(1, num_left))
        try:
            text = (prompt.text or f"{_render(prompt.chat)}{THINK_OPEN}\n") + thought
            rest = ModelPrompt(chat=prompt.chat, text=f"{text}{THINK_CLOSE}\n\n")
            asked = self._ask(rest, replace(settings, sampling=sampling), self._reader(rest))
            async with aclosing(asked) as stream:
                async for chunks in stream:
                    yield [_behind(chunk, begun) for chunk in chunks]
        except ApiError as error:
            if error.status_code not in (400, 404, 405):
                raise
            yield [ModelChunk("", num_tokens=0, finish_reason="length")]

    def _body(self, prompt: ModelPrompt, settings: ReplySettings) -> dict[str, Any]:
        sampling = settings.sampling
        stream_options = {"include_usage": True}
        if settings.thinking_budget is not None:
            # vLLM's and SGLang's: a piece of the stream may be many tokens.
            stream_options["continuous_usage_stats"] = True
        body: dict[str, Any] = {
            "model": self._config.model,
            "stream": True,
            "stream_options": stream_options,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": (settings.seed + settings.sample_index) % 2**31,
        }
        optional = {
            "stop": list(sampling.stop),
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "ignore_eos": sampling.ignore_eos,
        }
        body |= {name: value for name, value in optional.items() if value}
        if settings.form is not None:
            body |= _form_fields(settings.form)
        body |= (
            _chat_fields(prompt, settings) if _is_chat(prompt) else _text_fields(prompt, settings)
        )
        body |= self._config.extra
        return {name: value for name, value in body.items() if name not in self._config.omit}


class _ThoughtWatch:
    """Follows a reply; says how its thought is to be closed when it is too long or in a loop."""

    def __init__(self, settings: ReplySettings, *, is_in_thought: bool) -> None:
        self.text = ""
        self._settings = settings
        self._parser = ReasoningParser(starts_in_thought=is_in_thought)
        self._num_checked = 0

    def closing_after(self, text: str, num_tokens: int) -> str | None:
        """The closing words behind this text, with so many tokens in all; None: go on."""
        self.text += text
        self._parser.push(text)
        if self._parser.is_closed:
            return None
        budget = self._settings.thinking_budget
        if budget is not None and num_tokens >= budget:
            return BUDGET_CLOSING
        if len(self.text) - self._num_checked < _LOOP_INTERVAL_CHARACTERS:
            return None
        self._num_checked = len(self.text)
        num_characters = self._settings.loop_tokens * CHARACTERS_PER_TOKEN
        codes = np.array([ord(char) for char in self.text[-8 * max(1, num_characters) :]])
        return LOOP_CLOSING if loop_period(codes, num_characters) is not None else None


def _is_chat(prompt: ModelPrompt) -> bool:
    return prompt.chat is not None and not prompt.text


def _cut_off(reader: UpstreamReader, closing: str) -> ModelChunk:
    """Our end of a thought, with what has not been counted of a reply that told no usage."""
    return ModelChunk(
        closing,
        num_tokens=reader.num_likely_tokens - reader.num_tokens,
        num_prompt_tokens=reader.num_prompt_tokens,
        num_cached_tokens=reader.num_cached_tokens,
    )


def _behind(chunk: ModelChunk, begun: UpstreamReader) -> ModelChunk:
    """A chunk of the answer: its request had the thought within its prompt."""
    num_prompt = chunk.num_prompt_tokens
    if num_prompt is not None:
        num_prompt = begun.num_prompt_tokens or max(1, num_prompt - begun.num_likely_tokens)
    return replace(
        chunk, num_prompt_tokens=num_prompt, num_cached_tokens=None, num_reasoning_tokens=None
    )


def _text_fields(prompt: ModelPrompt, settings: ReplySettings) -> dict[str, Any]:
    fields: dict[str, Any] = {"prompt": prompt.text or list(prompt.ids)}
    if settings.num_top_logprobs is not None:
        fields["logprobs"] = settings.num_top_logprobs
    return fields


def _chat_fields(prompt: ModelPrompt, settings: ReplySettings) -> dict[str, Any]:
    chat = prompt.chat
    assert chat is not None
    fields: dict[str, Any] = {"messages": _messages(chat.messages)}
    if settings.num_top_logprobs is not None:
        fields |= {"logprobs": True, "top_logprobs": settings.num_top_logprobs}
    if chat.tools:
        fields["tools"] = list(chat.tools)
    if not chat.is_thinking:
        # DeepSeek's switch, and that of the templates which know one.
        fields["thinking"] = {"type": "disabled"}
        fields["chat_template_kwargs"] = {"thinking": False, "enable_thinking": False}
    return fields


def _form_fields(form: AnswerForm) -> dict[str, Any]:
    if form.tools:
        name = form.tools[0]["function"]["name"]
        is_named = form.is_one_call and len(form.tools) == 1
        named = {"type": "function", "function": {"name": name}}
        return {"tool_choice": named if is_named else "required"}
    if form.schema == {"type": "object"}:
        return {"response_format": {"type": "json_object"}}
    schema = {"name": "answer", "schema": form.schema}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _messages(messages: Sequence[Message]) -> list[Mapping[str, Any]]:
    """The turns as they are sent; tool outputs answer the calls before them in their order."""
    sent: list[Mapping[str, Any]] = []
    open_ids: list[str] = []
    for index, message in enumerate(messages):
        content = message.content
        if message.role == "assistant":
            content = content.rpartition(THINK_CLOSE)[2].lstrip("\n")
        fields: dict[str, Any] = {"role": message.role, "content": content}
        if message.role == "tool":
            fields["tool_call_id"] = open_ids.pop(0) if open_ids else f"call_{index}"
        if message.tool_calls:
            open_ids = [f"call_{index}_{number}" for number in range(len(message.tool_calls))]
            fields["tool_calls"] = [
                {
                    "id": call_id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call_id, call in zip(open_ids, message.tool_calls, strict=True)
            ]
        sent.append(fields)
    return sent


def _render(chat: ChatInput) -> str:
    """The conversation in R1's template up to the reply; the server adds the BOS.

    Raises ApiError 400 for tools, which this form has not.
    """
    if chat.tools:
        raise ApiError(400, "a reply with tools cannot begin with a text on another server")
    messages = [Message(m.role, _broken_up(m.content)) for m in chat.messages]
    try:
        return render_chat(messages, R1_CHAT_TEMPLATE, eos_token=_EOS, force_think=False)
    except ValueError as error:
        raise ApiError(400, str(error)) from None


def _opening(prefix: ReplyPrefix) -> str:
    thought = f"{THINK_OPEN}\n{_broken_up(prefix.thought or '')}"
    if prefix.thought and not prefix.answer:
        return thought
    return f"{thought}\n{THINK_CLOSE}\n\n{_broken_up(prefix.answer)}"


def _broken_up(text: str) -> str:
    """The text with no special token of DeepSeek's in it."""
    return text.replace("<｜", "< ｜")


async def _refusal(response: httpx2.Response) -> ApiError:
    """A server's error as ours: what the client can mend is told as it is."""
    text = (await response.aread()).decode("utf-8", "replace").strip()
    try:
        message = error_message(json.loads(text))[:300]
    except (ValueError, RecursionError):
        message = text[:300] or response.reason_phrase
    status = response.status_code
    headers = {}
    if "retry-after" in response.headers:
        headers["retry-after"] = response.headers["retry-after"]
    if status in (400, 402, 404, 405, 413, 422, 429, 503):
        return ApiError(status, f"the model's server: {message}", headers=headers)
    # A wrong key there is our mistake, not the client's.
    return ApiError(502, f"the model's server answered {status}: {message}")
