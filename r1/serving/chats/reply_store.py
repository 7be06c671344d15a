"""Replies in the database: begun, saved while they are written, ended, and found again.

Several servers may share a database: each writes only the replies that it has begun, and
says so every few seconds. A reply whose server has died is `stopped`, with what was saved.
"""

from __future__ import annotations

import functools
import os
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from r1.serving.api.errors import ApiError
from r1.serving.chats.chat_store import message_row, new_id, no_such, own_chat
from r1.serving.chats.database import CHATS, FILES, MESSAGES, Database
from r1.serving.chats.records import MAX_CHAT_MESSAGES, Chat, FileRef, Message, title_of

BEAT_SECONDS = 5.0
_LOST_AFTER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What is asked of a chat: a new turn (`content`), another reply to the user's message
    `parent_id`, or more of the reply `continue_id`.
    """

    parent_id: str | None
    content: str | None
    file_ids: tuple[str, ...]
    continue_id: str | None
    model: str


@dataclass(frozen=True, slots=True)
class BegunReply:
    """The chat and its messages as they were stored; `history` leads from the first message to
    the user's.
    """

    chat: Chat
    user_message: Message | None
    assistant_message: Message
    history: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """A reply as far as it is written."""

    message_id: str
    reasoning_content: str
    content: str


class ReplyStore:
    """The messages that are written here. `writer` names this server in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.writer = f"{socket.gethostname()}:{os.getpid()}:{process_name()}:{new_id()}"

    def begin(self, owner: str, chat_id: str, turn: Turn) -> BegunReply:
        """Store the user's message and an empty reply, or open a reply again.

        Raises ApiError 404 for what is not there, 400 or 409 for what does not go on from there.
        """
        with self._database.writing() as db:
            chat = own_chat(db, owner, chat_id, is_write=True)
            if turn.continue_id is not None:
                message = self._open_again(db, chat_id, turn.continue_id)
                return _begun(db, owner, chat_id, None, message)
            _check_room(db, chat_id)
            user_message = None
            if turn.content is None:
                user_message_id = _user_message(db, chat_id, turn.parent_id).id
            else:
                user_message = _add_question(db, owner, chat, turn)
                user_message_id = user_message.id
            reply = Message(
                id=new_id(),
                parent_id=user_message_id,
                role="assistant",
                content="",
                model=turn.model,
                status="generating",
                created_at=time.time(),
            )
            self._insert(db, chat_id, reply)
            _touch(db, chat_id, reply.id)
            return _begun(db, owner, chat_id, user_message, reply)

    def message(self, owner: str, message_id: str) -> Message:
        """One message. Raises ApiError 404 for one that is not the owner's."""
        joined = MESSAGES.join(CHATS, MESSAGES.c.chat_id == CHATS.c.id)
        is_it = (MESSAGES.c.id == message_id) & (CHATS.c.owner == owner)
        with self._database.reading() as db:
            row = db.execute(sa.select(MESSAGES).select_from(joined).where(is_it)).first()
        if row is None:
            raise no_such("message", message_id)
        return Message.model_validate(row._mapping)

    def save(self, replies: Sequence[Progress]) -> set[str]:
        """Store how far replies are; returns those that are no longer this server's to write."""
        gone = set()
        with self._database.writing() as db:
            for reply in replies:
                values = {
                    "content": reply.content,
                    "reasoning_content": reply.reasoning_content,
                    "beat_at": time.time(),
                }
                if not self._update(db, reply.message_id, values):
                    gone.add(reply.message_id)
        return gone

    def describe(self, message: Message) -> bool:
        """Store what was found for a reply; False when it is no longer this server's."""
        row = message_row(message)
        values = {name: row[name] for name in ("search_query", "sources", "error")}
        with self._database.writing() as db:
            return self._update(db, message.id, values)

    def end(self, message: Message) -> Message:
        """Store a reply that has ended. Returns what is stored, which is less where it was
        stopped through another server; one whose chat was deleted is no more than `stopped`.
        """
        with self._database.writing() as db:
            values = {**message_row(message), "writer": None, "beat_at": None}
            if self._update(db, message.id, values):
                its_chat = sa.select(MESSAGES.c.chat_id).where(MESSAGES.c.id == message.id)
                chat = CHATS.update().where(CHATS.c.id == its_chat.scalar_subquery())
                db.execute(chat.values(updated_at=time.time()))
                return message
            row = db.execute(sa.select(MESSAGES).where(MESSAGES.c.id == message.id)).first()
        if row is None:
            return message.model_copy(update={"status": "stopped"})
        return Message.model_validate(row._mapping)

    def stop(self, owner: str, message_id: str) -> Message:
        """Stop a reply that another server writes: it notices when it saves next."""
        message = self.message(owner, message_id)
        if message.status == "generating":
            with self._database.writing() as db:
                is_it = (MESSAGES.c.id == message_id) & (MESSAGES.c.status == "generating")
                db.execute(MESSAGES.update().where(is_it).values(status="stopped", writer=None))
            message = self.message(owner, message_id)
        return message

    def stop_lost(self) -> int:
        """Mark the replies as stopped whose server is gone; returns how many there were."""
        is_open = MESSAGES.c.status == "generating"
        columns = (MESSAGES.c.id, MESSAGES.c.writer, MESSAGES.c.beat_at)
        with self._database.reading() as db:
            rows = db.execute(sa.select(*columns).where(is_open)).all()
        lost = [row for row in rows if is_lost(row.writer, row.beat_at)]
        if not lost:
            return 0
        num_stopped = 0
        with self._database.writing() as db:
            for row in lost:
                # Unless it has been heard of, or has another writer, since it was read.
                is_it = (MESSAGES.c.id == row.id) & (MESSAGES.c.beat_at == row.beat_at)
                stopped = MESSAGES.update().where(is_open & is_it)
                num_stopped += db.execute(stopped.values(status="stopped", writer=None)).rowcount
        return num_stopped

    # ------------------------------------------------------------ inside

    def _update(self, db: sa.Connection, message_id: str, values: dict[str, Any]) -> bool:
        is_ours = (MESSAGES.c.id == message_id) & (MESSAGES.c.writer == self.writer)
        is_ours &= MESSAGES.c.status == "generating"
        return db.execute(MESSAGES.update().where(is_ours).values(**values)).rowcount == 1

    def _insert(self, db: sa.Connection, chat_id: str, message: Message) -> None:
        values = message_row(message)
        if message.status == "generating":
            values |= {"writer": self.writer, "beat_at": time.time()}
        db.execute(MESSAGES.insert().values(chat_id=chat_id, **values))

    def _open_again(self, db: sa.Connection, chat_id: str, message_id: str) -> Message:
        message = _message_of(db, chat_id, message_id)
        is_cut = message.status in ("stopped", "failed") or message.finish_reason == "length"
        if message.role != "assistant" or message.status == "generating" or not is_cut:
            text = "only a reply that was stopped or was too long can be continued"
            raise ApiError(409, text, param="continue_id")
        values = {"status": "generating", "error": None, "finish_reason": None}
        written = {"writer": self.writer, "beat_at": time.time()}
        is_it = MESSAGES.c.id == message_id
        db.execute(MESSAGES.update().where(is_it).values(**values, **written))
        _touch(db, chat_id, message_id)
        return message.model_copy(update=values)


def _begun(
    db: sa.Connection, owner: str, chat_id: str, user_message: Message | None, reply: Message
) -> BegunReply:
    # Read again: a first question names its chat.
    chat = own_chat(db, owner, chat_id)
    return BegunReply(chat, user_message, reply, _history(db, chat_id, reply.parent_id))


def _add_question(db: sa.Connection, owner: str, chat: Chat, turn: Turn) -> Message:
    assert turn.content is not None
    if turn.parent_id is not None:
        parent = _message_of(db, chat.id, turn.parent_id)
        if parent.role != "assistant":
            raise ApiError(400, "a question follows a reply", param="parent_id")
        if parent.status == "generating":
            text = "the reply before is still being written; stop it first"
            raise ApiError(409, text, param="parent_id")
    message = Message(
        id=new_id(),
        parent_id=turn.parent_id,
        role="user",
        content=turn.content,
        files=_attach_files(db, owner, chat.id, turn.file_ids),
        created_at=time.time(),
    )
    db.execute(MESSAGES.insert().values(chat_id=chat.id, **message_row(message)))
    if not chat.title:
        title = title_of(turn.content) or ", ".join(file.name for file in message.files)[:60]
        db.execute(CHATS.update().where(CHATS.c.id == chat.id).values(title=title))
    return message


def _attach_files(
    db: sa.Connection, owner: str, chat_id: str, file_ids: Sequence[str]
) -> tuple[FileRef, ...]:
    """The files of a question become the chat's; an edited question keeps those it had."""
    found = []
    for file_id in dict.fromkeys(file_ids):
        is_it = (FILES.c.id == file_id) & (FILES.c.owner == owner)
        is_free = FILES.c.chat_id.is_(None) | (FILES.c.chat_id == chat_id)
        row = db.execute(sa.select(FILES).where(is_it & is_free)).first()
        if row is None:
            raise no_such("file", file_id)
        db.execute(FILES.update().where(is_it).values(chat_id=chat_id))
        found.append(FileRef.model_validate(row._mapping))
    return tuple(found)


def _user_message(db: sa.Connection, chat_id: str, message_id: str | None) -> Message:
    if message_id is None:
        raise ApiError(400, "content or parent_id is needed", param="content")
    message = _message_of(db, chat_id, message_id)
    if message.role != "user":
        raise ApiError(400, "only a user's message can be answered", param="parent_id")
    return message


def _message_of(db: sa.Connection, chat_id: str, message_id: str) -> Message:
    is_it = (MESSAGES.c.id == message_id) & (MESSAGES.c.chat_id == chat_id)
    row = db.execute(sa.select(MESSAGES).where(is_it)).first()
    if row is None:
        raise no_such("message", message_id)
    return Message.model_validate(row._mapping)


def _history(db: sa.Connection, chat_id: str, last_id: str | None) -> tuple[Message, ...]:
    """The branch that ends with a message."""
    ids = sa.select(MESSAGES.c.id, MESSAGES.c.parent_id).where(MESSAGES.c.chat_id == chat_id)
    parents = {row.id: row.parent_id for row in db.execute(ids)}
    path = []
    while last_id is not None:
        path.append(last_id)
        last_id = parents[last_id]
    rows = db.execute(sa.select(MESSAGES).where(MESSAGES.c.id.in_(path)))
    by_id = {row.id: Message.model_validate(row._mapping) for row in rows}
    return tuple(by_id[message_id] for message_id in reversed(path))


def _check_room(db: sa.Connection, chat_id: str) -> None:
    number = sa.select(sa.func.count()).where(MESSAGES.c.chat_id == chat_id)
    if db.execute(number).scalar_one() > MAX_CHAT_MESSAGES - 2:
        raise ApiError(409, f"a chat may have {MAX_CHAT_MESSAGES} messages; begin a new one")


def _touch(db: sa.Connection, chat_id: str, leaf_id: str) -> None:
    values = {"leaf_id": leaf_id, "updated_at": time.time()}
    db.execute(CHATS.update().where(CHATS.c.id == chat_id).values(**values))


@functools.cache
def process_name() -> str:
    """Tells this process from a later one that has its number."""
    return uuid.uuid4().hex


def is_lost(writer: str | None, beat_at: float | None) -> bool:
    """Whether nobody writes a reply any more: at once where its process can be seen to be gone."""
    if writer is None or time.time() - (beat_at or 0.0) > _LOST_AFTER_SECONDS:
        return True
    host, pid, process, _ = writer.rsplit(":", 3)
    if host != socket.gethostname() or os.name != "posix":
        return False
    if int(pid) == os.getpid():
        return process != process_name()
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
