"""What all endpoints share of a model: itself, its limits, and its replies under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

from r1.serving.api.errors import ApiError
from r1.serving.api.metrics import ServerMetrics
from r1.serving.api.model_side import ModelPrompt, ModelSide, ReplySettings
from r1.serving.api.replies import Delta, ReplyReader, TokenCounts
from r1.serving.api.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply that is asked for, and what reads it."""

    prompt: ModelPrompt
    settings: ReplySettings
    reader: ReplyReader


@dataclass(slots=True)
class Service:
    """One served model, with a queue and metrics of its own."""

    name: str
    model: ModelSide
    settings: ServerSettings
    metrics: ServerMetrics
    is_draining: bool = False
    _num_active: int = field(default=0, init=False)

    @property
    def num_active(self) -> int:
        """Replies that run or wait."""
        return self._num_active

    async def deltas(self, replies: Sequence[Reply]) -> AsyncGenerator[tuple[int, Delta], None]:
        """What the replies grow by, with their index, in the order in which it comes.

        Raises ApiError 429 when more would wait than may; closing it cancels all of them.
        """
        with self._admitted(len(replies)):
            if len(replies) == 1:
                async with aclosing(self._one(replies[0])) as deltas:
                    async for delta in deltas:
                        yield 0, delta
                return
            streams = [self._one(reply) for reply in replies]
            async with aclosing(_merged(streams)) as merged:
                async for item in merged:
                    yield item

    async def _one(self, reply: Reply) -> AsyncGenerator[Delta, None]:
        clock = self.metrics.watch()
        reason = "abort"
        try:
            async with aclosing(self.model.stream(reply.prompt, reply.settings)) as stream:
                async for chunks in stream:
                    clock.tokens(sum(chunk.num_tokens for chunk in chunks))
                    delta = sum(map(reply.reader.push, chunks), Delta())
                    reason = delta.finish_reason or reason
                    if not delta.is_empty:
                        yield delta
        finally:
            clock.end(reason, reply.reader.counts)

    def check_admission(self, count: int) -> None:
        """Raise ApiError 503 when the server ends, 429 when so many more may not wait."""
        settings = self.settings
        capacity = settings.max_running + settings.max_waiting
        retry = {"retry-after": str(settings.retry_after_seconds)}
        if self.is_draining:
            raise ApiError(503, "the server is shutting down", headers=retry)
        if self._num_active + count > capacity:
            message = f"the server is busy: {self._num_active} replies run or wait"
            raise ApiError(429, message, code="queue_full", headers=retry)

    @contextmanager
    def _admitted(self, count: int) -> Iterator[None]:
        self.check_admission(count)
        self._num_active += count
        try:
            yield
        finally:
            self._num_active -= count


def total_counts(replies: Sequence[Reply], num_choices: int) -> TokenCounts:
    """The tokens of all replies; a prompt that has several choices counts once."""
    counts = [reply.reader.counts for reply in replies]
    return TokenCounts(
        num_prompt=sum(count.num_prompt for count in counts[::num_choices]),
        num_cached=sum(count.num_cached for count in counts[::num_choices]),
        num_completion=sum(count.num_completion for count in counts),
        num_reasoning=sum(count.num_reasoning for count in counts),
    )


async def _merged(
    streams: Sequence[AsyncGenerator[Delta, None]],
) -> AsyncGenerator[tuple[int, Delta], None]:
    """The items of all streams with their stream's index; the first error ends all."""
    # Small: a client that does not read is to fill its own buffer and nothing behind it.
    items: asyncio.Queue[tuple[int, Delta | BaseException | None]] = asyncio.Queue(len(streams))

    async def pump(index: int, stream: AsyncGenerator[Delta, None]) -> None:
        try:
            async with aclosing(stream):
                async for delta in stream:
                    await items.put((index, delta))
            await items.put((index, None))
        except Exception as error:  # to be raised by whoever reads
            await items.put((index, error))

    tasks = [asyncio.ensure_future(pump(*pair)) for pair in enumerate(streams)]
    try:
        num_open = len(tasks)
        while num_open:
            index, item = await items.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                num_open -= 1
            else:
                yield index, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
