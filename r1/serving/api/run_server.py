"""`r1 serve`: one process with the models and the API, until SIGTERM and what it drains."""

from __future__ import annotations

import errno
import functools
import gc
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from r1.backends.openai_http_client import ServerConfig
from r1.engine.engine import Engine, EngineConfig
from r1.engine.kv_cache import CacheTooLarge
from r1.engine.open_model import open_model
from r1.serving.api.app import build_app
from r1.serving.api.engine_model import EngineModel
from r1.serving.api.model_side import ModelSide
from r1.serving.api.server_model import ServerModel
from r1.serving.api.settings import ServerSettings
from r1.serving.api.worker_team import release_workers
from r1.serving.chats.page import AddPage, PageSettings, open_page
from r1.serving.chosen_model import choose_model

_PORT_ERRORS = (errno.EADDRINUSE, errno.EACCES)


def serve(
    models: Mapping[str, str],
    settings: ServerSettings,
    page: PageSettings,
    kv_cache_bytes: int,
    device: str,
) -> None:
    """Serve models by their names, each on an engine of our own.

    Raises ValueError when one cannot be opened, or is there twice.
    """
    paths = _find_all(models)
    limits = EngineConfig(max_num_seqs=settings.max_running, kv_cache_bytes=kv_cache_bytes)

    def open_engine(path: Path) -> Engine:
        loaded, tokenizer = open_model(str(path), device=device, is_trained=False)
        try:
            return Engine(loaded, tokenizer, limits)
        except CacheTooLarge as error:
            raise ValueError(f"{error.problem}; lower --kv-cache-gb") from None

    # Before the weights are read: a taken port or an unusable database is told at once.
    with bind(settings) as listener:
        warn_if_open(settings)
        add_page = open_page(page)
        on_idle = release_workers if len(paths) > 1 else None
        engines = {
            name: EngineModel(functools.partial(open_engine, path), settings, on_idle)
            for name, path in paths.items()
        }
        run(engines, settings, listener, add_page)


def _find_all(models: Mapping[str, str]) -> dict[str, Path]:
    """The checkpoints. Raises ValueError for one that two models come down to."""
    paths: dict[str, Path] = {}
    for name, model in models.items():
        path = choose_model(model).path.resolve()
        if path in paths.values():
            other = next(models[known] for known in paths if paths[known] == path)
            raise ValueError(f"{model}: the same model as {other}; give it once")
        paths[name] = path
    return paths


def serve_backend(
    upstreams: Mapping[str, ServerConfig], settings: ServerSettings, page: PageSettings
) -> None:
    """Serve models that another server runs, with the rules of use in front of them."""
    with bind(settings) as listener:
        warn_if_open(settings)
        models = {name: ServerModel(upstream) for name, upstream in upstreams.items()}
        run(models, settings, listener, open_page(page))


def run(
    models: Mapping[str, ModelSide],
    settings: ServerSettings,
    listener: socket.socket,
    add_page: AddPage | None,
) -> None:
    """Serve until a signal; replies under way have `drain_seconds` to end."""
    app = build_app(models, settings)
    if add_page is not None:
        add_page(app)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host

    def announce() -> None:
        address = f"http://{shown}:{port}"
        lines = [f"{', '.join(models)} at {address}/v1"]
        if add_page is not None:
            lines.append(f"chat page at {address}/")
        print(*lines, sep="\n", file=sys.stderr, flush=True)

    # What is here now stays: to look through it again for garbage takes a tenth of a second.
    gc.collect()
    gc.freeze()
    DrainingServer(app, settings, announce).run(sockets=[listener])


class DrainingServer(uvicorn.Server):
    """Uvicorn, whose application knows from the first signal on that it is to end."""

    def __init__(
        self, app: FastAPI, settings: ServerSettings, on_ready: Callable[[], None] | None = None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                http="h11",
                ws="none",
                h11_max_incomplete_event_size=settings.max_header_bytes,
                limit_concurrency=settings.max_connections,
                timeout_graceful_shutdown=settings.drain_seconds,
            )
        )
        self._app = app
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets=sockets)
        if self._on_ready is not None:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse new requests, let the others end."""
        for service in self._app.state.models:
            service.is_draining = True
        super().handle_exit(sig, frame)


def bind(settings: ServerSettings) -> socket.socket:
    """The listening socket. Raises ValueError when the address is taken or not ours.

    Clients that come before the models are loaded wait in its queue.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's delay off for what it accepts.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # A client that takes nothing keeps its socket full for ever; the system ends it (Linux).
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = int(settings.write_timeout_seconds * 1000)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen()  # until then a second server could bind the same port
    except OSError as error:
        listener.close()
        address = f"{settings.host}:{settings.port}"
        option = "--port" if error.errno in _PORT_ERRORS else "--host"
        raise ValueError(f"{address}: {error.strerror}; choose another with {option}") from None
    return listener


def warn_if_open(settings: ServerSettings) -> None:
    """Say what it means to listen beyond this machine."""
    if settings.is_loopback:
        return
    who = "with a key" if settings.api_keys else "WITHOUT A KEY (set one: --api-key-file)"
    print(
        f"warning: {settings.host} is reachable from other machines, {who}; "
        "traffic is not encrypted: put a proxy with TLS in front",
        file=sys.stderr,
    )
