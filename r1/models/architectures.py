"""The table of architectures, and how a model is built from a config."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from r1.models.layers import RMSNorm
from r1.models.llama import LlamaForCausalLM, SequenceScorer
from r1.models.model_config import ModelConfig, RopeParameters, unknown_name_message

__all__ = [
    "ARCHITECTURES",
    "DTYPES",
    "ModelConfig",
    "RopeParameters",
    "build_model",
    "build_scorer",
    "parse_dtype",
]

Model = LlamaForCausalLM | SequenceScorer

ARCHITECTURES: dict[str, type[LlamaForCausalLM] | type[SequenceScorer]] = {
    "LlamaForCausalLM": LlamaForCausalLM,
    "Qwen2ForCausalLM": LlamaForCausalLM,
    "LlamaForSequenceClassification": SequenceScorer,
    "Qwen2ForSequenceClassification": SequenceScorer,
}

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_dtype(name: str) -> torch.dtype:
    """`float32`, `bfloat16` or `float16` (with or without `torch.`); ValueError lists them."""
    short = name.removeprefix("torch.")
    if short not in DTYPES:
        raise ValueError(unknown_name_message("dtype", name, DTYPES))
    return DTYPES[short]


def allocate_model(config: ModelConfig, dtype: torch.dtype, device: str | torch.device) -> Model:
    """A model with uninitialised weights, to be filled by a checkpoint loader."""
    with torch.device("meta"):
        model = ARCHITECTURES[config.architecture](config)
    # Module.to_empty does the same through empty_like, which imports half a second of torch
    # decompositions for meta tensors.
    return model._apply(lambda meta: torch.empty(meta.shape, dtype=dtype, device=device))


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
        elif isinstance(module, (nn.Linear, nn.Embedding)):
            _init_normal(module.weight, config.initializer_range, generator)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model


def build_scorer(model: LlamaForCausalLM, seed: int = 0) -> SequenceScorer:
    """A reward model on a copy of `model`'s decoder, with a new scalar head.

    The head starts normal with deviation 1 / sqrt(D + 1), which keeps first
    scores near unit size (arXiv:2009.01325, appendix).
    """
    config = scorer_config(model.config)
    weight = model.model.embed_tokens.weight
    scorer = allocate_model(config, weight.dtype, weight.device)
    assert isinstance(scorer, SequenceScorer)
    scorer.model.load_state_dict(model.model.state_dict())
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
        extra={**config.extra, **labels},
    )


@torch.no_grad()
def _init_normal(parameter: Tensor, std: float, generator: torch.Generator) -> None:
    values = torch.empty(parameter.shape, dtype=torch.float32).normal_(
        0.0, std, generator=generator
    )
    parameter.copy_(values)
