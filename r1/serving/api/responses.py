"""The replies' form as it is documented: OpenAI's objects with DeepSeek's and vLLM's fields."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every error."""

    error: ErrorDetail


class Logprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobs(Logprob):
    top_logprobs: list[Logprob]


class ChoiceLogprobs(BaseModel):
    """`content` are the answer's tokens, `reasoning_content` the thought's."""

    content: list[TokenLogprobs] | None
    reasoning_content: list[TokenLogprobs] | None
    refusal: None = None


class CalledFunction(BaseModel):
    name: str
    arguments: str


class Called(BaseModel):
    id: str
    type: Literal["function"]
    function: CalledFunction


class ReplyMessage(BaseModel):
    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None
    reasoning: str | None
    tool_calls: list[Called] | None = None


class ChatChoice(BaseModel):
    index: int
    message: ReplyMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]
    stop_reason: str | None


class CompletionDetails(BaseModel):
    reasoning_tokens: int


class PromptDetails(BaseModel):
    cached_tokens: int


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_cache_hit_tokens: int
    prompt_cache_miss_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class ChatCompletion(BaseModel):
    """`/v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class TextLogprobs(BaseModel):
    """The older form of log-probs, one entry a token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(BaseModel):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"]
    stop_reason: str | None


class TextCompletion(BaseModel):
    """`/v1/completions`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage


class ModelCard(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int | None


class ModelList(BaseModel):
    """`/v1/models`."""

    object: Literal["list"]
    data: list[ModelCard]


class Tokens(BaseModel):
    """`/v1/tokenize`."""

    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(BaseModel):
    """`/v1/detokenize`."""

    prompt: str


class Health(BaseModel):
    """`/health`."""

    status: Literal["ok"]


_ERRORS = {
    400: "The request is not valid.",
    401: "The API key is wrong or missing.",
    403: "The host is not this server's.",
    404: "There is no such model.",
    413: "The body is too large.",
    422: "A parameter is not valid (DeepSeek's mode).",
    429: "Too many replies wait; try again after Retry-After.",
    500: "The server failed.",
    503: "The server is shutting down or behind.",
}


def documented(model: type[BaseModel], *, is_stream: bool = False) -> dict[int | str, Any]:
    """FastAPI's `responses` of an endpoint."""
    responses: dict[int | str, Any] = {
        status: {"model": ErrorBody, "description": text} for status, text in _ERRORS.items()
    }
    responses[200] = {"model": model, "description": "The reply."}
    if is_stream:
        event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
        responses[200]["content"] = {"text/event-stream": {"schema": event}}
    return responses
