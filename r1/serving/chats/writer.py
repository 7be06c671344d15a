"""Writes replies: each in a task of its own, which no listener's leaving ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from r1.serving.api.chat import TOO_LONG, prepare_replies
from r1.serving.api.errors import ApiError
from r1.serving.api.service import Reply, Service
from r1.serving.chats.database import Database, error_line
from r1.serving.chats.file_store import FileStore
from r1.serving.chats.live_reply import LiveReply
from r1.serving.chats.prompt import (
    ReplyWish,
    build_request,
    file_ids,
    find_sources,
    no_search,
)
from r1.serving.chats.records import MAX_TEXT_CHARACTERS, Message, Status
from r1.serving.chats.reply_store import BEAT_SECONDS, BegunReply, ReplyStore
from r1.serving.files.documents import Document
from r1.serving.search.web_search import WebSearch

_log = logging.getLogger("r1.serving")

_SAVE_SECONDS = 1.0
_TIDY_SECONDS = 15.0
_END_ATTEMPTS = 30


@dataclass(slots=True)
class _Writing:
    """A reply that is being written, and by which model."""

    service: Service
    live: LiveReply
    begun: BegunReply
    wish: ReplyWish
    task: asyncio.Future[None] | None = None
    keeper: asyncio.Future[None] | None = None
    saved_at: float = 0.0
    saved_length: int = -1


class ReplyWriter:
    """The replies that this server writes."""

    def __init__(self, database: Database, store: ReplyStore, search: WebSearch | None) -> None:
        self._database = database
        self._store = store
        self._files = FileStore(database)
        self._search = search
        self._open: dict[str, _Writing] = {}
        self._is_closing = False

    def check_room(self, service: Service) -> None:
        """Raise ApiError 429 or 503 when a model can begin no reply, before anything is stored."""
        service.check_admission(1)
        settings = service.settings
        num_open = sum(writing.service is service for writing in self._open.values())
        if num_open >= settings.max_running + settings.max_waiting:
            retry = {"retry-after": str(settings.retry_after_seconds)}
            text = f"the server is busy: {num_open} replies run or wait"
            raise ApiError(429, text, code="queue_full", headers=retry)

    def start(self, service: Service, begun: BegunReply, wish: ReplyWish) -> None:
        """Begin to write a reply that is stored."""
        writing = _Writing(service, LiveReply(begun.assistant_message), begun, wish)
        self._open[begun.assistant_message.id] = writing
        writing.task = asyncio.ensure_future(self._write(writing))
        writing.keeper = asyncio.ensure_future(self._keep(writing))

    def live(self, message_id: str) -> LiveReply | None:
        """A reply that is being written here."""
        writing = self._open.get(message_id)
        return None if writing is None else writing.live

    async def stop(self, message_id: str) -> Message | None:
        """End a reply and store it; None when it is not written here."""
        writing = self._open.get(message_id)
        if writing is None:
            return None
        assert writing.task is not None and writing.keeper is not None
        writing.task.cancel()
        await asyncio.wait({writing.keeper})
        return writing.live.message

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Saves what is written; at the end stops what is left, and stores it."""
        await self._tidy()
        saver = asyncio.ensure_future(self._save_for_ever())
        try:
            yield
        finally:
            self._is_closing = True
            saver.cancel()
            await asyncio.gather(
                saver, *(self.stop(message_id) for message_id in self._open), return_exceptions=True
            )
            await self._database.close()

    # ------------------------------------------------------------ one reply

    async def _write(self, writing: _Writing) -> None:
        live = writing.live
        if writing.wish.is_search:
            await self._find_sources(writing)
        replies = await self._replies(writing)
        live.counts = replies[0].reader.counts
        async with aclosing(writing.service.deltas(replies)) as deltas:
            async for _, delta in deltas:
                live.add(delta)
                # More than a message may have could be stored, and never be read again.
                if live.num_characters > MAX_TEXT_CHARACTERS // 2:
                    raise ApiError(400, f"cut: it has {live.num_characters:,} characters")

    async def _replies(self, writing: _Writing) -> list[Reply]:
        """What is asked of the model; without what was found where that is too long for it."""
        ids = file_ids(writing.begun.history)
        documents = await self._database.run(self._files.documents, ids)
        try:
            return await asyncio.to_thread(self._prepare, writing, documents)
        except ApiError as error:
            has_sources = writing.wish.is_search and writing.live.message.sources
            if error.code != TOO_LONG or not has_sources:
                raise
        longest = writing.service.model.max_model_len or 0
        await self._found(writing, no_search(f"this model takes only {longest:,} tokens in all"))
        return await asyncio.to_thread(self._prepare, writing, documents)

    def _prepare(self, writing: _Writing, documents: Mapping[str, Document]) -> list[Reply]:
        """In a thread: long texts are searched, rendered and encoded."""
        history, reply = writing.begun.history, writing.live.message
        body = build_request(history, reply, writing.wish, documents)
        return prepare_replies(writing.service, body)[0]

    async def _find_sources(self, writing: _Writing) -> None:
        longest = writing.service.model.max_model_len
        history = writing.begun.history
        await self._found(writing, await find_sources(self._search, history, longest))

    async def _found(self, writing: _Writing, fields: Mapping[str, Any]) -> None:
        writing.live.found(**fields)
        with suppress(SQLAlchemyError):  # the whole message is stored again at the end
            await self._database.run(self._store.describe, writing.live.message)

    async def _keep(self, writing: _Writing) -> None:
        """Wait for the end of a reply, whatever it is, and store it."""
        assert writing.task is not None
        await asyncio.wait({writing.task})
        message = writing.live.end(*_outcome(writing.task))
        try:
            writing.live.close(await self._store_end(message), is_saved=True)
        except Exception as error:
            _log.exception("a reply could not be stored")
            why = error_line(error) if isinstance(error, SQLAlchemyError) else "internal error"
            failed = {"status": "failed", "error": f"not saved: the chats' database failed: {why}"}
            writing.live.close(message.model_copy(update=failed), is_saved=False)
        finally:
            del self._open[message.id]

    async def _store_end(self, message: Message) -> Message:
        """What is stored. A disk that is full may have room again: it is tried for a while."""
        for _ in range(_END_ATTEMPTS):
            try:
                return await self._database.run(self._store.end, message)
            except SQLAlchemyError:
                if self._is_closing:
                    raise
            await asyncio.sleep(_SAVE_SECONDS)
        return await self._database.run(self._store.end, message)

    # ------------------------------------------------------------ saving

    async def _save_for_ever(self) -> None:
        tidied = time.monotonic()
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            try:
                await self._save()
            except SQLAlchemyError as error:
                _log.warning("replies could not be saved: %s", error_line(error))
            except Exception:  # whatever it was, the next time may do
                _log.exception("replies could not be saved")
            if time.monotonic() - tidied > _TIDY_SECONDS:
                tidied = time.monotonic()
                await self._tidy()

    async def _tidy(self) -> None:
        """Close the replies of servers that have died."""
        try:
            await self._database.run(self._store.stop_lost)
        except SQLAlchemyError as error:
            _log.warning("lost replies could not be marked: %s", error_line(error))

    async def _save(self) -> None:
        """One transaction for all replies that have grown, or have to be heard of."""
        now = time.monotonic()
        due = []
        for writing in self._open.values():
            progress = writing.live.progress()
            length = len(progress.content) + len(progress.reasoning_content)
            if length != writing.saved_length or now - writing.saved_at > BEAT_SECONDS:
                due.append((writing, progress, length))
        if not due:
            return
        gone = await self._database.run(self._store.save, [progress for _, progress, _ in due])
        for writing, progress, length in due:
            if progress.message_id in gone:
                assert writing.task is not None
                writing.task.cancel()
            elif not writing.live.is_ended:
                writing.saved_at, writing.saved_length = now, length
                writing.live.mark_saved(progress)


def _outcome(task: asyncio.Future[None]) -> tuple[Status, str | None]:
    """How a reply ended, and what its reader is told."""
    if task.cancelled():
        return "stopped", None
    error = task.exception()
    if error is None:
        return "done", None
    if isinstance(error, ApiError):
        return "failed", str(error.detail)
    if isinstance(error, SQLAlchemyError):
        return "failed", f"the chats' database failed: {error_line(error)}"
    _log.error("a reply failed", exc_info=error)
    return "failed", "internal error"
