"""Chats in the database: made, listed, searched, changed, deleted, and taken in from a file."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from r1.serving.api.errors import ApiError
from r1.serving.chats.database import CHATS, FILES, MESSAGES, Database
from r1.serving.chats.records import Chat, Message, storable

MAX_OWNER_CHARACTERS = 100_000_000
_MAX_SEARCH_TERMS = 8
_TRIGRAM = 3


def new_id() -> str:
    """An id that cannot be guessed."""
    return uuid.uuid4().hex


def no_such(what: str, item_id: str) -> ApiError:
    """For what is not there and for what is another owner's: nobody learns which."""
    return ApiError(404, f"no {what} {item_id[:64]!r} here", code="not_found")


class ChatStore:
    """The chats of all owners; every method names the owner who asks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, owner: str, title: str = "") -> Chat:
        """A new chat without messages."""
        now = time.time()
        chat = Chat(
            id=new_id(), title=title, is_pinned=False, created_at=now, updated_at=now, leaf_id=None
        )
        with self._database.writing() as db:
            db.execute(CHATS.insert().values(owner=owner, **chat.model_dump()))
        return chat

    def listed(self, owner: str, query: str, limit: int, before: str | None) -> list[Chat]:
        """Chats, pinned ones first, then the newest; `before` is the last one already known."""
        order = (CHATS.c.is_pinned, CHATS.c.updated_at, CHATS.c.id)
        wanted = sa.select(CHATS).where(CHATS.c.owner == owner)
        for term in storable(query).split()[:_MAX_SEARCH_TERMS]:
            wanted = wanted.where(self._contains(term))
        with self._database.reading() as db:
            if before is not None:
                last = own_chat(db, owner, before)
                position = (last.is_pinned, last.updated_at, last.id)
                wanted = wanted.where(sa.tuple_(*order) < sa.tuple_(*map(sa.literal, position)))
            rows = db.execute(wanted.order_by(*map(sa.desc, order)).limit(limit))
            return [Chat.model_validate(row._mapping) for row in rows]

    def _contains(self, term: str) -> sa.ColumnElement[bool]:
        """Whether the title or a message of a chat holds a word or a part of one."""
        pattern = "%" + term.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        if self._database.is_sqlite and len(term) >= _TRIGRAM:
            phrase = '"' + term.replace('"', '""') + '"'
            found = sa.text("SELECT rowid FROM message_search WHERE message_search MATCH :phrase")
            numbers = found.bindparams(sa.bindparam("phrase", phrase, unique=True))
            is_found = MESSAGES.c.number.in_(numbers.columns(MESSAGES.c.number))
        else:
            is_found = MESSAGES.c.content.ilike(pattern, escape="\\")
        chats = sa.select(MESSAGES.c.chat_id).where(is_found)
        return CHATS.c.title.ilike(pattern, escape="\\") | CHATS.c.id.in_(chats)

    def whole(self, owner: str, chat_id: str) -> tuple[Chat, list[Message]]:
        """A chat with all its branches, the older messages first."""
        with self._database.reading() as db:
            chat = own_chat(db, owner, chat_id)
            rows = db.execute(
                sa.select(MESSAGES).where(MESSAGES.c.chat_id == chat_id).order_by(MESSAGES.c.number)
            )
            return chat, [Message.model_validate(row._mapping) for row in rows]

    def file_rows(self, chat_id: str) -> list[Mapping[str, Any]]:
        """The files of a chat with their texts."""
        with self._database.reading() as db:
            rows = db.execute(sa.select(FILES).where(FILES.c.chat_id == chat_id))
            return [dict(row._mapping) for row in rows]

    def change(self, owner: str, chat_id: str, changes: Mapping[str, Any]) -> Chat:
        """Set title, pin or shown branch."""
        with self._database.writing() as db:
            chat = own_chat(db, owner, chat_id, is_write=True)
            leaf_id = changes.get("leaf_id")
            if leaf_id is not None:
                is_its = (MESSAGES.c.id == leaf_id) & (MESSAGES.c.chat_id == chat_id)
                if db.execute(sa.select(MESSAGES.c.id).where(is_its)).first() is None:
                    raise ApiError(400, "leaf_id is no message of this chat", param="leaf_id")
            if changes:
                db.execute(CHATS.update().where(CHATS.c.id == chat_id).values(**changes))
            return chat.model_copy(update=dict(changes))

    def delete(self, owner: str, chat_id: str) -> None:
        """Delete a chat with its messages and files; a reply that is being written ends."""
        with self._database.writing() as db:
            own_chat(db, owner, chat_id, is_write=True)
            db.execute(CHATS.delete().where(CHATS.c.id == chat_id))

    def take_in(
        self,
        owner: str,
        chat: Chat,
        messages: Sequence[Message],
        files: Sequence[Mapping[str, Any]],
    ) -> None:
        """Store a chat that was made elsewhere, its ids new already.

        Raises ApiError 413 when its owner's files would be too much.
        """
        with self._database.writing() as db:
            check_file_room(db, owner, sum(row["num_characters"] for row in files))
            db.execute(CHATS.insert().values(owner=owner, **chat.model_dump()))
            for row in files:
                db.execute(FILES.insert().values(owner=owner, chat_id=chat.id, **row))
            for message in messages:
                db.execute(MESSAGES.insert().values(chat_id=chat.id, **message_row(message)))


def own_chat(db: sa.Connection, owner: str, chat_id: str, *, is_write: bool = False) -> Chat:
    """A chat of its owner; one that is to be written is locked where databases lock rows.

    Raises ApiError 404 for any other.
    """
    is_it = (CHATS.c.id == chat_id) & (CHATS.c.owner == owner)
    wanted = sa.select(CHATS).where(is_it)
    row = db.execute(wanted.with_for_update() if is_write else wanted).first()
    if row is None:
        raise no_such("chat", chat_id)
    return Chat.model_validate(row._mapping)


def check_file_room(db: sa.Connection, owner: str, num_characters: int) -> None:
    """Raise ApiError 413 when so much more text is more than an owner's files may have."""
    kept = sa.select(sa.func.coalesce(sa.func.sum(FILES.c.num_characters), 0))
    num_kept = db.execute(kept.where(FILES.c.owner == owner)).scalar_one()
    if num_kept + num_characters > MAX_OWNER_CHARACTERS:
        millions = MAX_OWNER_CHARACTERS // 10**6
        text = f"your files hold {millions} million characters; delete chats with files"
        raise ApiError(413, text, code="storage_full", param="file")


def message_row(message: Message) -> dict[str, Any]:
    """The columns of a message; its sources with the texts that are not served."""
    sources = [{**source.model_dump(), "text": source.text} for source in message.sources]
    return {**message.model_dump(mode="json"), "sources": sources}
