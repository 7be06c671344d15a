"""Clients of a streaming server in one thread, as cheap as they can be.

They share the machine with the server that they measure: every millisecond of theirs is one
that the engine does not have. So they are bare sockets, read when there is something, and look
into nothing but a reply's first bytes and its end.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import time
from collections.abc import Callable, Sequence

# The end of a reply: its usage, and what ends the stream.
_TAIL_BYTES = 1024


class Client:
    """One streamed request, under way since it was made."""

    def __init__(self, url: str, question: str, seed: int, num_tokens: int) -> None:
        host, port = url.removeprefix("http://").split(":")
        content = {
            "messages": [{"role": "user", "content": question}],
            "max_tokens": num_tokens,
            "ignore_eos": True,
            "seed": seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body = json.dumps(content)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.num_reads = 0
        self.first_seconds: float | None = None
        self._tail = b""
        self._started = time.perf_counter()
        self.socket = socket.create_connection((host, int(port)))
        self.socket.sendall((head + body).encode())

    def read(self) -> bool:
        """Take what has come; False at the end. Raises ConnectionError when it breaks off."""
        received = self.socket.recv(1 << 20)
        self.num_reads += 1
        if self.first_seconds is None and b"data: " in received:
            self.first_seconds = time.perf_counter() - self._started
        self._tail = (self._tail + received)[-_TAIL_BYTES:]
        if received and b"[DONE]" not in self._tail:
            return True
        self.socket.close()
        if self.num_tokens is None:
            raise ConnectionError(f"a reply broke off: ...{self._tail[-200:]!r}")
        return False

    @property
    def num_tokens(self) -> int | None:
        """What the server counted, once the reply is whole."""
        found = re.search(rb'"completion_tokens":(\d+)', self._tail)
        return int(found[1]) if found and b"[DONE]" in self._tail else None


def read_all(
    clients: Sequence[Client], on_read: Callable[[Client], bool] | None = None
) -> list[ConnectionError]:
    """Read every reply to its end, or until `on_read` says that it is enough; what broke off."""
    errors = []
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        while selector.get_map():
            for key, _ in selector.select():
                client: Client = key.data
                try:
                    is_open = client.read()
                except ConnectionError as error:
                    errors.append(error)
                    is_open = False
                if not is_open or (on_read is not None and on_read(client)):
                    selector.unregister(key.fileobj)
                    client.socket.close()
    return errors
