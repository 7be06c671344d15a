"""Prompts: a question in the form that a kind of model expects.

"r1_zero" asks a base model in plain text, "chat" uses the chat template with a
forced `<think>`, "plain" is the question alone.
"""

from __future__ import annotations

from typing import Literal

from r1.records import Completion, Message, Sample
from r1.text.chat_template import Prompt, choose_mark, encode_chat, encode_marked, mark_untrusted
from r1.text.reasoning import REASONING_TAGS
from r1.text.tokenizer import Tokenizer

__all__ = [
    "R1_ZERO_PROMPT",
    "Prompt",
    "PromptStyle",
    "build_prompt",
    "completion_of",
    "encode_completion",
    "encode_r1_zero",
]

PromptStyle = Literal["r1_zero", "chat", "plain"]

# The meaning of DeepSeek-R1's table 1, in our words: plain text without chat tokens,
# and nothing about how to think, so that what emerges comes from the reward.
R1_ZERO_PROMPT = (
    "This is a conversation in which a User asks a question and an Assistant solves it. "
    "The Assistant first works through the reasoning in its mind and then gives the User "
    "the answer. It writes the reasoning inside <think> </think> tags and the answer inside "
    "<answer> </answer> tags, that is, <think> reasoning goes here </think> "
    "<answer> answer goes here </answer>. User: {question}. Assistant:"
)


def build_prompt(
    tokenizer: Tokenizer, question: str, style: PromptStyle, instruction: str = ""
) -> Prompt:
    """The prompt of one question; the question is always untrusted text.

    `instruction` (how to think, how to give the answer) follows the question in the
    user's turn of "chat"; the other styles leave it out. Raises ValueError for
    another style.
    """
    if style == "chat":
        content = f"{question}\n{instruction}" if instruction else question
        return encode_chat(tokenizer, [Message("user", content)])
    if style == "r1_zero":
        return encode_r1_zero(tokenizer, question)
    if style == "plain":
        ids = tokenizer.encode(question, allow_special=False)
        return Prompt((*tokenizer.prefix_ids, *ids))
    raise ValueError(f"unknown prompt style {style!r}: choose from r1_zero, chat, plain")


def encode_r1_zero(tokenizer: Tokenizer, question: str, template: str = R1_ZERO_PROMPT) -> Prompt:
    """R1-Zero's plain-text prompt; `template` holds `{question}` once.

    The tags in the template are the tokens that the reply is to use; the same
    strings in the question are text.
    """
    if template.count("{question}") != 1:
        raise ValueError(f"a prompt template must hold {{question}} once: {template!r}")
    mark = choose_mark([question])
    marked = mark_untrusted(tokenizer, question, mark)
    ids = encode_marked(tokenizer, template.replace("{question}", marked), mark)
    return Prompt((*tokenizer.prefix_ids, *ids))


def completion_of(prompt: Prompt, sample: Sample) -> Completion:
    """A sample as graders see it: the forced opening is put back."""
    return Completion(
        text=prompt.forced_opening + sample.text,
        finish_reason=sample.finish_reason,
        num_tokens=sample.num_tokens,
    )


def encode_completion(tokenizer: Tokenizer, prompt: Prompt, text: str) -> tuple[int, ...]:
    """The tokens to train on after `prompt`: a reply's text, then EOS.

    An opening that the prompt already holds is not repeated; thought and answer tags
    become their tokens, any other special token's string stays text.
    """
    opening = prompt.forced_opening
    if opening:
        text = text.removeprefix(opening if text.startswith(opening) else opening.strip())
    ids = tokenizer.encode(text, allow_special=REASONING_TAGS)
    return (*ids, tokenizer.eos_id)
