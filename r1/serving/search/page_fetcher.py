"""Fetching a page that a stranger's search result names, within bounds, and reading it."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterable, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx2
from pydantic import Field

from r1 import __version__
from r1.config import Config
from r1.serving.files.documents import Document, DocumentError, DocumentLimits, read_data
from r1.serving.search.addresses import Target, check_addresses, check_link, resolve
from r1.serving.search.results import SearchError
from r1.serving.search.web_search import PageText

USER_AGENT = f"r1/{__version__} (a local assistant that reads pages for its user's question)"
_REDIRECTS = (301, 302, 303, 307, 308)
_CONTENT_TYPES = ("text/", "application/xhtml+xml", "application/pdf", "application/json")
_MAX_ADDRESSES = 2
_NUM_READERS = 2
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS

Resolve = Callable[[str, int], Awaitable[list[str]]]
CheckAddresses = Callable[[str, list[str]], list[str]]


class FetchLimits(Config):
    """Bounds of one page; `max_bytes` before and after it is unpacked."""

    max_bytes: int = Field(default=5 * 2**20, ge=1024)
    max_redirects: int = Field(default=3, ge=0)
    seconds: float = Field(default=12.0, gt=0)
    connect_seconds: float = Field(default=4.0, gt=0)
    reading: DocumentLimits = DocumentLimits(
        max_bytes=5 * 2**20, max_characters=5 * 2**20, cpu_seconds=8, wall_seconds=20
    )


@dataclass(frozen=True, slots=True)
class _Body:
    data: bytes
    charset: str


class PageFetcher:
    """Fetches pages of public addresses: each link, each redirect's too, is checked first.

    It has no cookies, no credentials, no proxy, and keeps no connection. `resolve` and
    `check` are the name service and the rule; `transport` is what carries a request.
    """

    def __init__(
        self,
        limits: FetchLimits | None = None,
        *,
        resolve: Resolve = resolve,
        check: CheckAddresses = check_addresses,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.limits = limits or FetchLimits()
        self._resolve = resolve
        self._check = check
        self._transport = transport
        # Of its own: pages that are slow to read hold up pages, and nothing else of the server.
        self._readers = ThreadPoolExecutor(_NUM_READERS, thread_name_prefix="pages")

    async def fetch(self, url: str) -> PageText:
        """The main text of a page. Raises SearchError."""
        try:
            async with asyncio.timeout(self.limits.seconds):
                body = await self._follow(url)
        except TimeoutError:
            raise SearchError(f"no page within {self.limits.seconds:g} s") from None
        loop = asyncio.get_running_loop()
        page = await loop.run_in_executor(self._readers, self._read, body)
        return PageText(page.title, page.date, page.text)

    def _read(self, body: _Body) -> Document:
        try:
            limits = self.limits.reading
            return read_data(body.data, "page", limits, charset=body.charset, is_page=True)
        except DocumentError as error:
            raise SearchError(str(error)) from None

    async def _follow(self, url: str) -> _Body:
        """The body at the end of the redirects."""
        link: httpx2.URL | str = url
        for _ in range(self.limits.max_redirects + 1):
            target = check_link(link)
            addresses = self._check(target.host, await self._resolve(target.host, target.port))
            response = await self._ask(target, addresses[:_MAX_ADDRESSES])
            try:
                location = response.headers.get("location")
                if response.status_code not in _REDIRECTS or location is None:
                    return await self._body(response)
                link = _join(target.url, location)
            finally:
                await response.aclose()
        raise SearchError(f"more than {self.limits.max_redirects} redirects")

    async def _ask(self, target: Target, addresses: list[str]) -> httpx2.Response:
        """The answer of the first address that can be reached."""
        transport = self._transport or _make_transport()
        self._transport = transport
        failure = ""
        for address in addresses:
            try:
                return await transport.handle_async_request(self._request(target, address))
            except (httpx2.TransportError, OSError) as error:
                failure = str(error) or type(error).__name__
        raise SearchError(f"{target.host} cannot be reached ({failure[:100]})")

    def _request(self, target: Target, address: str) -> httpx2.Request:
        """To the checked address, in the name of the host: for its certificate too."""
        waits = {"connect": self.limits.connect_seconds, "pool": self.limits.seconds}
        waits |= dict.fromkeys(("read", "write"), self.limits.seconds)
        return httpx2.Request(
            "GET",
            target.url.copy_with(host=address, fragment=None),
            headers={
                "Host": target.url.netloc.decode("ascii"),
                "User-Agent": USER_AGENT,
                "Accept": "text/html, text/*;q=0.9, application/pdf;q=0.8",
                "Accept-Encoding": "gzip",
                "Connection": "close",
            },
            extensions={"sni_hostname": target.host, "timeout": waits},
        )

    async def _body(self, response: httpx2.Response) -> _Body:
        if response.status_code != 200:
            raise SearchError(f"the page's server answered {response.status_code}")
        kind, _, parameters = response.headers.get("content-type", "text/html").partition(";")
        if not kind.strip().lower().startswith(_CONTENT_TYPES):
            raise SearchError(f"{kind.strip()[:60]} is not a page")
        charset = parameters.lower().partition("charset=")[2].partition(";")[0].strip(" \"'")
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        try:
            chunks = response.stream
            assert isinstance(chunks, AsyncIterable)
            data = await read_bounded(chunks, encoding, self.limits.max_bytes)
        except (httpx2.TransportError, OSError) as error:
            raise SearchError(f"the page broke off ({str(error)[:100]})") from None
        return _Body(data, charset[:20])


async def read_bounded(chunks: AsyncIterable[bytes], encoding: str, max_bytes: int) -> bytes:
    """A body, unpacked, that has at most `max_bytes` packed and unpacked. Raises SearchError.

    A few kilobytes can unpack to gigabytes, so no more is unpacked than is wanted.
    """
    if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise SearchError(f"the page is packed with {encoding[:20]}, which was not asked for")
    unpacker = None if encoding in ("identity", "") else zlib.decompressobj(_GZIP_OR_ZLIB)
    body = bytearray()
    num_packed = 0
    async for chunk in chunks:
        num_packed += len(chunk)
        try:
            room = max_bytes - len(body) + 1
            body += chunk if unpacker is None else unpacker.decompress(chunk, room)
        except zlib.error:
            raise SearchError("the page is packed wrongly") from None
        if max(num_packed, len(body)) > max_bytes:
            raise SearchError(f"the page has more than {max_bytes / 2**20:g} MiB")
    return bytes(body)


def _join(url: httpx2.URL, location: str) -> httpx2.URL:
    try:
        return url.join(location)
    except (httpx2.InvalidURL, ValueError):
        raise SearchError("redirects to what is not a link") from None


def _make_transport() -> httpx2.AsyncHTTPTransport:
    # No kept connection: it would be shared by all names of one address, whoever's
    # certificate it was opened with.
    limits = httpx2.Limits(max_connections=32, max_keepalive_connections=0)
    return httpx2.AsyncHTTPTransport(trust_env=False, limits=limits)
