"""Ours against the peers, interleaved: rollouts, updates, whole steps; and floors to beat.

    make bench                                        # everything, under 20 minutes on 2 cores
    python benchmarks/bench.py --quick [SUITE ...]    # minutes: small cases, two rounds

Every contestant is a process of its own with the same model, in its own environment (`make
bench-peers`; a missing one is named). They take turns, round by round, and are frozen while
another works. The same work for all: the same random prompts, the same number of output
tokens (end-of-text ignored), temperature 1 over the whole vocabulary. A case's first round
warms up; what it took longer is reported as compiling. `--write` puts each suite's tables
into docs/benchmarks.md with machine and versions, and raises beaten floors in floors.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from contestants import Arena
from measurement import Floors, Rounds, short, table
from peers import PLACE, ROOT, write_models
from results_page import machine_lines, write_section
from rollouts import (
    GPU_CASES,
    SMOLLM2_CASES,
    TINY_CASES,
    by_batch,
    groups,
    load,
    long_replies,
    mixed,
)
from session import Bench, Machine, Target
from updates import MEMORY_SETTINGS, STEP_SETTINGS, growing, policy, supervised, whole_step

from r1.models.presets import PRESETS

Suite = tuple[str, Callable[[Bench], list[str]]]


def cpu_suites(models: Path, is_quick: bool) -> dict[str, Suite]:
    """Name -> heading and measurement, for a machine without a GPU."""
    peers = {
        "ours exact": 32,
        "ours int4": 32,
        "transformers": 64,
        "vLLM": 256,
        "llama.cpp": 64,
        "llama.cpp Q4_1": 8,
    }
    smollm2 = Target("SmolLM2 bf16", models / "smollm2", "bfloat16", peers)
    tiny = Target("tiny fp32", models / "tiny", "float32", {"transformers": 256})
    cases, tiny_cases = (SMOLLM2_CASES, TINY_CASES)
    lengths = (256, 2048, 8192)
    if is_quick:
        cases, tiny_cases, lengths = cases[0:4:3], tiny_cases[4:], (256,)
    return {
        "rollouts": (
            "Rollouts by batch: SmolLM2-135M, bf16", lambda b: by_batch(b, smollm2, cases)),
        "groups": ("Groups and mixed lengths", lambda b: [
            *groups(b, smollm2), *mixed(b, smollm2), *load(b, smollm2)]),
        "steps": ("Whole GRPO steps", lambda b: [
            *whole_step(b, tiny, 32), *whole_step(b, smollm2, 8, STEP_SETTINGS)]),
        "memory": ("Memory of a GRPO step: SmolLM2-135M, bf16", lambda b: whole_step(
            b, smollm2, 8, MEMORY_SETTINGS, is_compared=False)),
        "updates": ("Updates by length: SmolLM2-135M, bf16", lambda b: [
            *supervised(b, smollm2, lengths), *policy(b, smollm2, lengths[:2])]),
        "tiny": ("Rollouts by batch: the tiny model, fp32", lambda b: [
            *by_batch(b, tiny, tiny_cases), *long_replies(b, tiny, 64, 960)]),
        "growth": ("Cost as work grows: the tiny model, fp32", lambda b: growing(b, tiny)),
        "long": ("Long replies: SmolLM2-135M, bf16", lambda b: long_replies(b, smollm2, 16, 4096)),
    }  # fmt: skip


def gpu_suites(models: Path, is_quick: bool) -> dict[str, Suite]:
    """The same on a GPU: released shapes with random weights (speed does not know them)."""
    targets = [
        Target(f"{size} shape, random, bf16", models / "tiny", "bfloat16",
               {"ours exact": 64, "transformers": 256},
               PRESETS[f"DeepSeek-R1-Distill-Qwen-{size}"].config)
        for size in ("1.5B", "7B")
    ]  # fmt: skip
    small, large = targets
    cases = GPU_CASES[:1] if is_quick else GPU_CASES
    lengths = (1024, 8192)

    def rollouts(target: Target) -> Callable[[Bench], list[str]]:
        return lambda b: by_batch(b, target, cases)

    return {
        "rollouts": ("Rollouts by batch: 1.5B shape", rollouts(small)),
        "rollouts-7b": ("Rollouts by batch: 7B shape", rollouts(large)),
        "groups": ("Groups and mixed lengths: 1.5B shape", lambda b: [
            *groups(b, small), *mixed(b, small), *load(b, small)]),
        "steps": ("A GRPO step: 1.5B shape", lambda b: whole_step(b, small, 8)),
        "updates": ("Updates by length: 1.5B shape", lambda b: [
            *supervised(b, small, lengths), *policy(b, small, lengths)]),
    }  # fmt: skip


def limit_lines(machine: Machine) -> list[str]:
    """What shares are shares of."""
    rates = ", ".join(f"{dtype} {short(rate / 1e9)}" for dtype, rate in machine.flops.items())
    return [f"Limits measured: reading {machine.bandwidth / 1e9:.1f} GB/s; matmul {rates} GFLOP/s."]


def run_suites(
    suites: Mapping[str, Suite], bench: Bench, environment: list[str], page: Path | None
) -> None:
    """Measure, print and (with a page) write, suite by suite."""
    for name, (heading, measure) in suites.items():
        bench.floors.reached.clear()
        lines = measure(bench)
        heads = ["floor: ours over the best other", "floor", "median", "sure", ""]
        lines += [*table(heads, bench.floors.rows()), "", *bench.arena.notes, *environment]
        lines.append(f"Versions: {'; '.join(sorted(set(bench.arena.versions.values())))}.")
        print(f"\n## {heading}\n", *lines, sep="\n", flush=True)
        if page is not None:
            bench.floors.raise_and_save()
            write_section(page, heading, f"python benchmarks/bench.py --write {name}", lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("suites", nargs="*", help="left out: all but `long`")
    parser.add_argument("--quick", action="store_true", help="small cases, two rounds")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=15.0, help="of a case, about")
    parser.add_argument("--minutes", type=float, default=15.0, help="then one round a case")
    args = parser.parse_args()
    make = cpu_suites if args.device == "cpu" else gpu_suites
    suites = make(PLACE / "models", args.quick)
    unknown = [name for name in args.suites if name not in suites]
    if unknown:
        parser.error(f"no suite {unknown[0]!r}; there are {', '.join(suites)}")
    chosen = {n: s for n, s in suites.items() if (n in args.suites if args.suites else n != "long")}
    write_models(PLACE)
    environment = machine_lines(args.threads)
    arena = Arena(PLACE, args.threads, args.device)
    model = {"model": str(PLACE / "models" / "tiny"), "dtype": "float32"}
    worker = arena.enter("ours", **model)
    assert worker is not None, arena.notes
    found = worker.ask("limits", device=args.device)
    arena.leave()
    machine = Machine(found["bandwidth"], {name: found[name] for name in ("float32", "bfloat16")})
    rounds = Rounds(6, 2, 2) if args.quick else Rounds(args.seconds)
    floors = Floors.load(Path(__file__).with_name(f"floors_{args.device.partition(':')[0]}.json"))
    deadline = time.perf_counter() + 60 * args.minutes
    bench = Bench(arena, floors, rounds, args.quick, machine, deadline)
    try:
        page = ROOT / "docs" / "benchmarks.md" if args.write else None
        run_suites(chosen, bench, [*environment, *limit_lines(machine)], page)
    finally:
        arena.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
