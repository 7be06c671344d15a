"""What a model may say to harm its reader, in a real browser: nothing runs, nothing is loaded."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.serving.page.conftest import Reader

REPOSITORY = Path(__file__).resolve().parents[3]
TABLE = json.loads((REPOSITORY / "web/src/markdown/hostile_outputs.json").read_text())
OUTPUTS = [output for output in TABLE if "repeat" not in output]
LONG_OUTPUTS = [output for output in TABLE if "repeat" in output]


def whole_text(output: dict[str, Any]) -> str:
    """As `wholeText` of hostile_outputs.ts."""
    repeated = output["text"] * output.get("repeat", 1)
    return output.get("before", "") + repeated + output.get("after", "")


def exported(outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """A chat in which each output is a thought and an answer."""
    now = time.time()
    shared = {"files": [], "created_at": now, "status": "done"}
    messages: list[dict[str, Any]] = []
    for index, output in enumerate(outputs):
        parent_id = messages[-1]["id"] if messages else None
        question = {"id": f"{2 * index:032x}", "parent_id": parent_id, "role": "user"}
        reply = {"id": f"{2 * index + 1:032x}", "parent_id": question["id"], "role": "assistant"}
        messages.append(question | shared | {"content": output["name"]})
        text = {"content": whole_text(output), "reasoning_content": output["text"]}
        messages.append(reply | shared | text | {"model": "tiny"})
    chat = {
        "id": "f" * 32,
        "title": "<img src=x onerror=alert(1)>",
        "is_pinned": False,
        "created_at": now,
        "updated_at": now,
        "leaf_id": messages[-1]["id"],
    }
    return {"format": "r1-chat", "version": 1, "chat": chat, "messages": messages, "files": []}


def check_all(reader: Reader, outputs: list[dict[str, Any]], scope: str) -> None:
    """What each output must not have made, and what it may."""
    for index, output in enumerate(outputs):
        drawn = reader.replies.nth(index).locator(scope)
        for selector in output["must_not"]:
            assert drawn.locator(selector).count() == 0, (output["name"], selector)
        for selector in output["may"]:
            assert drawn.locator(selector).count() > 0, (output["name"], selector)


def open_chat(reader: Reader, outputs: list[dict[str, Any]]) -> None:
    chat = reader.server.json("POST", "/api/chats/import", exported(outputs))
    reader.page.goto(f"{reader.address}/#/chat/{chat['id']}")
    expect(reader.replies).to_have_count(len(outputs))


def test_hostile_outputs_in_a_finished_chat(reader: Reader) -> None:
    assert len(OUTPUTS) >= 30
    open_chat(reader, OUTPUTS)
    expect(reader.page.locator(".katex").first).to_be_attached()
    # Thoughts are drawn when they are opened.
    reader.page.evaluate("document.querySelectorAll('.thought-toggle').forEach(b => b.click())")
    expect(reader.page.locator(".thought-body .md")).to_have_count(len(OUTPUTS))
    check_all(reader, OUTPUTS, ":scope > .md")
    check_all(reader, OUTPUTS, ".thought-body .md")
    assert len(reader.page.context.pages) == 1
    reader.check_nothing_ran()


def test_endless_hostile_outputs_leave_the_page_usable(reader: Reader) -> None:
    """How long each takes is tested in web/; here that all of them together end."""
    open_chat(reader, LONG_OUTPUTS)
    check_all(reader, LONG_OUTPUTS, ":scope > .md")
    reader.say("Still there?")
    expect(reader.answer).to_have_text("an answer")
    reader.check_nothing_ran()


def test_hostile_outputs_while_they_stream(reader: Reader) -> None:
    for output in OUTPUTS:
        reader.model.will_say(output["text"].replace("think>", ""), "</think>", output["text"])
        reader.say(output["name"])
    expect(reader.replies).to_have_count(len(OUTPUTS))
    assert reader.page.url.startswith(reader.address)
    reader.check_nothing_ran()
