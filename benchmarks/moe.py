"""Grouped experts against a loop over experts: the same numbers, and how much faster.

    python benchmarks/moe.py [--shapes 64x32 512x128] [--tokens 512] [--threads 2] [--write]

The loop is the one of the released inference code (deepseek-ai/DeepSeek-V3,
inference/model.py, MoE.forward): expert after expert, each a module of its own, on the
tokens that chose it. Measured are a forward pass, and a training step's forward and
backward pass: medians of runs of both in turn, so that other load on the machine meets
both. A shape is hidden size x inner size. The wider the experts, the more of the time is
arithmetic and the reading of weights, which are the same for both: the limit is what torch
takes for one product with as many multiplications, or for reading the weights once,
whichever is more, and three times that in training. `--write` puts the table into
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from results_page import machine_lines, write_section
from torch import Tensor
from torch.nn import functional as F

from r1.allocator import keep_freed_memory
from r1.models.model_config import ModelConfig
from r1.models.moe import Experts

TOLERANCE = 1e-5


class LoopedExperts:
    """The weights of `experts`, each expert's by themselves."""

    def __init__(self, experts: Experts) -> None:
        stacks = zip(experts.gate_up_proj, experts.down_proj, strict=True)
        self.experts = [
            (*gate_up.detach().clone().chunk(2), down.detach().clone()) for gate_up, down in stacks
        ]
        self.parameters = [weight.requires_grad_() for expert in self.experts for weight in expert]

    def __call__(self, hidden_ND: Tensor, experts_NA: Tensor, weights_NA: Tensor) -> Tensor:
        output_ND = torch.zeros_like(hidden_ND)
        counts = torch.bincount(experts_NA.flatten(), minlength=len(self.experts)).tolist()
        for index, (gate, up, down) in enumerate(self.experts):
            if counts[index] == 0:
                continue
            tokens, places = torch.where(experts_NA == index)
            inner = F.silu(F.linear(hidden_ND[tokens], gate)) * F.linear(hidden_ND[tokens], up)
            output_ND[tokens] += F.linear(inner, down) * weights_NA[tokens, places, None]
        return output_ND


def make_experts(hidden: int, inner: int, num_experts: int) -> Experts:
    """Random weights of the usual scale."""
    experts = Experts(
        ModelConfig(
            architecture="DeepseekV3ForCausalLM",
            vocab_size=1,
            hidden_size=hidden,
            intermediate_size=1,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=1,
            n_routed_experts=num_experts,
            moe_intermediate_size=inner,
        )
    )
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.normal_(0, parameter.shape[-1] ** -0.5)
    return experts


def median_seconds(num_runs: int, *candidates: Callable[[], object]) -> list[float]:
    """Wall-clock medians of runs in turn; the first round warms up."""
    times: list[list[float]] = [[] for _ in candidates]
    for _ in range(num_runs + 1):
        for seconds, compute in zip(times, candidates, strict=True):
            started = time.perf_counter()
            compute()
            seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds[1:]) for seconds in times]


def measure(hidden: int, inner: int, args: argparse.Namespace) -> tuple[float, list[str]]:
    """The largest difference between the two, and a row of the table."""
    grouped = make_experts(hidden, inner, args.experts)
    looped = LoopedExperts(grouped)
    inputs = (
        torch.randn(args.tokens, hidden),
        torch.rand(args.tokens, args.experts).topk(args.chosen).indices,
        torch.rand(args.tokens, args.chosen).softmax(-1),
    )
    difference = (grouped(*inputs) - looped(*inputs)).abs().max().item()

    def forward(compute: Callable[..., Tensor]) -> None:
        with torch.no_grad():
            compute(*inputs)

    def train(compute: Callable[..., Tensor], parameters: list[Tensor]) -> None:
        torch.autograd.grad(compute(*inputs).sum(), parameters)

    own: list[Tensor] = list(grouped.parameters())
    left = torch.randn(args.tokens * args.chosen, hidden)
    right, weights = torch.randn(hidden, 3 * inner), torch.cat([w.detach().flatten() for w in own])
    row = [f"{hidden} x {inner}"]
    for of_loop, of_groups, num_passes in (
        (lambda: forward(looped), lambda: forward(grouped), 1),
        (lambda: train(looped, looped.parameters), lambda: train(grouped, own), 3),
    ):
        candidates = of_loop, of_groups, lambda: left @ right, weights.sum
        slow, fast, *limits = median_seconds(args.runs, *candidates)
        limit = num_passes * max(limits)
        row += [f"{seconds * 1e3:.2f} ms" for seconds in (slow, fast)]
        row += [f"{slow / fast:.1f}x", f"{limit * 1e3:.2f} ms"]
    return difference, [*row, f"{difference:.0e}"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Grouped experts against a loop over experts.")
    shapes = ["32x16", "64x32", "128x64", "512x128"]
    parser.add_argument("--shapes", nargs="+", default=shapes, metavar="HIDDENxINNER")
    parser.add_argument("--experts", type=int, default=256)
    parser.add_argument("--chosen", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument(
        "--write", action="store_true", help="put the table into docs/benchmarks.md"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    keep_freed_memory()  # as training does
    lines = [
        f"{args.experts} experts, {args.chosen} a token, {args.tokens} tokens, fp32 on the CPU, "
        f"medians of {args.runs} runs in turn.",
        "",
        "| hidden x inner | loop, forward | grouped | | limit | loop, training | grouped | | limit "
        "| difference |",
        f"|---{'|---:' * 9}|",
    ]
    largest = 0.0
    machine = machine_lines(args.threads)
    for shape in args.shapes:
        hidden, inner = map(int, shape.split("x"))
        difference, row = measure(hidden, inner, args)
        largest = max(largest, difference)
        lines.append(f"| {' | '.join(row)} |")
    print("\n".join([*lines, "", *machine]))
    if args.write:
        page = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
        command = " ".join(["python", "benchmarks/moe.py", *sys.argv[1:]])
        write_section(page, "Experts: grouped against a loop", command, [*lines, "", *machine])
    return 0 if largest <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
