"""What a model is made of: Hugging Face's `config.json` as one frozen record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from r1.config import nearest_name

ROPE_TYPES = ("default", "linear", "llama3")

# transformers' own defaults for keys that old config.json files leave out.
_OLD_ROPE_THETA = 10_000.0
_ROPE_KEYS = ("rope_theta", "rope_scaling", "rope_parameters")
_MODEL_TYPES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}


def unknown_name_message(kind: str, name: object, choices: Iterable[str]) -> str:
    """One line that names an unknown value, the choices, and the nearest of them."""
    known = list(choices)
    nearest = nearest_name(str(name), known)
    hint = f" (did you mean {nearest!r}?)" if nearest else ""
    return f"{kind} {name!r} is not supported; choices: {', '.join(known)}{hint}"


@dataclass(frozen=True, slots=True)
class RopeParameters:
    """Rotary position embedding settings under transformers' names.

    `linear` divides every frequency by `factor`; `llama3` does so only to long
    wavelengths, with a smooth step between (Llama 3.1's published code).
    """

    rope_type: str = "default"
    rope_theta: float = _OLD_ROPE_THETA
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192

    @classmethod
    def from_config(cls, raw: Mapping[str, Any], source: str) -> RopeParameters:
        """Read `rope_parameters` (transformers 5) or `rope_theta` + `rope_scaling` (before)."""
        merged = dict(raw.get("rope_scaling") or raw.get("rope_parameters") or {})
        rope_type = merged.pop("rope_type", None) or merged.get("type") or "default"
        merged.pop("type", None)
        if rope_type not in ROPE_TYPES:
            raise ValueError(
                f"{source}: {unknown_name_message('rope_type', rope_type, ROPE_TYPES)}"
            )
        nested_theta = (raw.get("rope_parameters") or {}).get("rope_theta")
        theta = merged.pop("rope_theta", None) or nested_theta or raw.get("rope_theta")
        if merged.pop("partial_rotary_factor", 1.0) != 1.0:
            raise ValueError(f"{source}: partial_rotary_factor must be 1.0 for these architectures")
        names = [item.name for item in fields(cls)]
        known = {name: merged[name] for name in names if merged.get(name) is not None}
        if rope_type == "llama3" and raw.get("max_position_embeddings"):
            known.setdefault("original_max_position_embeddings", raw["max_position_embeddings"])
        if rope_type != "default" and "factor" not in known:
            raise ValueError(f"{source}: rope_type {rope_type!r} needs a `factor`")
        return cls(rope_type=rope_type, rope_theta=float(theta or _OLD_ROPE_THETA), **known)

    def to_dict(self) -> dict[str, Any]:
        """The keys that this rope type has, as `rope_parameters` writes them."""
        keys = ["rope_theta", "rope_type"]
        if self.rope_type != "default":
            keys.append("factor")
        if self.rope_type == "llama3":
            keys += ["low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A decoder's sizes and switches, under the names of Hugging Face's `config.json`.

    `attention_bias` means what it means in each family: Qwen2 biases q, k and v
    always; Llama biases q, k, v and o when it is set. `extra` holds every other
    key of the file, kept as it was so that a load and a save lose nothing.
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
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: str = "config.json") -> ModelConfig:
        """Read a `config.json` dictionary; ValueError names a missing or unsupported key."""
        architecture = _architecture_name(raw, source)
        values = {name: raw[name] for name in _PLAIN_KEYS if raw.get(name) is not None}
        required = ("vocab_size", "hidden_size", "intermediate_size")
        required += ("num_hidden_layers", "num_attention_heads")
        missing = [name for name in required if name not in values]
        if missing:
            raise ValueError(f"{source}: missing key {', '.join(missing)}")
        for name in (*required, "num_key_value_heads", "head_dim"):
            size = values.get(name, 1)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{source}: {name} must be a whole number above 0, not {size!r}")
        heads = values["num_attention_heads"]
        values.setdefault("num_key_value_heads", heads)
        values.setdefault("head_dim", values["hidden_size"] // heads)
        known = {*_PLAIN_KEYS, *_ROPE_KEYS, "architectures", "model_type"}
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
        if self.head_dim % 2:
            raise ValueError(f"{source}: head_dim must be even for RoPE, not {self.head_dim}")
        if self.hidden_act != "silu":
            raise ValueError(
                f"{source}: {unknown_name_message('hidden_act', self.hidden_act, ['silu'])}"
            )
        layer_types = self.extra.get("layer_types") or ()
        is_windowed = any(layer_type != "full_attention" for layer_type in layer_types)
        if is_windowed or self.extra.get("use_sliding_window"):
            raise ValueError(
                f"{source}: sliding-window attention is not supported; full attention is"
            )
        if self.extra.get("quantization_config"):
            raise ValueError(
                f"{source}: quantised checkpoints are not supported; use bf16, fp16 or fp32"
            )

    @property
    def model_type(self) -> str:
        """`llama` or `qwen2`, transformers' name of the family."""
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
        values.update((name, getattr(self, name)) for name in _PLAIN_KEYS)
        if self.model_type == "qwen2":
            del values["attention_bias"], values["mlp_bias"]
        # Old readers know rope_theta and rope_scaling, transformers 5 knows rope_parameters.
        rope = self.rope.to_dict()
        values.update(rope_theta=rope["rope_theta"], rope_parameters=rope)
        if self.rope.rope_type != "default":
            values["rope_scaling"] = {key: rope[key] for key in rope if key != "rope_theta"}
        return values


_PLAIN_KEYS = tuple(
    item.name for item in fields(ModelConfig) if item.name not in ("architecture", "rope", "extra")
)


def _architecture_name(raw: Mapping[str, Any], source: str) -> str:
    names = raw.get("architectures") or []
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
    "LlamaForSequenceClassification",
    "Qwen2ForSequenceClassification",
)
