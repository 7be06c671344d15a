"""What the C kernels do in one call has the bits of what they do part by part."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from r1.engine.engine import Engine, EngineConfig
from r1.engine.tiled_attention import BoundTiledCache
from r1.kernels.native import load_kernels
from r1.kernels.quantized import QuantizedKernels
from r1.models.architectures import build_model
from r1.models.language_model import LanguageModel
from r1.models.layers import Linear
from r1.records import GenerationRequest, Sample, SamplingParams
from r1.text.tokenizer import Tokenizer
from tests.small_models import qwen2

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="no C compiler")
LIMITS = EngineConfig(num_blocks=64, max_num_seqs=16, max_num_batched_tokens=64)

MODES: dict[str, dict[str, object]] = {
    "plain": {},
    "exact": {"exact": True},
    "int8": {"quantize": "int8"},
    "int4": {"quantize": "int4"},
}


def make_model(dtype: torch.dtype = torch.float32, **shape: object) -> LanguageModel:
    config = qwen2(258, head_dim=16, num_hidden_layers=3, initializer_range=0.2, **shape)
    model = build_model(config, dtype=dtype, seed=1)
    assert isinstance(model, LanguageModel)
    with torch.no_grad():  # biases start at 0
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return model


def replies(engine: Engine) -> list[Sample]:
    """Groups and single rows whose prompts and replies differ in length."""
    requests = [
        GenerationRequest(
            id=str(length),
            prompt_ids=tuple(range(3, 3 + length)),
            num_samples=1 + length % 3,
            sampling=SamplingParams(
                max_tokens=5 + length % 7, min_tokens=length % 4, ignore_eos=length < 40
            ),
        )
        for length in (1, 5, 17, 33, 64, 80)
    ]
    return [sample for group in engine.generate(requests) for sample in group]


@pytest.mark.parametrize("mode", ["plain", "exact", "int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("Qwen2ForCausalLM", (96, 160)),
        ("LlamaForCausalLM", (64, 96)),
        ("Qwen2ForCausalLM", (48, 90)),
    ],
)
def test_same_bits_as_layer_by_layer(
    architecture: str,
    sizes: tuple[int, int],
    dtype: torch.dtype,
    mode: str,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hidden_size, inner_size = sizes
    model = make_model(
        dtype, architecture=architecture, hidden_size=hidden_size, intermediate_size=inner_size
    )
    limits = LIMITS.model_copy(update=MODES[mode])
    num_fused = 0
    run_layers = BoundTiledCache.run_layers

    def counted(*arguments: object) -> torch.Tensor | None:
        nonlocal num_fused
        hidden = run_layers(*arguments)  # pyright: ignore[reportArgumentType]
        num_fused += hidden is not None
        return hidden

    monkeypatch.setattr(BoundTiledCache, "run_layers", counted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    fused = replies(Engine(model, tokenizer, limits))
    # Weights are packed in part only, or torch computes the gate.
    is_mixed = inner_size % 16 if mode == "exact" else mode != "plain" and hidden_size % 32
    assert (num_fused == 0) == bool(is_mixed)
    monkeypatch.setattr(BoundTiledCache, "run_layers", lambda *_: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert replies(Engine(model, tokenizer, limits)) == fused


def test_rounded_weights_are_not_taken_for_those_that_lay_there_before(
    tokenizer: Tokenizer,
) -> None:
    """Loaded twice without a reply between, new ones could stand where the first ones did."""
    model = make_model(hidden_size=96, intermediate_size=160)
    engine = Engine(model, tokenizer, LIMITS.model_copy(update=MODES["int8"]))
    before = replies(engine)
    query = model.get_submodule("model.layers.0.self_attn.q_proj")
    assert isinstance(query, Linear)
    with torch.inference_mode():
        kernels = query.kernels_for(torch.empty(1))
    assert isinstance(kernels, QuantizedKernels)
    first = weakref.ref(kernels.packed[query.weight.data_ptr()].data)
    del kernels
    for version in (1, 2):
        engine.load_weights(model.checkpoint_tensors(), version)
    assert first() is not None
    assert [replace(sample, weights_version=0) for sample in replies(engine)] == before
    assert first() is None


@pytest.mark.parametrize("mode", ["plain", "exact", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_tokens", [1, 3, 9, 17, 40, 200, 900])
def test_wanted_rows_are_those_of_all(
    num_tokens: int,
    dtype: torch.dtype,
    mode: str,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if dtype == torch.float32:  # from then on torch's product is faster
        num_tokens = min(num_tokens, 512)
    shape = {"hidden_size": 96, "intermediate_size": 160, "max_position_embeddings": 1024}
    model = make_model(dtype, **shape)
    limits = EngineConfig(num_blocks=64, max_num_seqs=16).model_copy(update=MODES[mode])
    engine = Engine(model, tokenizer, limits)
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    run_layers = BoundTiledCache.run_layers

    def compared(cache: BoundTiledCache, hidden: torch.Tensor, *others: Any) -> torch.Tensor | None:
        assert hidden.shape[1] == num_tokens
        full = run_layers(replace(cache, wanted=None), hidden.clone(), *others)
        places = [[], [0], [num_tokens - 1], [num_tokens - 1, 0, num_tokens // 2, 0]]
        for wanted in [*places, list(range(0, num_tokens, 2)), list(range(num_tokens))]:
            part = run_layers(replace(cache, wanted=np.array(wanted, int)), hidden.clone(), *others)
            assert full is not None and part is not None
            found.append((full[0, wanted], part[0, wanted]))
        return full

    monkeypatch.setattr(BoundTiledCache, "run_layers", compared)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    sampling = SamplingParams(max_tokens=1)
    prompt_ids = tuple(3 + place % 250 for place in range(num_tokens))
    engine.generate([GenerationRequest("0", prompt_ids, sampling=sampling)])
    assert len(found) == 6
    for full, part in found:
        assert full.isfinite().all()
        assert torch.equal(full, part)
