"""kill -9 at random moments: nothing is lost that had been announced as saved."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

SERVER = Path(__file__).with_name("dying_server.py")
NUM_ROUNDS = 3  # each starts two servers
NUM_REPLIES = 4


@contextmanager
def server(url: str, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], httpx2.Client]]:
    paths = os.pathsep.join([str(SERVER.parents[3]), *sys.path])
    process = subprocess.Popen(
        [sys.executable, str(SERVER), url, str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def follow_until(client: httpx2.Client, message_id: str, deadline: float) -> dict[str, Any]:
    """The last thing that was announced as saved."""
    saved: dict[str, Any] = {"num_reasoning_characters": 0, "num_content_characters": 0}
    with client.stream("GET", f"/api/messages/{message_id}/stream") as response:
        for event in httpx2.EventSource(response):
            if event.event == "saved":
                saved = json.loads(event.data)
            if time.monotonic() > deadline:
                return saved
    raise AssertionError("the stream ended before the kill")


def test_what_was_announced_as_saved_survives_a_kill(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chats.sqlite3"
    moments = random.Random(7)
    # Of every reply: its chat and what had been announced.
    announced: dict[str, tuple[str, dict[str, Any]]] = {}
    for _ in range(NUM_ROUNDS):
        with server(url) as (process, client):
            chat_id = client.post("/api/chats", json={}).json()["id"]
            ids = [
                client.post(f"/api/chats/{chat_id}/replies", json={"content": str(number)}).json()[
                    "assistant_message"
                ]["id"]
                for number in range(NUM_REPLIES)
            ]
            announced |= {message_id: (chat_id, {}) for message_id in ids}
            deadline = time.monotonic() + moments.uniform(0.3, 2.5)
            saved = follow_until(client, ids[0], deadline)
            announced[ids[0]] = (chat_id, saved)
            process.kill()
            process.wait()
        with server(url) as (_, client):
            check(client, announced)
    assert any(saved.get("num_content_characters") for _, saved in announced.values())


def check(client: httpx2.Client, announced: dict[str, tuple[str, dict[str, Any]]]) -> None:
    thought = " ".join(str(number) for number in range(20))
    for message_id, (chat_id, saved) in announced.items():
        whole = client.get(f"/api/chats/{chat_id}").json()
        assert len(whole["messages"]) == 2 * NUM_REPLIES
        message = next(m for m in whole["messages"] if m["id"] == message_id)
        assert message["status"] == "stopped"
        reasoning, content = message["reasoning_content"], message["content"]
        assert len(reasoning) >= saved.get("num_reasoning_characters", 0)
        assert len(content) >= saved.get("num_content_characters", 0)
        assert thought.startswith(reasoning)
        assert " ".join(str(number) for number in range(21, 9999)).startswith(content)
