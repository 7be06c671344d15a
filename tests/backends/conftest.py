"""A real server on a free port that behaves as it is told, request by request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from r1.backends.openai_http_client import ServerConfig

Behaviour = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    script: Script

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.script.lock:
            self.script.requests.append((self.path, body, dict(self.headers)))
            behaviours = self.script.behaviours
            behave = behaviours.pop(0) if behaviours else self.script.default
        behave(self, body)

    def send(self, status: int, content: bytes, kind: str = "application/json", **headers: str):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def stream(self, pieces: list[bytes]) -> None:
        """Send raw pieces and close the connection, whole or torn."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


@dataclass
class Script:
    """What the server answers: `behaviours` one after the other, then `default`."""

    url: str
    default: Behaviour
    behaviours: list[Behaviour] = field(default_factory=list)
    requests: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def config(self, **settings: Any) -> ServerConfig:
        return ServerConfig(**{"url": self.url, "model": "m", "num_concurrent": 1, **settings})


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def delta(finish_reason: str | None = None, **message: Any) -> bytes:
    choice = {"index": 0, "delta": message, "finish_reason": finish_reason}
    return event({"choices": [choice], "usage": None})


def usage(num_tokens: int) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": num_tokens}})


DONE = b"data: [DONE]\n\n"


def answers(text: str, finish_reason: str = "stop", reasoning: str = "") -> Behaviour:
    """A whole streamed reply in the order that vLLM sends it."""

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        pieces = [delta(role="assistant", content="")]
        pieces += [delta(reasoning_content=reasoning)] if reasoning else []
        pieces += [delta(content=text), delta(finish_reason), usage(7), DONE]
        handler.stream(pieces)

    return behave


def fails(status: int, message: str = "no", **headers: str) -> Behaviour:
    def behave(handler: Handler, body: dict[str, Any]) -> None:
        content = json.dumps({"error": {"message": message}}).encode()
        handler.send(status, content, **headers)

    return behave


def streams(*pieces: bytes) -> Behaviour:
    return lambda handler, body: handler.stream(list(pieces))


@pytest.fixture
def script() -> Iterator[Script]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    told = Script(url, default=answers("four"))
    server.RequestHandlerClass = type("ToldHandler", (Handler,), {"script": told})
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield told
    server.shutdown()
    server.server_close()
