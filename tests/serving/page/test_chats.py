"""The chats at the side: found, named, pinned, exported, taken in, deleted; and whose they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Download, Locator, expect

from r1.serving.chats import page as page_module
from r1.serving.chats.page_files import PageFiles
from tests.serving.page.conftest import MakeReader, Reader


def chats(reader: Reader) -> Locator:
    return reader.page.get_by_role("navigation", name="Chats").locator(".chat-item a")


def text_of(download: Download) -> str:
    return Path(download.path()).read_text(encoding="utf-8")


def test_chats_are_listed_searched_and_opened(reader: Reader) -> None:
    expect(reader.page.get_by_text("Your chats will appear here.")).to_be_visible()
    reader.model.will_say("</think>", "Green and tall.")
    reader.say("What is a cypress?")
    reader.page.get_by_role("navigation").get_by_role("button", name="New chat").click()
    reader.model.will_say("</think>", "White and long.")
    reader.say("什么是长江？")
    expect(chats(reader)).to_have_text(["什么是长江？", "What is a cypress?"])
    search = reader.page.get_by_role("searchbox", name="Search chats")
    # Words of an answer count too, in any language.
    for query, title in (("tall", "What is a cypress?"), ("长江", "什么是长江？")):
        search.fill(query)
        expect(chats(reader)).to_have_text([title])
    search.fill("nowhere")
    expect(reader.page.get_by_text("No chat matches.")).to_be_visible()
    search.fill("")
    chats(reader).last.click()
    expect(reader.answer).to_have_text("Green and tall.")
    expect(reader.page).to_have_title("What is a cypress? · R1")
    reader.page.go_back()
    expect(reader.answer).to_have_text("White and long.")


def test_rename_pin_and_delete(reader: Reader) -> None:
    reader.say("One")
    reader.button("New chat").click()
    reader.say("Two")
    expect(chats(reader)).to_have_text(["Two", "One"])
    chats(reader).last.click()
    expect(reader.questions).to_have_text(["One"])
    reader.choose("Rename")
    title = reader.page.get_by_role("textbox", name="Title of the chat")
    expect(title).to_have_value("One")
    title.fill("<b>Uno</b>")
    title.press("Enter")
    expect(reader.page.get_by_role("heading", level=1)).to_have_text("<b>Uno</b>")
    reader.choose("Pin")
    expect(reader.page.get_by_role("heading", name="Pinned")).to_be_visible()
    expect(chats(reader)).to_have_text(["<b>Uno</b>", "Two"])
    reader.page.reload()
    expect(chats(reader)).to_have_text(["<b>Uno</b>", "Two"])
    reader.choose("Delete")
    dialog = reader.page.get_by_role("dialog", name="Delete this chat?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(chats(reader)).to_have_count(2)
    reader.choose("Delete")
    dialog.get_by_role("button", name="Delete").click()
    expect(chats(reader)).to_have_text(["Two"])
    expect(reader.box).to_be_focused()
    expect(reader.page.get_by_role("heading", name="What shall we think through?")).to_be_visible()


def test_export_and_import(reader: Reader, tmp_path: Path) -> None:
    reader.model.will_say("Easy.", "</think>", "**Four**")
    reader.say("2 + 2?")
    with reader.page.expect_download() as markdown:
        reader.choose("Export as Markdown")
    assert text_of(markdown.value) == (
        "# 2 + 2?\n\n## User\n\n2 + 2?\n\n## tiny\n\n> Easy.\n\n**Four**\n"
    )
    assert markdown.value.suggested_filename == "2 + 2.md"
    with reader.page.expect_download() as exported:
        reader.choose("Export as JSON")
    file = tmp_path / "chat.json"
    file.write_text(text_of(exported.value), encoding="utf-8")
    assert len(json.loads(file.read_text())["messages"]) == 2
    reader.choose("Delete")
    reader.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(reader.page.get_by_text("Your chats will appear here.")).to_be_visible()

    take_in = reader.page.get_by_test_id("import-file")
    take_in.set_input_files(file)
    expect(reader.page.get_by_role("status").get_by_text("Chat imported.")).to_be_visible()
    expect(reader.answer.locator("strong")).to_have_text("Four")
    expect(chats(reader)).to_have_text(["2 + 2?"])
    file.write_text("no JSON")
    take_in.set_input_files(file)
    expect(reader.page.get_by_role("alert")).to_contain_text("not a chat that was exported here")
    file.write_text('{"format": "r1-chat"}')
    take_in.set_input_files(file)
    expect(reader.page.get_by_role("alert")).to_have_count(2)
    expect(chats(reader)).to_have_count(1)


def test_a_key_is_asked_for_and_keeps_chats_apart(make_reader: MakeReader) -> None:
    reader = make_reader(settings={"api_keys": ("alpha-key", "beta-key")})
    page = reader.page
    dialog = page.get_by_role("dialog", name="This server asks for a key")
    box = dialog.get_by_label("API key")
    expect(box).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    box.fill("wrong")
    box.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("The server does not accept this key.")
    box.fill("alpha-key")
    box.press("Enter")
    expect(dialog).to_have_count(0)
    reader.model.will_say("</think>", "The secret of alpha.")
    reader.say("Keep it")
    address = page.url
    page.reload()
    expect(reader.answer).to_have_text("The secret of alpha.")

    reader.button("Settings").click()
    reader.button("Change the key").click()
    box.fill("beta-key")
    box.press("Enter")
    expect(page.get_by_role("main").get_by_role("alert")).to_have_text(
        "This chat does not exist, or belongs to another key."
    )
    expect(page.get_by_text("Your chats will appear here.")).to_be_visible()
    expect(page.get_by_text("secret")).to_have_count(0)
    # Another browser knows no key.
    other = make_reader(reader.server, path=None)
    other.page.goto(address)
    expect(other.page.get_by_role("dialog")).to_be_visible()
    expect(other.page.get_by_text("secret")).to_have_count(0)


def test_a_page_that_is_not_built_says_how(
    make_reader: MakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoFiles(PageFiles):
        def __init__(self, app) -> None:
            super().__init__(app, folder=tmp_path)

    monkeypatch.setattr(page_module, "PageFiles", NoFiles)
    reader = make_reader(path=None)
    reader.page.goto(reader.address)
    expect(reader.page.get_by_role("heading")).to_have_text("The page is not built")
    expect(reader.page.get_by_text("make page")).to_be_visible()
    answer = reader.server.ask("GET", "/v1/models")
    assert answer.status_code == 200


def test_an_address_of_no_chat(make_reader: MakeReader) -> None:
    reader = make_reader(path=None)
    reader.page.goto(f"{reader.address}/#/chat/{'0' * 32}")
    expect(reader.page.get_by_role("alert")).to_contain_text("This chat does not exist")
    reader.button("New chat").click()
    reader.say("Hello")
    expect(reader.answer).to_have_text("an answer")
