"""A tiny model, a tokenizer with one token for each byte, and a model that recites."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers

from r1.engine.engine import Engine, EngineConfig
from r1.models.architectures import build_model
from r1.models.language_model import LanguageModel
from r1.models.llama import LlamaForCausalLM
from r1.models.model_config import ModelConfig
from r1.text.tokenizer import Tokenizer
from tests.small_models import deepseek_v3, qwen2

EOS_ID = 256
VOCAB_SIZE = 258


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {char: index for index, char in enumerate(alphabet)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<eos>", "<turn>"])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<eos>"}))
    return Tokenizer.from_folder(folder)


@pytest.fixture(scope="session")
def model_config() -> ModelConfig:
    return qwen2(VOCAB_SIZE, initializer_range=0.2)


# Latent attention and experts: everything that the engine does differently for them.
DEEPSEEK_V3: dict[str, Any] = {
    "kv_lora_rank": 12,
    "qk_rope_head_dim": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "rope_scaling": {
        "type": "yarn",
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 16,
    },
}


@pytest.fixture(params=["qwen2", "deepseek_v3"])
def model(request: pytest.FixtureRequest, model_config: ModelConfig) -> LanguageModel:
    """Each of the two kinds of cache: keys and values by head, and latents."""
    config = model_config if request.param == "qwen2" else deepseek_v3(VOCAB_SIZE, **DEEPSEEK_V3)
    model = build_model(config, seed=7)
    assert isinstance(model, LanguageModel)
    return model


@pytest.fixture
def make_engine(model: LanguageModel, tokenizer: Tokenizer) -> Callable[..., Engine]:
    """Engine over the tiny model; a small cache and small blocks unless said."""

    def make(**settings: object) -> Engine:
        values = {
            "block_size": 4,
            "num_blocks": 256,
            "max_num_seqs": 64,
            "max_num_batched_tokens": 512,
        }
        return Engine(model, tokenizer, EngineConfig.model_validate(values | settings))

    return make


class RecitingModel(LlamaForCausalLM):
    """Always most probable: the script's token for the position that comes next."""

    script: torch.Tensor

    def forward(
        self, input_ids_BT: torch.Tensor, positions_BT: torch.Tensor, kv_cache: object = None
    ) -> torch.Tensor:
        return self.script[positions_BT + 1]

    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(hidden, VOCAB_SIZE).float() * 30.0


@pytest.fixture
def reciting_engine(model_config: ModelConfig, tokenizer: Tokenizer) -> Callable[..., Engine]:
    """Engine whose greedy reply to a prompt of one token is `reply`, then EOS for ever."""

    def make(reply: str | list[int], **settings: object) -> Engine:
        ids = tokenizer.encode(reply, allow_special=True) if isinstance(reply, str) else reply
        model = RecitingModel(model_config)
        script = np.full(model_config.max_position_embeddings + 1, EOS_ID)
        script[1 : 1 + len(ids)] = ids
        model.script = torch.from_numpy(script)
        values = {"block_size": 4, "num_blocks": 64, "max_num_seqs": 8}
        return Engine(model, tokenizer, EngineConfig.model_validate(values | settings))

    return make
