"""Training: update steps by length, whole GRPO steps against TRL's, and cost as work grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from contestants import Worker
from measurement import Measured, Series, growth, in_turn, short, table
from rollouts import Prompts
from session import Bench, Target

from r1.text.prompts import R1_ZERO_PROMPT

STEP_TOKENS = 2048
SMALL_CACHE = 2**24  # where memory is measured and nothing generated
# What else a whole step of SmolLM2 is run with, on a CPU: less than half of TRL's memory.
STEP_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "ours, half memory": {"max_memory_bytes": 2_800_000_000},
}
# What takes less memory, and what a bound makes of it.
MEMORY_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "ours, moments_dtype bfloat16": {"moments_dtype": "bfloat16"},
    "ours, activation_checkpointing": {"activation_checkpointing": True},
    "ours, max_memory_bytes 2.8 GB": {"max_memory_bytes": 2_800_000_000},
    "ours, max_memory_bytes 2.3 GB": {"max_memory_bytes": 2_300_000_000},
}


def supervised(bench: Bench, target: Target, lengths: Sequence[int]) -> list[str]:
    """Steps of next-token prediction: tokens a second, flops used, memory."""
    bench.arena.leave()
    workers = bench.workers(target, ("ours", "transformers"), SMALL_CACHE)
    prompts = Prompts(target.config.vocab_size)

    def run(worker: Worker, length: int) -> Measured:
        samples = prompts.of_lengths([length] * max(1, STEP_TOKENS // length))
        return _train(worker, "train", len(samples) * length, samples=samples)

    return _by_length(bench, target, lengths, workers, run, "SFT")


def policy(bench: Bench, target: Target, lengths: Sequence[int]) -> list[str]:
    """GRPO updates on groups (8 samples, or 2 of long ones) that share half of each sample."""
    workers = bench.workers(target, ("ours",), SMALL_CACHE)
    prompts = Prompts(target.config.vocab_size)

    def run(worker: Worker, length: int) -> Measured:
        size = max(2, min(8, STEP_TOKENS // length))
        groups = [
            [prompt + reply for reply in prompts.of_lengths([length // 2] * size)]
            for prompt in prompts.of_lengths([length // 2])
        ]
        num_tokens = size * length
        return _train(worker, "update", num_tokens, groups=groups, num_prompt=length // 2)

    return _by_length(bench, target, lengths, workers, run, "GRPO")


def _train(worker: Worker, operation: str, num_tokens: int, **data: Any) -> Measured:
    reply = worker.ask(operation, micro_batch_tokens=STEP_TOKENS, **data)
    return {"rate": num_tokens / reply["seconds"], "peak": reply["peak_bytes"]}


def _by_length(
    bench: Bench, target: Target, lengths: Sequence[int], workers: Mapping[str, Worker],
    run: Callable[[Worker, int], Measured], what: str,
) -> list[str]:  # fmt: skip
    rows: list[list[str]] = []
    costs: list[float] = []
    peak_flops = bench.machine.flops[target.dtype]
    for length in lengths:
        # The plain loop keeps a logit for every token: beyond this it shows nothing more.
        there = {name: w for name, w in workers.items() if name == "ours" or length <= STEP_TOKENS}
        result = in_turn(
            {name: lambda w=w, length=length: run(w, length) for name, w in there.items()},
            replace(bench.rounds, warm_up=length <= STEP_TOKENS), bench.arena.notes,
        )  # fmt: skip
        flops = bench.machine.training_flops(target.config, length)
        for name, measures in result.items():
            rate, peak = measures["rate"], measures["peak"].median
            used = flops * rate.median / peak_flops
            rows.append([f"{length:,}", name, str(rate), f"{used:.0%}", f"{peak / 1e9:.2f} GB"])
        ours = result.get("ours")
        if ours is None:
            continue
        costs.append(1 / ours["rate"].median)
        label = f"{what} update, {target.label}, {length:,} tokens a sample"
        whole = Series((peak_flops / flops,))
        bench.floors.judge(f"{label}: flops used", ours["rate"], {"machine": whole})
        if length in (256, STEP_TOKENS) and "transformers" in workers:
            loop = result.get("transformers", {}).get("rate")
            bench.floors.judge(
                f"{label}, against a plain loop", ours["rate"], {"transformers": loop}
            )
    heads = [f"{what}, tokens a sample", "", "tokens/s", "flops used", "peak memory"]
    lines = [*table(heads, rows), ""]
    if len(costs) > 1:
        lines += [f"Cost a token grows as length^{growth(lengths[: len(costs)], costs):.2f}.", ""]
    return lines


def whole_step(
    bench: Bench,
    target: Target,
    micro_batch: int,
    others: Mapping[str, Mapping[str, Any]] = {},
    *,
    is_compared: bool = True,
) -> list[str]:
    """4 questions x 8 samples x 128 tokens: generation, rewards, update; no KL.

    `others`: ours with further settings. Beside TRL's step, unless `is_compared` is False.
    """
    settings = {
        "model": str(target.folder), "dtype": target.dtype, "group_size": 8, "num_tokens": 128,
    }  # fmt: skip
    own = {"micro_batch_tokens": STEP_TOKENS} | (
        {"shape": dict(target.shape)} if target.shape else {}
    )
    questions = [
        f"A shop sells {n} boxes of {n + 3} pens and {n * 2} single ones. How many pens is that?"
        for n in range(11, 15)
    ]
    bench.arena.leave()
    ours = [
        bench.arena.enter(name, operation="open_run", prompts=questions, **own, **settings, **more)
        for name, more in {"ours": {}, **others}.items()
    ]
    trl = None
    if is_compared and target.shape is None:
        asked = [R1_ZERO_PROMPT.format(question=question) for question in questions]
        trl = bench.arena.enter("TRL", prompts=asked, micro_batch=micro_batch, **settings)
    phases: dict[str, float] = {}

    def step(worker: Worker) -> Measured:
        reply = worker.ask("step", timeout_seconds=900)
        if worker.name == "ours":
            phases.update(reply["phases"])
        return {"seconds": reply["seconds"], "peak": reply["peak_bytes"]}

    result = in_turn(
        {w.name: lambda w=w: step(w) for w in (*ours, trl) if w is not None},
        bench.rounds, bench.arena.notes,
    )  # fmt: skip
    for measure, label in (("seconds", "time"), ("peak", "memory")):
        series = {name: measures.get(measure) for name, measures in result.items()}
        name = f"GRPO step, {target.label}: {label}"
        theirs = {"TRL": series.get("TRL")} if is_compared else {}
        bench.floors.judge(name, series.get("ours"), theirs, is_less_better=True)
        if "ours, half memory" in others:
            halved = series.get("ours, half memory")
            bench.floors.judge(f"{name}, half memory", halved, theirs, is_less_better=True)
    rows = [
        [
            name,
            str(m["seconds"]),
            f"{m['peak'].median / 1e9:.2f} GB",
            short(m.get("warm_seconds", m["seconds"]).median),
        ]
        for name, m in result.items()
    ]
    heads = [f"GRPO step, {target.label}", "seconds", "peak memory", "first step"]
    parts = ", ".join(f"{name} {short(seconds)}" for name, seconds in phases.items())
    return [*table(heads, rows), "", f"Our last step by phase, seconds: {parts}.", ""]


def growing(bench: Bench, target: Target) -> list[str]:
    """Time and memory of ours against batch, length, group size, questions and stored samples."""
    worker = bench.workers(target, ("ours",)).get("ours")
    if worker is None:
        return []
    prompts = Prompts(target.config.vocab_size)

    def sample(batch: int, length: int, num_samples: int = 1) -> Measured:
        return worker.ask(
            "generate", prompts=prompts.of_lengths([32] * batch), num_tokens=[length] * batch,
            num_samples=num_samples,
        )  # fmt: skip

    def update(num_groups: int, size: int) -> Measured:
        groups = [
            [prompt + reply for reply in prompts.of_lengths([64] * size)]
            for prompt in prompts.of_lengths([64] * num_groups)
        ]
        return worker.ask("update", groups=groups, num_prompt=64, micro_batch_tokens=STEP_TOKENS)

    work: dict[str, tuple[Sequence[int], Callable[[int], Measured]]] = {
        "sequences of 64 tokens": ((16, 64, 256, 512), lambda n: sample(n, 64)),
        "tokens a reply, 64 replies": ((64, 256, 900), lambda n: sample(64, n)),
        "samples of a group, 64 tokens": ((8, 32, 128, 512), lambda n: sample(1, 64, n)),
        "update, samples a group": ((4, 16, 64), lambda n: update(2, n)),
        "update, questions of 8 samples": ((2, 8, 32), lambda n: update(n, 8)),
        "samples in a run folder: take it up": (
            (1_000, 10_000, 100_000), lambda n: worker.ask("run_folder", num_rows=n)),
    }  # fmt: skip
    rows = []
    for what, (sizes, run) in work.items():
        run(sizes[0])
        replies = [min((run(size) for _ in range(2)), key=_cost) for size in sizes]
        seconds = [_cost(reply) for reply in replies]
        rows.append([
            f"{what}: {', '.join(f'{size:,}' for size in sizes)}",
            ", ".join(short(each) for each in seconds),
            f"{growth(sizes, seconds):.2f}",
            ", ".join(f"{reply['peak_bytes'] / 1e9:.2f}" for reply in replies),
        ])  # fmt: skip
    heads = [f"{target.label}, ours", "seconds", "exponent", "peak memory, GB"]
    return [*table(heads, rows), ""]


def _cost(reply: Measured) -> float:
    return reply.get("resume_seconds", reply["seconds"])
