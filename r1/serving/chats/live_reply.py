"""A reply while it is written: what there is of it, for everyone who listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from itertools import groupby
from typing import Any

from r1.serving.api.replies import Delta, TokenCounts
from r1.serving.chats.records import Message, Status, Usage, clean_line, storable
from r1.serving.chats.reply_store import Progress

Event = tuple[str, dict[str, Any]]

_LOOP = "the reply went round in a circle and was cut"


class LiveReply:
    """Grows by deltas. A listener has a place in it and no buffer: whoever is slow gets more
    at once, and costs nothing while it waits.

    `begun` is the message that it continues or begins.
    """

    def __init__(self, begun: Message) -> None:
        self.message = begun
        self.counts = TokenCounts()
        self.num_characters = len(begun.reasoning_content) + len(begun.content)
        self.is_ended = False
        self.num_saved = (len(begun.reasoning_content), len(begun.content))
        self._begun = begun
        self._pieces: list[tuple[str, str]] = []
        # What the first pieces come to: a snapshot joins only those that are new.
        self._texts = {"reasoning": begun.reasoning_content, "content": begun.content}
        self._num_joined = 0
        self._started = time.monotonic()
        self._first_text: float | None = None
        self._thought_ended: float | None = None
        self._num_found = 0
        self._news = asyncio.Event()

    # ------------------------------------------------------------ written

    def found(self, **values: Any) -> None:
        """What a search has brought, or why it has brought nothing."""
        self.message = self.message.model_copy(update=values)
        self._num_found += 1
        self._tell()

    def add(self, delta: Delta) -> None:
        """Take what came from the model."""
        now = time.monotonic()
        self._first_text = self._first_text or now
        self.num_characters += len(delta.thought) + len(delta.answer)
        if delta.thought:
            self._pieces.append(("reasoning", storable(delta.thought)))
        if delta.answer:
            self._thought_ended = self._thought_ended or now
            self._pieces.append(("content", storable(delta.answer)))
        if delta.finish_reason is not None:
            error = _LOOP if delta.stop_reason == "loop" else self.message.error
            update = {"finish_reason": delta.finish_reason, "error": error}
            self.message = self.message.model_copy(update=update)
        self._tell()

    def end(self, status: Status, error: str | None = None) -> Message:
        """The message as it is to be stored; listeners are told by `close`."""
        why = self.message.error if error is None else clean_line(error)[:1024]
        update = {"status": status, "error": why, **self._speed()}
        if status != "done":
            update["finish_reason"] = None
        return self.snapshot().model_copy(update=update)

    def close(self, message: Message, *, is_saved: bool) -> None:
        """Tell the listeners that this is all."""
        self.message = message
        self.is_ended = True
        if is_saved:
            self.mark_saved(_progress(message))
        self._tell()

    def progress(self) -> Progress:
        """What is to be saved now."""
        return _progress(self.snapshot())

    def mark_saved(self, progress: Progress) -> None:
        """So much of it is safe."""
        self.num_saved = (len(progress.reasoning_content), len(progress.content))
        self._tell()

    # ------------------------------------------------------------ read

    def snapshot(self) -> Message:
        """The message as far as it is written."""
        if self.is_ended:
            return self.message
        new, self._num_joined = self._pieces[self._num_joined :], len(self._pieces)
        for kind in self._texts:
            self._texts[kind] += "".join(text for k, text in new if k == kind)
        update = {
            "content": self._texts["content"],
            "reasoning_content": self._texts["reasoning"],
            "thinking_seconds": self._thinking_seconds(),
        }
        return self.message.model_copy(update=update)

    async def events(self) -> AsyncGenerator[Event, None]:
        """A snapshot, then what comes after it, until `done`."""
        message, place, num_found = self.snapshot(), len(self._pieces), self._num_found
        yield "snapshot", {"message": message.model_dump()}
        num_saved = None
        while True:
            news = self._news
            if num_found != self._num_found:
                num_found = self._num_found
                yield "sources", self.message.model_dump(include={"search_query", "sources"})
            if place < len(self._pieces):
                new, place = self._pieces[place:], len(self._pieces)
                for kind, pieces in groupby(new, key=lambda piece: piece[0]):
                    yield kind, {"text": "".join(text for _, text in pieces)}
                continue
            if num_saved != self.num_saved:
                num_saved = self.num_saved
                names = ("num_reasoning_characters", "num_content_characters")
                yield "saved", dict(zip(names, num_saved, strict=True))
            if self.is_ended:
                yield "done", {"message": self.message.model_dump()}
                return
            await news.wait()

    # ------------------------------------------------------------ inside

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _thinking_seconds(self) -> float | None:
        """Of all parts of the reply; None when it has no thought."""
        if not any(kind == "reasoning" for kind, _ in self._pieces):
            return self._begun.thinking_seconds
        until = self._thought_ended or time.monotonic()
        seconds = until - (self._first_text or until)
        return round(seconds + (self._begun.thinking_seconds or 0.0), 2)

    def _speed(self) -> dict[str, Any]:
        now, begun, counts = time.monotonic(), self._begun, self.counts
        before = begun.usage or Usage(prompt_tokens=0, completion_tokens=0, reasoning_tokens=0)
        writing = now - (self._first_text or now)
        usage = Usage(
            prompt_tokens=counts.num_prompt or before.prompt_tokens,
            completion_tokens=before.completion_tokens + counts.num_completion,
            reasoning_tokens=before.reasoning_tokens + counts.num_reasoning,
        )
        return {
            "usage": usage if usage.completion_tokens else None,
            "seconds": round(now - self._started + (begun.seconds or 0.0), 2),
            "tokens_per_second": round(counts.num_completion / writing, 2) if writing else None,
        }


def _progress(message: Message) -> Progress:
    return Progress(message.id, message.reasoning_content, message.content)
