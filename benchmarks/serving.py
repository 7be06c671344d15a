"""What HTTP and streaming cost over the engine, and how many clients fare.

    python benchmarks/serving.py [--models tiny smollm2] [--clients 32] [--write]

The engine alone generates for as many requests as there are clients; then the same requests
come through `r1 serve` in a process of its own, streamed, at once. Tokens a second are those
of the whole, from the first request to the last reply's end, medians of runs of both in turn;
the overhead is the median of the pairs' own.
The first model also answers longer replies, of which each request's own cost is a smaller part.
Then its time to first token at 1, 8 and 64 clients, and a crowd of which some leave in
mid-stream and some never read. `--write` puts the tables into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import gc
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx2
import torch
from results_page import machine_lines, write_section
from stream_clients import Client, read_all

from r1.engine.engine import Engine, EngineConfig
from r1.engine.open_model import open_model
from r1.records import GenerationRequest, Message, SamplingParams
from r1.text.chat_template import encode_chat

QUESTION = "What is {number} + 25?"
NUM_RUNS = 5
NUM_PAIRS = 11
NUM_TOKENS, MORE_TOKENS = 128, 768
CROWD = 200


@dataclass(frozen=True, slots=True)
class Server:
    """`r1 serve`, and the seconds from its start to its first token."""

    model: str
    url: str
    process_id: int
    start_seconds: float


@dataclass(frozen=True, slots=True)
class ServedRun:
    """All clients at once. CPU seconds: of the server's event loop, and of the clients."""

    seconds: float
    loop_seconds: float
    client_seconds: float
    num_reads: int
    first_seconds: list[float]


@contextmanager
def serving(model: str) -> Iterator[Server]:
    """A server of its own process, ended with the block."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "r1", "serve", model, "--port", "0", "--no-page"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split(" at ")[1].strip().removesuffix("/v1")
        assert not read_all([ask(url, 0, 1)])
        yield Server(model, url, process.pid, time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait()


def ask(url: str, number: int, num_tokens: int) -> Client:
    """A streamed request for a reply of so many tokens."""
    return Client(url, QUESTION.format(number=number), number, num_tokens)


def run_engine(engine: Engine, num_clients: int, num_tokens: int) -> float:
    """Seconds of the engine alone, which streams nothing."""
    sampling = SamplingParams(temperature=0.6, top_p=0.95, max_tokens=num_tokens, ignore_eos=True)
    started = time.perf_counter()
    requests = []
    for number in range(num_clients):
        prompt = encode_chat(engine.tokenizer, [Message("user", QUESTION.format(number=number))])
        requests.append(GenerationRequest(str(number), prompt.ids, sampling, seed=number))
    engine.generate(requests)
    return time.perf_counter() - started


def run_served(server: Server, num_clients: int, num_tokens: int) -> ServedRun:
    """The same through HTTP. Raises ConnectionError when a reply breaks off."""
    started, client, loop = time.perf_counter(), time.process_time(), loop_seconds(server)
    clients = [ask(server.url, number, num_tokens) for number in range(num_clients)]
    errors = read_all(clients)
    seconds, client = time.perf_counter() - started, time.process_time() - client
    if errors:
        raise errors[0]
    assert {each.num_tokens for each in clients} == {num_tokens}
    return ServedRun(
        seconds,
        loop_seconds(server) - loop,
        client,
        sum(each.num_reads for each in clients),
        [each.first_seconds for each in clients if each.first_seconds is not None],
    )


def loop_seconds(server: Server) -> float:
    """CPU time of the server's first thread, which is the event loop's (Linux)."""
    path = Path(f"/proc/{server.process_id}/task/{server.process_id}/schedstat")
    return int(path.read_text().split()[0]) / 1e9


# ---------------------------------------------------------------- the parts


def overhead_row(server: Server, engine: Engine, num_clients: int, num_tokens: int) -> str:
    """Engine and server in turn, after one run of both that nobody counts."""
    num_all = num_clients * num_tokens
    alone, served = [], []
    for _ in range(NUM_PAIRS + 1):
        alone.append(run_engine(engine, num_clients, num_tokens))
        served.append(run_served(server, num_clients, num_tokens))
    engine_seconds = median(alone[1:])
    seconds = median(run.seconds for run in served[1:])
    pairs = zip(alone[1:], served[1:], strict=True)
    overhead = median(1 - before / run.seconds for before, run in pairs)
    loop = median(run.loop_seconds / run.seconds for run in served[1:])
    client = median(run.client_seconds / run.seconds for run in served[1:])
    sends = median(run.num_reads / run.seconds for run in served[1:])
    return (
        f"| {server.model}, {num_tokens} | {num_all / engine_seconds:,.0f} "
        f"| {num_all / seconds:,.0f} | {overhead:.0%} "
        f"| {loop:.0%} | {client:.0%} | {sends:,.0f} |"
    )


def overhead_rows(server: Server, num_clients: int, lengths: list[int]) -> list[str]:
    """A row for each length of the replies."""
    model, tokenizer = open_model(server.model, is_trained=False)
    engine = Engine(model, tokenizer, EngineConfig(max_num_seqs=64, kv_cache_bytes=10**9))
    gc.collect()
    gc.freeze()  # as the server does
    return [overhead_row(server, engine, num_clients, length) for length in lengths]


def first_token_lines(server: Server) -> list[str]:
    """Time to first token by the number of clients."""
    rows = []
    for count in (1, 8, 64):
        runs = [run_served(server, count, 16) for _ in range(NUM_RUNS)]
        ranked = sorted(seconds for run in runs for seconds in run.first_seconds)
        p99 = ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))]
        rows.append(f"| {count} | {median(ranked) * 1000:.0f} ms | {p99 * 1000:.0f} ms |")
    return ["", "| clients | first token, median | p99 |", "| ---: | ---: | ---: |", *rows]


def crowd(server: Server) -> tuple[int, float]:
    """CROWD streams at once: 10% leave, 5% never read. Errors, seconds till no block is held."""
    silent = [ask(server.url, number, 400) for number in range(CROWD // 20)]
    leaving = {ask(server.url, number, 400) for number in range(CROWD // 10)}
    reading = [ask(server.url, n, 32) for n in range(CROWD - len(silent) - len(leaving))]
    errors = read_all(
        [*leaving, *reading], lambda client: client in leaving and client.first_seconds is not None
    )
    for client in silent:
        client.socket.close()
    ended = time.perf_counter()
    while kv_cache_usage(server.url) > 0:
        time.sleep(0.02)
    return len(errors), time.perf_counter() - ended


def crowd_lines(server: Server) -> list[str]:
    """The crowd, several times over: memory is to stay where the first left it."""
    rows = []
    for number in range(1, NUM_RUNS + 1):
        num_errors, seconds = crowd(server)
        memory = resident_mib(server.process_id)
        rows.append(f"| {number} | {num_errors} | {seconds:.2f} s | {memory:,.0f} MiB |")
    return [
        "",
        f"{CROWD} streams at once; {CROWD // 10} leave in mid-stream, {CROWD // 20} never read:",
        "",
        "| round | errors of the others | KV blocks free again after | memory |",
        "| ---: | ---: | ---: | ---: |",
        *rows,
    ]


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


def measure(models: list[str], num_clients: int) -> list[str]:
    """The tables' lines."""
    rows, more = [], []
    for number, model in enumerate(models):
        with serving(model) as server:
            is_first = number == 0
            lengths = [NUM_TOKENS, MORE_TOKENS] if is_first else [NUM_TOKENS]
            rows += overhead_rows(server, num_clients, lengths)
            if is_first:
                seconds = f"{server.start_seconds:.1f} s"
                more = [f"First token {seconds} after the start of `r1 serve {model}`."]
                more += [*first_token_lines(server), *crowd_lines(server)]
    return [
        f"{num_clients} streams at once. CPU: of one core, while the streams run; the clients",
        "share the machine's cores with the server.",
        "",
        "| model, tokens a reply | engine alone, tokens/s | over HTTP | overhead "
        "| CPU of the event loop | CPU of the clients | sends/s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        "",
        *more,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["tiny", "smollm2"])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    machine = machine_lines(torch.get_num_threads())
    lines = measure(arguments.models, arguments.clients)
    print("\n".join([*lines, "", *machine]))
    if arguments.write:
        page = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
        command = " ".join(["python", "benchmarks/serving.py", *sys.argv[1:]])
        write_section(page, "Serving", command, [*lines, "", *machine])


if __name__ == "__main__":
    main()
