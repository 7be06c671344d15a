"""What HTTP and streaming cost over the engine, and how many clients fare.

    python benchmarks/serving.py [--model tiny] [--clients 32] [--tokens 128] [--write]

The engine alone steps as many streamed requests as there are clients; then the same requests
come through `r1 serve` in a process of its own, streamed, at once. Tokens a second are those
of the whole, medians of runs of both in turn. Then time to first token at 1, 8 and 64
clients. `--write` puts the table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
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


async def ask(client: httpx2.AsyncClient, number: int, num_tokens: int) -> float:
    """One streamed reply; seconds to its first token."""
    body = {
        "messages": [{"role": "user", "content": QUESTION.format(number=number)}],
        "max_tokens": num_tokens,
        "ignore_eos": True,
        "seed": number,
        "stream": True,
    }
    started, first = time.perf_counter(), 0.0
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        async for _ in response.aiter_raw():
            first = first or time.perf_counter() - started
    return first


async def ask_all(url: str, num_clients: int, num_tokens: int) -> tuple[float, list[float]]:
    """All clients at once: tokens a second, and every client's time to first token."""
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        started = time.perf_counter()
        firsts = await asyncio.gather(
            *(ask(client, number, num_tokens) for number in range(num_clients))
        )
        return num_clients * num_tokens / (time.perf_counter() - started), firsts


def start_server(model: str) -> tuple[subprocess.Popen[str], str, float]:
    """The process, its address, and the seconds from its start to its first token."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "r1", "serve", model, "--port", "0"]
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
