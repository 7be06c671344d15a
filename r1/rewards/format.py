"""The format reward: 1.0 when the reply has the form that its prompt asked for, else 0.0.

Strict on purpose: what training rewards is what serving parses. An empty thought
fails, as it would reward skipping the thinking; a reply cut at the token limit
fails where its last tag or all of its summary is missing.
"""

from __future__ import annotations

import re
from typing import Literal

FormatStyle = Literal["r1_zero", "chat", "plain"]

_TAG = re.compile(r"</?(?:think|answer)>")
_TAGS_BY_STYLE: dict[str, list[str]] = {
    "r1_zero": ["<think>", "</think>", "<answer>", "</answer>"],
    "chat": ["<think>", "</think>"],
    "plain": [],
}


def format_reward(text: str, style: FormatStyle) -> float:
    """Grade the form of a reply (a forced opening `<think>` put back) as 0.0 or 1.0.

    - "r1_zero": `<think>thought</think> <answer>answer</answer>`, each tag exactly
      once and in this order, neither part empty, only whitespace outside.
    - "chat": `<think>thought</think>` and then a summary, both non-empty; no tag
      within either.
    - "plain": some text without any of the tags.

    Raises ValueError for another style.
    """
    if style not in _TAGS_BY_STYLE:
        raise ValueError(f"unknown format style {style!r}: choose from {list(_TAGS_BY_STYLE)}")
    if _TAG.findall(text) != _TAGS_BY_STYLE[style]:
        return 0.0
    parts = [part.strip() for part in _TAG.split(text)]
    if style == "plain":
        return float(bool(parts[0]))
    # parts: before <think>, thought, between, (answer, after) or the summary.
    if style == "chat":
        before, thought, summary = parts
        return float(not before and bool(thought) and bool(summary))
    before, thought, between, answer, after = parts
    return float(not (before or between or after) and bool(thought) and bool(answer))
