"""Grouped experts against a loop over experts: the same numbers, and how much faster.

    python benchmarks/moe.py [--hidden 32 --inner 16] [--tokens 512] [--threads 1]

The loop is the one of the released inference code (deepseek-ai/DeepSeek-V3,
inference/model.py, MoE.forward): expert after expert, each a module of its own, on the
tokens that chose it. Measured are a forward pass, and a training step's forward and
backward pass. Times are the CPU's, the best of several runs, so that other load on the
machine does not count. At the default width both do little arithmetic and the cost of the
256 experts' calls shows; the wider the experts, the more the arithmetic, which is the same.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

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


def best_seconds(compute: Callable[[], object], num_runs: int) -> float:
    """CPU seconds of the fastest run; the first one warms up."""
    times = []
    for _ in range(num_runs + 1):
        started = time.process_time()
        compute()
        times.append(time.process_time() - started)
    return min(times[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description="Grouped experts against a loop over experts.")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--inner", type=int, default=16)
    parser.add_argument("--experts", type=int, default=256)
    parser.add_argument("--chosen", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    grouped = Experts(
        ModelConfig(
            architecture="DeepseekV3ForCausalLM",
            vocab_size=1,
            hidden_size=args.hidden,
            intermediate_size=1,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=1,
            n_routed_experts=args.experts,
            moe_intermediate_size=args.inner,
        )
    )
    with torch.no_grad():
        for parameter in grouped.parameters():
            parameter.normal_(0, parameter.shape[-1] ** -0.5)
    looped = LoopedExperts(grouped)
    hidden_ND = torch.randn(args.tokens, args.hidden)
    experts_NA = torch.rand(args.tokens, args.experts).topk(args.chosen).indices
    weights_NA = torch.rand(args.tokens, args.chosen).softmax(-1)
    inputs = (hidden_ND, experts_NA, weights_NA)

    difference = (grouped(*inputs) - looped(*inputs)).abs().max().item()
    print(
        f"{args.experts} experts of {args.hidden} x {args.inner}, {args.chosen} a token, ", end=""
    )
    print(f"{args.tokens} tokens, {args.threads} thread(s)")
    print(f"largest difference {difference:.1e} (bound {TOLERANCE:.0e})")

    def forward(compute: Callable[..., Tensor]) -> None:
        with torch.no_grad():
            compute(*inputs)

    def train(compute: Callable[..., Tensor], parameters: list[Tensor]) -> None:
        torch.autograd.grad(compute(*inputs).sum(), parameters)

    own: list[Tensor] = list(grouped.parameters())
    for name, of_loop, of_groups in (
        ("forward", lambda: forward(looped), lambda: forward(grouped)),
        (
            "forward and backward",
            lambda: train(looped, looped.parameters),
            lambda: train(grouped, own),
        ),
    ):
        slow, fast = best_seconds(of_loop, args.runs), best_seconds(of_groups, args.runs)
        print(f"{name}: loop {slow * 1e3:.1f} ms, grouped {fast * 1e3:.1f} ms: {slow / fast:.1f}x")
    return 0 if difference <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
