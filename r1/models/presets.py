"""The released models: the eight of the DeepSeek-R1 README and the bases they come from.

A preset is what `config.json` on the hub says, so that parameters, memory and speed are
known before anything is downloaded. Sources: the model cards of deepseek-ai, Qwen and
meta-llama, and table 2.4 of the DeepSeek-R1 paper (arXiv 2501.12948) for the distilled
models' learning rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from r1.models.model_config import ModelConfig

TokenizerKind = Literal["deepseek-v3", "deepseek-qwen", "deepseek-llama", "qwen2.5", "llama-3"]

_DEEPSEEK_V3_NOTICE = "DeepSeek-V3 model weights under the DeepSeek Model License."

# What every model of the DeepSeek-R1 README is sampled with (its "Usage Recommendations").
R1_GENERATION: Mapping[str, Any] = {"do_sample": True, "temperature": 0.6, "top_p": 0.95}

# config.json of deepseek-ai/DeepSeek-R1 (the sizes are those of the V3 report, section 4.2).
_DEEPSEEK_V3: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "attention_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "first_k_dense_replace": 3,
    "hidden_act": "silu",
    "hidden_size": 7168,
    "initializer_range": 0.02,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163_840,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
    "rms_norm_eps": 1e-6,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10_000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "v_head_dim": 128,
    "vocab_size": 129_280,
}

_QWEN_SIZES: dict[str, dict[str, Any]] = {
    "1.5B": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000,
    },
    "7B": {
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_064,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000,
    },
    "14B": {
        "hidden_size": 5120,
        "intermediate_size": 13_824,
        "num_hidden_layers": 48,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "vocab_size": 152_064,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1_000_000,
    },
    "32B": {
        "hidden_size": 5120,
        "intermediate_size": 27_648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "vocab_size": 152_064,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1_000_000,
    },
}

_LLAMA_SIZES: dict[str, dict[str, Any]] = {
    "8B": {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "70B": {
        "hidden_size": 8192,
        "intermediate_size": 28_672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
    },
}


@dataclass(frozen=True, slots=True)
class Preset:
    """A released model: where it lies, what it is made of, and how it is used.

    `base` is the model it was trained from, `distill_learning_rate` the paper's for its
    supervised fine-tuning on R1's samples; both None where there is none. `generation` is
    empty for base models.
    """

    hub_id: str
    config: Mapping[str, Any]
    tokenizer: TokenizerKind
    license: str
    notice: str = ""
    base: str | None = None
    generation: Mapping[str, Any] | None = None
    distill_learning_rate: float | None = None

    @property
    def name(self) -> str:
        """The last part of its hub id, such as `DeepSeek-R1-Distill-Qwen-7B`."""
        return self.hub_id.rsplit("/", 1)[-1]

    @property
    def model_config(self) -> ModelConfig:
        """Its sizes and switches, as they are after loading."""
        return ModelConfig.from_dict(self.config, self.hub_id)

    @property
    def recipe(self) -> str | None:
        """The recipe that distils into it."""
        if self.distill_learning_rate is None:
            return None
        size = self.name.removeprefix("DeepSeek-R1-Distill-").lower().replace("-", "_")
        return f"recipes/distill/{size.replace('.', '_')}.toml"


def _llama_notice(name: str) -> str:
    """What section 1.b of its licence asks every derivative to carry."""
    version = "3.3" if "70B" in name else "3.1"
    return (
        f"Built with Llama. Llama {version} is licensed under the Llama {version} Community "
        "License, Copyright © Meta Platforms, Inc. All Rights Reserved."
    )


def _qwen(size: str, context: int, *, is_tied: bool = False) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "max_position_embeddings": context,
        "tie_word_embeddings": is_tied,
        "torch_dtype": "bfloat16",
        **_QWEN_SIZES[size],
    }


def _llama(size: str) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "max_position_embeddings": 131_072,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "factor": 8.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": 128_256,
        **_LLAMA_SIZES[size],
    }


def _r1(name: str) -> Preset:
    return Preset(
        hub_id=f"deepseek-ai/{name}",
        config=_DEEPSEEK_V3,
        tokenizer="deepseek-v3",
        license="MIT",
        base="DeepSeek-V3-Base",
        generation=R1_GENERATION,
    )


def _distilled(name: str, base: str, config: dict[str, Any], learning_rate: float) -> Preset:
    is_llama = "Llama" in name
    return Preset(
        hub_id=f"deepseek-ai/DeepSeek-R1-Distill-{name}",
        config=config,
        tokenizer="deepseek-llama" if is_llama else "deepseek-qwen",
        license="MIT, base Llama 3" if is_llama else "MIT, base Apache-2.0",
        notice=_llama_notice(name) if is_llama else "Derived from Qwen2.5 (Apache License 2.0).",
        base=base,
        generation=R1_GENERATION,
        distill_learning_rate=learning_rate,
    )


def _base(hub_id: str, config: dict[str, Any]) -> Preset:
    is_llama = hub_id.startswith("meta-llama/")
    return Preset(
        hub_id=hub_id,
        config=config,
        tokenizer="llama-3" if is_llama else "qwen2.5",
        license="Llama 3 Community" if is_llama else "Apache-2.0",
        notice=_llama_notice(hub_id) if is_llama else "",
    )


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _r1("DeepSeek-R1-Zero"),
        _r1("DeepSeek-R1"),
        _distilled("Qwen-1.5B", "Qwen2.5-Math-1.5B", _qwen("1.5B", 131_072), 1e-4),
        _distilled("Qwen-7B", "Qwen2.5-Math-7B", _qwen("7B", 131_072), 8e-5),
        _distilled("Llama-8B", "Llama-3.1-8B", _llama("8B"), 5e-5),
        _distilled("Qwen-14B", "Qwen2.5-14B", _qwen("14B", 131_072), 7e-5),
        _distilled("Qwen-32B", "Qwen2.5-32B", _qwen("32B", 131_072), 6e-5),
        _distilled("Llama-70B", "Llama-3.3-70B-Instruct", _llama("70B"), 2e-5),
        Preset(
            hub_id="deepseek-ai/DeepSeek-V3-Base",
            config=_DEEPSEEK_V3,
            tokenizer="deepseek-v3",
            license="DeepSeek Model License",
            notice=_DEEPSEEK_V3_NOTICE,
        ),
        _base("Qwen/Qwen2.5-Math-1.5B", _qwen("1.5B", 4096, is_tied=True)),
        _base("Qwen/Qwen2.5-Math-7B", _qwen("7B", 4096)),
        _base("Qwen/Qwen2.5-14B", _qwen("14B", 131_072)),
        _base("Qwen/Qwen2.5-32B", _qwen("32B", 131_072)),
        _base("meta-llama/Llama-3.1-8B", _llama("8B")),
        _base("meta-llama/Llama-3.3-70B-Instruct", _llama("70B")),
    )
}


def find_preset(name: str) -> Preset | None:
    """The preset of a name or hub id, case aside (`deepseek-r1-distill-qwen-7b`), or None."""
    short = name.rsplit("/", 1)[-1].casefold()
    for preset in PRESETS.values():
        if short == preset.name.casefold() and name.casefold() in (
            short,
            preset.hub_id.casefold(),
        ):
            return preset
    return None
