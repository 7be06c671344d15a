"""Generation: decoding and prefill by batch, groups, mixed lengths, a load, long replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from contestants import Worker
from measurement import Measured, Series, in_turn, short, table
from session import Bench, Target

BEST = ("transformers", "vLLM")


@dataclass(frozen=True, slots=True)
class Case:
    """`batch` prompts, and how many tokens each reply has beyond its first."""

    batch: int
    num_prompt: int
    num_tokens: int


SMOLLM2_CASES = (
    Case(1, 128, 64), Case(8, 128, 48), Case(32, 128, 32), Case(64, 128, 24), Case(256, 32, 16),
)  # fmt: skip
TINY_CASES = (
    Case(1, 32, 128),
    Case(8, 32, 64),
    Case(32, 32, 64),
    Case(64, 32, 64),
    Case(256, 32, 64),
)
GPU_CASES = (Case(1, 128, 256), Case(8, 128, 256), Case(64, 128, 256), Case(256, 128, 256))


class Prompts:
    """Random prompts, never the same twice, so that no cache of an earlier round serves."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.random = np.random.default_rng(0)

    def of_lengths(self, lengths: Sequence[int]) -> list[list[int]]:
        # The lowest ids are special tokens in some vocabularies.
        return [self.random.integers(100, self.vocab_size - 100, n).tolist() for n in lengths]


def by_batch(bench: Bench, target: Target, cases: Sequence[Case]) -> list[str]:
    """Two tables: tokens a second of decoding, and of prefill."""
    prompts = Prompts(target.config.vocab_size)
    workers = bench.workers(target, ("ours", *target.peers))
    results = {
        case: in_turn(
            {
                name: lambda worker=worker, case=case: generate(worker, prompts, case)
                for name, worker in workers.items()
                # Left out where a round of it would take the time of all others.
                if case.batch <= target.peers.get(name, case.batch)
            },
            bench.rounds, bench.arena.notes,
        )
        for case in cases
    }  # fmt: skip
    sections = []
    for measure, heading in (("decode", "Decoding"), ("prefill", "Prefill")):
        heads = ["batch", *workers, "ours / best", "limit", "share"]
        rows = [
            _row(bench, target, case, measure, result, [*workers])
            for case, result in results.items()
        ]
        sections += [f"{heading}, tokens a second:", "", *table(heads, rows), ""]
    return [*sections, *start_lines(bench, target, results), ""]


def generate(worker: Worker, prompts: Prompts, case: Case) -> Measured:
    """One round of one contestant."""
    reply = worker.ask(
        "generate", prompts=prompts.of_lengths([case.num_prompt] * case.batch),
        num_tokens=[case.num_tokens + 1] * case.batch,
    )  # fmt: skip
    num_after = case.batch * (case.num_tokens + 1) - reply["num_first"]
    return {
        "decode": num_after / (reply["seconds"] - reply["first_seconds"]),
        "prefill": case.batch * case.num_prompt / reply["first_seconds"],
        "seconds": reply["seconds"],
        "peak": reply["peak_bytes"],
    }


def _row(
    bench: Bench, target: Target, case: Case, measure: str,
    result: Mapping[str, Mapping[str, Series]], names: Sequence[str],
) -> list[str]:  # fmt: skip
    series = {name: of_name.get(measure) for name, of_name in result.items()}
    ours = series.get("ours")
    label = f"{measure}, {target.label}, batch {case.batch}"
    rivals = [name for name in BEST if case.batch <= target.peers.get(name, 0)]
    ratio = bench.floors.judge(label, ours, {name: series.get(name) for name in rivals})
    llama = series.get("llama.cpp")
    if measure == "decode" and llama is not None and case.batch >= 8:
        bench.floors.judge(f"{label}, against llama.cpp", ours, {"llama.cpp": llama})
    exact = series.get("ours exact")
    if exact is not None:
        bench.floors.judge(f"{label}, exact mode against ours without", exact, {"ours": ours})
    int4 = series.get("ours int4")
    if measure == "decode" and int4 is not None:
        bench.floors.judge(f"{label}, int4 against ours without", int4, {"ours": ours})
        if (packed := series.get("llama.cpp Q4_1")) is not None:
            bench.floors.judge(f"{label}, int4 against llama.cpp Q4_1", int4, {"Q4_1": packed})
    bound = bench.machine.decode if measure == "decode" else bench.machine.prefill
    limit = bound(target, case.batch, case.num_prompt + case.num_tokens // 2)
    share = "-" if ours is None else f"{ours.median / limit:.0%}"
    cells = ["-" if series.get(name) is None else str(series[name]) for name in names]
    shown = "-" if ratio is None else f"{ratio.median:.2f}"
    return [f"{case.batch}", *cells, shown, short(limit), share]


def start_lines(
    bench: Bench, target: Target, results: Mapping[Case, Mapping[str, Mapping[str, Series]]]
) -> list[str]:
    """Seconds to open a model, and by how much first rounds of a case were longer than later."""
    parts = []
    for name in {name: None for result in results.values() for name in result}:
        opened = bench.arena.open_seconds.get(f"{name}, {target.folder.name}", 0.0)
        extra = sum(
            max(0.0, of_name["warm_seconds"].median - of_name["round_seconds"].median)
            for result in results.values()
            if "warm_seconds" in (of_name := result.get(name, {})) and "round_seconds" in of_name
        )
        parts.append(f"{name} {opened:.0f} + {extra:.0f}")
    return [f"Start-up + slower first rounds (compiling), seconds: {'; '.join(parts)}."]


def groups(bench: Bench, target: Target) -> list[str]:
    """16 samples of one prompt of 512 tokens, against vLLM with and without sharing it."""
    size, num_prompt, num_tokens = 16, 512, 64
    prompts = Prompts(target.config.vocab_size)

    def shared(worker: Worker) -> Measured:
        reply = worker.ask(
            "generate", prompts=prompts.of_lengths([num_prompt]), num_tokens=[num_tokens],
            num_samples=size,
        )  # fmt: skip
        return {"rate": size * num_tokens / reply["seconds"], "peak": reply["peak_bytes"]}

    def apart(worker: Worker) -> Measured:
        reply = worker.ask(
            "generate", prompts=prompts.of_lengths([num_prompt] * size),
            num_tokens=[num_tokens] * size,
        )  # fmt: skip
        return {"rate": size * num_tokens / reply["seconds"], "peak": reply["peak_bytes"]}

    workers = bench.workers(target, ("ours", "vLLM"))
    contestants: dict[str, Callable[[], Measured]] = {}
    for name, worker in workers.items():
        contestants[f"{name}, one prompt shared"] = lambda worker=worker: shared(worker)
        contestants[f"{name}, {size} prompts"] = lambda worker=worker: apart(worker)
    result = in_turn(contestants, bench.rounds, bench.arena.notes)
    rate = {name: measures["rate"] for name, measures in result.items()}
    ours = rate.get("ours, one prompt shared")
    for label, other in (
        ("group of 16, against 16 prompts in vLLM", f"vLLM, {size} prompts"),
        ("group of 16, against vLLM with prefix caching", "vLLM, one prompt shared"),
    ):
        bench.floors.judge(label, ours, {other: rate.get(other)})
    return _rates(f"{size} samples, {num_prompt} tokens in, {num_tokens} out each", result, ours)


def mixed(bench: Bench, target: Target) -> list[str]:
    """Lengths in and out at random: what padding and static batches cost."""
    random = np.random.default_rng(1)
    count = 8 if bench.is_quick else 16
    lengths = [random.integers(16, 513, count).tolist(), random.integers(8, 129, count).tolist()]
    names = ("ours", "transformers", "vLLM")
    text = f"{count} requests, 16 to 512 tokens in, 8 to 128 out"
    return _requests(bench, target, names, lengths, text, "mixed lengths")


def load(bench: Bench, target: Target) -> list[str]:
    """nano-vllm's load: 256 requests, 100 to 1,024 in and out; scaled down on a CPU."""
    count, low, high = (256, 100, 1024) if bench.arena.device != "cpu" else (32, 25, 256)
    random = np.random.default_rng(0)
    lengths = [random.integers(low, high + 1, count).tolist() for _ in range(2)]
    text = f"{count} requests, {low} to {high} tokens in and out, {sum(lengths[1]):,} out in all"
    return _requests(bench, target, ("ours", "vLLM"), lengths, text, "nano-vllm's load")


def _requests(
    bench: Bench, target: Target, names: Sequence[str], lengths: Sequence[Sequence[int]],
    text: str, label: str,
) -> list[str]:  # fmt: skip
    prompts = Prompts(target.config.vocab_size)
    ins, outs = lengths

    def run(worker: Worker) -> Measured:
        reply = worker.ask("generate", prompts=prompts.of_lengths(ins), num_tokens=outs)
        return {"rate": sum(outs) / reply["seconds"], "peak": reply["peak_bytes"]}

    workers = bench.workers(target, names)
    result = in_turn(
        {name: lambda worker=worker: run(worker) for name, worker in workers.items()},
        replace(bench.rounds, warm_up=False), bench.arena.notes,
    )  # fmt: skip
    rates = {name: measures["rate"] for name, measures in result.items()}
    rivals = {name: rates.get(name) for name in names[1:] if name in target.peers}
    bench.floors.judge(f"{label}, {target.label}", rates.get("ours"), rivals)
    return _rates(text, result, rates.get("ours"))


def _rates(text: str, result: Mapping[str, Mapping[str, Series]], ours: Series | None) -> list[str]:
    rows = [
        [
            name, str(measures["rate"]), f"{measures['peak'].median / 1e9:.1f} GB",
            "-" if ours is None else f"{ours.median / measures['rate'].median:.2f}",
        ]
        for name, measures in result.items()
    ]  # fmt: skip
    return [*table([text, "tokens/s", "peak memory", "ours / this"], rows), ""]


def long_replies(bench: Bench, target: Target, batch: int, num_tokens: int) -> list[str]:
    """Speed by the place in the reply would need marks; the whole shows it against short ones."""
    prompts = Prompts(target.config.vocab_size)
    worker = bench.workers(target, ("ours",)).get("ours")
    if worker is None:
        return []
    rows = []
    for length in (num_tokens // 16, num_tokens):
        reply = worker.ask(
            "generate", prompts=prompts.of_lengths([64] * batch), num_tokens=[length] * batch,
            timeout_seconds=3600,
        )  # fmt: skip
        limit = bench.machine.decode(target, batch, 64 + length // 2)
        rate = batch * length / reply["seconds"]
        peak = f"{reply['peak_bytes'] / 1e9:.2f} GB"
        rows.append(
            [f"{batch} x {length:,}", short(rate), short(limit), f"{rate / limit:.0%}", peak]
        )
    heads = [f"{target.label}, replies", "tokens/s", "limit", "share", "peak memory"]
    return [*table(heads, rows), ""]
