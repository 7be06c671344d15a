"""Paged attention and recorded decode steps of a GPU, here in Triton's interpreter.

All but the recording itself runs on a CPU: a stand-in computes again what a graph would replay.
The tests marked `gpu` record.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from r1.engine import kv_cache, model_runner
from r1.engine.decode_graphs import SIZES, DecodeGraphs, padded_size
from r1.engine.engine import Engine, EngineConfig
from r1.engine.paged_attention import PagedPlan, plan_pages
from r1.engine.spans import Spans
from r1.engine.step_packing import PackedStep
from r1.models.architectures import build_model
from r1.models.language_model import LanguageModel
from r1.models.model_config import ModelConfig
from r1.records import GenerationRequest, Sample, SamplingParams
from r1.text.tokenizer import Tokenizer
from tests.kernels.triton_kernels import import_triton
from tests.small_models import qwen2

SETTINGS = {
    "block_size": 4, "num_blocks": 64, "max_num_seqs": 6, "max_num_batched_tokens": 24,
}  # fmt: skip


class PlainRecorder:
    """Computes into the same tensor at every replay, as a graph does; counts both."""

    num_recorded = num_replayed = 0

    def __init__(self, device: torch.device) -> None:
        PlainRecorder.num_recorded = PlainRecorder.num_replayed = 0

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        PlainRecorder.num_recorded += 1
        result = compute().clone()

        def replay() -> None:
            PlainRecorder.num_replayed += 1
            result.copy_(compute())

        return replay, result.fill_(torch.nan)


@pytest.fixture
def model(model_config: ModelConfig) -> LanguageModel:
    built = build_model(model_config, seed=7)
    assert isinstance(built, LanguageModel)
    return built


@pytest.fixture
def torch_engine(
    model: LanguageModel, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> Engine:
    """What there is without any kernels."""
    monkeypatch.setattr(kv_cache, "tiled_kernels", lambda *_: None)
    return Engine(model, tokenizer, EngineConfig.model_validate(SETTINGS))


@pytest.fixture
def gpu_engine(
    torch_engine: Engine, model: LanguageModel, tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> Engine:  # fmt: skip
    """As on a GPU, on the CPU."""
    import_triton(monkeypatch)
    if torch.cuda.is_available():
        pytest.skip("the interpreter runs where no GPU is")
    from r1.kernels.triton_layers import GpuKernels

    monkeypatch.setattr(kv_cache, "paged_kernels", lambda *_: GpuKernels(num_cores=2))
    monkeypatch.setattr(model_runner, "CudaRecorder", PlainRecorder)
    return Engine(model, tokenizer, EngineConfig.model_validate(SETTINGS))


def requests(num_tokens: int = 6, temperature: float = 0.0) -> list[GenerationRequest]:
    """Prompts of one token to several chunks, a group, a shared prefix; more than fit at once."""
    random = np.random.default_rng(3)
    shared = tuple(random.integers(0, 250, 9).tolist())
    prompts = [(5,), shared, (*shared, 7), tuple(random.integers(0, 250, 40).tolist()), shared[:5]]
    return [
        GenerationRequest(
            id=str(index),
            prompt_ids=prompt,
            num_samples=3 if index == 1 else 1,
            sampling=SamplingParams(
                max_tokens=num_tokens + index, ignore_eos=True, temperature=temperature
            ),
        )
        for index, prompt in enumerate(prompts)
    ]


def pairs(found: list[list[Sample]], expected: list[list[Sample]]) -> list[tuple[Sample, Sample]]:
    flat = (list(itertools.chain.from_iterable(groups)) for groups in (found, expected))
    return list(zip(*flat, strict=True))


def assert_same(found: list[list[Sample]], expected: list[list[Sample]], tolerance: float) -> None:
    for ours, theirs in pairs(found, expected):
        assert ours.token_ids == theirs.token_ids
        assert np.allclose(ours.raw_logprobs, theirs.raw_logprobs, atol=tolerance)


def graphs_of(engine: Engine) -> DecodeGraphs:
    graphs = engine._runner.graphs
    assert graphs is not None
    return graphs


def test_sizes() -> None:
    assert [padded_size(n) for n in (1, 2, 3, 5, 16, 17, 512, 513)] == [
        1, 2, 4, 8, 16, 32, 512, None,
    ]  # fmt: skip
    assert sorted(SIZES) == list(SIZES)


def test_samples_are_those_of_torch(gpu_engine: Engine, torch_engine: Engine) -> None:
    """While sequences join, chunks of prompts come between, and rows leave one by one."""
    wanted = requests(temperature=1.0)
    assert_same(gpu_engine.generate(wanted), torch_engine.generate(wanted), 1e-5)
    # Every size once, and most steps by replaying.
    assert PlainRecorder.num_recorded == len(graphs_of(gpu_engine)._recorded) >= 3
    assert PlainRecorder.num_replayed > 2 * PlainRecorder.num_recorded


def test_padded_rows_write_nothing(gpu_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the buffers still hold rows of a larger step."""
    graphs, layers = graphs_of(gpu_engine), gpu_engine._kv_cache.layers
    run, num_padded = graphs.run, 0

    def watched(token_ids: np.ndarray, packed: PackedStep) -> Tensor | None:
        nonlocal num_padded
        before = [layer.flatten(0, 1).clone() for layer in layers]
        hidden = run(token_ids, packed)
        if hidden is not None:
            assert hidden.shape[0] == len(token_ids) and bool(hidden.isfinite().all())
            assert isinstance(packed.metadata, PagedPlan)
            num_padded += padded_size(len(token_ids)) != len(token_ids)
            for layer, old in zip(layers, before, strict=True):
                is_same = (layer.flatten(0, 1) == old).flatten(1).all(1)
                is_same[torch.from_numpy(packed.metadata.write_slots)] = True
                assert bool(is_same.all())
        return hidden

    monkeypatch.setattr(graphs, "run", watched)
    gpu_engine.generate(requests())
    assert num_padded >= 2


def test_steps_of_another_kind_are_not_replayed(gpu_engine: Engine) -> None:
    """A prompt's part beside decoding rows, drafts, more rows than there are buffers for."""
    graphs, table = graphs_of(gpu_engine), np.arange(64).reshape(8, 8)
    assert graphs.max_rows == 8

    def step(*parts: Spans) -> Tensor | None:
        sizes = [0, *(int(part.lengths.sum()) for part in parts)]
        groups = list(zip(np.cumsum(sizes).tolist(), parts, strict=False))
        num_tokens, none = sum(sizes), np.zeros(sum(sizes), np.int64)
        plan = plan_pages(none, groups, table, 4, 8)
        packed = PackedStep(none, none, none, torch.from_numpy(none), plan)
        return graphs.run(np.zeros(num_tokens, np.int64), packed)

    row = np.arange(2)
    decode, chunk = Spans(row, row + 4, row + 5), Spans(row + 2, row * 0, row + 3)
    assert step(decode, chunk) is None
    assert step(Spans(row, row + 4, row + 6)) is None
    assert step(Spans(np.zeros(9, np.int64), np.zeros(9, np.int64), np.ones(9, np.int64))) is None
    with torch.inference_mode():
        assert step(decode) is not None


def test_weights_copied_in_place_are_read_and_moved_ones_recorded(
    gpu_engine: Engine, torch_engine: Engine, model: LanguageModel, model_config: ModelConfig
) -> None:
    wanted = requests()[:2]
    first = gpu_engine.generate(wanted)
    num_recorded = PlainRecorder.num_recorded
    other = build_model(model_config, seed=8)
    gpu_engine.load_weights(other.checkpoint_tensors(), version=1)
    second = gpu_engine.generate(wanted)
    assert PlainRecorder.num_recorded == num_recorded
    torch_engine.reset_prefix_cache()
    assert_same(second, torch_engine.generate(wanted), 1e-5)
    assert first[0][0].token_ids != second[0][0].token_ids
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
    gpu_engine.reset_prefix_cache()
    assert_same(gpu_engine.generate(wanted), second, 0.0)
    assert PlainRecorder.num_recorded == 2 * num_recorded


def test_a_refused_recording_is_logged_once_and_steps_go_on(
    gpu_engine: Engine, torch_engine: Engine, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def refuse(compute: Callable[[], Tensor]) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(graphs_of(gpu_engine), "record", refuse)
    with caplog.at_level(logging.WARNING):
        found = gpu_engine.generate(requests())
    assert_same(found, torch_engine.generate(requests()), 1e-5)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == (
        "decoding without CUDA graphs: operation not permitted when stream is capturing"
    )


# ------------------------------------------------------------ on a GPU


@pytest.fixture
def cuda_engine(tokenizer: Tokenizer) -> Engine:
    config = qwen2(258, initializer_range=0.2, head_dim=64, hidden_size=128)
    model = build_model(config, torch.bfloat16, "cuda", seed=7)
    assert isinstance(model, LanguageModel)
    return Engine(model, tokenizer, EngineConfig.model_validate(SETTINGS))


@pytest.mark.gpu
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_graphs_give_what_single_launches_give(
    cuda_engine: Engine, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    """Rows are padded in one and not in the other, so products may be rounded otherwise."""
    recorded = [cuda_engine.generate(requests(40, temperature))]
    graphs = graphs_of(cuda_engine)
    assert len(graphs._recorded) >= 3 and not graphs._is_off
    other = build_model(cuda_engine.model.config, torch.bfloat16, seed=8)
    cuda_engine.load_weights(other.checkpoint_tensors(), version=1)
    recorded.append(cuda_engine.generate(requests(40, temperature)))
    monkeypatch.setattr(cuda_engine._runner, "graphs", None)
    cuda_engine.reset_prefix_cache()
    single = cuda_engine.generate(requests(40, temperature))
    same = [
        np.mean(np.array(ours.token_ids[:8]) == theirs.token_ids[:8])
        for ours, theirs in pairs(recorded[1], single)
    ]
    assert np.mean(same) > 0.9
    for ours, theirs in pairs(recorded[1], single):
        assert abs(ours.raw_logprobs[0] - theirs.raw_logprobs[0]) < 0.05
    assert recorded[0][0][0].token_ids != recorded[1][0][0].token_ids


@pytest.mark.gpu
def test_attention_over_pages_gives_what_torch_gives(
    cuda_engine: Engine, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp32, where both agree to rounding."""
    model = cuda_engine.model.float()
    paged = Engine(model, tokenizer, EngineConfig.model_validate(SETTINGS))
    assert graphs_of(paged) is not None
    monkeypatch.setattr(kv_cache, "paged_kernels", lambda *_: None)
    plain = Engine(model, tokenizer, EngineConfig.model_validate(SETTINGS))
    assert_same(paged.generate(requests()), plain.generate(requests()), 1e-3)
