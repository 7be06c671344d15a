"""A response whose body comes while the model writes it.

It watches for the client's leaving itself, streamed or not: middleware that wraps `receive`
would hide it. Nothing is sent before the first bytes are there, so that what fails before
has its own status; after `keep_alive_seconds` without news a keep-alive is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from r1.serving.api.errors import UNEXPECTED, ApiError, json_bytes
from r1.serving.api.settings import ServerSettings

EVENT_STREAM = "text/event-stream"


class _ClientGone(Exception):
    """The client has left, or takes nothing any more."""


class LiveResponse(Response):
    """Sends `parts`; closes them, which cancels the reply, however the response ends.

    As an event stream a keep-alive is a comment, otherwise an empty line, which JSON allows
    in front (DeepSeek's way).
    """

    def __init__(
        self,
        parts: AsyncGenerator[bytes, None],
        settings: ServerSettings,
        *,
        is_event_stream: bool,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(media_type=EVENT_STREAM if is_event_stream else "application/json")
        del self.headers["content-length"]
        self.headers.update(headers)
        if is_event_stream:
            # What stands between must not hold the stream back (nginx does by default).
            self.headers.update({"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._parts = parts
        self._settings = settings
        self._is_event_stream = is_event_stream
        self._has_begun = False
        self._sending = asyncio.Lock()
        self._sent_at = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = [
            asyncio.ensure_future(self._send_parts(scope, receive, send)),
            asyncio.ensure_future(self._keep_alive(send)),
            asyncio.ensure_future(_wait_for_leaving(receive)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except _ClientGone:
            return
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._parts.aclose()

    async def _send_parts(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async for part in self._parts:
                await self._send(send, part)
            await self._send(send, b"", is_last=True)
        except _ClientGone:
            raise
        except ApiError as error:
            if self._has_begun:
                await self._send_error(send, error)
            else:
                self._sent_at = time.monotonic()
                await error.response()(scope, receive, send)
        except Exception:
            # Before the first byte it is the application's to answer.
            if self._has_begun:
                await self._send_error(send, UNEXPECTED)
            raise

    async def _send_error(self, send: Send, error: ApiError) -> None:
        content = json_bytes(error.body)
        event = b"data: " + content + b"\n\n"
        await self._send(send, event if self._is_event_stream else content, is_last=True)

    async def _keep_alive(self, send: Send) -> None:
        """Never ends: it sleeps until the silence could be too long, and looks."""
        while True:
            wait = self._sent_at + self._settings.keep_alive_seconds - time.monotonic()
            if wait <= 0 and not self._sending.locked():
                await self._send(send, b": keep-alive\n\n" if self._is_event_stream else b"\n")
            else:
                await asyncio.sleep(wait if wait > 0 else self._settings.keep_alive_seconds)

    async def _send(self, send: Send, content: bytes, *, is_last: bool = False) -> None:
        try:
            async with self._sending, asyncio.timeout(self._settings.write_timeout_seconds):
                if not self._has_begun:
                    self._has_begun = True
                    start = {"type": "http.response.start", "status": self.status_code}
                    await send({**start, "headers": self.raw_headers})
                await send(
                    {"type": "http.response.body", "body": content, "more_body": not is_last}
                )
                self._sent_at = time.monotonic()
        except (TimeoutError, OSError) as error:
            raise _ClientGone from error


async def _wait_for_leaving(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
