"""What HTTP and streaming cost over the engine, and how many clients fare.

    python benchmarks/serving.py [--model tiny] [--clients 32] [--tokens 128] [--write]

The engine alone steps as many streamed requests as there are clients; then the same requests
come through `r1 serve` in a process of its own, streamed, at once. Tokens a second are those
of the whole, medians of runs of both in turn. Then time to first token at 1, 8 and 64
clients, and a crowd of which some leave in mid-stream and some never read. `--write` puts the table
into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import torch
from results_page import machine_lines, write_section

from r1.engine.engine import Engine, EngineConfig
from r1.engine.open_model import open_model
from r1.engine.stream_options import StreamOptions
from r1.records import GenerationRequest, Message, SamplingParams
from r1.text.chat_template import encode_chat

QUESTION = "What is {number} + 25?"
NUM_RUNS = 5
CROWD = 200


def engine_tokens_per_second(engine: Engine, num_clients: int, num_tokens: int) -> float:
    """Streamed requests on the engine alone."""
    sampling = SamplingParams(temperature=0.6, top_p=0.95, max_tokens=num_tokens, ignore_eos=True)
    for number in range(num_clients):
        prompt = encode_chat(engine.tokenizer, [Message("user", QUESTION.format(number=number))])
        request = GenerationRequest(str(number), prompt.ids, sampling, seed=number)
        engine.add_request(request, StreamOptions())
    started = time.perf_counter()
    while engine.has_unfinished():
        engine.step()
    return num_clients * num_tokens / (time.perf_counter() - started)


def body(number: int, num_tokens: int) -> dict[str, Any]:
    """A streamed request of so many tokens."""
    return {
        "messages": [{"role": "user", "content": QUESTION.format(number=number)}],
        "max_tokens": num_tokens,
        "ignore_eos": True,
        "seed": number,
        "stream": True,
    }


async def ask(url: str, number: int, num_tokens: int) -> float:
    """One streamed reply; seconds to its first token.

    Read from the socket as it is: a client library would cost more than the server.
    """
    started = time.perf_counter()
    reader, writer = await post(url, number, num_tokens)
    status = await reader.readline()
    assert b" 200 " in status, status
    await reader.readuntil(b"data: ")
    first = time.perf_counter() - started
    end = b""
    while b"[DONE]" not in end:
        received = await reader.read(65536)
        assert received, "the reply broke off"
        end = end[-16:] + received
    writer.close()
    return first


async def post(
    url: str, number: int, num_tokens: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a reply of so many tokens is asked for."""
    host, port = url.removeprefix("http://").split(":")
    content = {
        "messages": [{"role": "user", "content": QUESTION.format(number=number)}],
        "max_tokens": num_tokens,
        "ignore_eos": True,
        "seed": number,
        "stream": True,
    }
    text = json.dumps(content)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write((head + text).encode())
    return reader, writer


async def ask_all(url: str, num_clients: int, num_tokens: int) -> tuple[float, list[float]]:
    """All clients at once: tokens a second, and every client's time to first token."""
    started = time.perf_counter()
    firsts = await asyncio.gather(*(ask(url, number, num_tokens) for number in range(num_clients)))
    return num_clients * num_tokens / (time.perf_counter() - started), firsts


async def leave(url: str, number: int) -> None:
    """Go after the first bytes of a long reply."""
    reader, writer = await post(url, number, 400)
    await reader.readuntil(b"data: ")
    writer.close()


async def crowd(url: str) -> tuple[int, float]:
    """CROWD streams at once: 10% leave, 5% never read. Errors, seconds till no block is held."""
    silent = [(await post(url, number, 400))[1] for number in range(CROWD // 20)]
    leaving = [leave(url, number) for number in range(CROWD // 10)]
    reading = [ask(url, number, 32) for number in range(CROWD - len(silent) - len(leaving))]
    results = await asyncio.gather(*leaving, *reading, return_exceptions=True)
    for writer in silent:
        writer.close()
    ended = time.perf_counter()
    while kv_cache_usage(url) > 0:
        await asyncio.sleep(0.02)
    return sum(isinstance(each, BaseException) for each in results), time.perf_counter() - ended


def kv_cache_usage(url: str) -> float:
    """The share of blocks that replies hold."""
    text = httpx2.get(f"{url}/metrics").text
    found = re.search(r"^vllm:kv_cache_usage_perc\S* (\S+)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def resident_mib(process_id: int) -> float:
    """Memory of a process (Linux)."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def crowd_lines(process_id: int, url: str) -> list[str]:
    """The crowd, several times over: memory is to stay where the first left it."""
    rows = []
    for number in range(1, NUM_RUNS + 1):
        num_errors, seconds = asyncio.run(crowd(url))
        memory = resident_mib(process_id)
        rows.append(f"| {number} | {num_errors} | {seconds:.2f} s | {memory:,.0f} MiB |")
    return [
        "",
        f"{CROWD} streams at once; {CROWD // 10} leave in mid-stream, {CROWD // 20} never read:",
        "",
        "| round | errors of the others | KV blocks free again after | memory |",
        "| ---: | ---: | ---: | ---: |",
        *rows,
    ]


def start_server(model: str) -> tuple[subprocess.Popen[str], str, float]:
    """The process, its address, and the seconds from its start to its first token."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "r1", "serve", model, "--port", "0", "--no-page"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    url = process.stderr.readline().split(" at ")[1].strip().removesuffix("/v1")
    asyncio.run(ask_all(url, 1, 1))
    return process, url, time.perf_counter() - started


def measure(arguments: Any) -> list[str]:
    """The table's lines."""
    model, tokenizer = open_model(arguments.model)
    engine = Engine(model, tokenizer, EngineConfig(max_num_seqs=64, kv_cache_bytes=10**9))
    process, url, seconds = start_server(arguments.model)
    num_clients, num_tokens = arguments.clients, arguments.tokens
    alone, served = [], []
    try:
        for _ in range(NUM_RUNS):
            alone.append(engine_tokens_per_second(engine, num_clients, num_tokens))
            served.append(asyncio.run(ask_all(url, num_clients, num_tokens))[0])
        lines = [
            f"First token {seconds:.1f} s after the start of `r1 serve {arguments.model}`.",
            "",
            f"| {num_clients} clients, {num_tokens} tokens each | tokens/s |",
            "| --- | ---: |",
            f"| engine alone | {statistics.median(alone):,.0f} |",
            f"| over HTTP, streamed | {statistics.median(served):,.0f} |",
            f"| overhead | {1 - statistics.median(served) / statistics.median(alone):.0%} |",
            "",
            "| clients | first token, median | p99 |",
            "| ---: | ---: | ---: |",
        ]
        for count in (1, 8, 64):
            firsts = [
                first for _ in range(NUM_RUNS) for first in asyncio.run(ask_all(url, count, 16))[1]
            ]
            ranked = sorted(firsts)
            p99 = ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))]
            median = statistics.median(ranked)
            lines.append(f"| {count} | {median * 1000:.0f} ms | {p99 * 1000:.0f} ms |")
        lines += crowd_lines(process.pid, url)
    finally:
        process.terminate()
        process.wait()
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    machine = machine_lines(torch.get_num_threads())
    lines = measure(arguments)
    print("\n".join([*lines, "", *machine]))
    if arguments.write:
        page = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
        command = " ".join(["python", "benchmarks/serving.py", *sys.argv[1:]])
        write_section(page, "Serving", command, [*lines, "", *machine])


if __name__ == "__main__":
    main()
