"""Search services, each against a local server that answers in its documented form."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from r1.serving.search.open_search import open_search
from r1.serving.search.results import SearchError, SearchProvider, SearchResult
from r1.serving.search.web_providers import BraveSearch, DdgsSearch, SearxngSearch, TavilySearch

# searx/webutils.py, get_json_response (searxng/searxng).
SEARXNG_REPLY = {
    "query": "tea",
    "number_of_results": 0,
    "results": [
        {
            "url": "https://example.org/tea",
            "title": "Tea & time",
            "content": "All about tea.",
            "publishedDate": "2025-03-24T10:00:00",
            "engine": "duckduckgo",
            "engines": ["duckduckgo"],
            "score": 1.0,
            "category": "general",
        },
        {"url": "https://example.org/2", "title": "Two", "content": None, "publishedDate": None},
        {"url": "https://example.org/3", "title": "Three", "content": ""},
    ],
    "answers": [],
    "corrections": [],
    "infoboxes": [],
    "suggestions": [],
    "unresponsive_engines": [],
}
# WebSearchApiResponse, Brave's documentation.
BRAVE_REPLY = {
    "type": "search",
    "query": {"original": "tea", "more_results_available": True},
    "web": {
        "type": "search",
        "family_friendly": True,
        "results": [
            {
                "title": "Tea",
                "url": "https://example.org/tea",
                "is_source_local": False,
                "description": "All about <strong>tea</strong> &amp; a &lt; b.",
                "page_age": "2025-03-24T10:00:00",
                "age": "March 24, 2025",
                "meta_url": {"scheme": "https", "netloc": "example.org", "hostname": "example.org"},
                "extra_snippets": ["More."],
            }
        ],
    },
}
# Tavily's documentation, /search.
TAVILY_REPLY = {
    "query": "tea",
    "answer": None,
    "images": [],
    "results": [
        {
            "title": "Tea",
            "url": "https://example.org/tea",
            "content": "All about tea.",
            "score": 0.81,
            "raw_content": "# Tea\n\nThe whole page.",
            "published_date": "Mon, 24 Mar 2025 10:00:00 GMT",
        },
        {"title": "Two", "url": "https://example.org/2", "content": "c", "raw_content": None},
    ],
    "response_time": "1.67",
}


@dataclass
class Service:
    """A server that answers all requests alike, and what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    requests: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, reply: object, status: int = 200) -> None:
        self.body, self.status = json.dumps(reply).encode(), status


@pytest.fixture
def service() -> Iterator[Service]:
    served = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            parts = urlsplit(self.path)
            served.requests.append(
                {
                    "path": parts.path,
                    "query": {name: value[0] for name, value in parse_qs(parts.query).items()},
                    "headers": {name.lower(): value for name, value in self.headers.items()},
                    "body": json.loads(self.rfile.read(length)) if length else None,
                }
            )
            self.send_response(served.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(served.body)))
            self.end_headers()
            self.wfile.write(served.body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the tests' screen."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def search(provider: SearchProvider, count: int = 2) -> list[SearchResult]:
    return asyncio.run(provider.search("black tea", count))


def test_searxng(service: Service) -> None:
    service.answer(SEARXNG_REPLY)
    assert search(SearxngSearch(f"{service.url}/")) == [
        SearchResult("Tea & time", "https://example.org/tea", "All about tea.", "2025-03-24"),
        SearchResult("Two", "https://example.org/2"),
    ]
    request = service.requests[0]
    assert request["path"] == "/search"
    assert request["query"] == {"q": "black tea", "format": "json", "categories": "general"}
    service.answer({}, status=403)
    with pytest.raises(
        SearchError, match=r"refused the search \(403\): add json to search\.formats"
    ):
        search(SearxngSearch(service.url))


def test_brave(service: Service) -> None:
    service.answer(BRAVE_REPLY)
    assert search(BraveSearch("key-1", service.url), count=50) == [
        SearchResult("Tea", "https://example.org/tea", "All about tea & a < b.", "2025-03-24")
    ]
    request = service.requests[0]
    assert request["path"] == "/res/v1/web/search"
    assert request["query"] == {"q": "black tea", "count": "20", "text_decorations": "false"}
    assert request["headers"]["x-subscription-token"] == "key-1"
    service.answer({"type": "search", "query": {}})
    assert search(BraveSearch("key-1", service.url)) == []


def test_tavily(service: Service) -> None:
    service.answer(TAVILY_REPLY)
    found = search(TavilySearch("key-2", service.url))
    assert [(r.title, r.snippet, r.text) for r in found] == [
        ("Tea", "All about tea.", "# Tea\n\nThe whole page."),
        ("Two", "c", ""),
    ]
    request = service.requests[0]
    assert request["path"] == "/search"
    assert request["body"] == {"query": "black tea", "max_results": 2, "include_raw_content": True}
    assert request["headers"]["authorization"] == "Bearer key-2"


def test_ddgs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's documented call: DDGS(timeout).text(query, max_results) -> dicts."""

    class DDGS:
        def __init__(self, timeout: int) -> None:
            assert timeout > 0

        def text(self, query: str, max_results: int) -> list[dict[str, str]]:
            if query == "nothing":
                raise RuntimeError("No results found.")
            if query == "limit":
                raise RuntimeError("202 Ratelimit")
            row = {"title": "Tea", "href": "https://example.org/tea", "body": "About."}
            return [row] * max_results

    module = ModuleType("ddgs")
    module.__dict__["DDGS"] = DDGS
    monkeypatch.setitem(sys.modules, "ddgs", module)
    provider = DdgsSearch()
    assert search(provider) == [SearchResult("Tea", "https://example.org/tea", "About.")] * 2
    assert asyncio.run(provider.search("nothing", 3)) == []
    with pytest.raises(SearchError, match="ddgs failed: 202 Ratelimit"):
        asyncio.run(provider.search("limit", 3))


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, b"{}", r"tavily refused the search \(401\): check its key"),
        (403, b"{}", "refused the search"),
        (429, b"{}", "too many searches for now"),
        (432, b"{}", "too many searches for now"),
        (500, b"{}", "answered with status 500"),
        (302, b"{}", "answered with status 302"),
        (200, b"<html>", "did not answer with search results in JSON"),
        (200, b"[]", "did not answer with search results in JSON"),
        (200, b'{"results": "x"}', "did not answer with search results in JSON"),
        (200, b"[" * 100_000, "did not answer with search results in JSON"),
    ],
)
def test_failures_are_one_line(service: Service, status: int, body: bytes, reason: str) -> None:
    service.status, service.body = status, body
    with pytest.raises(SearchError, match=reason):
        search(TavilySearch("key", service.url))


def test_strange_rows_are_left_out(service: Service) -> None:
    service.answer({"results": [None, 3, {"url": 5, "title": ["x"], "content": {}}, {}]})
    assert search(SearxngSearch(service.url), 9) == [SearchResult("", "")] * 2


def test_a_service_that_is_not_there() -> None:
    with pytest.raises(SearchError, match="searxng cannot be reached"):
        search(SearxngSearch("http://127.0.0.1:9"))


def test_what_the_command_line_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("BRAVE_SEARCH_API_KEY", "TAVILY_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setitem(sys.modules, "ddgs", None)
    for name, reason in (
        ("google", "choose from folder:PATH, searxng:URL, brave, tavily or ddgs"),
        ("folder", "write folder:PATH"),
        ("brave:key", "write folder:PATH"),
        (f"folder:{tmp_path}/none", "no such folder or file"),
        ("searxng:localhost:8080", "write its address, as http://"),
        ("brave", r"put it in \$BRAVE_SEARCH_API_KEY"),
        ("tavily", r"put it in \$TAVILY_API_KEY"),
        ("ddgs", "ddgs is not installed: pip install ddgs"),
    ):
        with pytest.raises(ValueError, match=reason):
            open_search(name)
    monkeypatch.setenv("BRAVE_SEARCH_API_KEY", "key")
    assert open_search("brave").provider.name == "brave"
    assert open_search("searxng:http://localhost:8080").provider.name == "searxng"
