"""From a question to the sources that its reply may cite."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import Field

from r1.config import Config
from r1.serving.search.queries import make_query
from r1.serving.search.results import SearchError, SearchProvider, SearchResult
from r1.serving.search.shares import cut_text, fair_shares


class SearchSettings(Config):
    """How much is looked for. `max_characters` are shared by all sources of a reply."""

    max_sources: int = Field(default=8, ge=1, le=50)
    max_characters: int = Field(default=40_000, ge=200)
    search_seconds: float = Field(default=15.0, gt=0)
    page_seconds: float = Field(default=15.0, gt=0)


@dataclass(frozen=True, slots=True)
class Source:
    """A source of a reply; `index` is what `[citation:X]` cites, from 1."""

    index: int
    title: str
    url: str
    site: str
    date: str
    snippet: str
    text: str


@dataclass(frozen=True, slots=True)
class FoundSources:
    """What was searched for, and what was found."""

    query: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class PageText:
    """A fetched page as it is read."""

    title: str
    date: str
    text: str


class Fetcher(Protocol):
    """What brings a page; `PageFetcher` in the server."""

    async def fetch(self, url: str) -> PageText:
        """The page's main text. Raises SearchError."""
        ...


class WebSearch:
    """Searches with one provider, and reads what it found."""

    def __init__(
        self, provider: SearchProvider, fetcher: Fetcher, settings: SearchSettings | None = None
    ) -> None:
        self.provider = provider
        self.settings = settings or SearchSettings()
        self._fetcher = fetcher

    async def find_sources(
        self, question: str, history: Sequence[str] = (), max_characters: int | None = None
    ) -> FoundSources:
        """Sources for a question; `history` are the user's earlier turns, oldest first.

        `max_characters` bounds the texts of all sources together, for a model whose context
        is short. A page that cannot be read is cited by what the provider says of it; one
        without even that is left out. Raises SearchError when the search itself fails.
        """
        query = make_query(question, history)
        if not query:
            return FoundSources("", ())
        try:
            async with asyncio.timeout(self.settings.search_seconds):
                results = await self.provider.search(query, self.settings.max_sources)
        except TimeoutError:
            seconds = self.settings.search_seconds
            raise SearchError(f"{self.provider.name} did not answer in {seconds:g} s") from None
        results = _distinct(results)[: self.settings.max_sources]
        pages = await asyncio.gather(*(self._read(result) for result in results))
        budget = min(self.settings.max_characters, max_characters or self.settings.max_characters)
        return FoundSources(query, _sources(results, pages, budget))

    async def _read(self, result: SearchResult) -> PageText:
        """The page of a result, or the snippet where it cannot be had."""
        known = PageText(result.title, result.date, result.text or result.snippet)
        if result.text:
            return known
        try:
            async with asyncio.timeout(self.settings.page_seconds):
                page = await self._fetcher.fetch(result.url)
        except (SearchError, TimeoutError):
            return known
        # The provider's title and date are the more reliable ones; a page says anything.
        return PageText(known.title or page.title, known.date or page.date, page.text)


def _distinct(results: Sequence[SearchResult]) -> list[SearchResult]:
    """Without a second result of the same address."""
    by_address: dict[str, SearchResult] = {}
    for result in results:
        by_address.setdefault((result.url or result.title).partition("#")[0], result)
    return list(by_address.values())


def _sources(
    results: Sequence[SearchResult], pages: Sequence[PageText], budget: int
) -> tuple[Source, ...]:
    found = [(result, page) for result, page in zip(results, pages, strict=True) if page.text]
    shares = fair_shares([len(page.text) for _, page in found], budget)
    return tuple(
        Source(
            index=index,
            title=" ".join(page.title.split())[:300] or result.url,
            url=result.url,
            site=result.site or _host(result.url),
            date=page.date[:40],
            snippet=cut_text(" ".join((result.snippet or page.text).split()), 300),
            text=cut_text(page.text, share),
        )
        for index, ((result, page), share) in enumerate(zip(found, shares, strict=True), start=1)
    )


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:  # no link: a service passes on what pages say of themselves
        return ""
