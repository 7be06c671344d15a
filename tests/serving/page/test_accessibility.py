"""axe finds nothing serious, in every state of the page, light and dark, wide and narrow."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.serving.chats.test_files_and_search import ScriptedSearch
from tests.serving.page.conftest import PHONE, MakeReader, Reader
from tests.serving.page.test_conversation import MARKDOWN
from tests.serving.page.test_hostile_outputs import REPOSITORY

AXE = REPOSITORY / "web/node_modules/axe-core/axe.min.js"
LOOKS = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": PHONE, "has_touch": True, "is_mobile": True},
    "dark phone": {"color_scheme": "dark", "viewport": PHONE, "has_touch": True},
}


def check(reader: Reader, where: str) -> None:
    """No violation of serious or critical impact."""
    found = reader.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    serious = [
        (where, violation["id"], node["target"], node["failureSummary"])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    assert serious == []


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_serious(make_reader: MakeReader, look: str) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not there: npm ci in web/")
    reader = make_reader(search=ScriptedSearch(), **LOOKS[look])
    page = reader.page
    page.evaluate(AXE.read_text(encoding="utf-8"))
    check(reader, "empty page")
    reader.button("Search").click()
    reader.attach(("notes.txt", b"words"), ("a.exe", b"x"))
    expect(page.get_by_text("This type of file cannot be read.")).to_be_visible()
    reader.model.will_say("Some *thought*.", "</think>", f"{MARKDOWN}\nBig [citation:1].")
    reader.ask("Show me")
    reader.wait_for_end()
    reader.thought.get_by_role("button").click()
    expect(reader.answer.locator(".katex-display")).to_be_visible()
    check(reader, "chat with a thought")
    reader.answer.locator(".md-citation").click()
    check(reader, "card of a source")
    page.keyboard.press("Escape")
    reader.choose("Rename")
    check(reader, "dialog for a title")
    page.keyboard.press("Escape")
    reader.choose("Delete")
    check(reader, "dialog that deletes")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Comma")
    expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    check(reader, "settings")
    page.keyboard.press("Escape")
    if "viewport" in LOOKS[look]:
        reader.button("Open the list of chats").click()
        expect(page.get_by_role("navigation")).to_be_visible()
        check(reader, "list of chats")
