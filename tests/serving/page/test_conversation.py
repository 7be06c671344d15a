"""Talking: thoughts, answers, and everything that can be done to a reply."""

from __future__ import annotations

import re
import threading

from playwright.sync_api import expect

from r1.serving.api.errors import ApiError
from tests.serving.page.conftest import MakeReader, Reader

MARKDOWN = """# A title

Some **bold** text with \\(x^2\\) and

$$\\sum_{k=1}^n k = \\frac{n(n+1)}{2}$$

| n | square |
|---|-------:|
| 2 | 4 |

```python
def twice(n: int) -> int:
    return 2 * n
```
"""


def test_a_thought_is_shown_live_and_closes_when_the_answer_begins(reader: Reader) -> None:
    more, answer, end = (threading.Event() for _ in range(3))
    script = ("I look at it.", more, " And again.", answer, "</think>", "It is ", end, "42.")
    reader.model.will_say(*script)
    reader.ask("What is it?")
    toggle = reader.thought.get_by_role("button")
    expect(reader.thought).to_contain_text("I look at it.")
    expect(toggle).to_have_text("Thinking")
    expect(toggle).to_have_attribute("aria-expanded", "true")
    more.set()
    expect(reader.thought).to_contain_text("And again.")
    answer.set()
    expect(reader.answer).to_have_text("It is")
    expect(toggle).to_have_attribute("aria-expanded", "false")
    expect(toggle).to_have_text(re.compile(r"^Thought for \d+ s$"))
    end.set()
    reader.wait_for_end()
    expect(reader.answer).to_have_text("It is 42.")
    toggle.click()
    expect(reader.thought.locator(".md")).to_have_text("I look at it. And again.")
    expect(reader.reply.locator(".figures")).to_contain_text(re.compile(r"^\d+ tokens · "))


def test_deep_think_off_asks_for_no_thought(reader: Reader) -> None:
    toggle = reader.button("DeepThink")
    expect(toggle).to_have_attribute("aria-pressed", "true")
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "false")
    reader.say("Quick!")
    expect(reader.answer).to_have_text("an answer")
    expect(reader.thought).to_have_count(0)
    assert reader.model.chats[-1].is_thinking is False
    # The choice is kept.
    reader.page.reload()
    expect(reader.button("DeepThink")).to_have_attribute("aria-pressed", "false")
    reader.button("DeepThink").click()
    reader.say("Slowly.")
    assert reader.model.chats[-1].is_thinking is True


def test_markdown_mathematics_tables_and_code(make_reader: MakeReader) -> None:
    reader = make_reader(permissions=["clipboard-read", "clipboard-write"])
    reader.model.will_say("</think>", MARKDOWN)
    reader.say("Show me")
    expect(reader.answer.get_by_role("heading", name="A title")).to_be_visible()
    expect(reader.answer.locator("strong")).to_have_text("bold")
    expect(reader.answer.get_by_role("img", name="x^2")).to_be_visible()
    expect(reader.answer.locator(".katex-display")).to_be_visible()
    expect(reader.answer.get_by_role("cell", name="4")).to_be_visible()
    expect(reader.answer.locator(".md-code-language")).to_have_text("python")
    expect(reader.answer.locator("pre .hljs-keyword").first).to_have_text("def")
    reader.button("Copy code").click()
    expect(reader.button("Copied")).to_be_visible()
    copied = reader.page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == "def twice(n: int) -> int:\n    return 2 * n"
    reader.reply.get_by_role("button", name="Copy", exact=True).click()
    expect(reader.reply.locator(".actions").get_by_role("button", name="Copied")).to_be_visible()
    assert reader.page.evaluate("navigator.clipboard.readText()").strip() == MARKDOWN.strip()


def test_stop_keeps_what_there_is_and_continue_goes_on(reader: Reader) -> None:
    never = threading.Event()
    reader.model.will_say("Hm.", "</think>", "One, two,", never)
    reader.ask("Count")
    expect(reader.answer).to_have_text("One, two,")
    reader.button("Stop").click()
    expect(reader.reply.locator(".end-note")).to_contain_text("Stopped.")
    expect(reader.answer).to_have_text("One, two,")
    reader.model.will_say(" three.")
    reader.button("Continue").click()
    expect(reader.answer).to_have_text("One, two, three.")
    reader.wait_for_end()
    expect(reader.replies).to_have_count(1)
    prefix = reader.model.chats[-1].prefix
    assert prefix is not None and (prefix.thought, prefix.answer) == ("Hm.", "One, two,")


def test_a_reply_cut_at_the_limit_can_be_continued(reader: Reader) -> None:
    reader.model.finish_reason = "length"
    reader.model.will_say("</think>", "A long")
    reader.say("Tell me")
    expect(reader.reply.locator(".end-note")).to_contain_text("The limit of tokens was reached.")
    reader.model.finish_reason = "stop"
    reader.model.will_say(" story.")
    reader.button("Continue").click()
    expect(reader.answer).to_have_text("A long story.")
    expect(reader.reply.locator(".end-note")).to_have_count(0)


def test_regenerate_makes_versions(reader: Reader) -> None:
    reader.model.will_say("</think>", "First.")
    reader.model.will_say("</think>", "Second.")
    reader.say("Say")
    reader.button("Regenerate").click()
    expect(reader.answer).to_have_text("Second.")
    reader.wait_for_end()
    group = reader.page.get_by_role("group", name="Version 2 of 2")
    with reader.page.expect_response(lambda response: response.request.method == "PATCH"):
        group.get_by_role("button", name="Previous version").click()
    expect(reader.answer).to_have_text("First.")
    # The branch that is shown is kept.
    reader.page.reload()
    expect(reader.answer).to_have_text("First.")
    reader.button("Next version").click()
    expect(reader.answer).to_have_text("Second.")


def test_an_edited_question_is_a_branch(reader: Reader) -> None:
    reader.model.will_say("</think>", "Rome.")
    reader.say("Capital of Italy?")
    reader.model.will_say("</think>", "Because.")
    reader.say("Why?")
    first = reader.questions.first
    first.hover()
    first.get_by_role("button", name="Edit", exact=True).click()
    box = reader.page.get_by_role("textbox", name="Edit your message")
    expect(box).to_have_value("Capital of Italy?")
    box.fill("Capital of France?")
    reader.model.will_say("</think>", "Paris.")
    box.press("Enter")
    expect(reader.answer).to_have_text("Paris.")
    reader.wait_for_end()
    expect(reader.questions).to_have_text(["Capital of France?2/2"])
    reader.button("Previous version").click()
    expect(reader.replies).to_have_count(2)
    expect(reader.answer).to_have_text("Because.")
    messages = reader.model.chats[-1].messages
    assert [message.content for message in messages] == ["Capital of France?"]


def test_the_caret_is_in_the_edit_box_as_soon_as_the_box_is_there(reader: Reader) -> None:
    """Moved any later, it would split what a fast writer has begun to type."""
    reader.say("Capital of Italy?")
    reader.questions.first.hover()
    edit = reader.questions.first.get_by_role("button", name="Edit", exact=True)
    caret = edit.evaluate(
        """(button) => new Promise((resolve) => {
            const find = () => {
                const box = document.querySelector(".edit-box textarea");
                if (box) resolve([box === document.activeElement, box.selectionStart]);
            };
            new MutationObserver(find).observe(document.body, {childList: true, subtree: true});
            button.click();
        })"""
    )
    assert caret == [True, len("Capital of Italy?")]


def test_a_failure_is_told_and_tried_again(reader: Reader) -> None:
    reader.model.will_say(ApiError(502, "the server behind is away"))
    reader.ask("Anyone?")
    expect(reader.page.get_by_role("alert")).to_contain_text("the server behind is away")
    reader.model.will_say("</think>", "Here.")
    reader.button("Try again").click()
    expect(reader.answer).to_have_text("Here.")


def test_a_thought_without_an_answer_is_told(reader: Reader) -> None:
    reader.model.will_say("I only think.")
    reader.say("Well?")
    expect(reader.thought).to_contain_text("I only think.")
    expect(reader.reply.locator(".end-note")).to_have_text("The reply has no answer.")


def test_long_chats_stay_at_the_end_until_the_reader_scrolls(reader: Reader) -> None:
    more = threading.Event()
    text = "\n\n".join(f"Paragraph {number}." for number in range(60))
    reader.model.will_say("</think>", text, more, "\n\nThe last one.")
    reader.ask("Write")
    expect(reader.page.get_by_text("Paragraph 59.")).to_be_in_viewport()
    reader.page.locator(".scroller").hover()
    reader.page.mouse.wheel(0, -2000)
    expect(reader.page.get_by_text("Paragraph 59.")).not_to_be_in_viewport()
    more.set()
    reader.wait_for_end()
    expect(reader.page.get_by_text("The last one.")).not_to_be_in_viewport()
    reader.button("Jump to the end").click()
    expect(reader.page.get_by_text("The last one.")).to_be_in_viewport()
