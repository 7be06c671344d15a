"""How much memory a run will take, from its config and the model's config.json alone, and
what keeps it to a bound."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import TypeVar

from r1.engine.engine import EngineConfig
from r1.engine.open_model import choose_device, fastest_dtype
from r1.evaluation.run_evaluate import EvaluateConfig
from r1.models.language_model import LanguageModel, SequenceScorer
from r1.models.model_config import ModelConfig
from r1.models.parameter_count import num_parameters
from r1.training.grpo_config import GrpoConfig
from r1.training.logprobs import MAX_LOGITS
from r1.training.loop import LoopConfig
from r1.training.optimizer import LARGEST_BF16_BETA
from r1.training.rejection_sampling import SampleConfig

VerbConfig = LoopConfig | GrpoConfig | SampleConfig | EvaluateConfig
Bounded = TypeVar("Bounded", bound=LoopConfig | GrpoConfig)

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Python, torch and its libraries.
_RUNTIME_BYTES = 300_000_000
# Products of matrices with fewer rows take longer a row.
_FULL_SPEED_TOKENS = 512


def estimate_memory(config: VerbConfig, model: ModelConfig) -> dict[str, int]:
    """Bytes by purpose, at most about; activations are the roughest part.

    The engine samples from the very weights that are trained, so it adds a KV cache
    and no copy. Models other than `config.model` (reward models, another reference)
    are taken to be of its size.
    """
    parameters = num_parameters(model)
    size = _weight_bytes(config, model)
    parts = {"weights": parameters * size}
    if isinstance(config, LoopConfig | GrpoConfig):
        parts |= _training_parts(config, model, parameters, size)
    if isinstance(config, GrpoConfig):
        parts["reference"] = parameters * size if config.kl_coefficient else 0
        parts["reward models"] = parameters * size * len(config.reward_models)
        num_replies = config.group_size * config.questions_per_step * config.updates_per_rollout
        parts["KV cache"] = _kv_cache_bytes(
            config.engine, model, size, num_replies * config.longest_reply
        )
    elif isinstance(config, SampleConfig):
        num_tokens = config.prompts_per_batch * config.samples_per_prompt * config.max_tokens
        parts["KV cache"] = _kv_cache_bytes(config.engine, model, size, num_tokens)
    elif isinstance(config, EvaluateConfig):
        parts["KV cache"] = config.engine.kv_cache_bytes
    return {name: num_bytes for name, num_bytes in parts.items() if num_bytes}


def checkpoint_dtype(model: ModelConfig) -> str:
    """The dtype that config.json names (`dtype`, before transformers 5 `torch_dtype`)."""
    name = str(model.extra.get("dtype") or model.extra.get("torch_dtype") or "float32")
    name = name.removeprefix("torch.")
    return name if name in _BYTES else "float32"


def describe_memory(parts: Mapping[str, int]) -> str:
    """`about 3.2 GB: weights 0.5 GB, moments 2.1 GB, ...`, the largest first."""
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    shown = ", ".join(f"{name} {format_bytes(num_bytes)}" for name, num_bytes in ordered)
    return f"about {format_bytes(sum(parts.values()))}: {shown}"


def format_bytes(num_bytes: int) -> str:
    """Decimal units: `12 MB`, `3.2 GB`."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if num_bytes >= size:
            value = num_bytes / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{num_bytes / 1000:.0f} kB"


def fit_memory(config: Bounded, model: LanguageModel | SequenceScorer, longest: int) -> Bounded:
    """The config that keeps the run of this model to `max_memory_bytes`; see `within_bound`.

    Logs what the bound has changed, and tells the model whether its layers are kept.
    """
    dtype = str(model.dtype).removeprefix("torch.")
    fitted = within_bound(config.model_copy(update={"dtype": dtype}), model.config, longest)
    fitted = fitted.model_copy(update={"dtype": config.dtype})
    if changes := describe_changes(config, fitted):
        logging.getLogger(__name__).warning("max_memory_bytes sets %s", changes)
    model.model.is_checkpointed = fitted.activation_checkpointing
    return fitted if changes else config


def describe_changes(config: Bounded, fitted: Bounded) -> str:
    """`moments_dtype = bfloat16, micro_batch_tokens = 537`: the settings that differ."""
    pairs = ((name, value, getattr(config, name)) for name, value in fitted)
    return ", ".join(f"{name} = {value}" for name, value, before in pairs if value != before)


def within_bound(config: Bounded, model: ModelConfig, longest: int) -> Bounded:
    """The config with what it takes to keep to `max_memory_bytes`, the cheapest in time first.

    Smaller micro-batches, down to what a forward pass needs to be at full speed; moments in
    bf16; layers computed again in the backward pass; then micro-batches of `longest`, the
    longest sequence: a pass never has less. Raises ValueError when that is too much. Without
    a bound the config comes back as it is.
    """
    bound = config.max_memory_bytes
    if bound is None:
        return config
    saving = config
    for saving in _savings(config):
        fitted = _with_largest_micro_batch(saving, model, longest, _FULL_SPEED_TOKENS)
        if fitted is not None:
            return fitted
    fitted = _with_largest_micro_batch(saving, model, longest, 1)
    if fitted is None:
        least = estimate_memory(saving.model_copy(update={"micro_batch_tokens": longest}), model)
        raise ValueError(
            f"max_memory_bytes ({format_bytes(bound)}) is too little for sequences of {longest:,} "
            f"tokens: {describe_memory(least)}"
        )
    return fitted


def _savings(config: Bounded) -> Iterator[Bounded]:
    yield config
    if max(config.beta1, config.beta2) <= LARGEST_BF16_BETA:
        config = config.model_copy(update={"moments_dtype": "bfloat16"})
        yield config
    yield config.model_copy(update={"activation_checkpointing": True})


def _with_largest_micro_batch(
    config: Bounded, model: ModelConfig, longest: int, least: int
) -> Bounded | None:
    """That keeps to the bound, of at least `longest`, and of `least` if the config's is."""
    bound = config.max_memory_bytes
    assert bound is not None
    tokens = max(longest, config.micro_batch_tokens)
    least = max(longest, min(least, tokens))
    while True:
        fitted = config.model_copy(update={"micro_batch_tokens": tokens})
        if sum(estimate_memory(fitted, model).values()) <= bound:
            return fitted
        if tokens == least:
            return None
        tokens = max(least, tokens * 7 // 8)


def _weight_bytes(config: VerbConfig, model: ModelConfig) -> int:
    if config.dtype != "auto":
        return _BYTES[config.dtype or checkpoint_dtype(model)]
    # A plan may be made on another machine than the run's: every GPU's fastest has 2 bytes.
    is_here = config.device in ("auto", "cpu")
    return fastest_dtype(choose_device(config.device)).itemsize if is_here else 2


def _training_parts(
    config: LoopConfig | GrpoConfig, model: ModelConfig, parameters: int, size: int
) -> dict[str, int]:
    is_half = size == 2
    is_fp16 = config.dtype == "float16"
    logits = min(config.micro_batch_tokens * model.vocab_size, MAX_LOGITS)
    tokens, moment_bytes = config.micro_batch_tokens, _BYTES[config.moments_dtype]
    return {
        # Of bf16 the half that the weights have not.
        "fp32 masters": parameters * (4 if is_fp16 else 2) * is_half,
        "gradients": parameters * 4,
        "moments": parameters * 2 * moment_bytes,
        "activations": tokens * _activation_bytes_per_token(config, model, size),
        # A chunk's logits, turned into their gradients in place, and the head's gradient:
        # its own, and where weights are half-precision the embedding's.
        "logits": logits * size + model.vocab_size * model.hidden_size * size * (1 + is_half),
        "runtime": _RUNTIME_BYTES,
    }


def _activation_bytes_per_token(
    config: LoopConfig | GrpoConfig, model: ModelConfig, size: int
) -> int:
    """What a layer keeps for its backward pass: the inputs of its norms, products and gate,
    attention's queries, keys, values and result; or its own input alone."""
    query = model.num_attention_heads * model.head_dim
    keys = model.num_key_value_heads * model.head_dim
    layer = (4 * model.hidden_size + 3 * model.intermediate_size + 2 * query + 2 * keys) * size
    # One layer's backward pass at a time: gradients of keys and values, by head, in fp32.
    passing = 2 * query * 4 + 4 * model.intermediate_size * size
    if config.activation_checkpointing:
        return model.num_hidden_layers * model.hidden_size * size + layer + passing
    return model.num_hidden_layers * layer + passing


def _kv_cache_bytes(
    engine: EngineConfig, model: ModelConfig, size: int, num_reply_tokens: int
) -> int:
    """What the cache can grow to: its bound, or all replies at once (prompts are shared)."""
    token_bytes = math.prod(model.kv_entry_shape) * model.num_hidden_layers * size
    if engine.num_blocks is not None:
        return engine.num_blocks * engine.block_size * token_bytes
    return min(engine.kv_cache_bytes, num_reply_tokens * token_bytes)
