"""What a search provider is, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class SearchError(ValueError):
    """A search or a page that failed: what and why, in one line for the user."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One result. `text` is the content where the provider has it, so that no page is fetched.

    `url` is empty for a file of the user's own; `date` is ISO 8601, or as the provider says.
    """

    title: str
    url: str
    snippet: str = ""
    date: str = ""
    site: str = ""
    text: str = ""


class SearchProvider(Protocol):
    """Where results come from."""

    @property
    def name(self) -> str:
        """What users call it."""
        ...

    async def search(self, query: str, count: int) -> list[SearchResult]:
        """At most `count` results, best first. Raises SearchError."""
        ...
