"""`r1 models NAME`: what a model is, whether it fits here, how fast it can be, how to serve it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from r1.models.catalogue import CATALOGUE, catalogue_config, resolve_model
from r1.models.catalogue_table import shorten_count
from r1.models.model_config import ModelConfig
from r1.models.parameter_count import num_active_parameters, num_parameters
from r1.models.presets import Preset, find_preset
from r1.models.sizing import (
    DTYPE_BYTES,
    Need,
    available_bytes,
    draft_weight_bytes,
    kv_bytes_per_token,
    measure_bandwidth,
    needs,
    weight_bytes,
)
from r1.serving.conversation import is_r1_like
from r1.serving.launch_commands import LAUNCHERS, README_CONTEXT, Launch
from r1.text.tokenizer import load_tokenizer

CONTEXTS = (2_048, README_CONTEXT, 131_072)
BATCHES = (1, 8, 64)


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model's config with the words for it; `preset` where it is a released one."""

    name: str
    config: ModelConfig
    license: str
    preset: Preset | None = None

    @property
    def is_reasoning(self) -> bool:
        """Whether replies begin with a thought, by what is known without a download."""
        if self.preset is not None:
            return self.preset.generation is not None
        path = resolve_model(self.name, config_only=True)
        try:
            return is_r1_like(load_tokenizer(path))
        except ValueError:  # of the hub's, the config alone is here
            return False


def find_model(name: str) -> NamedModel:
    """The model of a name, a folder or a hub id, without loading it.

    A released model is known without a download. Raises ValueError, in one line, for a
    name that means nothing.
    """
    if name in CATALOGUE:
        entry = CATALOGUE[name]
        return NamedModel(name, catalogue_config(name, entry), entry.license)
    preset = None if Path(name).expanduser().exists() else find_preset(name)
    if preset is not None:
        return NamedModel(preset.hub_id, preset.model_config, preset.license, preset)
    path = resolve_model(name, config_only=True)
    file = path / "config.json"
    if not file.is_file():
        raise ValueError(f"{path}: its sizes are read when it is loaded; try r1 chat {name}")
    raw = json.loads(file.read_text(encoding="utf-8"))
    return NamedModel(name, ModelConfig.from_dict(raw, str(file)), "see its folder")


def describe_model(
    model: NamedModel, device: torch.device, dtype: str | None = None, num_drafts: int = 0
) -> str:
    """Facts, the needs of several contexts and batches on this device, and the commands.

    With `num_drafts` tokens a step from multi-token prediction, its layer's weights and cache
    count too. The speeds are bounds: the device's bandwidth, measured now, over the bytes that a
    step must read. Raises ValueError for an unknown dtype, and for drafts that cannot be made.
    """
    dtype = dtype or default_dtype(model, device)
    if dtype not in DTYPE_BYTES:
        raise ValueError(f"--dtype {dtype}: choose from {', '.join(DTYPE_BYTES)}")
    bandwidth, free = measure_bandwidth(device), available_bytes(device)
    rows = needs(model.config, dtype, CONTEXTS, BATCHES, bandwidth, num_drafts)
    lines = [*_facts(model, dtype), ""]
    known = "" if free is None else f", {free / 1e9:.0f} GB free"
    drafts = f" with {num_drafts} drafted a step" if num_drafts else ""
    lines.append(f"on {device} in {dtype}{drafts} ({bandwidth / 1e9:.0f} GB/s{known}):")
    lines += [_need_line(row, free) for row in rows]
    fits = free is None or rows[0].num_bytes <= free
    lines += ["", *_commands(model, dtype, fits)]
    return "\n".join(lines)


def default_dtype(model: NamedModel, device: torch.device) -> str:
    """8 bits for a model released in them, fp32 on a CPU that has no faster 16 bits, else bf16."""
    if model.preset is not None and "quantization_config" in model.preset.config:
        return "float8"
    return "float32" if device.type == "cpu" else "bfloat16"


def _facts(model: NamedModel, dtype: str) -> list[str]:
    config, preset = model.config, model.preset
    total, active = num_parameters(config), num_active_parameters(config)
    size = shorten_count(total)
    if config.n_routed_experts:
        size += f", {shorten_count(active)} active"
    facts = {
        "architecture": config.architecture,
        "parameters": f"{size} ({total:,})",
        "layers": f"{config.num_hidden_layers} of width {config.hidden_size:,}",
        "context": f"{config.max_position_embeddings:,} tokens",
        "weights": f"{weight_bytes(config, dtype) / 1e9:,.2f} GB in {dtype}",
        "KV cache": f"{kv_bytes_per_token(config, dtype) / 1000:,.1f} kB a token",
        "licence": model.license,
    }
    if config.num_nextn_predict_layers:
        layer = draft_weight_bytes(config, dtype) / 1e9
        cache = kv_bytes_per_token(config, dtype, 1) - kv_bytes_per_token(config, dtype)
        facts["drafts"] = (
            f"{layer:,.2f} GB more weights, {cache / 1000:,.1f} kB more cache a token (--drafts 1)"
        )
    if preset is not None:
        facts["tokenizer"] = preset.tokenizer
        if preset.base:
            facts["trained from"] = preset.base
        if preset.recipe:
            facts["recipe"] = f"r1 run {preset.recipe}"
        if preset.notice:
            facts["notice"] = preset.notice
    return [model.name, *(f"  {key:<14}{value}" for key, value in facts.items())]


def _need_line(row: Need, free: int | None) -> str:
    verdict = "" if free is None else ("fits" if row.num_bytes <= free else "does not fit")
    speed = (
        "" if row.tokens_per_second is None else f"at most {row.tokens_per_second:,.3g} tokens/s"
    )
    return (
        f"  {row.context:>7,} tokens x {row.batch:<3} {row.num_bytes / 1e9:>9,.1f} GB  "
        f"{speed:<26}{verdict}"
    ).rstrip()


def _commands(model: NamedModel, dtype: str, fits: bool) -> list[str]:
    lines = [f"here:   r1 chat {model.name}"] if fits else []
    if model.preset is None:
        return lines
    context = min(README_CONTEXT, model.config.max_position_embeddings)
    # A server's own GPUs hold 16 bits, or the 8 that a model was released in.
    served_dtype = "float8" if dtype == "float8" else "bfloat16"
    launch = Launch(model.name, model.config, served_dtype, context, model.is_reasoning)
    gpus = f"{launch.tensor_parallel_size} x {launch.gpu_bytes // 10**9} GB"
    lines += [f"{name + ':':<8}{make(launch)}" for name, make in LAUNCHERS.items()]
    return [*lines, f"        (GPUs: {gpus}; a server of GPUs with more memory needs fewer)"]


def launch_command(name: str, launcher: str) -> str:
    """How a bigger engine serves a model.

    Raises ValueError for an unknown model or launcher, and for a model still to be fetched.
    """
    if launcher not in LAUNCHERS:
        raise ValueError(f"--print-command {launcher}: choose from {', '.join(LAUNCHERS)}")
    model = find_model(name)
    dtype = default_dtype(model, torch.device("cuda"))
    context = min(README_CONTEXT, model.config.max_position_embeddings)
    # Names of the catalogue mean nothing to other engines.
    path = str(resolve_model(name)) if name in CATALOGUE else model.name
    return LAUNCHERS[launcher](Launch(path, model.config, dtype, context, model.is_reasoning))
