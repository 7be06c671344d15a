"""What a request may say: OpenAI's fields with DeepSeek's additions, every number bounded.

Unknown fields are ignored, as both servers do: clients send fields of their own.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_CHOICES = 16
MAX_STOPS = 16
MAX_TOKENS = 1_048_576
MAX_SCHEMA_CHARACTERS = 65_536
MAX_TOP_LOGPROBS = 20

Stop = Annotated[str, Field(min_length=1, max_length=1024)]
Model = Annotated[str | None, Field(max_length=1024)]
# Half of a surrogate pair is text in JSON and in no encoding: refused where text is used.
Text = Annotated[str, Field(max_length=8 * 2**20)]


class Body(BaseModel):
    """What all parts of a request derive from."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class TextPart(Body):
    """One part of a content that is a list."""

    type: Literal["text"]
    text: Text


class FunctionCallIn(Body):
    """The function of a call in an earlier turn."""

    name: Annotated[str, Field(max_length=256)]
    arguments: Text = "{}"


class ToolCallIn(Body):
    """A tool call in an earlier turn."""

    id: Annotated[str | None, Field(max_length=256)] = None
    type: Literal["function"] = "function"
    function: FunctionCallIn


class MessageIn(Body):
    """One turn. `reasoning_content` (or `reasoning`) is accepted and dropped, except as the
    beginning of the thought where `prefix` says that the reply goes on from this turn.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(max_length=256)] | None = None
    name: Annotated[str | None, Field(max_length=256)] = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None
    prefix: bool = False
    tool_calls: Annotated[list[ToolCallIn], Field(max_length=128)] | None = None
    tool_call_id: Annotated[str | None, Field(max_length=256)] = None

    @property
    def text(self) -> str:
        """The content, its parts joined."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class FunctionIn(Body):
    """A function that the model may call."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: Annotated[str | None, Field(max_length=16_384)] = None
    parameters: dict[str, Any] | None = None

    _bound = field_validator("parameters")(lambda value: _bounded(value))


class ToolIn(Body):
    """A tool; only functions exist."""

    type: Literal["function"] = "function"
    function: FunctionIn


class NamedFunction(Body):
    """The name within `tool_choice`."""

    name: Annotated[str, Field(max_length=64)]


class NamedTool(Body):
    """The tool that must be called."""

    type: Literal["function"] = "function"
    function: NamedFunction


class JsonSchemaIn(Body):
    """The schema of an answer."""

    model_config = ConfigDict(populate_by_name=True)
    name: Annotated[str | None, Field(max_length=64)] = None
    json_schema: Annotated[dict[str, Any] | bool, Field(alias="schema")] = True
    strict: bool | None = None

    _bound = field_validator("json_schema")(lambda value: _bounded(value))


class ResponseFormat(Body):
    """The form of the answer; the thought stays free."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchemaIn | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is required where type is json_schema")
        return self


class Thinking(Body):
    """DeepSeek's switch of the thought, and how long it may be (tokens)."""

    type: Literal["enabled", "disabled"] = "enabled"
    budget_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None


class StreamOptionsIn(Body):
    """What a stream carries beside the text: usage at its end, and with each chunk (vLLM's)."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class SamplingFields(Body):
    """Fields that chat and plain completions share."""

    model: Model = None
    n: Annotated[int | None, Field(ge=1, le=MAX_CHOICES)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False)] = None
    top_k: Annotated[int | None, Field(ge=-1, le=MAX_TOKENS)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    logit_bias: dict[str, float] | None = None
    max_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None
    ignore_eos: bool = False
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptionsIn | None = None

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def has_usage_chunk(self) -> bool:
        """Whether a stream ends with a chunk of its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def has_continuous_usage(self) -> bool:
        """Whether each chunk of a stream tells its choice's usage so far."""
        options = self.stream_options
        return self.has_usage_chunk and options is not None and options.continuous_usage_stats


class ChatRequest(SamplingFields):
    """`/v1/chat/completions`."""

    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=MAX_TOP_LOGPROBS)] = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolIn], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    thinking: Thinking | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )

    @model_validator(mode="after")
    def _agrees(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice needs tools")
        if any(message.prefix for message in self.messages[:-1]):
            raise ValueError("prefix is for the last message")
        if self.messages[-1].prefix and self.messages[-1].role != "assistant":
            raise ValueError("prefix needs a last message of the assistant")
        names = [tool.function.name for tool in self.tools or ()]
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError(f"tool_choice names none of the tools: {', '.join(names)}")
        return self


class CompletionRequest(SamplingFields):
    """`/v1/completions`: text (special tokens in it stay text) or token ids to continue."""

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=64)]
        | Annotated[list[int], Field(min_length=1, max_length=MAX_TOKENS)]
        | Annotated[
            list[Annotated[list[int], Field(min_length=1, max_length=MAX_TOKENS)]],
            Field(min_length=1, max_length=64),
        ]
    )
    logprobs: Annotated[int | None, Field(ge=0, le=MAX_TOP_LOGPROBS)] = None
    echo: bool | None = None
    response_format: ResponseFormat | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """One entry for each prompt."""
        prompt: Any = self.prompt
        if isinstance(prompt, str) or isinstance(prompt[0], int):
            return [prompt]
        return prompt


class TokenizeRequest(Body):
    """`/v1/tokenize`: a text, or the conversation whose prompt is wanted (vLLM's fields)."""

    model: Model = None
    prompt: Text | None = None
    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=4096)] | None = None
    add_special_tokens: bool = True
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _has_one(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self


class DetokenizeRequest(Body):
    """`/v1/detokenize`."""

    model: Model = None
    tokens: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MAX_TOKENS)]


def _bounded(schema: Any) -> Any:
    """A schema whose compilation is bounded by its size."""
    if schema is not None and len(json.dumps(schema)) > MAX_SCHEMA_CHARACTERS:
        raise ValueError(f"a schema may have {MAX_SCHEMA_CHARACTERS} characters as JSON")
    return schema
