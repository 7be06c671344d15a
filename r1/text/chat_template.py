"""Chat messages to token ids, through a model's own jinja2 template.

What people and files wrote can never become a control token: before rendering,
a mark from Unicode's private planes is put behind every character that begins a
special token in their text, and after rendering only unmarked special tokens are
read as tokens. Templates thus stay free to trim, split and repeat their input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from r1.records import Message, Role
from r1.text.r1_template import R1_CHAT_TEMPLATE
from r1.text.reasoning import THINK_CLOSE, THINK_OPEN
from r1.text.template_sandbox import render_template
from r1.text.tokenizer import Tokenizer

__all__ = [
    "FORCED_THINK",
    "R1_CHAT_TEMPLATE",
    "Prompt",
    "choose_mark",
    "encode_chat",
    "encode_marked",
    "mark_untrusted",
    "parse_messages",
    "render_chat",
]

FORCED_THINK = "<think>\n"


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids to continue, and the opening of the reply that they already hold.

    `forced_opening` is the end of the prompt that belongs to the reply as every
    reader sees it (`"<think>\\n"`), or "".
    """

    ids: tuple[int, ...]
    forced_opening: str = ""


def parse_messages(rows: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Messages from JSON objects; ValueError names the turn and what is wrong with it."""
    messages = []
    for index, row in enumerate(rows):
        role: Any = row.get("role")
        content = row.get("content")
        if role not in get_args(Role):
            raise ValueError(f"messages[{index}].role is {role!r}: choose from {get_args(Role)}")
        if not isinstance(content, str):
            raise ValueError(f"messages[{index}].content must be text, not {content!r}")
        messages.append(Message(role, content))
    return messages


def render_chat(
    messages: Sequence[Message],
    template: str,
    *,
    bos_token: str = "",
    eos_token: str = "",
    add_generation_prompt: bool = True,
    force_think: bool = True,
) -> str:
    """Render a chat as the text that the model reads.

    Old thoughts are dropped from assistant turns (what follows the last `</think>`
    stays). `force_think` decides whether the text ends with `<think>` and a newline,
    whatever the template itself does. Raises ValueError when the template refuses
    the messages or is broken.
    """
    rows = [{"role": m.role, "content": _without_thought(m)} for m in messages]
    text = render_template(
        template,
        rows,
        bos_token=bos_token,
        eos_token=eos_token,
        add_generation_prompt=add_generation_prompt,
        # transformers defines both always, and templates ask whether they are none.
        tools=None,
        documents=None,
    )
    if not add_generation_prompt:
        return text
    text = text.removesuffix(FORCED_THINK)
    return text + FORCED_THINK if force_think else text


def encode_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], *, force_think: bool = True
) -> Prompt:
    """The prompt for the assistant's next reply, with exactly one BOS where one belongs.

    The tokenizer's own template is used, or R1's when it has none (its tokens must
    then be in the vocabulary to be tokens). Message contents are encoded with
    special tokens off.
    """
    mark = choose_mark(message.content for message in messages)
    text = render_chat(
        [Message(m.role, mark_untrusted(tokenizer, _without_thought(m), mark)) for m in messages],
        tokenizer.chat_template or R1_CHAT_TEMPLATE,
        bos_token=tokenizer.names.bos or "",
        eos_token=tokenizer.names.eos,
        force_think=force_think,
    )
    ids = encode_marked(tokenizer, text, mark)
    if tokenizer.bos_id is not None:
        num_bos = next((i for i, t in enumerate(ids) if t != tokenizer.bos_id), len(ids))
        ids = [*([tokenizer.bos_id] if num_bos else tokenizer.prefix_ids), *ids[num_bos:]]
    return Prompt(tuple(ids), FORCED_THINK if force_think else "")


def choose_mark(texts: Iterable[str]) -> str:
    """A private-use character that none of `texts` holds."""
    used = set().union(*texts)
    for code in range(0xF0000, 0xFFFFE):
        if chr(code) not in used:
            return chr(code)
    raise ValueError("the messages use every character of Unicode's private plane 15")


def mark_untrusted(tokenizer: Tokenizer, text: str, mark: str) -> str:
    """Break up everything in `text` that could begin a special token."""
    for first in {token[0] for token in tokenizer.special_tokens}:
        text = text.replace(first, first + mark)
    return text


def encode_marked(tokenizer: Tokenizer, text: str, mark: str) -> list[int]:
    """Encode rendered text: unmarked special tokens as tokens, the rest as plain text."""
    spans = tokenizer.split_special(text)
    return tokenizer.encode_spans(
        [span if isinstance(span, int) else span.replace(mark, "") for span in spans]
    )


def _without_thought(message: Message) -> str:
    """What history keeps of a turn: the assistant's text after its last thought."""
    if message.role != "assistant":
        return message.content
    if THINK_CLOSE in message.content:
        return message.content.rpartition(THINK_CLOSE)[2]
    is_unclosed = message.content.lstrip().startswith(THINK_OPEN)
    return "" if is_unclosed else message.content
