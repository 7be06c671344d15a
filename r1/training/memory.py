"""How much memory a run will take, from its config and the model's config.json alone, and
what keeps it to a bound."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from r1.allocator import give_back_freed_memory, give_back_large_blocks, resident_bytes
from r1.atomic_files import write_json
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
# Python, torch, its libraries and a tokenizer, where the run's own cannot be measured yet.
_RUNTIME_BYTES = 340_000_000
# What is read of the libraries' code, and kept in small blocks, from the first step on.
_FIRST_STEP_BYTES = 80_000_000
_PLAN_FILE = "memory_plan.json"
_FITTED = ("micro_batch_tokens", "moments_dtype", "activation_checkpointing")
# A heap that keeps what is freed, whose holes grow with what comes and goes: SmolLM2's step
# took 0.46 GB for its activations where layers are computed again, 80 MB + 3 x 126 MB.
_HEAP_SLACK = 3.5
# With fewer, products take longer a row, and every micro-batch adds to all gradients once: on
# two cores SmolLM2's step took 12.2 s with 537, and 9.6 s with layers computed again.
_FULL_SPEED_TOKENS = 1024


def estimate_memory(
    config: VerbConfig,
    model: ModelConfig,
    longest: int,
    runtime_bytes: int = _RUNTIME_BYTES,
    slack: float = _HEAP_SLACK,
) -> dict[str, int]:
    """Bytes by purpose at the moment that takes the most, in the midst of an update.

    `longest` is the number of tokens of the longest sequence that is trained on, of prompt and
    reply together: it is never split, so that a pass may have more than `micro_batch_tokens`.
    The engine samples from the very weights that are trained, so it adds a KV cache
    and no copy; the cache stays while the weights are updated. What a step of the engine
    computes with is less than the update's, and gone by then. Models other than
    `config.model` (reward models, another reference) are taken to be of its size. `slack` is
    the memory of what comes and goes over what of it is alive.
    """
    parameters = num_parameters(model)
    size = _weight_bytes(config, model)
    parts = {"weights": parameters * size}
    if isinstance(config, LoopConfig | GrpoConfig):
        row_tokens = max(config.micro_batch_tokens, longest)
        widened = config.model_copy(update={"micro_batch_tokens": row_tokens})
        parts |= _training_parts(widened, model, parameters, size)
        parts["passing"] = int(parts["passing"] * slack)
        parts["runtime"] = runtime_bytes
    if isinstance(config, GrpoConfig):
        parts["reference"] = parameters * size if config.kl_coefficient else 0
        parts["reward models"] = parameters * size * len(config.reward_models)
        num_questions = config.questions_per_step * config.updates_per_rollout
        # A prompt for each question, and the ends of two blocks for it and for every reply. Where
        # the context cuts replies short, a longer prompt leaves them less than it takes.
        reply_tokens = min(config.longest_reply, longest)
        group_tokens = longest - reply_tokens + config.group_size * reply_tokens
        num_tokens = group_tokens + (config.group_size + 1) * 2 * config.engine.block_size
        num_tokens *= num_questions
        parts["KV cache"] = _kv_cache_bytes(config.engine, model, size, num_tokens)
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

    What the process takes now, without the weights, is measured. Logs what the bound has
    changed and keeps it in the run's folder, so that a resumed run makes the same steps
    whatever it measures. Tells the model whether its layers are kept, and the process to
    give back what it frees, where the bound leaves no room for holes.
    """
    bound = config.max_memory_bytes
    if bound is None:
        model.model.is_checkpointed = config.activation_checkpointing
        return config
    path = config.output / _PLAN_FILE
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    dtype = str(model.dtype).removeprefix("torch.")
    resolved = config.model_copy(update={"dtype": dtype})
    runtime = _measure_runtime(model)
    if kept.get("max_memory_bytes") != bound:
        fitted = within_bound(resolved, model.config, longest, runtime)
        kept = {name: getattr(fitted, name) for name in ("max_memory_bytes", *_FITTED)}
        config.output.mkdir(parents=True, exist_ok=True)
        write_json(path, kept)
    chosen = {name: kept[name] for name in _FITTED}
    resolved, fitted = (each.model_copy(update=chosen) for each in (resolved, config))
    with_holes = estimate_memory(resolved, model.config, longest, runtime, _HEAP_SLACK)
    if sum(with_holes.values()) > bound:
        give_back_large_blocks()
    if changes := describe_changes(config, fitted):
        logging.getLogger(__name__).warning("max_memory_bytes sets %s", changes)
    model.model.is_checkpointed = fitted.activation_checkpointing
    if isinstance(config, GrpoConfig):
        cache = {"kv_cache_bytes": with_holes["KV cache"]}
        engine = config.engine.model_copy(update=cache)
        fitted = fitted.model_copy(update={"engine": engine})
    return fitted


def describe_changes(config: Bounded, fitted: Bounded) -> str:
    """`moments_dtype = bfloat16, micro_batch_tokens = 537`: the settings that differ."""
    pairs = ((name, value, getattr(config, name)) for name, value in fitted)
    return ", ".join(f"{name} = {value}" for name, value, before in pairs if value != before)


def within_bound(
    config: Bounded, model: ModelConfig, longest: int, runtime_bytes: int = _RUNTIME_BYTES
) -> Bounded:
    """The config with what it takes to keep to `max_memory_bytes`, the cheapest in time first.

    Smaller micro-batches, down to what a forward pass needs to be at full speed; moments in
    bf16; layers computed again in the backward pass; all of this again with a heap without
    holes (`give_back_large_blocks`: SmolLM2's step takes half as long again); then
    micro-batches of `longest`, the longest sequence: a pass never has less. Raises ValueError,
    with the least that would do, when that is too much. Without a bound the config comes back
    as it is.
    """
    bound = config.max_memory_bytes
    if bound is None:
        return config

    def plan_of(fitted: Bounded, slack: float = 1.0) -> dict[str, int]:
        return estimate_memory(fitted, model, longest, runtime_bytes, slack)

    saving = config
    for slack, saving in itertools.product((_HEAP_SLACK, 1.0), _savings(config)):
        plan = functools.partial(plan_of, slack=slack)
        fitted = _with_largest_micro_batch(saving, plan, longest, _FULL_SPEED_TOKENS)
        if fitted is not None:
            return fitted
    fitted = _with_largest_micro_batch(saving, plan_of, longest, 1)
    if fitted is None:
        least = plan_of(saving.model_copy(update={"micro_batch_tokens": longest}))
        step = 10**7
        raise ValueError(
            f"max_memory_bytes = {bound:,} is too little: with sequences of {longest:,} tokens the "
            f"run takes at least {-(-sum(least.values()) // step) * step:,} bytes, "
            f"{describe_memory(least)}"
        )
    return fitted


def _savings(config: Bounded) -> Iterator[Bounded]:
    yield config
    if max(config.beta1, config.beta2) <= LARGEST_BF16_BETA:
        config = config.model_copy(update={"moments_dtype": "bfloat16"})
        yield config
    yield config.model_copy(update={"activation_checkpointing": True})


def _with_largest_micro_batch(
    config: Bounded, plan_of: Callable[[Bounded], Mapping[str, int]], longest: int, least: int
) -> Bounded | None:
    """That keeps to the bound, of at least `longest` and `least` if the config's is."""
    bound = config.max_memory_bytes
    assert bound is not None
    tokens = config.micro_batch_tokens
    least = min(max(longest, least), tokens)
    while True:
        fitted = config.model_copy(update={"micro_batch_tokens": tokens})
        if sum(plan_of(fitted).values()) <= bound:
            return fitted
        if tokens == least:
            return None
        tokens = max(least, tokens * 7 // 8)


def _measure_runtime(model: LanguageModel | SequenceScorer) -> int:
    """What the process takes beside the weights, data included, and will with its first step."""
    give_back_freed_memory()
    resident = resident_bytes() if model.device.type == "cpu" else None
    if resident is None:
        return _RUNTIME_BYTES
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return resident - weights + _FIRST_STEP_BYTES


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
    kept, passing = _activation_bytes(config, model, size)
    return {
        # Of bf16 the half that the weights have not.
        "fp32 masters": parameters * (4 if is_fp16 else 2) * is_half,
        "gradients": parameters * 4,
        "moments": parameters * 2 * _BYTES[config.moments_dtype],
        "activations": kept,
        "passing": passing,
    }


def _activation_bytes(
    config: LoopConfig | GrpoConfig, model: ModelConfig, size: int
) -> tuple[int, int]:
    """What is kept for the backward pass, and the most that comes and goes on top of it.

    A layer keeps the inputs of its norms, products and gate, attention's queries, keys, values
    and result; or its own input alone. Behind the layers stand the last hidden states, their
    norm's, those that have targets, and the gradients of these.
    """
    tokens, query = config.micro_batch_tokens, model.num_attention_heads * model.head_dim
    keys = model.num_key_value_heads * model.head_dim
    inputs = tokens * model.hidden_size * size
    layer = 4 * inputs + tokens * (3 * model.intermediate_size + 2 * query + 2 * keys) * size
    # One layer's backward pass at a time: gradients of keys and values, by head, in fp32.
    backward = tokens * (2 * query * 4 + 4 * model.intermediate_size * size)
    kept_layer = layer
    if config.activation_checkpointing:
        kept_layer, backward = inputs, backward + layer
    kept = model.num_hidden_layers * kept_layer + 4 * inputs
    head = model.vocab_size * model.hidden_size * size
    # A chunk's logits become their own gradients; the head's is made with them. Where the
    # embedding is the head, it waits for the embedding's, and both for their sum, at the very end.
    logits = min(tokens * model.vocab_size, MAX_LOGITS) * size
    is_tied = model.tie_word_embeddings
    most = max(logits + head, backward + head * is_tied, head * (3 if is_tied else 1) - kept)
    return kept, most


def _kv_cache_bytes(engine: EngineConfig, model: ModelConfig, size: int, num_tokens: int) -> int:
    """What the cache can grow to: its bound, or all replies at once (prompts are shared)."""
    num_layers = model.num_hidden_layers + engine.num_draft_layers
    token_bytes = math.prod(model.kv_entry_shape) * num_layers * size
    if engine.num_blocks is not None:
        return engine.num_blocks * engine.block_size * token_bytes
    # The engine refuses a cache that holds less than the `max_model_len` that is asked for.
    num_tokens = max(num_tokens, (engine.max_model_len or 0) + engine.block_size)
    return min(engine.kv_cache_bytes, num_tokens * token_bytes)
