"""The page beside the API, in one application: its files, its routes, its database."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

from fastapi import FastAPI, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from r1.config import Config
from r1.serving.api.served_models import ServedModels
from r1.serving.api.settings import ServerSettings
from r1.serving.chats.chat_store import ChatStore
from r1.serving.chats.database import Database, default_url, open_database, storage_error
from r1.serving.chats.file_store import FileStore
from r1.serving.chats.page_files import PageFiles
from r1.serving.chats.reply_store import ReplyStore
from r1.serving.chats.routes import LOCAL_OWNER, Desk, build_routes
from r1.serving.chats.writer import ReplyWriter
from r1.serving.files.documents import DocumentLimits
from r1.serving.search.open_search import open_search
from r1.serving.search.web_search import WebSearch

AddPage = Callable[[FastAPI], None]


class PageSettings(Config):
    """Whether there is a page, where its chats are kept (None: the user's data folder), and
    what it searches (None: nothing).
    """

    is_served: bool = True
    database_url: str | None = None
    search: str | None = None


def open_page(settings: PageSettings) -> AddPage | None:
    """Open what the page needs; returns what adds it to an application, None: no page.

    Raises ValueError when the database or the search cannot be used.
    """
    if not settings.is_served:
        return None
    search = None if settings.search is None else open_search(settings.search)
    database = open_database(settings.database_url or default_url())
    return functools.partial(add_page, database=database, search=search)


def add_page(app: FastAPI, database: Database, search: WebSearch | None) -> None:
    """Add the page to the models' application, which closes the database when it ends."""
    models: ServedModels = app.state.models
    settings: ServerSettings = app.state.settings
    chats = ChatStore(database)
    if settings.api_keys and chats.listed(LOCAL_OWNER, "", limit=1, before=None):
        print(
            "note: the chats that were made without keys are not shown while keys are set; "
            "export them without keys, import them with one",
            file=sys.stderr,
        )
    replies, files = ReplyStore(database), FileStore(database)
    writer = ReplyWriter(database, replies, search)
    desk = Desk(
        models=models,
        settings=settings,
        database=database,
        chats=chats,
        replies=replies,
        files=files,
        writer=writer,
        limits=DocumentLimits(),
        search_provider=None if search is None else search.provider.name,
    )
    app.include_router(build_routes(desk))
    app.add_exception_handler(SQLAlchemyError, _on_storage_error)
    app.add_middleware(PageFiles)
    app.state.parts.append(writer.running())


async def _on_storage_error(request: Request, error: Exception) -> Response:
    """A database that fails is the page's trouble: the API goes on."""
    assert isinstance(error, SQLAlchemyError)
    return storage_error(error).response()
