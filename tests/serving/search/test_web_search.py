"""From a question to sources: the query, the pages, the budget."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from r1.serving.search.queries import make_query
from r1.serving.search.results import SearchError, SearchResult
from r1.serving.search.shares import cut_text, fair_shares
from r1.serving.search.web_search import FoundSources, PageText, SearchSettings, WebSearch


class ListProvider:
    """Finds what it is given, and remembers what it was asked."""

    name = "list"

    def __init__(self, results: Sequence[SearchResult], wait_seconds: float = 0.0) -> None:
        self.results = list(results)
        self.queries: list[tuple[str, int]] = []
        self.wait_seconds = wait_seconds

    async def search(self, query: str, count: int) -> list[SearchResult]:
        self.queries.append((query, count))
        await asyncio.sleep(self.wait_seconds)
        return self.results


class PageTable:
    """Pages by their address; None hangs."""

    def __init__(self, pages: Mapping[str, PageText | None]) -> None:
        self.pages = pages
        self.asked: list[str] = []

    async def fetch(self, url: str) -> PageText:
        self.asked.append(url)
        if url not in self.pages:
            raise SearchError("no such page")
        page = self.pages[url]
        if page is None:
            await asyncio.sleep(60)
        assert page is not None
        return page


def find(
    provider: ListProvider,
    pages: PageTable,
    settings: SearchSettings | None = None,
    max_characters: int | None = None,
) -> FoundSources:
    search = WebSearch(provider, pages, settings)
    return asyncio.run(search.find_sources("What is tea?", ["Hello"], max_characters))


def test_sources_are_numbered_and_filled() -> None:
    provider = ListProvider(
        [
            SearchResult("One", "https://www.example.org/1", "snippet 1", "2025-03-24"),
            SearchResult("One again", "https://www.example.org/1#part", "other"),
            SearchResult("", "https://example.com/2", ""),
            SearchResult("Three", "https://example.net/3", "snippet 3"),
            SearchResult("Four", "https://example.net/4", ""),
            SearchResult("notes/a.txt", "", "about a", "2024-01-01", "notes", "the file's text"),
            SearchResult("Slow", "https://example.net/slow", "slow snippet"),
        ]
    )
    pages = PageTable(
        {
            "https://www.example.org/1": PageText("Page 1", "1999-01-01", "text 1"),
            "https://example.com/2": PageText("Page 2", "2001-02-03", "text 2"),
            "https://example.net/slow": None,
        }
    )
    found = find(provider, pages, SearchSettings(page_seconds=0.2, max_sources=6))
    assert (found.query, provider.queries) == ("What is tea?", [("What is tea?", 6)])
    assert [(s.index, s.title, s.site, s.date, s.text) for s in found.sources] == [
        (1, "One", "example.org", "2025-03-24", "text 1"),
        (2, "Page 2", "example.com", "2001-02-03", "text 2"),
        (3, "Three", "example.net", "", "snippet 3"),  # its page cannot be had
        (4, "notes/a.txt", "notes", "2024-01-01", "the file's text"),
        (5, "Slow", "example.net", "", "slow snippet"),
    ]
    assert [s.snippet for s in found.sources] == [
        *("snippet 1", "text 2", "snippet 3", "about a", "slow snippet")
    ]
    assert "" not in pages.asked


def test_a_result_without_a_link_is_cited_all_the_same() -> None:
    results = [SearchResult("Odd", "http://[", "snippet"), SearchResult("None", "nonsense", "s")]
    found = find(ListProvider(results), PageTable({}))
    assert [(s.url, s.site) for s in found.sources] == [("http://[", ""), ("nonsense", "")]


def test_the_budget_is_shared() -> None:
    texts = ["s" * 100, "m " * 2000, "l " * 20_000]
    results = [
        SearchResult(f"{n}", f"https://example.org/{n}", text=t) for n, t in enumerate(texts)
    ]
    settings = SearchSettings(max_characters=10_000)
    found = find(ListProvider(results), PageTable({}), settings)
    assert [len(s.text) for s in found.sources] == pytest.approx([100, 3999, 5900], abs=3)
    small = find(ListProvider(results), PageTable({}), settings, max_characters=600)
    assert sum(len(s.text) for s in small.sources) <= 600
    assert [len(s.text) for s in small.sources] == pytest.approx([100, 250, 250], abs=3)


def test_failures_of_the_search_are_told() -> None:
    slow = ListProvider([], wait_seconds=5)
    with pytest.raises(SearchError, match=r"list did not answer in 0\.1 s"):
        find(slow, PageTable({}), SearchSettings(search_seconds=0.1))
    assert find(ListProvider([]), PageTable({})).sources == ()
    search = WebSearch(slow, PageTable({}))
    assert asyncio.run(search.find_sources("``` \n```")) == FoundSources("", ())


@pytest.mark.parametrize(
    ("question", "history", "query"),
    [
        ("What is tea?", [], "What is tea?"),
        ("What is tea?", ["Who is Ada Lovelace?"], "What is tea?"),
        ("  Is **this** `right`?\n```py\nx = 1\n```", [], "Is this right ?"),
        ("Read https://example.org/a?b=c and sum up", [], "Read and sum up"),
        ("When was she born?", ["Who is Ada Lovelace?"], "Who is Ada Lovelace? When was she born?"),
        (
            "And where?",
            ["Who is Ada Lovelace?", "When was she born?"],
            "Who is Ada Lovelace? When was she born? And where?",
        ),
        ("Why?", ["Is the sky blue?"], "Is the sky blue? Why?"),
        ("Why is the sky blue?", ["What is tea?"], "Why is the sky blue?"),
        ("它有多大？", ["北京大学在哪里？"], "北京大学在哪里？ 它有多大？"),
        ("那上海呢？", ["北京的天气怎么样？"], "北京的天气怎么样？ 那上海呢？"),
        ("上海的天气怎么样？", ["北京大学在哪里？"], "上海的天气怎么样？"),
        ("それはいつですか？", ["東京マラソンとは？"], "東京マラソンとは？ それはいつですか？"),
        ("그러면 부산은?", ["서울 인구는?"], "서울 인구는? 그러면 부산은?"),
        ("Material. " * 60 + "What does it say? In short?", [], "What does it say? In short?"),
        ("", ["What is tea?"], "What is tea?"),
    ],
)
def test_query_of_a_question(question: str, history: list[str], query: str) -> None:
    assert make_query(question, history) == query


def test_queries_are_short() -> None:
    for text in ("word " * 5000, "字" * 5000, "x" * 5000, "it " * 39, "?" * 5000):
        query = make_query(text, [text, text])
        assert 0 < len(query) <= 300 and len(query.split()) <= 40


def test_shares_are_fair() -> None:
    assert fair_shares([10, 10], 100) == [10, 10]
    assert fair_shares([5, 100, 1000], 65) == [5, 30, 30]
    assert fair_shares([100, 5, 40], 65) == [30, 5, 30]
    assert fair_shares([], 10) == [] and fair_shares([7], 0) == [0]


def test_texts_are_cut_at_a_good_place() -> None:
    assert cut_text("short", 5) == "short"
    assert cut_text("one two three", 10) == "one two…"
    assert cut_text("First one. Second one is long", 14) == "First one.…"
    assert cut_text("第一句话很长。第二句话", 9) == "第一句话很长。…"
    assert cut_text("x" * 100, 10) == "x" * 9 + "…" and cut_text("x", 0) == ""
