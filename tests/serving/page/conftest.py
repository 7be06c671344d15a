"""A real browser before a real server: the embedded tiny model, or one that recites a script."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from r1.serving.api.errors import ApiError
from r1.serving.api.model_side import ChatInput, ModelChunk, ModelPrompt, ReplySettings
from r1.serving.chats.page_files import PAGE_FOLDER
from tests.serving.api.conftest import RecitingModel
from tests.serving.chats import conftest as chats
from tests.serving.chats.conftest import MakePage
from tests.serving.chats.conftest import Page as Server

# Their fixtures: a server on a database of its own.
make_page = chats.make_page
database_url = chats.database_url

CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# A loaded machine is slow; nothing here is about time.
PATIENCE_SECONDS = 30.0
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

# What the page's policy forbade, kept across the document's life.
_WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(
  `${event.effectiveDirective} ${event.blockedURI}`));
"""

Part = str | threading.Event | ApiError


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


def find_chromium() -> str | None:
    """The browser's path: $R1_CHROMIUM, or `chromium` where programs are looked for."""
    return os.environ.get("R1_CHROMIUM") or shutil.which("chromium")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Chromium without a screen, one for all tests."""
    path = find_chromium()
    if path is None:
        pytest.skip("chromium not found: install it, or name it in R1_CHROMIUM")
    if not (PAGE_FOLDER / "index.html").is_file():
        pytest.skip("the page is not built: make page")
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_ARGUMENTS))
        yield browser
        browser.close()


class ScriptedModel(RecitingModel):
    """Recites a script a reply. An event in a script is waited for, an error is raised."""

    def __init__(self, *script: Part) -> None:
        super().__init__()
        self.scripts: list[tuple[Part, ...]] = [script] if script else []
        self.finish_reason = "stop"
        self.seconds_a_chunk = 0.0

    def will_say(self, *script: Part) -> None:
        """What comes next; without a script a thought and an answer of two words."""
        self.scripts.append(script)

    def prepare_chat(self, chat: ChatInput) -> ModelPrompt:
        self.chats.append(chat)
        is_answer_begun = chat.prefix is not None and bool(chat.prefix.answer)
        starts_in_thought = self.is_reasoning and chat.is_thinking and not is_answer_begun
        return ModelPrompt(starts_in_thought=starts_in_thought, ids=(1, 2), chat=chat)

    async def stream(
        self, prompt: ModelPrompt, settings: ReplySettings
    ) -> AsyncGenerator[list[ModelChunk], None]:
        self.asked.append(settings)
        default = ("a thought", "</think>") if prompt.starts_in_thought else ()
        for part in self.scripts.pop(0) if self.scripts else (*default, "an answer"):
            if isinstance(part, ApiError):
                raise part
            if isinstance(part, threading.Event):
                while not part.is_set():
                    await asyncio.sleep(0.005)
                continue
            for piece in re.findall(r"(?s)</?think>|.{1,6}?(?=<|$)|.{6}", part):
                await asyncio.sleep(self.seconds_a_chunk)
                yield [ModelChunk(piece)]
        yield [ModelChunk("", 0, finish_reason=self.finish_reason, num_prompt_tokens=12)]


@dataclass
class Reader:
    """A person before the page: what they do, and what they see."""

    page: Page
    server: Server
    address: str
    requests_elsewhere: list[str]
    dialogs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def model(self) -> ScriptedModel:
        return self.server.model

    @property
    def box(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message", exact=True)

    @property
    def questions(self) -> Locator:
        return self.page.locator("article.is-user")

    @property
    def replies(self) -> Locator:
        return self.page.locator("article.is-assistant")

    @property
    def reply(self) -> Locator:
        return self.replies.last

    @property
    def answer(self) -> Locator:
        return self.reply.locator(":scope > .md")

    @property
    def thought(self) -> Locator:
        return self.reply.locator(".thought")

    def button(self, name: str | re.Pattern[str], exact: bool = True) -> Locator:
        return self.page.get_by_role("button", name=name, exact=exact)

    def open(self, path: str = "/") -> None:
        self.page.goto(self.address + path)
        # The model's name is there when the server has said what it offers.
        ready = self.page.locator(".model-name").or_(self.page.get_by_role("dialog"))
        expect(ready.first).to_be_visible()

    def ask(self, text: str) -> None:
        """Send a question, and wait until its reply has begun."""
        self.box.fill(text)
        self.button("Send").click()
        # An old chat may only now be drawn: its last reply is not this question's.
        expect(self.questions.last).to_contain_text(text)
        expect(self.replies).to_have_count(self.questions.count())

    def wait_for_end(self) -> None:
        """Until the reply has ended and is saved."""
        expect(self.reply).to_have_attribute("aria-busy", "false")
        expect(self.page.get_by_title("Saved", exact=True)).to_be_visible()

    def say(self, text: str) -> None:
        self.ask(text)
        self.wait_for_end()

    def choose(self, item: str) -> None:
        """An entry of the open chat's menu."""
        self.page.locator("header").get_by_role("button", name=re.compile("^Options for")).click()
        self.page.get_by_role("menuitem", name=item, exact=True).click()

    def attach(self, *files: tuple[str, bytes]) -> None:
        payloads: Any = [
            {"name": name, "mimeType": "application/octet-stream", "buffer": data}
            for name, data in files
        ]
        self.page.get_by_test_id("attach-files").set_input_files(payloads)

    def check_nothing_ran(self) -> None:
        """No script of a text, no request elsewhere, nothing for the policy to forbid."""
        assert self.page.evaluate("window.pwned") is None
        assert self.page.evaluate("window.violations") == []
        assert (self.dialogs, self.requests_elsewhere, self.errors) == ([], [], [])


MakeReader = Callable[..., Reader]


@pytest.fixture
def make_reader(chromium: Browser, make_page: MakePage) -> Iterator[MakeReader]:
    """Opens the page in a browser of its own; `server` shares one, `context` is for tabs."""
    contexts: list[BrowserContext] = []
    readers: list[Reader] = []

    def make(
        server: Server | None = None,
        *,
        model: Any = None,
        search: Any = None,
        path: str | None = "/",
        settings: dict[str, Any] | None = None,
        context: BrowserContext | None = None,
        **options: Any,
    ) -> Reader:
        if server is None:
            server = make_page(model or ScriptedModel(), search=search, **(settings or {}))
        if context is None:
            values = {"viewport": DESKTOP, "locale": "en-US", "reduced_motion": "reduce"}
            context = chromium.new_context(**(values | options))
            contexts.append(context)
        reader = new_reader(context, server, server.server.url)
        readers.append(reader)
        if path is not None:
            reader.open(path)
        return reader

    yield make
    for reader in readers:
        reader.check_nothing_ran()
    for context in contexts:
        context.close()


def new_reader(context: BrowserContext, server: Server, address: str) -> Reader:
    """A new tab, watched."""
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    elsewhere: list[str] = []
    ours = re.escape(address)

    def refuse(route: Any) -> None:
        elsewhere.append(route.request.url)
        route.abort()

    context.route(re.compile(rf"^(?!{ours}/|data:|blob:)"), refuse)
    page = context.new_page()
    page.add_init_script(_WATCH)
    reader = Reader(page, server, address, elsewhere)

    def dismiss(dialog: Any) -> None:
        reader.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.on("pageerror", lambda error: reader.errors.append(str(error)))
    return reader


@pytest.fixture
def reader(make_reader: MakeReader) -> Reader:
    """The page of a scripted model, opened."""
    return make_reader()
