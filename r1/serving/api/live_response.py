"""A response whose body comes while the model writes it.

It watches for the client's leaving itself, streamed or not: middleware that wraps `receive`
would hide it. Nothing is sent before the first bytes are there, so that what fails before
has its own status; after `keep_alive_seconds` without news a keep-alive is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from r1.serving.api.errors import ApiError, json_bytes
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.ensure_future(_wait_for_leaving(receive))
        part: asyncio.Future[bytes | None] | None = None
        try:
            while True:
                part = asyncio.ensure_future(anext(self._parts, None))
                content = await self._wait(part, leaving, send)
                if content is None:
                    break
                await self._send(send, content)
            await self._send(send, b"", is_last=True)
        except _ClientGone:
            return
        except ApiError as error:
            await self._send_error(error, scope, receive, send)
        finally:
            leaving.cancel()
            if part is not None:
                part.cancel()
                await asyncio.gather(part, return_exceptions=True)
            await self._parts.aclose()

    async def _wait(
        self, part: asyncio.Future[bytes | None], leaving: asyncio.Future[None], send: Send
    ) -> bytes | None:
        while True:
            await asyncio.wait(
                {part, leaving},
                timeout=self._settings.keep_alive_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if leaving.done():
                raise _ClientGone
            if part.done():
                return part.result()
            await self._send(send, b": keep-alive\n\n" if self._is_event_stream else b"\n")

    async def _send(self, send: Send, content: bytes, *, is_last: bool = False) -> None:
        try:
            async with asyncio.timeout(self._settings.write_timeout_seconds):
                if not self._has_begun:
                    self._has_begun = True
                    start = {"type": "http.response.start", "status": self.status_code}
                    await send({**start, "headers": self.raw_headers})
                await send(
                    {"type": "http.response.body", "body": content, "more_body": not is_last}
                )
        except (TimeoutError, OSError) as error:
            raise _ClientGone from error

    async def _send_error(
        self, error: ApiError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """As a response of its own, or, once the status is out, as the end of this one."""
        if not self._has_begun:
            await error.response()(scope, receive, send)
            return
        content = json_bytes(error.body)
        if self._is_event_stream:
            content = b"data: " + content + b"\n\n"
        await self._send(send, content, is_last=True)


async def _wait_for_leaving(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
