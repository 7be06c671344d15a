"""Tool calls in DeepSeek-R1's format: in the prompt, and out of the reply.

The tags and the turns are those of the published chat template (deepseek-ai/DeepSeek-R1,
tokenizer_config.json, MIT). It has calls and outputs but no list of tools: the
instruction that announces them is the one that vLLM and SGLang ship for this model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1.records import Message, ToolCall
from r1.text.chat_template import (
    FORCED_THINK,
    Prompt,
    choose_mark,
    encode_chat,
    encode_marked,
    mark_untrusted,
)
from r1.text.reasoning import THINK_CLOSE
from r1.text.tokenizer import Tokenizer

CALLS_BEGIN, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL_BEGIN, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
CALL_SEPARATOR = "<｜tool▁sep｜>"
OUTPUTS_BEGIN, OUTPUTS_END = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"
OUTPUT_BEGIN, OUTPUT_END = "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"

_INSTRUCTION = (
    "You are a helpful assistant with tool calling capabilities. When a tool call is needed, "
    "you MUST use the following format to issue the call:\n"
    f"{CALLS_BEGIN}{CALL_BEGIN}function{CALL_SEPARATOR}FUNCTION_NAME\n"
    '```json\n{"param1": "value1", "param2": "value2"}\n```'
    f"{CALL_END}{CALLS_END}\n\nMake sure the JSON is valid.\n\n"
    "## Tools\n\n### Function\n\nYou have the following functions available:\n\n"
)

# R1: `function<sep>NAME` and the arguments in a fence; V3.1: `NAME<sep>ARGUMENTS`.
_FENCED = re.compile(
    rf"\s*function{re.escape(CALL_SEPARATOR)}\s*([\w.-]{{1,256}})\s*```(?:json)?\s*(.*?)\s*```\s*",
    re.DOTALL,
)
_BARE = re.compile(rf"\s*([\w.-]{{1,256}}){re.escape(CALL_SEPARATOR)}\s*(.*?)\s*", re.DOTALL)


def encode_tool_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    *,
    force_think: bool,
) -> Prompt:
    """The prompt of a conversation with tools; what people, files and tools wrote stays text.

    A model without DeepSeek's turns gets the same format as text within its own template.
    """
    written = [m.content for m in messages]
    written += [part for m in messages for call in m.tool_calls for part in _parts(call)]
    listed = [json.dumps(tool, ensure_ascii=False) for tool in tools]
    mark = choose_mark([*written, *listed])
    if ASSISTANT not in (tokenizer.chat_template or ASSISTANT):
        flat = [Message(*_as_plain_turn(message)) for message in messages]
        if listed:
            flat.insert(0, Message("system", _announce(listed)))
        return encode_chat(tokenizer, flat, force_think=force_think)

    def safe(text: str) -> str:
        return mark_untrusted(tokenizer, text, mark)

    system = [safe(m.content) for m in messages if m.role == "system"]
    if listed:
        system.append(_announce([safe(text) for text in listed]))
    turns = [m for m in messages if m.role != "system"]
    eos = tokenizer.names.eos
    text = "\n\n".join(system) + "".join(
        _turn(m, previous, eos, safe) for m, previous in zip(turns, [None, *turns], strict=False)
    )
    is_after_tool = bool(turns) and turns[-1].role == "tool"
    text += OUTPUTS_END if is_after_tool else ASSISTANT
    text += FORCED_THINK if force_think else ""
    prefix = () if tokenizer.bos_id is None else (tokenizer.bos_id,)
    ids = (*prefix, *encode_marked(tokenizer, text, mark))
    return Prompt(ids, FORCED_THINK if force_think else "")


def _announce(listed: Sequence[str]) -> str:
    return _INSTRUCTION + "".join(f"\n```json\n{text}\n```\n" for text in listed)


def _turn(message: Message, previous: Message | None, eos: str, safe: Any) -> str:
    is_after_tool = previous is not None and previous.role == "tool"
    content = safe(message.content.rpartition(THINK_CLOSE)[2])
    if message.role == "tool":
        opening = "\n" if is_after_tool else OUTPUTS_BEGIN
        return f"{opening}{OUTPUT_BEGIN}{safe(message.content)}{OUTPUT_END}"
    closing = OUTPUTS_END if is_after_tool else ""
    if message.role == "user":
        return f"{closing}{USER}{safe(message.content)}"
    calls = [ToolCall(*map(safe, _parts(call))) for call in message.tool_calls]
    return f"{closing or ASSISTANT}{content}{render_calls(calls)}{eos}"


def _as_plain_turn(message: Message) -> tuple[Any, str]:
    if message.role == "tool":
        output = f"{OUTPUT_BEGIN}{message.content}{OUTPUT_END}"
        return "user", f"{OUTPUTS_BEGIN}{output}{OUTPUTS_END}"
    return message.role, message.content + render_calls(message.tool_calls)


def render_calls(calls: Sequence[ToolCall]) -> str:
    """The calls as the end of a reply, "" for none."""
    if not calls:
        return ""
    rendered = [
        f"{CALL_BEGIN}function{CALL_SEPARATOR}{call.name}\n```json\n{call.arguments}\n```{CALL_END}"
        for call in calls
    ]
    return CALLS_BEGIN + "\n".join(rendered) + CALLS_END


def _parts(call: ToolCall) -> tuple[str, str]:
    return call.name, call.arguments


@dataclass(slots=True)
class ToolCallParser:
    """Text and whole tool calls from an answer that comes in pieces cut anywhere.

    What stands between the tags and is no call with a name and a JSON object stays text.
    """

    _pending: str = ""
    _is_in_calls: bool = False

    def push(self, text: str) -> list[str | ToolCall]:
        """Take a piece; return what is certain now."""
        self._pending += text
        found: list[str | ToolCall] = []
        while self._advance(found):
            pass
        return found

    def close(self) -> list[str | ToolCall]:
        """End of the answer: what was held back, as the text it is."""
        text, self._pending = self._pending, ""
        if self._is_in_calls:
            text = text.removesuffix(CALLS_END)
        return [text] if text.strip() else []

    def _advance(self, found: list[str | ToolCall]) -> bool:
        if not self._is_in_calls:
            return self._advance_text(found)
        head = self._pending.lstrip()
        if head.startswith(CALLS_END):
            self._pending = head[len(CALLS_END) :]
            self._is_in_calls = False
            return True
        end = self._pending.find(CALL_END)
        if end < 0:
            return False
        text = self._pending[:end]
        self._pending = self._pending[end + len(CALL_END) :]
        found.append(parse_call(text.strip().removeprefix(CALL_BEGIN)) or text + CALL_END)
        return True

    def _advance_text(self, found: list[str | ToolCall]) -> bool:
        start = self._pending.find(CALLS_BEGIN)
        if start >= 0:
            text = self._pending[:start].rstrip()
            self._pending = self._pending[start + len(CALLS_BEGIN) :]
            self._is_in_calls = True
        else:
            # A tag may have begun, and white space before a tag is not part of the text.
            held = _num_held_back(self._pending)
            text = self._pending[: len(self._pending) - held].rstrip()
            self._pending = self._pending[len(text) :]
        if text:
            found.append(text)
        return start >= 0


def parse_call(text: str) -> ToolCall | None:
    """The call between its tags, or None where there is no name and JSON object."""
    match = _FENCED.fullmatch(text) or _BARE.fullmatch(text)
    if match is None:
        return None
    try:
        arguments = json.loads(match[2])
    except (ValueError, RecursionError):
        return None
    return ToolCall(match[1], match[2]) if isinstance(arguments, dict) else None


def _num_held_back(text: str) -> int:
    start = text.rfind(CALLS_BEGIN[0])
    return len(text) - start if start >= 0 and CALLS_BEGIN.startswith(text[start:]) else 0
