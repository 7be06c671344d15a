"""Settings, languages, themes, the keyboard alone, what a screen reader hears, phones."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.serving.api.conftest import tiny_engine_model
from tests.serving.page.conftest import MakeReader, Reader, ScriptedModel

WIDE = (
    """A line with averyverylong"""
    + "word" * 40
    + """ and \\("""
    + "x + " * 60
    + """x\\).

$$\\sum_{k=1}^n """
    + "a_k + " * 60
    + """b$$

| """
    + " | ".join(f"column {number}" for number in range(12))
    + """ |
|"""
    + "---|" * 12
    + """
| """
    + " | ".join("some words" for _ in range(12))
    + """ |

```python
print("""
    + "1 + " * 80
    + """1)
```
"""
)


def drawer(reader: Reader) -> Locator:
    return reader.page.locator("dialog")


def test_the_tiny_model_answers_with_its_settings(make_reader: MakeReader) -> None:
    reader = make_reader(model=tiny_engine_model(loop_tokens=0))
    reader.button("Settings").click()
    for name, value in (("Temperature", "0"), ("Longest reply", "30"), ("Thinking budget", "12")):
        box = drawer(reader).get_by_role("spinbutton", name=name)
        box.fill(value)
        box.press("Tab")
    drawer(reader).get_by_role("button", name="Close").click()
    reader.ask("17 + 25 =")
    reader.wait_for_end()
    expect(reader.thought).to_be_visible()
    expect(reader.reply.locator(".figures")).to_contain_text("30 tokens · ")
    reader.page.reload()
    reader.button("Settings").click()
    box = drawer(reader).get_by_role("spinbutton", name="Longest reply")
    expect(box).to_have_value("30")
    # Out of range it goes to the nearest.
    box.fill("99999999")
    box.press("Tab")
    expect(box).to_have_value("1024")
    drawer(reader).get_by_role("button", name="Back to the defaults").click()
    expect(box).to_have_value("")
    expect(box).to_have_attribute("placeholder", "32,768")


WORDS = {
    "中文": ("zh-CN", "我们来想想什么？", "发送", "设置"),
    "日本語": ("ja", "何を一緒に考えましょうか？", "送信", "設定"),
    "한국어": ("ko", "무엇을 함께 생각해 볼까요?", "보내기", "설정"),
    "English": ("en", "What shall we think through?", "Send", "Settings"),
}


def test_four_languages(reader: Reader) -> None:
    reader.button("Settings").click()
    for name, (tag, greeting, send, settings) in WORDS.items():
        drawer(reader).locator("select").nth(1).select_option(label=name)
        expect(reader.page.locator("html")).to_have_attribute("lang", tag)
        expect(drawer(reader)).to_have_accessible_name(settings)
        expect(reader.page.locator("h1")).to_have_text(greeting)
        expect(reader.page.locator(".send-button")).to_have_attribute("aria-label", send)


def test_the_browsers_language_and_theme_are_taken(make_reader: MakeReader) -> None:
    reader = make_reader(path=None, locale="ko-KR", color_scheme="dark")
    reader.page.goto(reader.address)
    expect(reader.page.locator("h1")).to_have_text("무엇을 함께 생각해 볼까요?")
    wait_for_ground(reader, is_light=False)
    reader.button("설정").click()
    drawer(reader).locator("select").first.select_option(value="light")
    expect(reader.page.locator("html")).to_have_attribute("data-theme", "light")
    wait_for_ground(reader, is_light=True)
    reader.page.reload()
    expect(reader.page.locator("h1")).to_be_visible()
    wait_for_ground(reader, is_light=True)


def wait_for_ground(reader: Reader, is_light: bool) -> None:
    """Until the page's ground is light or dark."""
    reader.page.wait_for_function(
        """isLight => {
          const canvas = new OffscreenCanvas(1, 1).getContext("2d");
          canvas.fillStyle = getComputedStyle(document.body).backgroundColor;
          canvas.fillRect(0, 0, 1, 1);
          const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
          return isLight ? Math.min(red, green, blue) > 200 : Math.max(red, green, blue) < 60;
        }""",
        arg=is_light,
    )


def choose_model(reader: Reader, now: str, then: str) -> None:
    reader.button(f"Model: {now}").click()
    reader.page.get_by_role("menuitemradio", name=then).click()
    expect(reader.button(f"Model: {then}")).to_be_visible()


def test_each_chat_has_its_model(make_reader: MakeReader) -> None:
    models = {"thinker": ScriptedModel(), "plain": ScriptedModel()}
    models["plain"].is_reasoning = False
    reader = make_reader(model=models)
    reader.say("First")
    reader.button("New chat").click()
    choose_model(reader, "thinker", "plain")
    # One that does not think has no such choice.
    expect(reader.button("DeepThink")).to_have_attribute("aria-disabled", "true")
    reader.say("Second")
    assert [chat.messages[-1].content for chat in models["plain"].chats] == ["Second"]
    expect(reader.reply).to_have_accessible_name("plain")
    reader.page.get_by_role("link", name="First", exact=True).click()
    expect(reader.button("Model: thinker")).to_be_visible()
    reader.page.get_by_role("link", name="Second", exact=True).click()
    expect(reader.button("Model: plain")).to_be_visible()
    # The chat's own model after a reload, the last choice for a new chat.
    choose_model(reader, "plain", "thinker")
    reader.say("Third")
    reader.page.reload()
    expect(reader.button("Model: thinker")).to_be_visible()
    assert [message.content for message in models["thinker"].chats[-1].messages] == [
        *("Second", "an answer", "Third")
    ]
    reader.button("New chat").click()
    expect(reader.button("Model: thinker")).to_be_visible()


def test_a_model_that_is_gone_is_told(make_reader: MakeReader) -> None:
    reader = make_reader(model={"old": ScriptedModel()})
    reader.say("First")
    expect(reader.page.locator(".lost-model")).to_have_count(0)
    page = make_reader(model={"new": ScriptedModel()})
    page.page.get_by_role("link", name="First", exact=True).click()
    expect(
        page.page.get_by_text("old is no longer served here. new answers instead.")
    ).to_be_visible()
    page.say("Go on")
    expect(page.reply).to_have_accessible_name("new")
    expect(page.page.locator(".lost-model")).to_have_count(0)


# ---------------------------------------------------------------- keyboard


def focused(reader: Reader) -> str:
    return reader.page.evaluate(
        "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
    )


def tab_to(reader: Reader, name: str, key: str = "Tab") -> None:
    """Move on until something of this name has the focus."""
    seen = []
    for _ in range(60):
        reader.page.keyboard.press(key)
        seen.append(focused(reader))
        if seen[-1] == name:
            return
    raise AssertionError(f"{name} is not reached by {key}: {seen}")


def test_a_whole_chat_by_keyboard_alone(reader: Reader) -> None:
    keys = reader.page.keyboard
    expect(reader.box).to_be_focused()
    keys.type("First line")
    keys.press("Shift+Enter")
    keys.type("second line")
    keys.press("Enter")
    expect(reader.questions).to_have_count(1)
    expect(reader.questions.locator(".bubble")).to_have_text("First line\nsecond line")
    reader.wait_for_end()
    expect(reader.box).to_be_focused()
    # To the reply's buttons and back.
    tab_to(reader, "Regenerate", "Shift+Tab")
    keys.press("Enter")
    expect(reader.page.get_by_role("group", name="Version 2 of 2")).to_be_visible()
    reader.wait_for_end()
    keys.press("/")
    expect(reader.box).to_be_focused()
    # A reply is stopped with Escape.
    never = threading.Event()
    reader.model.will_say("</think>", "Endless", never)
    keys.type("Go on")
    keys.press("Enter")
    expect(reader.answer).to_have_text("Endless")
    keys.press("Escape")
    expect(reader.reply.locator(".end-note")).to_contain_text("Stopped.")
    tab_to(reader, "Continue", "Shift+Tab")
    reader.model.will_say(" no more.")
    keys.press("Enter")
    expect(reader.answer).to_have_text("Endless no more.")
    reader.wait_for_end()
    # Another chat, and back to the first by search.
    keys.press("Control+Shift+O")
    expect(reader.questions).to_have_count(0)
    expect(reader.box).to_be_focused()
    keys.press("Control+K")
    expect(reader.page.get_by_role("searchbox")).to_be_focused()
    keys.type("second")
    tab_to(reader, "First line second line")
    keys.press("Enter")
    expect(reader.questions).to_have_count(2)
    # Its menu: rename.
    tab_to(reader, "Options for First line second line")
    keys.press("Enter")
    expect(reader.page.get_by_role("menuitem", name="Rename")).to_be_focused()
    keys.press("ArrowDown")
    expect(reader.page.get_by_role("menuitem", name="Pin")).to_be_focused()
    keys.press("ArrowUp")
    keys.press("Enter")
    expect(reader.page.get_by_role("textbox", name="Title of the chat")).to_be_focused()
    keys.type("Named")
    keys.press("Enter")
    expect(reader.page.get_by_role("heading", level=1)).to_have_text("Named")


def test_shortcuts_open_and_close_everything(reader: Reader) -> None:
    keys = reader.page.keyboard
    keys.press("Control+Comma")
    expect(reader.page.get_by_role("dialog", name="Settings")).to_be_visible()
    keys.press("Escape")
    expect(reader.page.get_by_role("dialog")).to_have_count(0)
    expect(reader.box).to_be_focused()
    keys.press("Control+Shift+D")
    expect(reader.button("DeepThink")).to_have_attribute("aria-pressed", "false")
    keys.press("Control+B")
    expect(reader.page.get_by_role("navigation")).to_have_count(0)
    keys.press("Control+B")
    expect(reader.page.get_by_role("navigation")).to_be_visible()
    # A question mark that is typed is text.
    keys.type("?")
    expect(reader.box).to_have_value("?")
    tab_to(reader, "DeepThink")
    keys.press("?")
    dialog = reader.page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog.locator("kbd").first).to_be_visible()
    keys.press("Escape")
    expect(dialog).to_have_count(0)


# ---------------------------------------------------------------- screen reader


def test_sentences_are_announced_and_not_tokens(reader: Reader) -> None:
    reader.page.evaluate(
        """() => {
          window.heard = [];
          const region = document.querySelector("[data-testid=announcements]");
          const listen = () => window.heard.push(region.textContent);
          new MutationObserver(listen).observe(region, {childList: true, subtree: true});
        }"""
    )
    more = threading.Event()
    reader.model.will_say("A thought. More.", "</think>", "One **bold** word. Two wo", more, "rds.")
    reader.ask("Say")
    region = reader.page.get_by_test_id("announcements")
    expect(region).to_have_text("One bold word.")
    expect(reader.answer).to_have_text("One bold word. Two wo")
    more.set()
    expect(region).to_have_text("Two words. The reply is complete.")
    heard = reader.page.evaluate("window.heard.filter(Boolean)")
    assert list(dict.fromkeys(heard)) == ["One bold word.", "Two words. The reply is complete."]
    expect(region).to_have_attribute("aria-live", "polite")
    expect(reader.page.get_by_role("log")).to_have_attribute("aria-live", "off")


# ---------------------------------------------------------------- phones


def check_width(reader: Reader) -> None:
    """Nothing is scrolled sideways but what scrolls in itself."""
    widths = reader.page.evaluate(
        """() => ["html", "body", ".scroller", "dialog"]
          .map(selector => document.querySelector(selector))
          .filter(Boolean).map(element => element.scrollWidth - element.clientWidth)"""
    )
    assert all(excess <= 0 for excess in widths), widths


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_scrolls_down_only(make_reader: MakeReader, width: int) -> None:
    size: Any = {"width": width, "height": 700}
    reader = make_reader(viewport=size, has_touch=True, is_mobile=True)
    expect(reader.button("Open the list of chats")).not_to_be_focused()
    check_width(reader)
    reader.model.will_say("A thought", "</think>", WIDE)
    reader.say("averyverylong" + "question" * 20)
    expect(reader.answer.locator(".katex-display")).to_be_visible()
    check_width(reader)
    # The end of what is wide is reached by scrolling inside it.
    for selector in ("pre", ".katex-display"):
        inside = reader.answer.locator(selector).evaluate("e => e.scrollWidth > e.clientWidth")
        assert inside or selector != "pre"
    reader.button("Open the list of chats").tap()
    expect(reader.page.get_by_role("navigation")).to_be_visible()
    check_width(reader)
    reader.button("Settings").tap()
    expect(reader.page.get_by_role("dialog", name="Settings")).to_be_visible()
    check_width(reader)
    reader.page.keyboard.press("Escape")
    reader.page.keyboard.press("Escape")
    expect(reader.page.get_by_role("navigation")).to_have_count(0)
    reader.choose("Delete")
    expect(reader.page.get_by_role("dialog")).to_be_visible()
    check_width(reader)
    reader.page.get_by_role("dialog").get_by_role("button", name="Cancel").tap()
    expect(reader.box).to_be_in_viewport()
    for name in ("DeepThink", "Search", "Attach files", "Send"):
        expect(reader.button(name)).to_be_in_viewport()
