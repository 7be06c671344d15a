from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from r1.engine.engine import EngineConfig
from r1.models.architectures import build_model
from r1.models.language_model import LanguageModel
from r1.models.model_config import ModelConfig
from r1.models.parameter_count import num_parameters
from r1.records import Problem
from r1.tasks import task as task_module
from r1.tasks.task import Split, TaskConfig, TaskError
from r1.text.prompts import build_prompt
from r1.text.tokenizer import Tokenizer
from r1.training import grpo, memory
from r1.training.grpo import GrpoConfig, run_grpo
from r1.training.memory import (
    describe_memory,
    estimate_memory,
    fit_memory,
    format_bytes,
    within_bound,
)
from r1.training.rejection_sampling import SampleConfig
from r1.training.sft import SftConfig
from tests.training.conftest import LetterTask

MODEL = ModelConfig(
    architecture="Qwen2ForCausalLM",
    vocab_size=50,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
)


def alive(config: Any, model: ModelConfig, longest: int = 1) -> dict[str, int]:
    """The plan of a heap without holes."""
    return estimate_memory(config, model, longest, slack=1.0)


@pytest.mark.parametrize(
    "config",
    [
        MODEL,
        replace(MODEL, tie_word_embeddings=True),
        replace(MODEL, architecture="LlamaForCausalLM"),
        replace(MODEL, architecture="LlamaForCausalLM", attention_bias=True, mlp_bias=True),
    ],
)
def test_parameters_are_counted_as_the_model_has_them(config: ModelConfig) -> None:
    model = build_model(config)
    assert num_parameters(config) == sum(p.numel() for p in model.parameters())


def test_training_in_fp32_and_in_bf16() -> None:
    count = num_parameters(MODEL)
    config = SftConfig(output=Path("o"), model="m", data=Path("d"), micro_batch_tokens=10)
    single = alive(config, MODEL)
    assert (single["weights"], single["gradients"], single["moments"]) == (
        4 * count,
        4 * count,
        8 * count,
    )
    assert "fp32 masters" not in single
    # Of each of 3 layers, and behind them; one layer's backward pass is more than logits and head.
    assert single["activations"] == 10 * 4 * (3 * (4 * 32 + 3 * 64 + 2 * 32 + 2 * 16) + 4 * 32)
    assert single["passing"] == 10 * (2 * 32 * 4 + 4 * 64 * 4) > 10 * 50 * 4 + 50 * 32 * 4
    half = alive(config.model_copy(update={"dtype": "bfloat16"}), MODEL)
    assert (half["weights"], half["fp32 masters"], half["gradients"]) == (
        2 * count,
        2 * count,
        4 * count,
    )
    assert half["activations"] * 2 == single["activations"]
    # All but the gradients of keys and values, which are summed in fp32.
    assert half["passing"] == 10 * (2 * 32 * 4 + 4 * 64 * 2)
    named = replace(MODEL, extra={"torch_dtype": "bfloat16"})
    assert alive(config, named) == half
    # The fastest dtype: 2 bytes on every GPU, also where the plan is made without one.
    auto = config.model_copy(update={"dtype": "auto", "device": "cuda"})
    assert alive(auto, MODEL) == half
    auto = auto.model_copy(update={"device": "cpu"})
    assert alive(auto, MODEL)["weights"] in (2 * count, 4 * count)


def test_savings_are_part_of_the_plan() -> None:
    count = num_parameters(MODEL)
    config = SftConfig(output=Path("o"), model="m", data=Path("d"), dtype="bfloat16")
    usual = alive(config, MODEL)
    half = alive(config.model_copy(update={"moments_dtype": "bfloat16"}), MODEL)
    assert (usual["moments"], half["moments"]) == (8 * count, 4 * count)
    again = alive(config.model_copy(update={"activation_checkpointing": True}), MODEL)
    # An input for each of 3 layers, and one layer's own as it is computed again.
    own, tokens = (4 * 32 + 3 * 64 + 2 * 32 + 2 * 16) * 2, config.micro_batch_tokens
    assert usual["activations"] - again["activations"] == tokens * 3 * (own - 32 * 2)
    assert again["passing"] - usual["passing"] == tokens * own
    assert {k: v for k, v in usual.items() if k not in ("activations", "passing")} == {
        k: v for k, v in again.items() if k not in ("activations", "passing")
    }


def test_a_sequence_longer_than_a_micro_batch_is_a_pass_by_itself() -> None:
    config = SftConfig(output=Path("o"), model="m", data=Path("d"), micro_batch_tokens=100)
    wide = config.model_copy(update={"micro_batch_tokens": 300})
    assert alive(config, MODEL, 300) == alive(wide, MODEL) != alive(config, MODEL, 100)
    # Micro-batches stay what they are without a bound, where it leaves room.
    bounded = config.model_copy(update={"max_memory_bytes": 10**9})
    assert within_bound(bounded, MODEL, 300) == bounded


def test_the_largest_of_what_does_not_live_at_once() -> None:
    def passing(tokens: int, **shape: Any) -> int:
        config = SftConfig(output=Path("o"), model="m", micro_batch_tokens=tokens, dtype="bfloat16")
        return alive(config, replace(SMOLLM2, **shape))["passing"]

    head = 49_152 * 576 * 2
    # A full chunk of logits and the head's gradient; few tokens: the gradients of a tied
    # embedding's two uses and their sum, when little else is left.
    assert passing(2048) == 2**25 * 2 + head
    kept = 10 * (30 * (4 * 576 + 3 * 1536 + 2 * 576 + 2 * 192) + 4 * 576) * 2
    assert passing(10) == 3 * head - kept
    assert passing(10, tie_word_embeddings=False) == 10 * 49_152 * 2 + head
    # Long rows: a layer's backward pass, beside the head's gradient that waits.
    layer = 8192 * (2 * 576 * 4 + 4 * 1536 * 2)
    assert passing(8192) == layer + head > 2**25 * 2 + head
    assert passing(8192, tie_word_embeddings=False) == layer


SMOLLM2 = replace(
    MODEL,
    architecture="LlamaForCausalLM",
    vocab_size=49_152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    head_dim=64,
    tie_word_embeddings=True,
)


@pytest.mark.parametrize(
    ("bound", "beta2", "expected"),
    [
        (4 * 10**9, 0.95, (2048, "float32", False)),
        (3.1 * 10**9, 0.95, (1372, "bfloat16", False)),
        (2.6 * 10**9, 0.95, (2048, "bfloat16", True)),
        (2.5 * 10**9, 0.95, (2048, "bfloat16", True)),
        (2.4 * 10**9, 0.95, (2048, "bfloat16", True)),
        (2.25 * 10**9, 0.95, (2048, "bfloat16", True)),
        (2.15 * 10**9, 0.95, (1792, "bfloat16", True)),
        # Moments in bf16 are not forced on means that they would not follow.
        (2.8 * 10**9, 0.999, (2048, "float32", True)),
    ],
)
def test_a_bound_turns_on_what_costs_the_least_time(
    bound: float, beta2: float, expected: tuple[int, str, bool]
) -> None:
    config = SftConfig(
        output=Path("o"),
        model="m",
        data=Path("d"),
        dtype="bfloat16",
        micro_batch_tokens=2048,
        beta2=beta2,
        max_memory_bytes=int(bound),
    )
    fitted = within_bound(config, SMOLLM2, 200)
    found = fitted.micro_batch_tokens, fitted.moments_dtype, fitted.activation_checkpointing
    assert found == expected
    assert sum(alive(fitted, SMOLLM2).values()) <= bound
    # What is set already stays set.
    chosen = config.model_copy(update={"activation_checkpointing": True})
    assert within_bound(chosen, SMOLLM2, 200).activation_checkpointing
    with pytest.raises(ValueError, match=r"too little: with sequences of 8,192 tokens .* at least"):
        within_bound(config.model_copy(update={"max_memory_bytes": 10**9}), SMOLLM2, 8192)


def test_reinforcement_adds_reference_and_cache() -> None:
    count = num_parameters(MODEL)
    config = GrpoConfig(
        output=Path("o"),
        model="m",
        task=TaskConfig(name="gsm8k"),
        group_size=4,
        questions_per_step=2,
        updates_per_rollout=1,
        max_tokens=100,
        reward_weights={"accuracy": 1.0, "preference": 1.0},
        reward_models={"preference": "somewhere"},
    )
    parts = alive(config, MODEL, 100 + 700)
    assert parts["reference"] == parts["reward models"] == 4 * count
    # 2 x 4 replies of 100 tokens, 2 prompts of 700, the ends of 2 blocks; k, v; G, K, layers.
    token_bytes = 2 * 2 * 8 * 3 * 4
    assert parts["KV cache"] == (8 * 132 + 2 * 732) * token_bytes
    # A context of 60 tokens, which cuts replies to what a prompt of 1 leaves.
    assert alive(config, MODEL, 60)["KV cache"] == (8 * 92 + 2 * 32) * token_bytes
    parts = alive(config.model_copy(update={"kl_coefficient": 0.0}), MODEL)
    assert "reference" not in parts
    engine = EngineConfig(kv_cache_bytes=1000)
    parts = alive(config.model_copy(update={"engine": engine}), MODEL)
    assert parts["KV cache"] == 1000
    engine = EngineConfig(num_blocks=10, block_size=16)
    parts = alive(config.model_copy(update={"engine": engine}), MODEL)
    assert parts["KV cache"] == 160 * token_bytes
    # What the engine asks for besides: a context that it was given, a layer that drafts.
    engine = EngineConfig(max_model_len=9000)
    parts = alive(config.model_copy(update={"engine": engine}), MODEL, 100)
    assert parts["KV cache"] == 9016 * token_bytes
    engine = EngineConfig(max_model_len=9000, speculative_tokens=1)
    parts = alive(config.model_copy(update={"engine": engine}), MODEL, 100)
    assert parts["KV cache"] == 9016 * token_bytes * 4 // 3


def test_sampling_trains_nothing() -> None:
    config = SampleConfig(output=Path("o"), model="m", task=TaskConfig(name="gsm8k"))
    assert set(alive(config, MODEL)) == {"weights", "KV cache"}


def test_sizes_read_well() -> None:
    assert [format_bytes(n) for n in (900, 12_345_678, 3_210_000_000, 2 * 10**12)] == [
        "1 kB",
        "12 MB",
        "3.2 GB",
        "2.0 TB",
    ]
    assert describe_memory({"small": 10**6, "large": 2 * 10**9}) == (
        "about 2.0 GB: large 2.0 GB, small 1.0 MB"
    )


def test_micro_batches_keep_to_the_bound_or_the_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model(MODEL)
    weights = 4 * num_parameters(MODEL)
    # What is there beside the weights, and 80 MB for the first step.
    monkeypatch.setattr(memory, "resident_bytes", lambda: weights + 300_000_000)
    config = SftConfig(output=tmp_path, model="m", data=Path("d"), micro_batch_tokens=100_000)
    assert fit_memory(config, model, 50) is config
    assert not any(tmp_path.iterdir())
    single = config.model_copy(update={"dtype": "float32"})
    # With room for the holes of a heap that keeps what is freed.
    free = sum(estimate_memory(single, MODEL, 50, 380_000_000).values())
    assert fit_memory(config.model_copy(update={"max_memory_bytes": free}), model, 50) == (
        config.model_copy(update={"max_memory_bytes": free})
    )
    bounded = config.model_copy(update={"max_memory_bytes": free - 100_000_000})
    fitted = fit_memory(bounded, model, 50)
    assert 50_000 < fitted.micro_batch_tokens < 100_000
    # A resumed run makes the same steps, though more memory is taken now.
    monkeypatch.setattr(memory, "resident_bytes", lambda: weights + 400_000_000)
    assert fit_memory(bounded, model, 50) == fitted
    little = bounded.model_copy(update={"max_memory_bytes": 400_000_000})
    with pytest.raises(ValueError, match="too little: with sequences of 200,000 tokens") as error:
        fit_memory(little, model, 200_000)
    found = re.search(r"at least ([\d,]+) bytes, about", str(error.value))
    assert found is not None and "\n" not in str(error.value)
    enough = little.model_copy(update={"max_memory_bytes": int(found[1].replace(",", ""))})
    assert fit_memory(enough, model, 200_000).activation_checkpointing


def test_under_a_bound_the_cache_is_what_was_planned(tmp_path: Path) -> None:
    config = GrpoConfig(
        output=tmp_path,
        model="m",
        task=TaskConfig(name="gsm8k"),
        group_size=4,
        questions_per_step=2,
        updates_per_rollout=1,
        max_tokens=100,
        max_memory_bytes=10**11,
    )
    fitted = fit_memory(config, build_model(MODEL), 800)
    assert fitted.engine.kv_cache_bytes == alive(config, MODEL, 800)["KV cache"]
    assert fitted.engine.kv_cache_bytes < config.engine.kv_cache_bytes


@dataclass(frozen=True)
class LongQuestions(LetterTask):
    """Two questions in three are much longer than the replies to them."""

    def problems(self, split: Split) -> Sequence[Problem]:
        short = super().problems(split)
        return [replace(p, question=p.question * (1 + i % 3 * 20)) for i, p in enumerate(short)]


def long_questions_config(output: Path, policy: Path, **settings: Any) -> GrpoConfig:
    values: dict[str, Any] = {
        "output": output,
        "model": str(policy),
        "task": TaskConfig(name="long"),
        "prompt_style": "chat",
        "steps": 3,
        "group_size": 2,
        "questions_per_step": 1,
        "updates_per_rollout": 1,
        "max_tokens": 20,
        "learning_rate": 3e-3,
        "reward_weights": {"accuracy": 1.0},
        "reference_refresh_steps": 0,
        "samples_every": 1,
        "micro_batch_tokens": 64,
        "device": "cpu",
    }
    return GrpoConfig.model_validate(values | settings)


@pytest.mark.parametrize(
    "settings",
    [{}, {"engine": {"max_model_len": 250}}, {"engine": {"max_model_len": 135}}],
    ids=["context", "longer than needed", "replies cut short"],
)
def test_a_generous_bound_changes_no_bit_whatever_the_length_of_prompts(
    settings: dict[str, Any], tmp_path: Path, tiny_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(task_module.TASKS, "long", lambda _: LongQuestions())
    found = []
    for bound in (None, 8 * 10**9):
        folder = tmp_path / str(bound)
        config = long_questions_config(folder, tiny_policy, max_memory_bytes=bound, **settings)
        weights = (run_grpo(config) / "model.safetensors").read_bytes()
        found.append(((folder / "samples.jsonl").read_text(), weights))
    assert found[0] == found[1]


def test_the_plan_counts_the_longest_prompt(
    tmp_path: Path,
    tiny_policy: Path,
    tiny_tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(task_module.TASKS, "long", lambda _: LongQuestions())
    longest = len(build_prompt(tiny_tokenizer, "Q2?" * 41, "chat").ids) + 20
    asked: list[int] = []

    def fit(config: GrpoConfig, model: LanguageModel, longest: int) -> GrpoConfig:
        asked.append(longest)
        return fit_memory(config, model, longest)

    monkeypatch.setattr(grpo, "fit_memory", fit)
    # No more than the context holds, which is 256 tokens.
    for max_tokens, expected in ((20, longest), (200, 256)):
        config = long_questions_config(
            tmp_path / str(max_tokens),
            tiny_policy,
            max_tokens=max_tokens,
            max_memory_bytes=10**8,
        )
        message = f"too little: with sequences of {expected} tokens the run takes at least"
        with pytest.raises(ValueError, match=message) as error:
            run_grpo(config)
        assert "\n" not in str(error.value)
    assert asked == [longest, 256]
    # A prompt that no reply fits behind is refused as it is without a bound.
    messages = []
    for bound in (None, 8 * 10**9):
        config = long_questions_config(
            tmp_path / "refused",
            tiny_policy,
            engine={"max_model_len": 100},
            max_memory_bytes=bound,
        )
        with pytest.raises(TaskError) as refusal:
            run_grpo(config)
        messages.append(str(refusal.value))
    assert messages[0] == messages[1] and "holds 99 tokens and a reply" in messages[0]


@pytest.mark.slow
def test_the_plan_is_within_a_fifth_of_what_training_takes(tmp_path: Path) -> None:
    """In processes of their own: a bf16 model of 19M parameters, steps of 2 micro-batches."""
    savings: list[dict[str, object]] = [
        {},
        {"moments_dtype": "bfloat16"},
        {"moments_dtype": "bfloat16", "activation_checkpointing": True},
    ]
    for settings in [{"micro_batch_tokens": n} | each for n in (1024, 4096) for each in savings]:
        command = [sys.executable, "-c", _STEPS, json.dumps(settings)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        planned, measured = map(int, out)
        assert 0.8 < measured / planned < 1.2, (settings, planned, measured)


@pytest.mark.slow
@pytest.mark.parametrize("bound", [700_000_000, 900_000_000])
def test_a_bound_is_kept(bound: int, tmp_path: Path) -> None:
    settings = {"micro_batch_tokens": 4096, "max_memory_bytes": bound, "output": str(tmp_path)}
    command = [sys.executable, "-c", _STEPS, json.dumps(settings)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert 0.8 * bound < int(out[1]) <= bound


_STEPS = """
import json, resource, sys
from pathlib import Path
import numpy as np, torch
from r1.allocator import keep_freed_memory
from r1.models.architectures import build_model
from r1.models.model_config import ModelConfig
from r1.training.expert_balance import ExpertBalance, ExpertConfig
from r1.training.loop import EncodedRow
from r1.training.memory import estimate_memory, fit_memory
from r1.training.optimizer import Optimizer
from r1.training.packing import TokenSequence
from r1.training.sft import SftConfig, sft_losses
keep_freed_memory()
settings = json.loads(sys.argv[1])
shape = ModelConfig(
    architecture="LlamaForCausalLM", vocab_size=20_000, hidden_size=384, intermediate_size=1024,
    num_hidden_layers=8, num_attention_heads=6, num_key_value_heads=2, head_dim=64,
    tie_word_embeddings=True,
)
model = build_model(shape, torch.bfloat16)
config = SftConfig(**{"output": "o", "model": "m", "dtype": "bfloat16"} | settings)
tokens = config.micro_batch_tokens
longest = tokens // 4
config = fit_memory(config, model, longest)
optimizer, rng = Optimizer(model, config, 10), np.random.default_rng(0)
rows = [
    EncodedRow((TokenSequence.of([1], rng.integers(0, 20_000, longest).tolist()),))
    for _ in range(8)
]
for _ in range(2):
    balance = ExpertBalance(model, ExpertConfig())
    for micro in sft_losses(balance, rows, config.micro_batch_tokens, range(8)):
        optimizer.backward(micro.loss)
    optimizer.step()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(sum(estimate_memory(config, shape, longest).values()), peak)
"""
