"""Search services behind the one interface; each reads what its documentation promises.

- SearXNG: docs.searxng.org/dev/search_api.html
- Brave: api-dashboard.search.brave.com/app/documentation/web-search/responses
- Tavily: docs.tavily.com/documentation/api-reference/endpoint/search
- ddgs: github.com/deedy5/ddgs, a package that asks public engines without a key
"""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Mapping
from typing import Any

import httpx2

from r1.serving.search.results import SearchError, SearchResult

_MAX_REPLY_BYTES = 16 * 2**20
_TIMEOUT_SECONDS = 15.0
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


class SearxngSearch:
    """A SearXNG instance; its settings.yml must have `json` among `search.formats`."""

    name = "searxng"

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/").removesuffix("/search") + "/search"

    async def search(self, query: str, count: int) -> list[SearchResult]:
        """At most `count` results. Raises SearchError."""
        hint = "add json to search.formats in its settings.yml"
        reply = await _ask(self.name, "GET", self._url, refused=hint, params=_searxng(query))
        return [
            _result(row, snippet="content", date="publishedDate") for row in _rows(reply, count)
        ]


class BraveSearch:
    """Brave's index, by an API key."""

    name = "brave"

    def __init__(self, key: str, url: str = "https://api.search.brave.com") -> None:
        self._key = key
        self._url = f"{url}/res/v1/web/search"

    async def search(self, query: str, count: int) -> list[SearchResult]:
        """At most `count` results, 20 at the most. Raises SearchError."""
        headers = {"X-Subscription-Token": self._key}
        params = {"q": query, "count": str(min(count, 20)), "text_decorations": "false"}
        reply = await _ask(self.name, "GET", self._url, params=params, headers=headers)
        web = reply.get("web")  # left out when nothing is found
        rows = _rows(web if isinstance(web, Mapping) else {}, count)
        return [_result(row, snippet="description", date="page_age") for row in rows]


class TavilySearch:
    """Tavily, by an API key; it sends the pages' texts along, so that none is fetched."""

    name = "tavily"

    def __init__(self, key: str, url: str = "https://api.tavily.com") -> None:
        self._key = key
        self._url = f"{url}/search"

    async def search(self, query: str, count: int) -> list[SearchResult]:
        """At most `count` results, 20 at the most. Raises SearchError."""
        body = {"query": query, "max_results": min(count, 20), "include_raw_content": True}
        headers = {"Authorization": f"Bearer {self._key}"}
        reply = await _ask(self.name, "POST", self._url, json=body, headers=headers)
        return [
            _result(row, snippet="content", date="published_date", text="raw_content")
            for row in _rows(reply, count)
        ]


class DdgsSearch:
    """Public engines through the `ddgs` package, which is not among ours."""

    name = "ddgs"

    def __init__(self) -> None:
        try:
            from ddgs import DDGS  # pyright: ignore[reportMissingImports] - optional
        except ImportError:
            raise ValueError("ddgs is not installed: pip install ddgs") from None
        self._client_class = DDGS

    async def search(self, query: str, count: int) -> list[SearchResult]:
        """At most `count` results. Raises SearchError."""
        rows = await asyncio.to_thread(self._search, query, count)
        return [_result(row, url="href", snippet="body", date="date") for row in rows[:count]]

    def _search(self, query: str, count: int) -> list[Any]:
        try:
            return self._client_class(timeout=10).text(query, max_results=count)
        except Exception as error:  # its own, and those of each engine's parser
            if "No results" in str(error):
                return []
            raise SearchError(f"ddgs failed: {' '.join(str(error).split())[:200]}") from None


def _searxng(query: str) -> dict[str, str]:
    return {"q": query, "format": "json", "categories": "general"}


def _rows(reply: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    rows = reply.get("results")
    return [row for row in rows if isinstance(row, Mapping)][:count] if rows else []


def _result(
    row: Mapping[str, Any], *, snippet: str, date: str, url: str = "url", text: str = ""
) -> SearchResult:
    """A row under the names that its service has for the fields."""

    def field(name: str) -> str:
        value = row.get(name) if name else None
        return value.strip() if isinstance(value, str) else ""

    return SearchResult(
        title=_plain(field("title")),
        url=field(url),
        snippet=_plain(field(snippet)),
        date=field(date).partition("T")[0],
        text=field(text),
    )


def _plain(text: str) -> str:
    """Without the tags that mark the words of the query."""
    return html.unescape(_TAG.sub("", text))


async def _ask(
    name: str, method: str, url: str, *, refused: str = "check its key", **request: Any
) -> Mapping[str, Any]:
    """A service's JSON object. Raises SearchError; `refused` is what to do about 401 and 403."""
    try:
        async with (
            httpx2.AsyncClient(timeout=_TIMEOUT_SECONDS) as client,
            client.stream(method, url, **request) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_REPLY_BYTES:
                    raise SearchError(f"{name} sent more than {_MAX_REPLY_BYTES >> 20} MiB")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise SearchError(f"{name} cannot be reached ({type(error).__name__})") from None
    _check_status(name, response.status_code, refused)
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, Mapping) or not isinstance(reply.get("results", []), list):
        raise SearchError(f"{name} did not answer with search results in JSON")
    return reply


def _check_status(name: str, status: int, refused: str) -> None:
    if status in (401, 403):
        raise SearchError(f"{name} refused the search ({status}): {refused}")
    if status in (402, 429, 432, 433):  # the last two are Tavily's limits of a plan
        raise SearchError(f"{name} has had too many searches for now ({status})")
    if status != 200:
        raise SearchError(f"{name} answered with status {status}")
