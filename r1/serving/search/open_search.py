"""The search that `r1 serve --search` names."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2

from r1.serving.search.folder_search import FolderSearch
from r1.serving.search.page_fetcher import PageFetcher
from r1.serving.search.results import SearchProvider
from r1.serving.search.web_providers import BraveSearch, DdgsSearch, SearxngSearch, TavilySearch
from r1.serving.search.web_search import SearchSettings, WebSearch

BRAVE_KEY_VARIABLE = "BRAVE_SEARCH_API_KEY"
TAVILY_KEY_VARIABLE = "TAVILY_API_KEY"
FORMS = "folder:PATH, searxng:URL, brave, tavily or ddgs"


def open_search(name: str, settings: SearchSettings | None = None) -> WebSearch:
    """The search that a `--search` value names. Raises ValueError that says what would be right.

    A folder begins to be indexed at once, in a thread.
    """
    provider, _, place = name.partition(":")
    if provider not in _PROVIDERS:
        raise ValueError(f"--search {name}: choose from {FORMS}")
    if (provider in ("folder", "searxng")) != bool(place):
        raise ValueError(f"--search {name}: write {FORMS}")
    return WebSearch(_PROVIDERS[provider](place), PageFetcher(), settings)


def _folder(path: str) -> SearchProvider:
    search = FolderSearch(Path(path))
    search.start()
    return search


def _searxng(url: str) -> SearchProvider:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = httpx2.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"--search searxng:{url}: write its address, as http://localhost:8080")
    return SearxngSearch(url)


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(f"this search needs a key: put it in ${variable}")
    return key


_PROVIDERS: Mapping[str, Callable[[str], SearchProvider]] = {
    "folder": _folder,
    "searxng": _searxng,
    "brave": lambda _: BraveSearch(_key(BRAVE_KEY_VARIABLE)),
    "tavily": lambda _: TavilySearch(_key(TAVILY_KEY_VARIABLE)),
    "ddgs": lambda _: DdgsSearch(),
}
