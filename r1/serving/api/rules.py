"""R1's rules of use, applied to a chat request: from what was asked to what the model gets.

They are the "Usage Recommendations" of the DeepSeek-R1 README (MIT): temperature 0.6 and
top-p 0.95, no system prompt (what it would say goes into the user's turn), a thought that
is forced to begin. Earlier thoughts are dropped, as the model's template does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from r1.records import Message, SamplingParams, ToolCall
from r1.serving.api.errors import ApiError
from r1.serving.api.ids import new_seed
from r1.serving.api.model_side import AnswerForm, ChatInput, ReplyPrefix
from r1.serving.api.requests import (
    ChatRequest,
    MessageIn,
    NamedTool,
    ResponseFormat,
    SamplingFields,
)
from r1.serving.api.settings import ServerSettings

# DeepSeek's names: one model, asked to think and asked not to.
THINKING_ALIAS, ANSWERING_ALIAS = "deepseek-reasoner", "deepseek-chat"

# Tokens of thought; None is no limit but the reply's own.
EFFORT_BUDGETS: dict[str, int | None] = {
    "minimal": 512,
    "low": 2048,
    "medium": 8192,
    "high": None,
    "xhigh": None,
    "max": None,
}
_GREEDY_BELOW = 1e-5
_NO_SUCH_FIELDS = ("presence_penalty", "frequency_penalty", "logit_bias")


@dataclass(frozen=True, slots=True)
class ChatPlan:
    """What is asked of the model, and what the client is told about it in headers."""

    chat: ChatInput
    thinking_budget: int | None
    form: AnswerForm | None
    headers: dict[str, str] = field(default_factory=dict)


def plan_chat(body: ChatRequest, settings: ServerSettings, *, is_reasoning: bool) -> ChatPlan:
    """Apply the rules. Raises ApiError for what a strict DeepSeek server refuses."""
    if settings.is_strict_deepseek:
        _refuse_as_deepseek(body)
    headers: dict[str, str] = {}
    *turns, last = body.messages
    prefix = None
    if last.prefix:
        prefix = ReplyPrefix(last.reasoning_content or last.reasoning, last.text)
    else:
        turns = body.messages
    messages = [_message(turn) for turn in turns]
    if is_reasoning:
        messages, is_folded = fold_system(messages)
        if is_folded:
            headers["x-r1-system-message"] = "folded into the first user turn"
    if ignored := _ignored(body, settings):
        headers["x-r1-ignored"] = ", ".join(ignored)
    chat = ChatInput(
        messages=tuple(messages),
        is_thinking=is_reasoning and _is_thinking(body),
        tools=_offered_tools(body),
        prefix=prefix,
    )
    return ChatPlan(chat, _thinking_budget(body, settings), _form(body), headers)


def sampling_of(
    body: SamplingFields, settings: ServerSettings, max_tokens: int | None
) -> SamplingParams:
    """The sampling settings, with R1's defaults for what was left out."""
    temperature, top_p = body.temperature, body.top_p
    if settings.is_strict_deepseek:
        temperature = top_p = None
    temperature = settings.temperature if temperature is None else temperature
    return SamplingParams(
        temperature=0.0 if temperature < _GREEDY_BELOW else temperature,
        top_p=settings.top_p if top_p is None else top_p,
        top_k=max(0, body.top_k or 0),
        min_p=body.min_p or 0.0,
        max_tokens=max_tokens or settings.max_tokens,
        stop=body.stop_strings,
        ignore_eos=body.ignore_eos,
    )


def json_form(wanted: ResponseFormat | None) -> AnswerForm | None:
    """JSON, or JSON of a schema."""
    if wanted is None or wanted.type == "text":
        return None
    if wanted.json_schema is None:
        return AnswerForm(schema={"type": "object"})
    return AnswerForm(schema=wanted.json_schema.json_schema)


def seed_of(body: SamplingFields) -> int:
    """The seed that was given, or a new one."""
    return new_seed() if body.seed is None else body.seed


def fold_system(messages: Sequence[Message]) -> tuple[list[Message], bool]:
    """System messages put in front of the first user turn; whether there were any."""
    system = "\n\n".join(m.content for m in messages if m.role == "system" and m.content)
    turns = [m for m in messages if m.role != "system"]
    if not system:
        return turns, False
    for index, message in enumerate(turns):
        if message.role == "user":
            turns[index] = replace(message, content=f"{system}\n\n{message.content}")
            return turns, True
    return [Message("user", system), *turns], True


def _message(turn: MessageIn) -> Message:
    calls = tuple(ToolCall(c.function.name, c.function.arguments) for c in turn.tool_calls or ())
    return Message("system" if turn.role == "developer" else turn.role, turn.text, calls)


def _is_thinking(body: ChatRequest) -> bool:
    if body.thinking is not None:
        return body.thinking.type == "enabled"
    if body.reasoning_effort is not None:
        return body.reasoning_effort != "none"
    return body.model != ANSWERING_ALIAS


def _thinking_budget(body: ChatRequest, settings: ServerSettings) -> int | None:
    if body.thinking is not None and body.thinking.budget_tokens is not None:
        return body.thinking.budget_tokens
    if body.reasoning_effort in EFFORT_BUDGETS:
        return EFFORT_BUDGETS[body.reasoning_effort]
    return settings.thinking_budget


def _offered_tools(body: ChatRequest) -> tuple[dict[str, Any], ...]:
    if body.tool_choice == "none":
        return ()
    return tuple(tool.model_dump(exclude_none=True) for tool in body.tools or ())


def _form(body: ChatRequest) -> AnswerForm | None:
    """The form that the answer is held to, and its thought is not."""
    tools = _offered_tools(body)
    if isinstance(body.tool_choice, NamedTool):
        name = body.tool_choice.function.name
        tools = tuple(tool for tool in tools if tool["function"]["name"] == name)
        return AnswerForm(tools=tools, is_one_call=True)
    if body.tool_choice == "required":
        return AnswerForm(tools=tools, is_one_call=body.parallel_tool_calls is False)
    return json_form(body.response_format)


def _ignored(body: ChatRequest, settings: ServerSettings) -> list[str]:
    """Fields that were set and have no effect here."""
    names = [name for name in _NO_SUCH_FIELDS if getattr(body, name)]
    if settings.is_strict_deepseek:
        names += [name for name in ("temperature", "top_p") if getattr(body, name) is not None]
    return names


def _refuse_as_deepseek(body: ChatRequest) -> None:
    """What deepseek-reasoner answers with an error (api-docs.deepseek.com, 2025)."""
    if body.logprobs or body.top_logprobs is not None:
        raise ApiError(400, "deepseek-reasoner does not support logprobs", param="logprobs")
    for index, turn in enumerate(body.messages):
        if not turn.prefix and (turn.reasoning_content or turn.reasoning):
            where = f"messages.{index}.reasoning_content"
            raise ApiError(400, f"{where} must not be sent back to the model", param=where)
