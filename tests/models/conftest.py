"""Small random models, and the plainest cache as the other way to compute the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from r1.models.architectures import ModelConfig, build_model

TINY = {
    "vocab_size": 89,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


TINY_YARN = {
    "type": "yarn",
    "factor": 40,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 16,
}
TINY_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "vocab_size": 89,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 3,
    "first_k_dense_replace": 1,
    "num_attention_heads": 4,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "routed_scaling_factor": 2.5,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "num_nextn_predict_layers": 1,
    "max_position_embeddings": 640,
    "rope_scaling": TINY_YARN,
}
# Sizes that are no multiples of FP8's 128 x 128 blocks.
WIDE_V3 = {
    "hidden_size": 160,
    "intermediate_size": 200,
    "moe_intermediate_size": 136,
    "n_routed_experts": 4,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
}


@pytest.fixture(scope="session")
def refusal(
    bounded: Callable[[], AbstractContextManager[None]],
) -> Callable[[Callable[[Path], Any], Path], str]:
    """The one line that a load of a path ends in; nothing is left beside what was loaded."""

    def refuse(load: Callable[[Path], Any], path: Path) -> str:
        before = sorted(path.parent.iterdir())
        with bounded(), pytest.raises(ValueError) as caught:
            load(path)
        message = str(caught.value)
        assert "\n" not in message and len(message) < 700, message
        assert sorted(path.parent.iterdir()) == before
        return message

    return refuse


class DenseCache:
    """All keys and values of equal rows, concatenated, with an explicit mask."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(
        self,
        layer: int,
        query_BTHK: Tensor,
        key_BTGK: Tensor,
        value_BTGK: Tensor | None,
        scale: float,
    ) -> Tensor:
        if layer in self.kept:
            old_key, old_value = self.kept[layer]
            key_BTGK = torch.cat((old_key, key_BTGK), 1)
            value_BTGK = None if value_BTGK is None else torch.cat((old_value, value_BTGK), 1)
        if value_BTGK is None:
            value_BTGK = key_BTGK
        self.kept[layer] = (key_BTGK, value_BTGK)
        num_new, num_all = query_BTHK.shape[1], key_BTGK.shape[1]
        output = F.scaled_dot_product_attention(
            query_BTHK.transpose(1, 2),
            key_BTGK.transpose(1, 2),
            value_BTGK.transpose(1, 2),
            attn_mask=torch.ones(num_new, num_all, dtype=torch.bool).tril(num_all - num_new),
            scale=scale,
            enable_gqa=True,
        )
        return output.transpose(1, 2)


@pytest.fixture
def dense_cache() -> DenseCache:
    return DenseCache()


@pytest.fixture(scope="session")
def make_config() -> Callable[..., ModelConfig]:
    def make(architecture: str = "Qwen2ForCausalLM", **changes: Any) -> ModelConfig:
        return ModelConfig.from_dict({"architectures": [architecture], **TINY, **changes})

    return make


@pytest.fixture(scope="session")
def randomize() -> Callable[[nn.Module], None]:
    """Weights (biases and norms too) large enough that every part shows in the logits."""

    def fill(model: nn.Module) -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                values = torch.empty(parameter.shape).normal_(0, 0.3, generator=generator)
                parameter.copy_(values)

    return fill


@pytest.fixture(scope="session")
def make_model(
    make_config: Callable[..., ModelConfig], randomize: Callable[[nn.Module], None]
) -> Callable[..., Any]:
    def make(architecture: str = "Qwen2ForCausalLM", **changes: Any) -> Any:
        model = build_model(make_config(architecture, **changes))
        randomize(model)
        return model

    return make


@pytest.fixture(scope="session")
def row_logits() -> Callable[[Any, Sequence[int]], Tensor]:
    """Logits [T, V] of one row computed alone, without gradients."""

    @torch.no_grad()
    def compute(model: Any, row: Sequence[int]) -> Tensor:
        ids_BT = torch.tensor([list(row)])
        return model.compute_logits(model(ids_BT, torch.arange(ids_BT.shape[1])[None]))[0]

    return compute


class MakeV3:
    """Tiny DeepSeek-V3 models with weights, norms and selection biases of every size."""

    tiny = TINY_V3
    wide = WIDE_V3
    yarn = TINY_YARN

    def __call__(self, **changes: Any) -> Any:
        model = build_model(ModelConfig.from_dict({**TINY_V3, **changes}))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                deviation = 0.05 if name.endswith("e_score_correction_bias") else 0.3
                values = torch.empty(parameter.shape)
                parameter.copy_(values.normal_(0, deviation, generator=generator))
        return model


@pytest.fixture(scope="session")
def make_v3() -> MakeV3:
    return MakeV3()
