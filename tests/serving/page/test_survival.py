"""Reloads, tabs and deaths in mid-stream: nothing is lost that was shown as saved."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from playwright.sync_api import expect

from tests.serving.chats.test_kill import server
from tests.serving.page.conftest import DESKTOP, MakeReader, Reader


def test_a_reload_in_mid_stream_goes_on_to_the_same_text(reader: Reader) -> None:
    more, end = threading.Event(), threading.Event()
    script = ("Think 思 ", more, "more.", "</think>", "An 🙂 answer ", end, "to its end.")
    reader.model.will_say(*script)
    reader.ask("Go")
    expect(reader.thought).to_contain_text("Think 思")
    reader.page.reload()
    expect(reader.thought).to_contain_text("Think 思")
    expect(reader.button("Stop")).to_be_visible()
    more.set()
    expect(reader.answer).to_have_text("An 🙂 answer")
    reader.page.reload()
    expect(reader.answer).to_have_text("An 🙂 answer")
    # What is written while nobody looks is there as well.
    reader.page.goto("about:blank")
    end.set()
    reader.page.go_back()
    expect(reader.answer).to_have_text("An 🙂 answer to its end.")
    reader.wait_for_end()
    reader.thought.get_by_role("button").click()
    expect(reader.thought.locator(".md")).to_have_text("Think 思 more.")


def test_two_tabs_see_the_same_reply(make_reader: MakeReader) -> None:
    one = make_reader()
    never = threading.Event()
    one.model.will_say("</think>", "Both see this", never)
    one.ask("Go")
    expect(one.answer).to_have_text("Both see this")
    two = make_reader(one.server, context=one.page.context, path=None)
    two.page.goto(one.page.url)
    expect(two.answer).to_have_text("Both see this")
    two.button("Stop").click()
    for tab in (one, two):
        expect(tab.reply.locator(".end-note")).to_contain_text("Stopped.")
        expect(tab.answer).to_have_text("Both see this")


def test_leaving_a_chat_does_not_stop_its_reply(reader: Reader) -> None:
    end = threading.Event()
    reader.model.will_say("</think>", "Here ", end, "it is.")
    reader.ask("First")
    expect(reader.answer).to_have_text("Here")
    reader.button("New chat").click()
    reader.say("Second")
    end.set()
    reader.page.get_by_role("link", name="First").click()
    expect(reader.answer).to_have_text("Here it is.")
    reader.wait_for_end()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_server_that_is_killed_and_started_again(make_reader: MakeReader, tmp_path: Path) -> None:
    port, url = free_port(), f"sqlite:///{tmp_path}/killed.sqlite3"
    stand_in: Any = SimpleNamespace(server=SimpleNamespace(url=f"http://127.0.0.1:{port}"))
    answer = " ".join(str(number) for number in range(21, 60))
    with server(url, port) as (process, _):
        reader = make_reader(stand_in, viewport=DESKTOP)
        reader.ask("wait")
        expect(reader.answer).to_have_text(answer)
        expect(reader.page.get_by_title("Saved", exact=True)).to_be_visible()
        process.kill()
        process.wait()
        lost = reader.page.get_by_role("alert").filter(has_text="Connection lost")
        expect(lost).to_be_visible()
        # What was shown stays, and a question that cannot be sent is not lost.
        expect(reader.answer).to_have_text(answer)
    with server(url, port):
        reader.button("Try now").click()
        expect(lost).to_have_count(0)
        expect(reader.reply.locator(".end-note")).to_contain_text("Stopped.")
        expect(reader.answer).to_have_text(answer)
        expect(reader.thought.get_by_role("button")).to_be_visible()
        reader.page.reload()
        expect(reader.answer).to_have_text(answer)
        reader.button("Continue").click()
        expect(reader.answer).to_contain_text(f"{answer}21 22 23")


def test_a_question_that_cannot_be_sent_comes_back(make_reader: MakeReader) -> None:
    reader = make_reader()
    reader.page.route("**/api/chats", lambda route: route.abort())
    reader.box.fill("Is anyone there?")
    reader.box.press("Enter")
    expect(reader.page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    expect(reader.box).to_have_value("Is anyone there?")
    reader.page.unroute("**/api/chats")
    reader.box.press("Enter")
    expect(reader.answer).to_have_text("an answer")


def test_a_busy_server_is_told_and_the_question_kept(make_reader: MakeReader) -> None:
    reader = make_reader(settings={"max_running": 1, "max_waiting": 0})
    never = threading.Event()
    reader.model.will_say("</think>", "Busy", never)
    reader.ask("One")
    expect(reader.answer).to_have_text("Busy")
    reader.button("New chat").click()
    reader.box.fill("Two")
    reader.box.press("Enter")
    expect(reader.page.get_by_role("alert")).to_contain_text("The server is busy.")
    expect(reader.box).to_have_value("Two")
    never.set()
