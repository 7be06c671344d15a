"""One OpenAI-compatible server: requests that are paced, retried and read as a stream.

Replies are streamed by default, because a thought of 32,768 tokens takes longer than any
sensible read timeout; a stream is only silent for as long as one token takes.
"""

from __future__ import annotations

import email.utils
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import httpx2
from pydantic import Field, field_validator

from r1.backends.openai_http_limits import RateLimit
from r1.backends.openai_http_reply import (
    BrokenReply,
    RefusedReply,
    Reply,
    assemble,
    error_message,
)
from r1.config import Config

_JSON = {"content-type": "application/json"}
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 1.0, 60.0
_LONGEST_RETRY_AFTER_SECONDS = 600.0
_CHECK_ATTEMPTS, _CHECK_TOKENS = 3, 16
# Wrong key, no credit, no access, no such model or path: the next request fares no better.
_FATAL_STATUSES = (401, 402, 403, 404, 405)
_RETRIED_STATUSES = (408, 409, 425, 429)  # and all of 500 and above


class ServerConfig(Config):
    """Which server and model, and how hard it may be asked.

    `url` ends before `/chat/completions`, as in `http://localhost:8000/v1`. The key is
    read from the environment variable that `api_key_variable` names, and is in no
    record. `extra` fields go into every request as they are; `omit` names fields that
    the server does not take (`seed`, `top_p`). Timeouts: to connect, between two
    pieces of a reply, and for a whole reply.
    """

    url: str
    model: str
    endpoint: Literal["chat", "completions"] = "chat"
    api_key_variable: str | None = None
    num_concurrent: int = Field(default=16, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    max_attempts: int = Field(default=6, ge=1)
    connect_timeout_seconds: float = Field(default=10.0, gt=0)
    read_timeout_seconds: float = Field(default=300.0, gt=0)
    reply_timeout_seconds: float = Field(default=7200.0, gt=0)
    is_streaming: bool = True
    is_think_forced: bool = False
    """The server's template opens the thought, and its replies begin inside it."""
    extra: dict[str, Any] = Field(default_factory=dict)
    omit: tuple[str, ...] = ()

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        try:
            url = httpx2.URL(value)
        except httpx2.InvalidURL as error:
            raise ValueError(f"is not a server's address ({error})") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("is not a server's address such as http://localhost:8000/v1")
        if url.port is not None and url.port > 65535:
            raise ValueError(f"has the port {url.port}; the last one is 65535")
        if url.userinfo:
            raise ValueError("holds a password; name a key with api_key_variable instead")
        return value.rstrip("/").removesuffix("/chat/completions").removesuffix("/completions")

    @field_validator("api_key_variable")
    @classmethod
    def _check_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError("is the name of an environment variable, not the key itself")
        return value


class ServerError(ValueError):
    """What no further request will mend (key, model, address); its text is one line."""


class RequestFailure(Exception):
    """One request that finally failed; `is_refused` when the server will never take it."""

    def __init__(self, message: str, *, is_refused: bool = False) -> None:
        super().__init__(message)
        self.is_refused = is_refused


class _Transient(Exception):
    """What may go away: a full server, a limit, a torn connection."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Server:
    """A server to complete requests on; safe to use from several threads.

    `sleep` and `clock` are for tests. Raises ServerError when the key is not set.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.stopped = threading.Event()
        self._sleep = sleep or self._wait
        self._clock = clock
        self._random = random.Random()
        self._limit = RateLimit(
            config.requests_per_minute, config.tokens_per_minute, clock, self._sleep
        )
        self._key = read_key(config)
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(
                config.read_timeout_seconds, connect=config.connect_timeout_seconds, pool=None
            ),
            limits=httpx2.Limits(max_connections=config.num_concurrent),
        )

    def complete(
        self,
        path: str,
        body: Mapping[str, Any],
        num_prompt_tokens: int,
        max_attempts: int | None = None,
    ) -> Reply:
        """Send a request until it is answered, `config.max_attempts` times if not said otherwise.

        `path` is `chat/completions` or `completions`; `num_prompt_tokens` may be an
        estimate and counts for the limit of tokens per minute. Raises ServerError for
        what concerns every request and RequestFailure for what concerns this one.
        """
        config, last_fault = self.config, ""
        max_attempts = max_attempts or config.max_attempts
        sent = {**body, "model": config.model, **config.extra}
        if config.is_streaming:
            sent |= {"stream": True, "stream_options": {"include_usage": True}}
        sent = {name: value for name, value in sent.items() if name not in config.omit}
        for attempt in range(max_attempts):
            self._limit.admit(num_prompt_tokens)
            try:
                reply = self._send(f"{config.url}/{path}", sent)
            except _Transient as fault:
                last_fault = str(fault)
                if attempt + 1 < max_attempts:
                    self._sleep(self._delay_seconds(attempt, fault.retry_after_seconds))
                continue
            self._limit.spend(reply.num_completion_tokens or 0)
            return reply
        raise RequestFailure(f"{config.url}/{path}: {last_fault} ({max_attempts} attempts)")

    def check(self) -> None:
        """Ask one tiny thing, so that a wrong address, key or model is told before all else.

        Raises ServerError.
        """
        is_chat = self.config.endpoint == "chat"
        asked = {"messages": [{"role": "user", "content": "Hello"}]} if is_chat else {}
        body = {**(asked or {"prompt": "Hello"}), "max_tokens": _CHECK_TOKENS}
        path = "chat/completions" if is_chat else "completions"
        try:
            self.complete(path, body, 1, min(_CHECK_ATTEMPTS, self.config.max_attempts))
        except RequestFailure as error:
            raise ServerError(f"{error} (model {self.config.model!r})") from None

    def close(self) -> None:
        """End waiting requests and close the connections."""
        self.stopped.set()
        self._client.close()

    def _send(self, url: str, body: Mapping[str, Any]) -> Reply:
        content = json.dumps(body)  # ASCII: lone surrogates are escapes in it
        deadline = self._clock() + self.config.reply_timeout_seconds
        try:
            with self._client.stream("POST", url, content=content, headers=_JSON) as response:
                if response.status_code != 200:
                    self._raise_status(response)
                return assemble(self._chunks(response, deadline))
        except httpx2.HTTPError as error:
            raise _Transient(f"{type(error).__name__}: {error}".rstrip(": ")) from None
        except BrokenReply as error:
            raise _Transient(str(error)) from None
        except RefusedReply as error:
            raise RequestFailure(f"{url}: {error}", is_refused=True) from None

    def _chunks(self, response: httpx2.Response, deadline: float) -> Iterator[Any]:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream":
            text = response.read().decode("utf-8", errors="replace")
            if "json" not in kind:
                raise BrokenReply(f"answered {kind or 'no content type'}, not JSON: {text[:80]!r}")
            yield _parse(text)
            return
        for event in httpx2.EventSource(response):
            if event.data.strip() == "[DONE]":
                return
            if self.stopped.is_set():
                raise RequestFailure("stopped")
            if self._clock() > deadline:
                limit = self.config.reply_timeout_seconds
                raise BrokenReply(f"no end after {limit:g} s (reply_timeout_seconds)")
            yield _parse(event.data)

    def _raise_status(self, response: httpx2.Response) -> None:
        text = response.read().decode("utf-8", errors="replace").strip()
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = text
        message = error_message(body)[:300]
        if self._key:
            message = message.replace(self._key, "***")
        status, url = response.status_code, response.request.url
        fault = f"{status} {response.reason_phrase}: {message}".rstrip(": ")
        # OpenAI reports spent credit as 429; waiting brings none.
        if status in _FATAL_STATUSES or status < 400 or "insufficient_quota" in text:
            raise ServerError(f"{url}: {fault}{self._hint(status)}")
        if status in _RETRIED_STATUSES or status >= 500:
            raise _Transient(fault, _retry_after_seconds(response.headers.get("retry-after")))
        raise RequestFailure(f"{url}: {fault}", is_refused=True)

    def _hint(self, status: int) -> str:
        variable = self.config.api_key_variable
        if status == 401 and variable is None:
            return " (name the environment variable that holds the key: api_key_variable)"
        if status == 401:
            return f" (the key is that of ${variable})"
        return f" (model {self.config.model!r})" if status == 404 else ""

    def _delay_seconds(self, attempt: int, retry_after_seconds: float) -> float:
        """Exponential, with jitter so that many requests do not come back at once."""
        longest = min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2**attempt)
        return max(retry_after_seconds, longest * self._random.uniform(0.5, 1.0))

    def _wait(self, seconds: float) -> None:
        if self.stopped.wait(seconds):
            raise RequestFailure("stopped")


def read_key(config: ServerConfig) -> str | None:
    """The key from its environment variable. Raises ServerError when that holds none."""
    if config.api_key_variable is None:
        return None
    key = os.environ.get(config.api_key_variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ServerError(f"{config.url}: the variable ${config.api_key_variable} holds no key")
    return key


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenReply(f"not valid JSON ({error}): {text[:80]!r}") from None


def _retry_after_seconds(value: str | None) -> float:
    """Retry-After as seconds or as a date (RFC 9110, section 10.2.3); 0 when unreadable."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS)
