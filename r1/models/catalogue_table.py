"""The models that can be named, as `r1 models` prints them."""

from __future__ import annotations

from huggingface_hub import try_to_load_from_cache

from r1.models.catalogue import CATALOGUE, CatalogueEntry, catalogue_config, smollm2_path
from r1.models.model_config import ModelConfig
from r1.models.parameter_count import num_active_parameters, num_parameters
from r1.models.presets import PRESETS, Preset
from r1.models.sizing import kv_bytes_per_token

_FAMILIES = {"qwen2": "Qwen2", "llama": "Llama", "deepseek_v3": "DeepSeek-V3"}
_HEADER = ("name", "architecture", "total", "active", "context", "KV/token", "licence", "here")


def catalogue_table() -> str:
    """Every named model: its architecture and sizes, its licence, and whether it is here.

    The cache of a token is in 16 bits, of the packaged models in their own 32.
    """
    rows = [_HEADER]
    rows += [_catalogue_row(name, entry) for name, entry in CATALOGUE.items()]
    rows += [_preset_row(preset) for preset in PRESETS.values()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    is_number = [2 <= column <= 5 for column in range(len(_HEADER))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ).rstrip()
        for row in rows
    ]
    lines.append("also: a checkpoint folder, a .gguf file, a hub id; to chat with, a run folder")
    lines.append("one of them: r1 models NAME   fetch it once: r1 models get NAME")
    return "\n".join(lines)


def shorten_count(count: int) -> str:
    """`671B`, `7.6B`, `135M`, `0.9M`: three digits or fewer."""
    for unit, size in (("B", 10**9), ("M", 10**6)):
        if count >= size or unit == "M":
            value = count / size
            return f"{value:.0f}{unit}" if value >= 10 else f"{value:.1f}{unit}"
    raise AssertionError(count)


def _catalogue_row(name: str, entry: CatalogueEntry) -> tuple[str, ...]:
    is_here = entry.is_packaged or smollm2_path().is_file()
    config = catalogue_config(name, entry)
    return (name, *_facts(config, "float32"), entry.license, "yes" if is_here else "no")


def _preset_row(preset: Preset) -> tuple[str, ...]:
    # The hub's cache answers with a path, None, or a marker of a file known not to exist.
    is_here = isinstance(try_to_load_from_cache(preset.hub_id, "config.json"), str)
    facts = _facts(preset.model_config, "bfloat16")
    return (preset.name, *facts, preset.license, "yes" if is_here else "no")


def _facts(config: ModelConfig, dtype: str) -> tuple[str, ...]:
    total, active = num_parameters(config), num_active_parameters(config)
    return (
        _FAMILIES[config.model_type],
        shorten_count(total),
        shorten_count(active) if config.n_routed_experts else "",
        f"{config.max_position_embeddings:,}",
        f"{kv_bytes_per_token(config, dtype) / 1000:.0f} kB",
    )
