"""What a model is made of: Hugging Face's `config.json` as one frozen record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from r1.config_errors import nearest_name
from r1.models.config_checks import check_kinds, check_sizes, object_at

ROPE_TYPES = ("default", "linear", "llama3", "yarn")

# transformers' own defaults for keys that old config.json files leave out.
_OLD_ROPE_THETA = 10_000.0
_UNREAD_YARN_KEYS = ("attention_factor", "truncate")
_ROPE_KEYS = ("rope_theta", "rope_scaling", "rope_parameters")
_MODEL_TYPES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
}


def unknown_name_message(kind: str, name: object, choices: Iterable[str]) -> str:
    """One line that names an unknown value, the choices, and the nearest of them."""
    known = list(choices)
    nearest = nearest_name(str(name), known)
    hint = f" (did you mean {nearest!r}?)" if nearest else ""
    return f"{kind} {name!r} is not supported; choices: {', '.join(known)}{hint}"


def is_block_fp8(quantization: Mapping[str, Any]) -> bool:
    """Whether a `quantization_config` means e4m3 weights with a scale for each block."""
    is_fp8 = quantization.get("quant_method") == "fp8" and quantization.get("fmt", "e4m3") == "e4m3"
    blocks = quantization.get("weight_block_size")
    if not is_fp8 or not isinstance(blocks, list | tuple) or len(blocks) != 2:
        return False
    return all(isinstance(size, int) and size > 0 for size in blocks)


@dataclass(frozen=True, slots=True)
class RopeParameters:
    """Rotary position embedding settings under transformers' names.

    `linear` divides every frequency by `factor`; `llama3` does so only to long
    wavelengths, with a smooth step between (Llama 3.1's published code); `yarn` to
    those that turn less than `beta_slow` times in the original context, with a ramp
    up to `beta_fast` turns, and makes attention sharper (arXiv:2309.00071).
    """

    rope_type: str = "default"
    rope_theta: float = _OLD_ROPE_THETA
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None

    @property
    def rotation_scale(self) -> float:
        """What YaRN multiplies cosines and sines by.

        The paper's 0.1 ln(factor) + 1 for plain YaRN. DeepSeek's checkpoints name two
        scales, for the rotary part and for all of the head: this is the rotary part's
        own, and `attention_scale` the one that the whole head shares.
        """
        if self.rope_type != "yarn":
            return 1.0
        if self.mscale and self.mscale_all_dim:
            return self._mscale(self.mscale) / self._mscale(self.mscale_all_dim)
        return self._mscale(1.0)

    @property
    def attention_scale(self) -> float:
        """What multi-head latent attention multiplies its softmax scale by (`mscale_all_dim`)."""
        if self.rope_type == "default" or not self.mscale_all_dim:
            return 1.0
        return self._mscale(self.mscale_all_dim) ** 2

    def _mscale(self, mscale: float) -> float:
        return 0.1 * mscale * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0

    @classmethod
    def from_config(cls, raw: Mapping[str, Any], source: str) -> RopeParameters:
        """Read `rope_parameters` (transformers 5) or `rope_theta` + `rope_scaling` (before)."""
        parameters = object_at(raw, "rope_parameters", source)
        merged = object_at(raw, "rope_scaling", source) or dict(parameters)
        rope_type = merged.pop("rope_type", None) or merged.get("type") or "default"
        merged.pop("type", None)
        if rope_type not in ROPE_TYPES:
            raise ValueError(
                f"{source}: {unknown_name_message('rope_type', rope_type, ROPE_TYPES)}"
            )
        nested_theta = parameters.get("rope_theta")
        theta = merged.pop("rope_theta", None) or nested_theta or raw.get("rope_theta")
        if merged.pop("partial_rotary_factor", 1.0) != 1.0:
            raise ValueError(f"{source}: partial_rotary_factor must be 1.0 for these architectures")
        unread = [key for key in _UNREAD_YARN_KEYS if key in merged and rope_type == "yarn"]
        if unread:
            raise ValueError(f"{source}: yarn with `{unread[0]}` is not supported")
        names = [item.name for item in fields(cls)]
        known = {name: merged[name] for name in names if merged.get(name) is not None}
        if rope_type in ("llama3", "yarn") and raw.get("max_position_embeddings"):
            known.setdefault("original_max_position_embeddings", raw["max_position_embeddings"])
        if rope_type != "default" and "factor" not in known:
            raise ValueError(f"{source}: rope_type {rope_type!r} needs a `factor`")
        known["rope_theta"] = theta or _OLD_ROPE_THETA
        check_kinds(known, dict.fromkeys(known, "float"), source)
        zero = [name for name in ("rope_theta", "factor") if known.get(name) == 0]
        if zero:
            raise ValueError(f"{source}: {zero[0]} must be above 0")
        known["rope_theta"] = float(known["rope_theta"])
        return cls(rope_type=rope_type, **known)

    def to_dict(self) -> dict[str, Any]:
        """The keys that this rope type has, as `rope_parameters` writes them."""
        keys = ["rope_theta", "rope_type"]
        if self.rope_type != "default":
            keys.append("factor")
        if self.rope_type == "llama3":
            keys += ["low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
        if self.rope_type == "yarn":
            keys += ["beta_fast", "beta_slow", "original_max_position_embeddings"]
            keys += [key for key in ("mscale", "mscale_all_dim") if getattr(self, key) is not None]
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A decoder's sizes and switches, under the names of Hugging Face's `config.json`.

    `attention_bias` means what it means in each family: Qwen2 biases q, k and v
    always; Llama biases q, k, v and o when it is set, DeepSeek-V3 the projections
    into its latents and o. `extra` holds every other key of the file, kept as it was
    so that a load and a save lose nothing.

    What follows `initializer_range` is DeepSeek-V3's alone and None elsewhere: the
    sizes of multi-head latent attention (there `head_dim` is that of queries and keys,
    `qk_nope_head_dim + qk_rope_head_dim`), the experts, the multi-token-prediction layers.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope: RopeParameters = field(default_factory=RopeParameters)
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    hidden_act: str = "silu"
    initializer_range: float = 0.02
    q_lora_rank: int | None = None
    kv_lora_rank: int | None = None
    qk_nope_head_dim: int | None = None
    qk_rope_head_dim: int | None = None
    v_head_dim: int | None = None
    rope_interleave: bool | None = None
    first_k_dense_replace: int | None = None
    moe_intermediate_size: int | None = None
    n_routed_experts: int | None = None
    n_shared_experts: int | None = None
    num_experts_per_tok: int | None = None
    n_group: int | None = None
    topk_group: int | None = None
    norm_topk_prob: bool | None = None
    routed_scaling_factor: float | None = None
    num_nextn_predict_layers: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: str = "config.json") -> ModelConfig:
        """Read a `config.json` dictionary; ValueError names a missing or unsupported key."""
        architecture = _architecture_name(raw, source)
        is_deepseek = architecture.startswith("DeepseekV3")
        keys = _PLAIN_KEYS + _DEEPSEEK_KEYS if is_deepseek else _PLAIN_KEYS
        values = {name: raw[name] for name in keys if raw.get(name) is not None}
        if is_deepseek:
            values = {**_DEEPSEEK_DEFAULTS, **values}
        check_sizes(values, _REQUIRED + _DEEPSEEK_REQUIRED * is_deepseek, _OPTIONAL_SIZES, source)
        check_kinds(values, _KINDS, source)
        heads = values["num_attention_heads"]
        values.setdefault("num_key_value_heads", heads)
        if is_deepseek:
            values["head_dim"] = values["qk_nope_head_dim"] + values["qk_rope_head_dim"]
        values.setdefault("head_dim", values["hidden_size"] // heads)
        known = {*keys, *_ROPE_KEYS, "architectures", "model_type", "head_dim"}
        extra = {key: value for key, value in raw.items() if key not in known}
        rope = RopeParameters.from_config(raw, source)
        config = cls(architecture=architecture, rope=rope, extra=extra, **values)
        config.check(source)
        return config

    def check(self, source: str) -> None:
        """Raise ValueError for combinations that the model code does not compute."""
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"{source}: num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.rope_dim % 2:
            raise ValueError(f"{source}: head_dim must be even for RoPE, not {self.rope_dim}")
        if self.hidden_act != "silu":
            raise ValueError(
                f"{source}: {unknown_name_message('hidden_act', self.hidden_act, ['silu'])}"
            )
        layer_types = self.extra.get("layer_types") or ()
        kinds = layer_types if isinstance(layer_types, list | tuple) else [layer_types]
        is_windowed = any(kind != "full_attention" for kind in kinds)
        if is_windowed or self.extra.get("use_sliding_window"):
            raise ValueError(
                f"{source}: sliding-window attention is not supported; full attention is"
            )
        quantization = object_at(self.extra, "quantization_config", source)
        if quantization and not is_block_fp8(quantization):
            raise ValueError(
                f"{source}: quantised checkpoints are not supported, except fp8 (e4m3) with a "
                "weight_block_size; use that, bf16, fp16 or fp32"
            )
        if self.is_deepseek:
            self._check_deepseek(source)

    def _check_deepseek(self, source: str) -> None:
        assert self.n_routed_experts and self.n_group and self.topk_group
        assert self.num_experts_per_tok
        scoring, method = self.extra.get("scoring_func"), self.extra.get("topk_method")
        if scoring not in (None, "sigmoid") or method not in (None, "noaux_tc"):
            raise ValueError(
                f"{source}: scoring_func {scoring!r} with topk_method {method!r} is not "
                "supported; 'sigmoid' with 'noaux_tc' is"
            )
        if self.extra.get("moe_layer_freq", 1) != 1:
            raise ValueError(f"{source}: moe_layer_freq must be 1")
        if self.num_key_value_heads != self.num_attention_heads:
            raise ValueError(f"{source}: num_key_value_heads must be num_attention_heads")
        assert self.v_head_dim
        if self.v_head_dim > self.head_dim:
            raise ValueError(
                f"{source}: v_head_dim ({self.v_head_dim}) must be at most qk_nope_head_dim + "
                f"qk_rope_head_dim ({self.head_dim})"
            )
        group_size, rest = divmod(self.n_routed_experts, self.n_group)
        if rest or group_size < 2 or self.topk_group > self.n_group:
            raise ValueError(
                f"{source}: {self.n_routed_experts} experts do not make {self.n_group} groups of "
                f"two and more, of which {self.topk_group} are chosen"
            )
        if self.num_experts_per_tok > self.topk_group * group_size:
            raise ValueError(
                f"{source}: num_experts_per_tok ({self.num_experts_per_tok}) is more than "
                f"{self.topk_group} groups of {group_size} experts hold"
            )

    @property
    def is_deepseek(self) -> bool:
        """Multi-head latent attention and mixture of experts: the V3 family."""
        return self.kv_lora_rank is not None

    @property
    def rope_dim(self) -> int:
        """How many dimensions of a query or key head are rotated."""
        return self.qk_rope_head_dim or self.head_dim

    @property
    def kv_entry_shape(self) -> tuple[int, int, int]:
        """What a token keeps in one layer's cache: (key and value, KV heads, width).

        With multi-head latent attention it is one vector, the latent and the rotary key:
        key and value of all heads at once.
        """
        if self.kv_lora_rank is not None:
            return (1, 1, self.kv_lora_rank + self.rope_dim)
        return (2, self.num_key_value_heads, self.head_dim)

    @property
    def model_type(self) -> str:
        """`llama`, `qwen2` or `deepseek_v3`, transformers' name of the family."""
        if self.is_deepseek:
            return "deepseek_v3"
        families = [kind for kind in _MODEL_TYPES if self.architecture.lower().startswith(kind)]
        assert families, self.architecture
        return families[0]

    @property
    def has_qkv_bias(self) -> bool:
        """Qwen2 has biases on q, k and v whatever its config says; Llama by `attention_bias`."""
        return self.model_type == "qwen2" or self.attention_bias

    @property
    def has_output_bias(self) -> bool:
        """Only Llama's `attention_bias` covers o_proj as well."""
        return self.model_type == "llama" and self.attention_bias

    def to_dict(self) -> dict[str, Any]:
        """A `config.json` that transformers 4 and 5, vLLM and llama.cpp's converter open."""
        values = dict(self.extra)
        values.update(architectures=[self.architecture], model_type=self.model_type)
        keys = _PLAIN_KEYS + _DEEPSEEK_KEYS if self.is_deepseek else _PLAIN_KEYS
        values.update((name, getattr(self, name)) for name in keys)
        if self.model_type == "qwen2":
            del values["attention_bias"], values["mlp_bias"]
        elif self.is_deepseek:
            # Readers of this family derive it, and those that read it mean the rotary part.
            del values["head_dim"], values["mlp_bias"]
            # transformers knows no other router; vLLM and llama.cpp's converter ask for its name.
            for key, value in _DEEPSEEK_ROUTER.items():
                values.setdefault(key, value)
        # Old readers know rope_theta and rope_scaling, transformers 5 knows rope_parameters.
        rope = self.rope.to_dict()
        values.update(rope_theta=rope["rope_theta"], rope_parameters=rope)
        if self.rope.rope_type != "default":
            values["rope_scaling"] = {key: rope[key] for key in rope if key != "rope_theta"}
            values["rope_scaling"]["type"] = rope["rope_type"]
        return values


_FIELDS = tuple(item.name for item in fields(ModelConfig))
_DEEPSEEK_KEYS = _FIELDS[_FIELDS.index("q_lora_rank") : _FIELDS.index("extra")]
_PLAIN_KEYS = tuple(
    name
    for name in _FIELDS
    if name not in ("architecture", "rope", "extra") and name not in _DEEPSEEK_KEYS
)
_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
_DEEPSEEK_REQUIRED = (
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "moe_intermediate_size",
    "n_routed_experts",
    "num_experts_per_tok",
)
_OPTIONAL_SIZES = ("num_key_value_heads", "head_dim", "q_lora_rank", "n_group", "topk_group")
# `int | None` is of the kind int.
_KINDS = {item.name: str(item.type).partition(" ")[0] for item in fields(ModelConfig)}
_DEEPSEEK_ROUTER = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1}
_DEEPSEEK_DEFAULTS = {
    "rope_interleave": True,
    "first_k_dense_replace": 0,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "num_nextn_predict_layers": 0,
}


def _architecture_name(raw: Mapping[str, Any], source: str) -> str:
    names = raw.get("architectures") or []
    if not isinstance(names, list):
        raise ValueError(f"{source}: architectures must be a list, not {names!r:.60}")
    name = names[0] if names else _MODEL_TYPES.get(str(raw.get("model_type")))
    if name is None:
        raise ValueError(f'{source}: missing key architectures (for example ["LlamaForCausalLM"])')
    if name not in ARCHITECTURE_NAMES:
        message = unknown_name_message("architecture", name, ARCHITECTURE_NAMES)
        raise ValueError(f"{source}: {message}")
    return name


ARCHITECTURE_NAMES = (
    "LlamaForCausalLM",
    "Qwen2ForCausalLM",
    "DeepseekV3ForCausalLM",
    "LlamaForSequenceClassification",
    "Qwen2ForSequenceClassification",
    "DeepseekV3ForSequenceClassification",
)
