"""Where the time of a prefill goes on a CPU: each kernel's share, and its rate.

    python benchmarks/prefill.py [--cases 1x128 32x128] [--threads 2] [--write]

A case is prompts x tokens. The engine computes it with all layers in one call, as always, and
kernel by kernel, whose calls are timed; medians of runs of both in turn. In one call the
residuals are added with the norms, and the last layer goes on only with the tokens that are
sampled after, which saves multiplications that its rate still counts. The limit is the
machine's square bf16 matmul, measured in between.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from measurement import short, table
from peers import PLACE
from results_page import machine_lines, write_section

from r1.engine.engine import Engine, EngineConfig
from r1.engine.open_model import open_model
from r1.engine.tiled_attention import BoundTiledCache
from r1.kernels import fused
from r1.records import GenerationRequest, SamplingParams

PHASES = {
    "rms_norm": "norms",
    "rotate": "rotary positions",
    "write_cache": "keys and values into the cache",
    "attend": "attention",
    "sample": "sampling",
}


class Timers:
    """Seconds and flops of the kernels' calls by phase."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.flops: defaultdict[str, float] = defaultdict(float)

    def timed(self, name: str, call: Callable[..., None]) -> Callable[..., None]:
        def timed(*arguments: Any) -> None:
            started = time.perf_counter()
            call(*arguments)
            seconds = time.perf_counter() - started
            phase = PHASES.get(name, name)
            if name == "linear":
                rows, num_inputs, num_outputs = arguments[2], arguments[3], sum(arguments[7:10])
                phase = f"product {num_inputs:,} to {num_outputs:,}"
                self.flops[phase] += 2 * rows * num_inputs * num_outputs
            self.seconds[phase] += seconds

        return timed


class Prefill:
    """The engine on SmolLM2, asked for one token after each prompt."""

    def __init__(self, folder: Path) -> None:
        self.timers = Timers()
        functions = fused.kernel_functions

        def timed_functions(dtype: torch.dtype, *names: str) -> list[Callable[..., None]] | None:
            found = functions(dtype, *names)
            if found is None:
                return None
            return [self.timers.timed(*pair) for pair in zip(names, found, strict=True)]

        fused.kernel_functions = timed_functions
        model, tokenizer = open_model(str(folder), dtype="bfloat16", device="cpu")
        self.engine = Engine(model, tokenizer, EngineConfig(touch_cache=True))
        self.random = np.random.default_rng(0)

    def run(self, batch: int, length: int, *, is_fused: bool) -> float:
        """Seconds; the timers then hold what they were spent on."""
        requests = [
            GenerationRequest(
                id=str(index),
                prompt_ids=tuple(self.random.integers(100, 40_000, length).tolist()),
                sampling=SamplingParams(max_tokens=1, ignore_eos=True),
            )
            for index in range(batch)
        ]
        self.timers.seconds.clear()
        self.timers.flops.clear()
        run_layers = BoundTiledCache.run_layers if is_fused else lambda *_: None
        with patch.object(BoundTiledCache, "run_layers", run_layers):
            started = time.perf_counter()
            self.engine.generate(requests)
            return time.perf_counter() - started


def matmul_flops(size: int = 2048, num_runs: int = 10) -> float:
    """Flops a second of torch's bf16 product, the best run."""
    left, right = (torch.randn(size, size).bfloat16() for _ in range(2))
    seconds = []
    for _ in range(num_runs):
        started = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


def measure(prefill: Prefill, batch: int, length: int, num_runs: int) -> list[str]:
    """One case's table."""
    whole, apart, limits = [], [], []
    phases: dict[str, list[float]] = {}
    flops = prefill.timers.flops
    prefill.run(batch, length, is_fused=True)
    for _ in range(num_runs):
        whole.append(prefill.run(batch, length, is_fused=True))
        apart.append(prefill.run(batch, length, is_fused=False))
        for phase, seconds in prefill.timers.seconds.items():
            phases.setdefault(phase, []).append(seconds)
        limits.append(matmul_flops())
    limit, total = statistics.median(limits), statistics.median(apart)
    medians = {phase: statistics.median(seconds) for phase, seconds in phases.items()}
    rows = []
    for phase, seconds in sorted(medians.items(), key=lambda item: -item[1]):
        row = [phase, f"{seconds * 1e3:.1f} ms", f"{seconds / total:.1%}", "", ""]
        if phase in flops:
            rate = flops[phase] / seconds
            row[3:] = f"{rate / 1e9:.0f}", f"{rate / limit:.0%}"
        rows.append(row)
    rest = total - sum(medians.values())
    rows.append(["residuals, Python", f"{rest * 1e3:.1f} ms", f"{rest / total:.1%}", "", ""])
    both = {"kernel by kernel": total, "in one call": statistics.median(whole)}
    for name, seconds in both.items():
        rate = sum(flops.values()) / seconds
        speed = f"{short(batch * length / seconds)} tokens/s"
        cells = f"{seconds * 1e3:.1f} ms", speed, f"{rate / 1e9:.0f}", f"{rate / limit:.0%}"
        rows.append([f"**all, {name}**", *cells])
    heads = [f"{batch} x {length} tokens", "time", "share", "GFLOP/s", "of the limit"]
    note = f"Limit measured in between: {limit / 1e9:.0f} GFLOP/s."
    return [*table(heads, rows), "", note, ""]


def main() -> int:
    parser = argparse.ArgumentParser(description="Where the time of a prefill goes.")
    parser.add_argument("--cases", nargs="+", default=["1x128", "8x128", "32x128", "64x128"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="put it into docs/benchmarks.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine, prefill = machine_lines(args.threads), Prefill(PLACE / "models" / "smollm2")
    lines: list[str] = []
    for case in args.cases:
        batch, length = map(int, case.split("x"))
        lines += measure(prefill, batch, length, args.runs)
    lines += machine
    print("\n".join(lines))
    if args.write:
        page = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
        command = " ".join(["python", "benchmarks/prefill.py", *sys.argv[1:]])
        write_section(page, "Prefill by phase: SmolLM2-135M, bf16", command, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
