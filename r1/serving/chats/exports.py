"""A chat as a file: JSON that can be taken in again, and Markdown to read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from r1.serving.api.errors import ApiError
from r1.serving.chats.chat_store import new_id
from r1.serving.chats.records import Chat, Message
from r1.serving.chats.requests import ExportedChat

Format = Literal["json", "markdown"]
KINDS: dict[Format, str] = {"json": "application/json", "markdown": "text/markdown"}


def export_json(
    chat: Chat, messages: Sequence[Message], files: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The whole tree, with the texts of its files."""
    fields = ("id", "name", "num_bytes", "num_characters", "kind", "text")
    return {
        "format": "r1-chat",
        "version": 1,
        "chat": chat.model_dump(),
        "messages": [message.model_dump() for message in messages],
        "files": [{name: row[name] for name in fields} for row in files],
    }


def export_markdown(chat: Chat, messages: Sequence[Message]) -> str:
    """The branch that is shown, thoughts as quotations."""
    by_id = {message.id: message for message in messages}
    branch, last_id = [], chat.leaf_id
    while last_id is not None:
        branch.append(by_id[last_id])
        last_id = by_id[last_id].parent_id
    parts = [f"# {chat.title or 'Chat'}"]
    for message in reversed(branch):
        parts.append("## User" if message.role == "user" else f"## {message.model or 'Assistant'}")
        parts += [f"- file: {file.name}" for file in message.files]
        if message.reasoning_content:
            lines = message.reasoning_content.splitlines()
            parts.append("\n".join(f"> {line}".rstrip() for line in lines))
        parts.append(message.content)
        parts += [f"{s.index}. {s.title} {s.url}".rstrip() for s in message.sources]
    return "\n\n".join(part for part in parts if part) + "\n"


def import_chat(
    exported: ExportedChat,
) -> tuple[Chat, list[Message], list[dict[str, Any]]]:
    """A chat from a file with new ids, as if it had been written now.

    Raises ApiError 400 for parents that do not exist, follow the wrong role or form a circle.
    """
    new_ids = _new_ids([message.id for message in exported.messages], "messages")
    file_ids = _new_ids([file.id for file in exported.files], "files")
    messages = [
        message.model_copy(
            update={
                "id": new_ids[message.id],
                "parent_id": message.parent_id and new_ids[message.parent_id],
                "status": "stopped" if message.status == "generating" else message.status,
                "files": tuple(
                    file.model_copy(update={"id": file_ids[file.id]})
                    for file in message.files
                    if file.id in file_ids
                ),
            }
        )
        for message in _in_order(exported.messages)
    ]
    leaf_id = exported.chat.leaf_id
    last_id = messages[-1].id if messages else None
    now = time.time()
    update = {"id": new_id(), "updated_at": now, "leaf_id": new_ids.get(leaf_id or "", last_id)}
    chat = exported.chat.model_copy(update=update)
    files = [
        {
            **file.model_dump(),
            "id": file_ids[file.id],
            "num_characters": len(file.text),
            "created_at": now,
        }
        for file in exported.files
    ]
    return chat, messages, files


def _new_ids(ids: Sequence[str], where: str) -> dict[str, str]:
    new_ids = {item_id: new_id() for item_id in ids}
    if len(new_ids) < len(ids):
        raise ApiError(400, f"{where}: an id occurs twice", param=where)
    return new_ids


def _in_order(messages: Sequence[Message]) -> list[Message]:
    """As they are, once each is known to come after its parent."""
    roles: dict[str | None, str] = {None: "assistant"}
    for index, message in enumerate(messages):
        where = f"messages.{index}.parent_id"
        if message.parent_id not in roles:
            raise ApiError(400, f"{where}: no message before it has this id", param=where)
        if roles[message.parent_id] == message.role:
            text = f"{where}: two messages of the {message.role} follow each other"
            raise ApiError(400, text, param=where)
        roles[message.id] = message.role
    return list(messages)
