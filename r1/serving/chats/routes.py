"""The page's API, `/api`: chats, their messages and files. Every route knows its owner only."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, UploadFile
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from r1 import __version__
from r1.serving.api.access import bearer_key
from r1.serving.api.errors import ApiError, JsonResponse, json_bytes
from r1.serving.api.live_response import EVENT_STREAM, LiveResponse
from r1.serving.api.served_models import ServedModels
from r1.serving.api.settings import ServerSettings
from r1.serving.chats import exports
from r1.serving.chats.chat_store import ChatStore
from r1.serving.chats.database import Database, storage_error
from r1.serving.chats.file_store import FileStore
from r1.serving.chats.live_reply import Event
from r1.serving.chats.prompt import ReplyWish
from r1.serving.chats.records import Chat, Id, UploadedFile
from r1.serving.chats.reply_store import ReplyStore, Turn
from r1.serving.chats.requests import (
    MAX_MESSAGE_FILES,
    ChatChanges,
    ExportedChat,
    NewChat,
    ReplyRequest,
)
from r1.serving.chats.responses import (
    Begun,
    ChatList,
    OneMessage,
    PageInfo,
    WholeChat,
    documented,
)
from r1.serving.chats.same_origin import refuse_other_sites
from r1.serving.chats.writer import ReplyWriter
from r1.serving.files.documents import (
    FILE_SUFFIXES,
    DocumentError,
    DocumentLimits,
    read_data,
)

LOCAL_OWNER = "local"
_FOLLOW_SECONDS = 1.0
_NUM_READERS = 2


@dataclass(frozen=True, slots=True)
class Desk:
    """What the routes work with."""

    models: ServedModels
    settings: ServerSettings
    database: Database
    chats: ChatStore
    replies: ReplyStore
    files: FileStore
    writer: ReplyWriter
    limits: DocumentLimits
    search_provider: str | None


def owner_of(request: Request) -> str:
    """Whose chats are asked for: those of the key, which has been checked, or of this machine."""
    if not request.app.state.settings.api_keys:
        return LOCAL_OWNER
    return hashlib.sha256(bearer_key(dict(request.scope["headers"]))).hexdigest()


Owner = Annotated[str, Depends(owner_of)]


def build_routes(desk: Desk) -> APIRouter:
    """All routes of the page's API."""
    router = APIRouter(prefix="/api", dependencies=[Depends(refuse_other_sites)])
    _add_page(router, desk)
    _add_chats(router, desk)
    _add_export(router, desk)
    _add_replies(router, desk)
    _add_files(router, desk)
    return router


def _add_page(router: APIRouter, desk: Desk) -> None:
    @router.get("/page", responses=documented(PageInfo))
    async def page() -> Response:
        """What the page has to know before anything else."""
        cards = [
            {
                "id": service.name,
                "is_reasoning": service.model.is_reasoning,
                "max_model_len": service.model.max_model_len,
            }
            for service in desk.models
        ]
        names = ("temperature", "top_p", "max_tokens", "thinking_budget")
        files = {
            "max_bytes": desk.limits.max_bytes,
            "max_files": MAX_MESSAGE_FILES,
            "types": list(FILE_SUFFIXES),
        }
        provider = desk.search_provider
        return JsonResponse(
            {
                "models": cards,
                "defaults": desk.settings.model_dump(include=set(names)),
                "files": files,
                "search": {"is_available": provider is not None, "provider": provider},
                "version": __version__,
                "needs_key": bool(desk.settings.api_keys),
            }
        )


def _add_chats(router: APIRouter, desk: Desk) -> None:
    run, chats = desk.database.run, desk.chats

    @router.get("/chats", responses=documented(ChatList))
    async def listed(
        owner: Owner,
        query: Annotated[str, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        before: Id | None = None,
    ) -> Response:
        """Chats, pinned first, then the newest; `before` is the last one of the list so far."""
        found = await run(chats.listed, owner, query, limit, before)
        return JsonResponse({"chats": [chat.model_dump() for chat in found]})

    @router.post("/chats", responses=documented(Chat))
    async def create(owner: Owner, body: NewChat) -> Response:
        """A new chat."""
        return JsonResponse((await run(chats.create, owner, body.title)).model_dump())

    @router.get("/chats/{chat_id}", responses=documented(WholeChat))
    async def whole(owner: Owner, chat_id: Id) -> Response:
        """A chat with all its branches."""
        return Response(
            await run(_whole_json, chats, owner, chat_id), media_type="application/json"
        )

    @router.patch("/chats/{chat_id}", responses=documented(Chat))
    async def change(owner: Owner, chat_id: Id, body: ChatChanges) -> Response:
        """Title, pin, shown branch."""
        changes = body.model_dump(exclude_none=True)
        return JsonResponse((await run(chats.change, owner, chat_id, changes)).model_dump())

    @router.delete("/chats/{chat_id}", status_code=204, responses=documented())
    async def delete(owner: Owner, chat_id: Id) -> Response:
        """Delete a chat, its messages and its files."""
        await run(chats.delete, owner, chat_id)
        return Response(status_code=204)


def _whole_json(chats: ChatStore, owner: str, chat_id: str) -> bytes:
    """In the database's thread: a chat may be long."""
    chat, messages = chats.whole(owner, chat_id)
    dumped = [message.model_dump() for message in messages]
    return json_bytes({"chat": chat.model_dump(), "messages": dumped})


def _exported(chats: ChatStore, owner: str, chat_id: str, format: exports.Format) -> bytes:
    chat, messages = chats.whole(owner, chat_id)
    if format == "markdown":
        return exports.export_markdown(chat, messages).encode()
    return json_bytes(exports.export_json(chat, messages, chats.file_rows(chat_id)))


def _add_export(router: APIRouter, desk: Desk) -> None:
    run, chats = desk.database.run, desk.chats
    exported = documented(ExportedChat, kind="text/markdown")

    @router.get("/chats/{chat_id}/export", response_class=Response, responses=exported)
    async def export(owner: Owner, chat_id: Id, format: exports.Format = "json") -> Response:
        """The chat as a file."""
        content = await run(_exported, chats, owner, chat_id, format)
        name = f"chat-{chat_id[:8]}.{'md' if format == 'markdown' else 'json'}"
        headers = {
            "content-disposition": f'attachment; filename="{name}"',
            "x-content-type-options": "nosniff",
        }
        return Response(content, media_type=exports.KINDS[format], headers=headers)

    @router.post("/chats/import", responses=documented(Chat))
    async def take_in(owner: Owner, body: ExportedChat) -> Response:
        """A chat from what export gave, with new ids."""
        return JsonResponse((await run(_take_in, chats, owner, body)).model_dump())


def _take_in(chats: ChatStore, owner: str, body: ExportedChat) -> Chat:
    chat, messages, files = exports.import_chat(body)
    chats.take_in(owner, chat, messages, files)
    return chat


def _add_replies(router: APIRouter, desk: Desk) -> None:
    run, replies, writer = desk.database.run, desk.replies, desk.writer
    streamed = documented(kind=EVENT_STREAM)

    @router.post("/chats/{chat_id}/replies", responses=documented(Begun))
    async def reply(owner: Owner, chat_id: Id, body: ReplyRequest) -> Response:
        """Store a turn and begin its reply, which is written whether anyone listens or not."""
        service = desk.models.find(body.model)
        model = body.model or service.name
        writer.check_room(service)
        turn = Turn(body.parent_id, body.content, body.file_ids, body.continue_id, model)
        begun = await run(replies.begin, owner, chat_id, turn)
        # More of a reply is written from what was found for its beginning.
        is_search = body.search and body.continue_id is None
        writer.start(service, begun, ReplyWish(model, body.thinking, is_search, body.settings))
        answer = {
            "chat": begun.chat.model_dump(),
            "user_message": begun.user_message and begun.user_message.model_dump(),
            "assistant_message": begun.assistant_message.model_dump(),
        }
        return JsonResponse(answer)

    @router.get("/messages/{message_id}/stream", response_class=Response, responses=streamed)
    async def stream(owner: Owner, message_id: Id) -> Response:
        """The message as it is, then what comes to it."""
        await run(replies.message, owner, message_id)
        parts = _events(desk, owner, message_id)
        return LiveResponse(_encoded(parts), desk.settings, is_event_stream=True, headers={})

    @router.post("/messages/{message_id}/stop", responses=documented(OneMessage))
    async def stop(owner: Owner, message_id: Id) -> Response:
        """End a reply; what there is of it stays."""
        await run(replies.message, owner, message_id)
        message = await writer.stop(message_id)
        if message is None:
            message = await run(replies.stop, owner, message_id)
        return JsonResponse({"message": message.model_dump()})


async def _events(desk: Desk, owner: str, message_id: str) -> AsyncGenerator[Event, None]:
    live = desk.writer.live(message_id)
    if live is not None:
        async for event in live.events():
            yield event
        return
    # It has ended, or another server on the same database writes it.
    shown = None
    while True:
        message = await desk.database.run(desk.replies.message, owner, message_id)
        if message != shown:
            shown = message
            yield "snapshot", {"message": message.model_dump()}
        if message.status != "generating":
            yield "done", {"message": message.model_dump()}
            return
        await asyncio.sleep(_FOLLOW_SECONDS)


async def _encoded(events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
    try:
        async for name, data in events:
            yield f"event: {name}\ndata: ".encode() + json_bytes(data) + b"\n\n"
    except SQLAlchemyError as error:
        raise storage_error(error) from None


def _add_files(router: APIRouter, desk: Desk) -> None:
    run, files = desk.database.run, desk.files
    readers = asyncio.Semaphore(_NUM_READERS)

    @router.post("/files", responses=documented(UploadedFile))
    async def upload(owner: Owner, file: UploadFile) -> Response:
        """Read an uploaded file and keep its text."""
        if (file.size or 0) > desk.limits.max_bytes:
            limit = desk.limits.max_bytes / 2**20
            raise ApiError(413, f"a file may have {limit:,.0f} MiB", param="file")
        async with readers:
            data = await file.read()
            try:
                name = file.filename or ""
                document = await asyncio.to_thread(read_data, data, name, desk.limits)
            except DocumentError as error:
                raise ApiError(400, str(error), code="unreadable_file", param="file") from None
        kept = await run(files.add, owner, document, len(data))
        return JsonResponse(kept.model_dump())

    @router.delete("/files/{file_id}", status_code=204, responses=documented())
    async def delete(owner: Owner, file_id: Id) -> Response:
        """Delete a file that no message holds."""
        await run(files.delete, owner, file_id)
        return Response(status_code=204)
