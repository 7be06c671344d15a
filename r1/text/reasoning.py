"""The think split: which part of a reply is thought and which is answer.

One state machine serves both the stream (serving, chat) and the whole text
(graders, filters), so that the two can never disagree.

Tags count only where they can stand: `<think>` at the start of a reply,
`</think>` the first time after it, `<answer>` at the start of what follows. The
same strings anywhere else, in code or in an explanation, are text. Tags do not
nest: the first `</think>` ends the thought, as in DeepSeek's and vLLM's parsers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
REASONING_TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)

Kind = Literal["thought", "answer"]
Piece = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A reply in its two parts, outer whitespace removed.

    `thought` is None when the reply has no thought at all, and "" for an empty
    think block. `is_closed` is False only when a thought was opened and never
    closed; then `answer` is "". `answer_tagged` says that the answer stood in
    R1-Zero's `<answer>` tags, which are taken off (a missing `</answer>`, as
    after a stop string or the token limit, is forgiven here and not in
    `rewards.format`).
    """

    thought: str | None
    answer: str
    is_closed: bool = True
    answer_tagged: bool = False


def split_reasoning(text: str, *, starts_in_thought: bool | None = None) -> Reasoning:
    """Split a whole reply.

    `starts_in_thought` says that the prompt ended with a forced `<think>` that
    `text` does not repeat; None infers it: the first tag is a `</think>`.
    """
    if starts_in_thought is None:
        starts_in_thought = _is_forced_open(text)
    parser = ReasoningParser(starts_in_thought=starts_in_thought)
    pieces = parser.push(text) + parser.close()
    return Reasoning(
        thought=_join(pieces, "thought") if parser.has_thought else None,
        answer=_join(pieces, "answer"),
        is_closed=parser.is_closed,
        answer_tagged=parser.answer_tagged,
    )


class ReasoningParser:
    """The same split on a stream: push chunks cut anywhere, get finished pieces.

    The pieces of one kind, joined, equal that part of `split_reasoning` on the
    whole text. Held back are only whitespace that may turn out to be trailing
    and the beginning of what may become a tag; `close` gives back the latter.
    """

    def __init__(self, *, starts_in_thought: bool = False) -> None:
        self.has_thought = starts_in_thought
        self.answer_tagged = False
        self._state: _State = "thought" if starts_in_thought else "start"
        self._pending = ""
        self._is_part_empty = True

    @property
    def is_closed(self) -> bool:
        """False while a thought is open."""
        return self._state != "thought"

    def push(self, text: str) -> list[Piece]:
        """Take the next chunk and return the pieces that are now certain."""
        self._pending += text
        pieces: list[Piece] = []
        while self._advance(pieces, is_end=False):
            pass
        return pieces

    def close(self) -> list[Piece]:
        """End of the reply: return what was held back, less trailing whitespace."""
        pieces: list[Piece] = []
        while self._advance(pieces, is_end=True):
            pass
        return pieces

    def _advance(self, pieces: list[Piece], *, is_end: bool) -> bool:
        """Make one move; False when nothing more can be decided."""
        if self._state == "start":
            return self._expect(THINK_OPEN, found="thought", absent="before_answer", is_end=is_end)
        if self._state == "before_answer":
            return self._expect(ANSWER_OPEN, found="tagged_answer", absent="answer", is_end=is_end)
        if self._state == "thought":
            if self._is_part_empty and self._expect(THINK_OPEN, found="thought", is_end=is_end):
                return True  # forced by the prompt and repeated by the model: one opening
            return self._emit_until(THINK_CLOSE, pieces, after="before_answer", is_end=is_end)
        if self._state == "tagged_answer":
            return self._emit_until(ANSWER_CLOSE, pieces, after="done", is_end=is_end)
        if self._state == "answer":
            return self._emit_until(None, pieces, after="done", is_end=is_end)
        self._pending = ""
        return False

    def _expect(
        self, tag: str, *, found: _State, absent: _State | None = None, is_end: bool
    ) -> bool:
        """Skip whitespace and decide whether `tag` comes next."""
        self._pending = self._pending.lstrip()
        if self._pending.startswith(tag):
            self._pending = self._pending[len(tag) :]
            self._enter(found)
            return True
        is_undecided = tag.startswith(self._pending) and not is_end
        if absent is None or is_undecided or not self._pending:
            return False
        self._enter(absent)
        return True

    def _emit_until(
        self, tag: str | None, pieces: list[Piece], *, after: _State, is_end: bool
    ) -> bool:
        """Emit text of the current part, up to `tag` when it is there."""
        position = self._pending.find(tag) if tag else -1
        if tag and position >= 0:
            text, self._pending = self._pending[:position], self._pending[position + len(tag) :]
            self._emit(text.rstrip(), pieces)
            self._enter(after)
            return True
        held = 0 if is_end or not tag else _tag_prefix_length(self._pending, tag)
        # An opening tag may still come at the start of a thought (see _advance).
        if tag == THINK_CLOSE and self._is_part_empty and not is_end:
            head = self._pending.lstrip()
            held = max(held, len(head) if THINK_OPEN.startswith(head) else 0)
        text = self._pending[: len(self._pending) - held].rstrip()
        self._pending = self._pending[len(text) :]
        self._emit(text, pieces)
        return False

    def _emit(self, text: str, pieces: list[Piece]) -> None:
        if self._is_part_empty:
            text = text.lstrip()
        if text:
            pieces.append(("thought" if self._state == "thought" else "answer", text))
            self._is_part_empty = False

    def _enter(self, state: _State) -> None:
        self._is_part_empty = True
        self._state = state
        self.has_thought = self.has_thought or state == "thought"
        self.answer_tagged = self.answer_tagged or state == "tagged_answer"


_State = Literal["start", "thought", "before_answer", "answer", "tagged_answer", "done"]


def _is_forced_open(text: str) -> bool:
    close = text.find(THINK_CLOSE)
    return close >= 0 and THINK_OPEN not in text[:close]


def _tag_prefix_length(text: str, tag: str) -> int:
    """The length of the longest end of `text` that is a proper beginning of `tag`."""
    for length in range(min(len(tag) - 1, len(text)), 0, -1):
        if tag.startswith(text[-length:]):
            return length
    return 0


def _join(pieces: list[Piece], kind: Kind) -> str:
    return "".join(text for piece_kind, text in pieces if piece_kind == kind)
