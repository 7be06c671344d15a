"""The table of architectures, and how a model is built from a config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from r1.models.deepseek_v3 import (
    DeepseekV3ForCausalLM,
    DeepseekV3ForSequenceClassification,
)
from r1.models.fp8_linear import keep_in_fp8
from r1.models.language_model import LanguageModel, SequenceScorer
from r1.models.layers import RMSNorm
from r1.models.llama import LlamaForCausalLM, LlamaForSequenceClassification
from r1.models.model_config import ModelConfig, RopeParameters, unknown_name_message
from r1.models.moe import Experts, Router

__all__ = [
    "ARCHITECTURES",
    "DTYPES",
    "ModelConfig",
    "RopeParameters",
    "build_model",
    "build_scorer",
    "parse_dtype",
]

Model = LanguageModel | SequenceScorer

ARCHITECTURES: dict[str, Callable[[ModelConfig], Model]] = {
    "LlamaForCausalLM": LlamaForCausalLM,
    "Qwen2ForCausalLM": LlamaForCausalLM,
    "DeepseekV3ForCausalLM": DeepseekV3ForCausalLM,
    "LlamaForSequenceClassification": LlamaForSequenceClassification,
    "Qwen2ForSequenceClassification": LlamaForSequenceClassification,
    "DeepseekV3ForSequenceClassification": DeepseekV3ForSequenceClassification,
}

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_dtype(name: str) -> torch.dtype:
    """`float32`, `bfloat16` or `float16` (with or without `torch.`); ValueError lists them."""
    short = name.removeprefix("torch.")
    if short not in DTYPES:
        raise ValueError(unknown_name_message("dtype", name, DTYPES))
    return DTYPES[short]


def allocate_model(
    config: ModelConfig,
    dtype: torch.dtype,
    device: str | torch.device,
    *,
    is_fp8: bool = False,
) -> Model:
    """A model with uninitialised weights, to be filled by a checkpoint loader.

    `is_fp8` keeps in FP8 what a checkpoint of that format stores so; it cannot be trained.
    """
    with torch.device("meta"):
        model = ARCHITECTURES[config.architecture](config)
        if is_fp8:
            keep_in_fp8(model)

    def allocate(meta: Tensor) -> Tensor:
        # What no gradient trains stays as it is in the release: the routers' selection bias
        # in fp32, and weights in FP8 with their scales.
        chosen = dtype if meta.requires_grad else meta.dtype
        return torch.empty(meta.shape, dtype=chosen, device=device)

    # Module.to_empty does the same through empty_like, which imports half a second of torch
    # decompositions for meta tensors.
    return model._apply(allocate)


def build_model(
    config: ModelConfig,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Model:
    """A model with random weights that depend on `config` and `seed` alone.

    Matrices are normal with `config.initializer_range`, biases 0, norms 1, as in
    transformers. Drawn in fp32 on the CPU, then cast.
    """
    config.check("model config")
    model = allocate_model(config, dtype, device)
    generator = torch.Generator("cpu").manual_seed(seed)
    for module in model.modules():
        if isinstance(module, RMSNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, Experts):
            _init_normal(module.gate_up_proj, config.initializer_range, generator)
            _init_normal(module.down_proj, config.initializer_range, generator)
        elif isinstance(module, Router):
            _init_normal(module.weight, config.initializer_range, generator)
            nn.init.zeros_(module.e_score_correction_bias)
        elif isinstance(module, (nn.Linear, nn.Embedding)):
            _init_normal(module.weight, config.initializer_range, generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model


def build_scorer(model: LanguageModel, seed: int = 0) -> SequenceScorer:
    """A reward model on a copy of `model`'s decoder, with a new scalar head.

    The head starts normal with deviation 1 / sqrt(D + 1), which keeps first
    scores near unit size (arXiv:2009.01325, appendix).
    """
    config = scorer_config(model.config)
    weight = model.model.embed_tokens.weight
    scorer = allocate_model(config, weight.dtype, weight.device)
    assert isinstance(scorer, SequenceScorer)
    weights = model.model.state_dict()
    # A scorer predicts no tokens, so it has no layer for the token after the next either.
    scorer.notices = model.notices
    scorer.model.load_state_dict({name: weights[name] for name in scorer.model.state_dict()})
    generator = torch.Generator("cpu").manual_seed(seed)
    _init_normal(scorer.score.weight, (config.hidden_size + 1) ** -0.5, generator)
    return scorer


def scorer_config(config: ModelConfig) -> ModelConfig:
    """The one-label SequenceClassification config of a language model's config."""
    family = config.architecture.removesuffix("ForCausalLM")
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    return replace(
        config,
        architecture=f"{family}ForSequenceClassification",
        num_nextn_predict_layers=None if config.num_nextn_predict_layers is None else 0,
        extra={**config.extra, **labels},
    )


@torch.no_grad()
def _init_normal(parameter: Tensor, std: float, generator: torch.Generator) -> None:
    values = torch.empty(parameter.shape, dtype=torch.float32).normal_(
        0.0, std, generator=generator
    )
    parameter.copy_(values)
