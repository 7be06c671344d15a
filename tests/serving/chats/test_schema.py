"""Requests made from the page API's own schema: no 500, no reply that breaks the schema."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.serving.api.test_schema import ask, operations_of
from tests.serving.chats.conftest import MakePage, Page

NUM_REQUESTS = 86  # of an operation: more than 1,000 in all


def with_real_ids(page: Page, case: Any, number: int) -> None:
    """Two of three requests are for a chat, a message or a file that is there."""
    if number % 3 == 0:
        return
    ids = case.path_parameters or {}
    if "chat_id" in ids:
        ids["chat_id"] = page.new_chat()
    if "message_id" in ids:
        begun = page.reply(page.new_chat(), content="17 + 25 =")
        ids["message_id"] = begun["assistant_message"]["id"]
    if "file_id" in ids:
        files = {"file": ("a.txt", b"text", "text/plain")}
        ids["file_id"] = page.ask("POST", "/api/files", files=files).json()["id"]
    if case.path.endswith("/replies") and number % 3 == 1 and isinstance(case.body, dict):
        # What else it says stays as it was made, the settings above all.
        for name in ("model", "parent_id", "continue_id", "file_ids"):
            case.body.pop(name, None)
        case.body["content"] = "17 + 25 ="


@pytest.mark.slow
def test_schemathesis_finds_no_500_and_no_breach(make_page: MakePage) -> None:
    page = make_page()
    operations = [each for each in operations_of(page.server.url) if each.path.startswith("/api/")]
    statuses: Counter[tuple[str, int]] = Counter()
    for operation in operations:
        ask(
            operation,
            NUM_REQUESTS,
            statuses,
            lambda case: with_real_ids(page, case, sum(statuses.values())),
        )
    print(dict(statuses))
    assert sum(statuses.values()) >= 1000
    for path in {operation.path for operation in operations}:
        assert any(statuses[path, status] for status in (200, 204)), path
