"""From the raw text of a reply to its thought, its answer and its tool calls, as they come."""

from __future__ import annotations

from dataclasses import dataclass, field

from r1.records import ToolCall
from r1.serving.api.model_side import ModelChunk, TokenLogprob
from r1.text.reasoning import Piece, ReasoningParser
from r1.text.tool_calls import ToolCallParser


@dataclass(frozen=True, slots=True)
class Delta:
    """What a reply has grown by. Log-probs wait for the text that their tokens become."""

    thought: str = ""
    answer: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    thought_logprobs: tuple[TokenLogprob, ...] = ()
    answer_logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    stop_reason: str | None = None

    def __add__(self, later: Delta) -> Delta:
        """Both as one."""
        return Delta(
            self.thought + later.thought,
            self.answer + later.answer,
            self.tool_calls + later.tool_calls,
            self.thought_logprobs + later.thought_logprobs,
            self.answer_logprobs + later.answer_logprobs,
            later.finish_reason or self.finish_reason,
            later.stop_reason or self.stop_reason,
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        has_text = self.thought or self.answer or self.tool_calls
        return not has_text and self.finish_reason is None


@dataclass(slots=True)
class TokenCounts:
    """The tokens of one reply and of its prompt."""

    num_prompt: int = 0
    num_cached: int = 0
    num_completion: int = 0
    num_reasoning: int = 0


@dataclass(slots=True)
class _Logprobs:
    thought: list[TokenLogprob] = field(default_factory=list)
    answer: list[TokenLogprob] = field(default_factory=list)


class ReplyReader:
    """Reads one reply; a stream and a whole reply are read by the same pieces.

    `is_split` False leaves the text as it is: plain completions have no thought. `already`
    is what the prompt holds of the part that the reply goes on with.
    """

    def __init__(
        self,
        *,
        starts_in_thought: bool,
        already: str = "",
        has_tools: bool = False,
        is_split: bool = True,
    ) -> None:
        self.counts = TokenCounts()
        self._parser = ReasoningParser(starts_in_thought=starts_in_thought)
        self._parser.push(already.rstrip())
        self._tools = ToolCallParser() if has_tools else None
        self._is_split = is_split
        self._num_calls = 0
        self._logprobs = _Logprobs()

    def push(self, chunk: ModelChunk) -> Delta:
        """Take a chunk; return what is certain now, at the end all that is left."""
        was_in_thought = self._is_split and not self._parser.is_closed
        self._count(chunk, was_in_thought)
        logprobs = self._logprobs.thought if was_in_thought else self._logprobs.answer
        logprobs += chunk.logprobs
        if not self._is_split:
            return self._delta([("answer", chunk.text)], chunk)
        pieces = self._parser.push(chunk.text)
        if chunk.finish_reason is not None:
            pieces += self._parser.close()
        return self._delta(pieces, chunk)

    def _count(self, chunk: ModelChunk, was_in_thought: bool) -> None:
        self.counts.num_completion += chunk.num_tokens
        self.counts.num_reasoning += chunk.num_tokens * was_in_thought
        if chunk.num_reasoning_tokens is not None:
            self.counts.num_reasoning = chunk.num_reasoning_tokens
        self.counts.num_prompt = chunk.num_prompt_tokens or self.counts.num_prompt
        self.counts.num_cached = chunk.num_cached_tokens or self.counts.num_cached

    def _delta(self, pieces: list[Piece], chunk: ModelChunk) -> Delta:
        thought = "".join(text for kind, text in pieces if kind == "thought")
        answer = "".join(text for kind, text in pieces if kind == "answer")
        is_end = chunk.finish_reason is not None
        calls: list[ToolCall] = []
        if self._tools is not None:
            found = self._tools.push(answer) + (self._tools.close() if is_end else [])
            answer = "".join(item for item in found if isinstance(item, str))
            calls = [item for item in found if isinstance(item, ToolCall)]
        calls += chunk.tool_calls
        self._num_calls += len(calls)
        if not (thought or answer or calls or is_end):
            return Delta()
        logprobs, self._logprobs = self._logprobs, _Logprobs()
        return Delta(
            thought=thought,
            answer=answer,
            tool_calls=tuple(calls),
            thought_logprobs=tuple(logprobs.thought),
            answer_logprobs=tuple(logprobs.answer),
            finish_reason=self._finish_reason(chunk),
            stop_reason=chunk.stop_reason,
        )

    def _finish_reason(self, chunk: ModelChunk) -> str | None:
        """An endless loop is cut as a reply that is too long; calls end a turn of their own."""
        if chunk.finish_reason is None or chunk.stop_reason == "loop":
            return chunk.finish_reason and "length"
        if self._num_calls and chunk.finish_reason == "stop":
            return "tool_calls"
        return chunk.finish_reason
