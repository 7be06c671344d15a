"""Uploaded files: their text is kept, by owner, and goes with the chat that holds them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import sqlalchemy as sa

from r1.serving.api.errors import ApiError
from r1.serving.chats.chat_store import check_file_room, new_id, no_such
from r1.serving.chats.database import FILES, Database
from r1.serving.chats.records import UploadedFile, storable
from r1.serving.files.documents import Document

_UNUSED_SECONDS = 24 * 3600.0


class FileStore:
    """The files of all owners."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, owner: str, document: Document, num_bytes: int) -> UploadedFile:
        """Keep a file's text. Raises ApiError 413 when its owner has too much already.

        Files that no message holds after a day are dropped first.
        """
        text = storable(document.text)
        file = UploadedFile(
            id=new_id(),
            name=document.name,
            num_bytes=num_bytes,
            num_characters=len(text),
            kind=document.kind,
        )
        now = time.time()
        is_unused = FILES.c.chat_id.is_(None) & (FILES.c.created_at < now - _UNUSED_SECONDS)
        with self._database.writing() as db:
            db.execute(FILES.delete().where(is_unused))
            check_file_room(db, owner, len(text))
            row = {**file.model_dump(), "text": text, "owner": owner, "created_at": now}
            db.execute(FILES.insert().values(**row))
        return file

    def delete(self, owner: str, file_id: str) -> None:
        """Delete a file that no message holds yet."""
        is_it = (FILES.c.id == file_id) & (FILES.c.owner == owner)
        with self._database.writing() as db:
            row = db.execute(sa.select(FILES.c.chat_id).where(is_it)).first()
            if row is None:
                raise no_such("file", file_id)
            if row.chat_id is not None:
                raise ApiError(409, "the file is part of a chat and goes with it")
            db.execute(FILES.delete().where(is_it))

    def documents(self, file_ids: Sequence[str]) -> dict[str, Document]:
        """The texts of the files that are still there, by id."""
        with self._database.reading() as db:
            rows = db.execute(sa.select(FILES).where(FILES.c.id.in_(file_ids)))
            return {row.id: Document(row.name, row.text, row.kind) for row in rows}
