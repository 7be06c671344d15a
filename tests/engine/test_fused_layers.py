"""All layers in one call of the C kernels have the bits of the layers one by one."""

from __future__ import annotations

import pytest
import torch

from r1.engine.engine import Engine, EngineConfig
from r1.engine.tiled_attention import BoundTiledCache
from r1.kernels.native import load_kernels
from r1.models.architectures import build_model
from r1.models.language_model import LanguageModel
from r1.models.model_config import ModelConfig
from r1.records import GenerationRequest, Sample, SamplingParams
from r1.text.tokenizer import Tokenizer

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="no C compiler")


def replies(engine: Engine) -> list[Sample]:
    """Groups and single rows whose prompts and replies differ in length."""
    requests = [
        GenerationRequest(
            id=str(length),
            prompt_ids=tuple(range(3, 3 + length)),
            num_samples=1 + length % 3,
            sampling=SamplingParams(max_tokens=5 + length % 7, ignore_eos=True),
        )
        for length in (1, 5, 17, 33, 64, 80)
    ]
    return [sample for group in engine.generate(requests) for sample in group]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("architecture", "hidden_size"), [("Qwen2ForCausalLM", 48), ("LlamaForCausalLM", 64)]
)
def test_same_bits_as_layer_by_layer(
    architecture: str,
    hidden_size: int,
    dtype: torch.dtype,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = ModelConfig(
        architecture=architecture,
        vocab_size=258,
        hidden_size=hidden_size,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    model = build_model(config, dtype=dtype, seed=1)
    assert isinstance(model, LanguageModel)
    with torch.no_grad():  # biases start at 0
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    limits = EngineConfig(num_blocks=64, max_num_seqs=16, max_num_batched_tokens=64)
    num_fused = 0
    run_layers = BoundTiledCache.run_layers

    def counted(*arguments: object) -> torch.Tensor | None:
        nonlocal num_fused
        hidden = run_layers(*arguments)  # pyright: ignore[reportArgumentType]
        num_fused += hidden is not None
        return hidden

    monkeypatch.setattr(BoundTiledCache, "run_layers", counted)
    fused = replies(Engine(model, tokenizer, limits))
    assert num_fused == 10
    monkeypatch.setattr(BoundTiledCache, "run_layers", lambda *_: None)
    assert replies(Engine(model, tokenizer, limits)) == fused
