"""Who may ask, and how large a request may be: plain ASGI, which leaves `receive` readable."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from r1.serving.api.errors import ApiError
from r1.serving.api.settings import ServerSettings


class Access:
    """Refuses requests without a key, for a foreign host, or with too large a body."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings
        self._key_hashes = [_hash(key) for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        limit = self._settings.max_bytes_of(scope["path"])
        try:
            self._check_key(headers)
            self._check_host(headers)
            _check_length(headers, limit)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        reader = _BoundedBody(receive, self._settings, limit)
        try:
            await self._app(scope, reader.receive, send)
        except ApiError as error:
            await error.response()(scope, receive, send)

    def _check_key(self, headers: dict[bytes, bytes]) -> None:
        if not self._key_hashes:
            return
        given = _hash(bearer_key(headers))
        # Every key is compared: the time says neither which one nor how much of it is right.
        matches = [hmac.compare_digest(given, known) for known in self._key_hashes]
        if not any(matches):
            raise ApiError(
                401,
                "wrong or missing API key: send Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        """A page on the web could reach a local server by a name that it points to 127.0.0.1."""
        if self._key_hashes or not self._settings.is_loopback:
            return
        host = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0]
        if host.strip("[]") not in ("", "localhost", "127.0.0.1", "::1"):
            raise ApiError(403, f"this server answers to localhost, not to {host!r}")


class _BoundedBody:
    """`receive` that refuses a body which is too long, or does not come."""

    def __init__(self, receive: Receive, settings: ServerSettings, max_bytes: int) -> None:
        self._receive = receive
        self._settings = settings
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._is_complete = False

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._settings.body_timeout_seconds):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, "the body did not come in time") from None
        if message["type"] == "http.request":
            self._num_bytes += len(message.get("body", b""))
            self._is_complete = not message.get("more_body", False)
        if self._num_bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        return message


def bearer_key(headers: dict[bytes, bytes]) -> bytes:
    """The key that a request brings, or nothing."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""


def _check_length(headers: dict[bytes, bytes], max_bytes: int) -> None:
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, f"a request may have {max_bytes} bytes")


def _hash(key: str | bytes) -> bytes:
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()
