"""Exact mode: how many tokens differ between sampler and trainer, and what it costs.

    python benchmarks/exact.py [--model smollm2] [--tokens 1000000] [--seconds 200] [--write]

Draws random work: prompts and replies of any length, groups, temperatures, limits of the
engine that chop prefills and cause preemption, blocks, prefix caching on and off. Samples it,
packs it for the trainer in another random order, and compares every log-prob bit by bit.
Without `--model` the models are tiny ones with random weights. Then times one fixed rollout
and update in both modes in turn; `--write` puts both into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from results_page import machine_lines, write_section

from r1.allocator import keep_freed_memory
from r1.engine.engine import Engine, EngineConfig
from r1.engine.open_model import open_model
from r1.models.architectures import build_model
from r1.models.exact import make_exact
from r1.models.language_model import LanguageModel
from r1.models.model_config import ModelConfig
from r1.records import GenerationRequest, Sample, SamplingParams
from r1.text.tokenizer import Tokenizer
from r1.training.logprobs import token_logprobs, token_loss
from r1.training.packing import TokenSequence, pack_targets

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class NoText(Tokenizer):
    """Ends no reply and writes none: the work is the ids alone."""

    def __init__(self) -> None:
        self.eos_ids: tuple[int, ...] = ()

    def decode(self, ids: Sequence[int], **_: object) -> str:
        return ""


def tiny_model(rng: np.random.Generator, dtype: torch.dtype) -> LanguageModel:
    head_dim = int(rng.choice([8, 16, 32]))
    config = ModelConfig(
        architecture="Qwen2ForCausalLM",
        vocab_size=300,
        hidden_size=4 * head_dim,
        intermediate_size=int(rng.choice([50, 64, 96])),
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=512,
        tie_word_embeddings=bool(rng.integers(2)),
        initializer_range=0.2,
    )
    model = build_model(config, dtype=dtype, seed=int(rng.integers(1000)))
    assert isinstance(model, LanguageModel)
    return model


def random_requests(
    rng: np.random.Generator, vocab_size: int, temperature: float, scale: int
) -> list[GenerationRequest]:
    return [
        GenerationRequest(
            id=str(index),
            prompt_ids=tuple(rng.integers(2, vocab_size, rng.integers(1, 6 * scale)).tolist()),
            num_samples=int(rng.integers(1, 9)),
            sampling=SamplingParams(
                max_tokens=int(rng.integers(1, 5 * scale)), temperature=temperature
            ),
        )
        for index in range(24)
    ]


def random_engine(rng: np.random.Generator, model: LanguageModel) -> Engine:
    is_tiny_head = model.config.head_dim % 16 != 0
    block_size = int(rng.choice([4, 5, 16] if is_tiny_head else [16, 32]))
    max_num_seqs = int(rng.integers(4, 100))
    config = EngineConfig(
        exact=True,
        block_size=block_size,
        num_blocks=1 + int(rng.integers(520, 3000)) // block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + int(rng.integers(10, 400)),
        enable_prefix_caching=bool(rng.integers(2)),
    )
    return Engine(model, NoText(), config)


def trainer_logprobs(
    model: LanguageModel, samples: Sequence[Sample], temperature: float, rng: np.random.Generator
) -> torch.Tensor:
    """As an update computes them, from rows packed at random; with gradients every other time."""
    order = rng.permutation(len(samples))
    sequences = [TokenSequence.of(samples[i].prompt_ids, samples[i].token_ids) for i in order]
    longest = max(map(len, sequences))
    found: dict[int, torch.Tensor] = {}
    for row in pack_targets(sequences, longest + int(rng.integers(0, 1500))):
        with torch.set_grad_enabled(bool(rng.integers(2))):
            hidden = model(row.input_ids_BT, row.positions_BT)[0, row.target_places_P]
        chunk = int(rng.integers(3, 500))
        logprobs = token_logprobs(
            model, hidden, row.targets_P, temperature=temperature, chunk_tokens=chunk
        )
        found |= {int(order[index]): part for index, part in row.split(logprobs).items()}
    return torch.cat([found[index] for index in range(len(samples))])


def prove(args: argparse.Namespace) -> list[int]:
    """Tokens compared, tokens whose bits differ, preemptions, tokens from prefix hits."""
    counts, ends = [0, 0, 0, 0], time.monotonic() + args.seconds
    opened = None if args.model is None else open_model(args.model, dtype="bfloat16")[0]
    trial = args.seed
    while counts[0] < args.tokens and time.monotonic() < ends:
        rng = np.random.default_rng(trial)
        trial += 1
        model = opened or tiny_model(rng, list(DTYPES.values())[trial % 2])
        engine = random_engine(rng, model)
        temperature = float(rng.choice([1.0, 0.7, 1.3]))
        requests = random_requests(rng, model.config.vocab_size, temperature, args.scale)
        samples = [sample for group in engine.generate(requests) for sample in group]
        expected = trainer_logprobs(model, samples, temperature, rng)
        sampled = torch.tensor([value for s in samples for value in s.sampler_logprobs])
        stats = engine.stats()
        differing = int((sampled != expected).sum())
        added = len(sampled), differing, stats.num_preemptions, stats.num_cached_tokens
        counts = [count + more for count, more in zip(counts, added, strict=True)]
    return counts


def rollout_and_update(
    model: LanguageModel, engine: Engine, batch: int, length: int
) -> tuple[float, float]:
    """Seconds of sampling `batch` replies of `length` tokens in groups of 8, and of an update."""
    rng = np.random.default_rng(0)
    sampling = SamplingParams(max_tokens=length)
    vocab_size = model.config.vocab_size
    requests = [
        GenerationRequest(
            id=str(i),
            prompt_ids=tuple(rng.integers(2, vocab_size, 64).tolist()),
            num_samples=8,
            sampling=sampling,
        )
        for i in range(batch // 8)
    ]
    engine.reset_prefix_cache()
    started = time.perf_counter()
    samples = [sample for group in engine.generate(requests) for sample in group]
    sampled = time.perf_counter() - started
    started = time.perf_counter()
    sequences = [TokenSequence.of(sample.prompt_ids, sample.token_ids) for sample in samples]
    for row in pack_targets(sequences, 2048):
        hidden = model(row.input_ids_BT, row.positions_BT)[0, row.target_places_P]
        token_loss(
            model, hidden, row.targets_P, lambda logprobs, _: -logprobs.sum()
        ).loss.backward()
    model.zero_grad(set_to_none=True)
    return sampled, time.perf_counter() - started


def cost(args: argparse.Namespace) -> list[str]:
    """Rows of a table: medians of both modes in turn."""
    rows = []
    for name, dtype in DTYPES.items():
        if args.model is None:
            normal = tiny_model(np.random.default_rng(2), dtype)
        else:
            normal = open_model(args.model, dtype=str(dtype).removeprefix("torch."))[0]
        exact = copy.deepcopy(normal)
        make_exact(exact)
        limits = {"num_blocks": 1024, "max_num_seqs": 64}
        engines = [
            (normal, Engine(normal, NoText(), EngineConfig.model_validate(limits))),
            (
                exact,
                Engine(exact, NoText(), EngineConfig.model_validate({**limits, "exact": True})),
            ),
        ]
        times: list[list[tuple[float, float]]] = [[], []]
        for _ in range(args.runs + 1):
            for each, (model, engine) in zip(times, engines, strict=True):
                each.append(rollout_and_update(model, engine, args.batch, args.length))
        medians = [
            [statistics.median(part) for part in zip(*each[1:], strict=True)] for each in times
        ]
        for what, before, after in zip(("rollout", "update"), *medians, strict=True):
            rows.append(
                f"| {name} | {what} | {before:.2f} s | {after:.2f} s | {after / before:.2f}x |"
            )
        before, after = (sum(each) for each in medians)
        rows.append(f"| {name} | both | {before:.2f} s | {after:.2f} s | {after / before:.2f}x |")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Exact mode: bits that differ, and its cost.")
    parser.add_argument("--model", help="a model's name; tiny random ones unless told")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop comparing after so many")
    parser.add_argument("--scale", type=int, default=32, help="lengths of prompts and replies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3, help="0 measures no times")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    args = parser.parse_args()
    keep_freed_memory()  # as every command does
    torch.set_num_threads(args.threads)
    machine = machine_lines(args.threads)
    compared, differing, preempted, cached = prove(args)
    lines = [
        f"{args.model or 'Tiny models'}: {compared:,} tokens compared, {differing:,} differ in any"
        f" bit; {preempted:,} preemptions, {cached:,} tokens from prefix hits.",
    ]
    if args.runs:
        what = f"{args.batch} replies of {args.length} tokens in groups of 8, then an update"
        lines += ["", f"{what}; medians of {args.runs} runs in turn.", ""]
        lines += ["| dtype | | normal | exact | |", "|---|---|---|---|---|", *cost(args)]
    print("\n".join([*lines, "", *machine]))
    if args.write:
        page = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
        command = " ".join(["python", "benchmarks/exact.py", *sys.argv[1:]])
        title = f"Exact mode: {args.model or 'tiny models'}"
        write_section(page, title, command, [*lines, "", *machine])
    return 0 if differing == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
