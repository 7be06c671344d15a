"""The rules of one reply, token by token: how long it may think, how it ends, its form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from r1.serving.api.loops import loop_period
from r1.serving.api.model_side import StopReason
from r1.text.reasoning import REASONING_TAGS, THINK_CLOSE, THINK_OPEN
from r1.text.tokenizer import Tokenizer

# What a thought that has used up its budget goes on with: in its own voice, so that the
# answer follows from it (the way of Qwen3's thinking budget; the words are ours).
BUDGET_CLOSING = "\n\nI have thought long enough; I give my answer from what I have.\n"
LOOP_CLOSING = "\n\nI am repeating myself; I give my answer from what I have.\n"
ANSWER_BREAK = "\n\n"

# Looking for loops at every token would cost more than it saves.
_LOOP_INTERVAL = 32
_LONGEST_CHARACTER_TOKENS = 4
_LONGEST_TAG_TOKENS = 8
# White space may stand before the tag that opens a thought.
_LONGEST_OPENING_TOKENS = 16
_THOUGHT_TAG = re.compile("|".join(map(re.escape, (THINK_OPEN, THINK_CLOSE))).encode())
_NEVER = 2**62


class Grammar(Protocol):
    """The form of an answer, as far as it has been written."""

    def accept(self, token_id: int) -> None: ...
    def allowed(self) -> np.ndarray: ...


class ThoughtTokens:
    """A tokenizer's ids around the end of a thought; made once for a model."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.no_end = np.ones(vocab_size, bool)
        self.no_end[list(tokenizer.eos_ids)] = False
        self._pieces = [tokenizer.token_bytes(token_id) for token_id in range(vocab_size)]

    def encode(self, text: str) -> list[int]:
        """Our own text with its tags as tokens."""
        return self.tokenizer.encode(text, allow_special=REASONING_TAGS)

    def end_tags(self, ids: np.ndarray) -> np.ndarray:
        """In which of these tokens (bool [N]) a thought's tag ends, whatever it is cut into."""
        pieces = [self._pieces[token_id] for token_id in ids.tolist()]
        is_end = np.zeros(len(ids), bool)
        places = [match.end() for match in _THOUGHT_TAG.finditer(b"".join(pieces))]
        if places:
            is_end[np.searchsorted(np.cumsum([len(piece) for piece in pieces]), places)] = True
        return is_end

    def opens_thought(self, reply_ids: np.ndarray) -> bool | None:
        """Whether a reply begins with a thought's tag; None while it still may."""
        ids = reply_ids[:_LONGEST_OPENING_TOKENS].tolist()
        head = b"".join(self._pieces[token_id] for token_id in ids).lstrip()
        tag = THINK_OPEN.encode()
        if head.startswith(tag):
            return True
        return None if tag.startswith(head) and len(ids) < _LONGEST_OPENING_TOKENS else False

    def closes_thought(self, reply_ids: Sequence[int]) -> bool:
        """Whether the reply's last token completes the tag that ends a thought."""
        tag_id = self.tokenizer.token_id(THINK_CLOSE)
        if tag_id is not None:
            return reply_ids[-1] == tag_id
        tail = list(reply_ids[-len(THINK_CLOSE) :])
        return self.tokenizer.decode(tail).rstrip().endswith(THINK_CLOSE)

    def is_within_character(self, reply_ids: Sequence[int]) -> bool:
        """Whether the reply ends within a character of several tokens."""
        tail = list(reply_ids[-_LONGEST_CHARACTER_TOKENS:])
        return self.tokenizer.decode(tail).endswith("\ufffd")


class ReplyConstraint:
    """A thinking budget, an end to endless loops, and a grammar on the answer alone.

    A thought beyond its budget, or in a loop, is closed with a sentence and the answer goes
    on; an answer in a loop is ended, and `stop_reason` says so.
    """

    def __init__(
        self,
        tokens: ThoughtTokens,
        *,
        is_in_thought: bool,
        thinking_budget: int | None = None,
        loop_tokens: int = 0,
        grammar: Grammar | None = None,
    ) -> None:
        self.stop_reason: StopReason | None = None
        self._tokens = tokens
        self._is_in_thought = is_in_thought
        # The reply may open one that the prompt has not.
        self._may_open_thought = not is_in_thought
        self._thinking_budget = thinking_budget
        self._loop_tokens = loop_tokens
        self._grammar = grammar
        self._forced: list[int] = []
        self._num_forced_before = 0
        self._num_read = 0

    @property
    def next_length(self) -> int:
        """See TokenConstraint: a reply that is only watched is not asked about token by token."""
        following = self._num_read + 1
        if self._grammar is not None or self._forced:
            return self._num_read
        lengths = [_NEVER]
        if self._loop_tokens:
            later = max(following, self._loop_tokens)
            lengths.append(-(-later // _LOOP_INTERVAL) * _LOOP_INTERVAL)
        may_think = self._is_in_thought or self._may_open_thought
        if self._thinking_budget is not None and may_think:
            lengths.append(max(following, self._thinking_budget))
        return min(lengths)

    def allowed(self, reply_ids: np.ndarray) -> np.ndarray | None:
        """The engine's question: see TokenConstraint."""
        if len(reply_ids) > self._num_read:
            self._read(reply_ids)
            self._num_read = len(reply_ids)
        if not self._forced and self._loop_tokens and self._num_read % _LOOP_INTERVAL == 0:
            self._check_loop(reply_ids)
        if not self._forced and self._is_over_budget(reply_ids):
            self._close_thought(BUDGET_CLOSING)
        if self._forced:
            return self._only(self._forced.pop(0))
        if self._grammar is None:
            return None
        # An answer is owed: a thought may not end the reply.
        return self._tokens.no_end if self._is_in_thought else self._grammar.allowed()

    def _read(self, reply_ids: np.ndarray) -> None:
        """Follow the new tokens: the thought begins or ends, or the grammar goes on."""
        if self._grammar is not None:
            assert len(reply_ids) == self._num_read + 1
            return self._follow(self._grammar, reply_ids[-_LONGEST_TAG_TOKENS:].tolist())
        if self._may_open_thought:
            opens = self._tokens.opens_thought(reply_ids)
            self._is_in_thought, self._may_open_thought = opens is True, opens is None
        if self._is_in_thought:
            ends = range(self._num_read + 1, len(reply_ids) + 1)
            tails = (reply_ids[max(0, end - _LONGEST_TAG_TOKENS) : end].tolist() for end in ends)
            self._is_in_thought = not any(map(self._tokens.closes_thought, tails))

    def _follow(self, grammar: Grammar, last: list[int]) -> None:
        if self._is_in_thought:
            if self._tokens.closes_thought(last):
                self._is_in_thought = False
                self._forced = self._tokens.encode(ANSWER_BREAK)
                self._num_forced_before = len(self._forced)
        elif self._num_forced_before:
            self._num_forced_before -= 1
        else:
            grammar.accept(last[-1])

    def _is_over_budget(self, reply_ids: np.ndarray) -> bool:
        if not self._is_in_thought or self._thinking_budget is None:
            return False
        num_over = len(reply_ids) - self._thinking_budget
        if num_over < 0:
            return False
        last = reply_ids[-_LONGEST_CHARACTER_TOKENS:].tolist()
        is_torn = bool(last) and self._tokens.is_within_character(last)
        return num_over >= _LONGEST_CHARACTER_TOKENS or not is_torn

    def _check_loop(self, reply_ids: np.ndarray) -> None:
        if loop_period(reply_ids, self._loop_tokens) is None:
            return
        if self._is_in_thought:
            self._close_thought(LOOP_CLOSING)
            return
        self.stop_reason = "loop"
        self._forced = [self._tokens.tokenizer.eos_id]

    def _close_thought(self, closing: str) -> None:
        self._is_in_thought = False
        self._forced = self._tokens.encode(f"{closing}{THINK_CLOSE}{ANSWER_BREAK}")
        self._num_forced_before = len(self._forced)

    def _only(self, token_id: int) -> np.ndarray:
        mask = np.zeros(self._tokens.vocab_size, bool)
        mask[token_id] = True
        return mask
