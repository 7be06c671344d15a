"""Many clients, clients that leave or do not read, limits, keys, and the end of the server."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from r1.serving.api.errors import ApiError
from tests.serving.api.conftest import (
    CLOSE,
    LiveServer,
    MakeServer,
    RecitingModel,
    connect,
    tiny_engine_model,
    wait_until,
)

QUESTION: Any = [{"role": "user", "content": "17 + 25 ="}]
# A reply that only ends at the context's end.
ENDLESS = {"messages": QUESTION, "ignore_eos": True, "max_tokens": 100_000}


def body(**fields: Any) -> bytes:
    return json.dumps({"messages": QUESTION, **fields}).encode()


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def num_busy_blocks(server: LiveServer) -> int:
    stats = server.model._thread.stats
    return stats.num_blocks - stats.num_free_blocks


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_leaves_frees_its_blocks(make_server: MakeServer, is_stream: bool) -> None:
    server = make_server(tiny_engine_model(), loop_tokens=0)
    with server.connect(
        "/v1/chat/completions", body(**ENDLESS, stream=is_stream, n=4), ""
    ) as connection:
        wait_until(lambda: num_busy_blocks(server) > 4)
        if is_stream:
            assert b"200 OK" in connection.recv(4096)
    wait_until(lambda: num_busy_blocks(server) == 0)
    wait_until(lambda: server.service.num_active == 0)
    num_tokens = server.model._thread.stats.num_generated_tokens
    assert num_tokens < 4 * 1000
    assert server.chat(max_tokens=3, temperature=0)["usage"]["completion_tokens"] == 3


def test_a_client_that_never_reads_is_cut_off_and_others_are_not(make_server: MakeServer) -> None:
    # More than the sockets' buffers hold, of one client that does not take it.
    model = RecitingModel(["x" * 10_000] * 2000, starts_in_thought=False)
    server = make_server(model, write_timeout_seconds=0.3)
    with server.connect("/v1/chat/completions", body(stream=True)) as silent:
        wait_until(lambda: server.service.num_active == 1)
        other = server.chat()
        assert len(other["choices"][0]["message"]["content"]) == 20_000_000
        wait_until(lambda: server.service.num_active == 0)
        assert model.num_closed == 2
        with contextlib.suppress(ConnectionResetError):
            assert len(read_all(silent)) < 20_000_000


def test_a_client_that_is_too_far_behind_loses_its_reply(make_server: MakeServer) -> None:
    model = tiny_engine_model(max_buffered_tokens=1, flush_interval_seconds=0)
    server = make_server(model, loop_tokens=0)
    # Two tokens can wait for the event loop at once only when it is held up.
    collect = server.service.metrics.collect
    server.service.metrics.collect = lambda: time.sleep(0.3) or collect()
    with ThreadPoolExecutor(1) as pool, server.client() as client:
        reply = pool.submit(server.post, "/v1/chat/completions", {**ENDLESS, "stream": True})
        # Where the machine is busy enough, it is cut off without our doing.
        wait_until(lambda: num_busy_blocks(server) > 0 or reply.done())
        client.get("/metrics")
        text = reply.result().text
    assert "more than 1 tokens behind" in text
    assert "[DONE]" not in text
    wait_until(lambda: num_busy_blocks(server) == 0)


def test_a_full_queue_says_when_to_come_back(make_server: MakeServer) -> None:
    model = RecitingModel()
    model.hold.clear()
    server = make_server(model, max_running=1, max_waiting=1, retry_after_seconds=7)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(server.chat) for _ in range(2)]
        wait_until(lambda: server.service.num_active == 2)
        refused = server.post("/v1/chat/completions", {"messages": QUESTION, "stream": True})
        model.hold.set()
        assert all(reply.result()["choices"] for reply in waiting)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    assert refused.json()["error"]["code"] == "queue_full"
    too_many = server.post("/v1/chat/completions", {"messages": QUESTION, "n": 3})
    assert too_many.status_code == 429


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_silent_wait_is_kept_alive(make_server: MakeServer, is_stream: bool) -> None:
    model = RecitingModel([])
    model.hold.clear()
    server = make_server(model, keep_alive_seconds=0.02)
    with server.connect("/v1/chat/completions", body(stream=is_stream), CLOSE) as connection:
        expected = b": keep-alive\n\n" if is_stream else b"\n\r\n1\r\n\n"
        received = b""
        while received.count(b": keep-alive\n\n" if is_stream else b"1\r\n\n\r\n") < 3:
            received += connection.recv(4096)
        model.hold.set()
        received += read_all(connection)
    assert b"200 OK" in received
    assert expected in received
    assert (b"[DONE]" in received) == is_stream
    # A client that reads JSON does not see the empty lines.
    model.hold.clear()
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(server.chat)
        time.sleep(0.1)
        model.hold.set()
        assert reply.result()["object"] == "chat.completion"


def test_an_error_before_the_first_byte_has_its_status_and_later_ends_the_stream(
    make_server: MakeServer,
) -> None:
    model = RecitingModel([], error=ApiError(503, "out of order"))
    server = make_server(model)
    response = server.post("/v1/chat/completions", {"messages": QUESTION, "stream": True})
    assert (response.status_code, response.json()["error"]["message"]) == (503, "out of order")
    model.chunks = ["begun"]
    response = server.post("/v1/chat/completions", {"messages": QUESTION, "stream": True})
    assert response.status_code == 200
    last = json.loads(response.text.strip().split("data: ")[-1])
    assert last["error"]["type"] == "overloaded_error"
    model.error = None
    model.chunks = ["a</think>b"]
    assert server.chat()["choices"][0]["message"]["content"] == "b"


def test_a_bug_in_the_model_is_told_without_its_inside(make_server: MakeServer) -> None:
    class Broken(RecitingModel):
        def prepare_chat(self, chat: Any) -> Any:
            raise RuntimeError("secret path")

    response = make_server(Broken()).post("/v1/chat/completions", {"messages": QUESTION})
    assert (response.status_code, response.json()["error"]["message"]) == (500, "internal error")
    # Also when it shows in the middle of a stream.
    late = RecitingModel(["begun"], error=RuntimeError("secret path"))
    server = make_server(late)
    response = server.post("/v1/chat/completions", {"messages": QUESTION, "stream": True})
    last = json.loads(response.text.strip().split("data: ")[-1])
    assert (response.status_code, last["error"]["message"]) == (200, "internal error")
    assert late.num_closed == 1


def test_every_route_wants_a_key(make_server: MakeServer) -> None:
    server = make_server(RecitingModel(), api_keys=("sk-first", "sk-second"))
    with server.client() as client:
        for method, path in (
            ("GET", "/v1/models"),
            ("GET", "/metrics"),
            ("GET", "/health"),
            ("GET", "/openapi.json"),
            ("GET", "/nothing"),
            ("POST", "/v1/chat/completions"),
            ("POST", "/v1/tokenize"),
        ):
            for value in ("", "Bearer", "Bearer sk-firs", "Bearer sk-first2", "Basic sk-first"):
                response = client.request(method, path, headers={"authorization": value})
                assert response.status_code == 401, (path, value)
                assert response.json()["error"]["code"] == "invalid_api_key"
        for key in ("sk-first", "sk-second"):
            headers = {"authorization": f"bearer {key}"}
            assert client.get("/v1/models", headers=headers).status_code == 200


def test_requests_are_bounded(make_server: MakeServer) -> None:
    server = make_server(
        RecitingModel(), max_body_bytes=2048, max_header_bytes=2048, body_timeout_seconds=0.2
    )
    long = body(user="x" * 3000)
    with server.client() as client:
        headers = {"content-type": "application/json"}
        response = client.post("/v1/chat/completions", content=long, headers=headers)
        assert response.status_code == 413
        # Without a length, in chunks.
        response = client.post(
            "/v1/chat/completions", content=iter([long[:1000], long[1000:]]), headers=headers
        )
        assert response.status_code == 413
    with server.connect("/v1/chat/completions", b"", f"X-Long: {'x' * 5000}\r\n") as connection:
        assert b" 400 " in connection.recv(4096)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        slow.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        assert b" 408 " in slow.recv(4096)


def test_a_page_on_the_web_gets_nothing(make_server: MakeServer) -> None:
    server = make_server(RecitingModel())
    with server.client() as client:
        foreign = {"host": "evil.example"}
        assert client.get("/v1/models", headers=foreign).status_code == 403
        origin = {"origin": "https://evil.example", "access-control-request-method": "POST"}
        response = client.options("/v1/chat/completions", headers=origin)
        assert "access-control-allow-origin" not in response.headers
        # What a form can send without asking first is no JSON to this server.
        response = client.post(
            "/v1/chat/completions", content=body(), headers={"content-type": "text/plain"}
        )
        assert response.status_code == 400


def test_sigterm_lets_replies_end_and_takes_no_new_ones() -> None:
    command = [sys.executable, "-m", "r1", "serve", "tiny", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            port = int(process.stderr.readline().strip().split(":")[-1].split("/")[0])
            content = body(ignore_eos=True, max_tokens=300, stream=True)
            with connect(port, "/v1/chat/completions", content, CLOSE) as connection:
                received = connection.recv(1024)
                process.send_signal(signal.SIGTERM)
                received += read_all(connection)
            assert b"data: [DONE]" in received
            process.wait(timeout=30)
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_200_streams_at_once_some_of_which_leave(make_server: MakeServer) -> None:
    server = make_server(tiny_engine_model(), max_running=16, loop_tokens=0)
    content = body(max_tokens=12, ignore_eos=True, stream=True)
    connections = [server.connect("/v1/chat/completions", content, CLOSE) for _ in range(200)]
    try:
        for connection in connections[::10]:
            connection.close()
        remaining = [c for number, c in enumerate(connections) if number % 10]
        assert select.select(remaining, [], [], 30)[0]
        for connection in remaining:
            assert b"data: [DONE]" in read_all(connection)
    finally:
        for connection in connections:
            connection.close()
    wait_until(lambda: num_busy_blocks(server) == 0, seconds=2)
    assert server.service.num_active == 0
