"""The pictures of docs/images: the real page and server, with replies that are scripted.

.venv/bin/python -m tests.serving.page.screenshots [FOLDER]
"""

from __future__ import annotations

import functools
import io
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from r1.serving.api.settings import ServerSettings
from r1.serving.chats.database import open_database
from r1.serving.chats.page import add_page
from r1.serving.search.web_search import FoundSources, Source, WebSearch
from tests.serving.api.conftest import LiveServer
from tests.serving.chats.conftest import Page as Server
from tests.serving.page.conftest import (
    CHROMIUM_ARGUMENTS,
    DESKTOP,
    PATIENCE_SECONDS,
    PHONE,
    Reader,
    ScriptedModel,
    find_chromium,
    new_reader,
)

IMAGES = Path(__file__).resolve().parents[3] / "docs/images"
WEBP_QUALITY = 82

CHATS = (
    "Plan a week of dinners without an oven",
    "为什么天空是蓝色的？",
    "Is 1009 prime?",
    "Rewrite this letter, politer",
)
SUM = """How many squares, of any size, are on a chessboard? Show me how to be sure."""
SUM_THOUGHT = """The board is 8 by 8. Squares may be 1 by 1 up to 8 by 8.

A square of side $k$ can begin in $9-k$ columns and $9-k$ rows, so there are $(9-k)^2$ of them. \
For $k = 1$ that is 64, for $k = 8$ it is 1. So the sum is $1^2 + 2^2 + \\dots + 8^2$.

The formula gives $8 \\cdot 9 \\cdot 17 / 6 = 1224 / 6 = 204$. Let me check by adding: \
1, 5, 14, 30, 55, 91, 140, 204. Yes.
"""
SUM_ANSWER = """There are **204 squares**.

A square of side $k$ fits in $9-k$ places across and $9-k$ down, so the board has

$$\\sum_{k=1}^{8} (9-k)^2 = \\sum_{n=1}^{8} n^2 = \\frac{8 \\cdot 9 \\cdot 17}{6} = 204.$$

| side | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
| squares | 64 | 49 | 36 | 25 | 16 | 9 | 4 | 1 |

To be sure, count them one by one:

```python
places = range(8)
print(sum(
    x + side <= 8 and y + side <= 8
    for side in range(1, 9) for x in places for y in places
))  # 204
```
"""
SEARCH = "When was the Eiffel Tower taller than it is now, if ever?"
SEARCH_THOUGHT = "The sources give heights of 312 m with the flagpole in 1889 and 330 m since 2022."
SEARCH_ANSWER = """**Never**: it has only grown, each time by what stands on its top.

- In 1889 it was **312 m** tall with its flagpole [citation:1].
- Aerials brought it to **324 m** by 2000 [citation:2].
- Since March 2022 a new antenna makes it **330 m** [citation:1][citation:3].

Heat moves the top a little: on a hot day it is a few centimetres higher [citation:2].
"""
SOURCES = (
    ("The tower in figures", "archive.example.org", "2024-05-02", "Height at the opening: 312 m"),
    ("Why iron towers grow", "physics.example.net", "2021-08-11", "In summer the top rises by"),
    ("A new antenna", "news.example.com", "2022-03-15", "A helicopter set down the antenna, and"),
)


class Library:
    """A search that finds the same three pages."""

    provider = type("Provider", (), {"name": "searxng"})()

    async def find_sources(self, *arguments: Any, **options: Any) -> FoundSources:
        """Three sources."""
        found = tuple(
            Source(index, title, f"https://{site}/", site, day, f"{text} …", text)
            for index, (title, site, day, text) in enumerate(SOURCES, start=1)
        )
        return FoundSources("height of the Eiffel Tower over time", found)


def main(folder: Path) -> None:
    """Take all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    model, search = ScriptedModel(), cast(WebSearch, Library())
    settings = ServerSettings(port=0, drain_seconds=1)
    with tempfile.TemporaryDirectory() as data, sync_playwright() as playwright:
        database = open_database(f"sqlite:///{data}/chats.sqlite3")
        page = functools.partial(add_page, database=database, search=search)
        with LiveServer({"DeepSeek-R1": model}, settings, page) as live:
            server = Server(live, model, database)
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=list(CHROMIUM_ARGUMENTS)
            )
            addresses = write_chats(browser, server)
            for name, options, chat, opened in shots():
                shoot(browser, server, addresses[chat], opened, options, folder / f"{name}.webp")
            browser.close()


def shots() -> Sequence[tuple[str, Mapping[str, Any], str, str]]:
    """Name, browser, chat, and what is opened before the picture is taken."""
    desktop = {"viewport": DESKTOP, "device_scale_factor": 1.5}
    phone = {"viewport": PHONE, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
    dark = {"color_scheme": "dark"}
    return (
        ("page_light", desktop, "sum", "thought"),
        ("page_dark", desktop | dark, "search", "card"),
        ("page_start", desktop, "new", ""),
        ("phone_light", phone, "sum", "top"),
        ("phone_dark", phone | dark, "search", "card"),
    )


def write_chats(browser: Browser, server: Server) -> dict[str, str]:
    """The chats of the pictures; the address of each."""
    context = browser.new_context(locale="en-US")
    reader = new_reader(context, server, server.server.url)
    model = reader.model
    addresses = {"new": f"{reader.address}/"}
    reader.open()
    for question in CHATS:
        reader.say(question)
        reader.button("New chat").click()
    reader.page.get_by_role("link", name=CHATS[0]).click()
    expect(reader.answer).to_be_visible()
    reader.choose("Pin")
    reader.button("New chat").click()
    model.seconds_a_chunk = 0.03
    for chat, question, thought, answer in (
        ("sum", SUM, SUM_THOUGHT, SUM_ANSWER),
        ("search", SEARCH, SEARCH_THOUGHT, SEARCH_ANSWER),
    ):
        if chat == "search":
            reader.button("Search").click()
        model.will_say(thought, "</think>", answer)
        reader.say(question)
        addresses[chat] = reader.page.url
        reader.button("New chat").click()
    context.close()
    return addresses


def shoot(
    browser: Browser,
    server: Server,
    address: str,
    opened: str,
    options: Mapping[str, Any],
    file: Path,
) -> None:
    """One picture, as WebP."""
    context = browser.new_context(locale="en-US", reduced_motion="reduce", **options)
    reader = new_reader(context, server, server.server.url)
    reader.page.goto(address)
    expect(reader.page.locator(".chat-item").first.or_(reader.answer.first)).to_be_attached()
    reader.page.evaluate("document.fonts.ready")
    if opened:
        prepare(reader, opened)
    picture = Image.open(io.BytesIO(reader.page.screenshot()))
    picture.convert("RGB").save(file, quality=WEBP_QUALITY, method=6)
    print(f"{file} {file.stat().st_size / 1000:.0f} kB")
    context.close()


def prepare(reader: Reader, opened: str) -> None:
    """Open what the picture is to show."""
    expect(reader.answer).to_be_visible()
    if opened == "thought":
        reader.thought.get_by_role("button").click()
    if opened == "card":
        reader.answer.locator(".md-citation").first.click()
        expect(reader.page.locator(".source-card")).to_be_visible()
    else:
        reader.page.locator(".scroller").evaluate("element => element.scrollTo(0, 0)")
        expect(reader.button("Jump to the end")).to_be_visible()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
