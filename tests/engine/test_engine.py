"""The engine against an uncached forward, and against itself in other arrangements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from r1.engine.engine import Engine
from r1.models.deepseek_v3 import DeepseekV3ForCausalLM
from r1.models.language_model import LanguageModel
from r1.models.moe import RoutingTrace
from r1.records import GenerationRequest, Sample, SamplingParams

MakeEngine = Callable[..., Engine]
flat = chain.from_iterable
SAMPLED = SamplingParams(temperature=0.8, top_p=0.9, max_tokens=14, ignore_eos=True)
GREEDY = SamplingParams(temperature=0.0, max_tokens=14, ignore_eos=True)


def make_requests(
    sampling: SamplingParams = SAMPLED, lengths: tuple[int, ...] = (3, 17, 8, 30), samples: int = 3
) -> list[GenerationRequest]:
    rng = np.random.default_rng(0)
    return [
        GenerationRequest(
            id=f"q{index}",
            prompt_ids=tuple(rng.integers(0, 256, length).tolist()),
            sampling=sampling,
            num_samples=samples,
            seed=11,
        )
        for index, length in enumerate(lengths)
    ]


def assert_same(left: list[list[Sample]], right: list[list[Sample]]) -> None:
    """Equal tokens, texts and reasons; log-probs to 1e-5."""
    flat_left, flat_right = list(flat(left)), list(flat(right))
    assert len(flat_left) == len(flat_right)
    for a, b in zip(flat_left, flat_right, strict=True):
        assert (a.request_id, a.sample_index, a.token_ids) == (
            b.request_id,
            b.sample_index,
            b.token_ids,
        )
        assert (a.text, a.finish_reason) == (b.text, b.finish_reason)
        assert a.sampler_logprobs == pytest.approx(b.sampler_logprobs, abs=1e-5)
        assert a.raw_logprobs == pytest.approx(b.raw_logprobs, abs=1e-5)


def uncached_logits(model: LanguageModel, ids: tuple[int, ...]) -> torch.Tensor:
    """Logits [T, V] of one sequence by the training forward."""
    with torch.inference_mode():
        hidden_BTD = model(torch.tensor([ids]), torch.arange(len(ids))[None])
        return model.compute_logits(hidden_BTD)[0].float()


def test_cached_greedy_is_uncached_greedy(make_engine: MakeEngine, model: LanguageModel) -> None:
    for row in make_engine().generate(make_requests(GREEDY, samples=1)):
        ids = row[0].prompt_ids
        for token_id in row[0].token_ids:
            assert int(uncached_logits(model, ids)[-1].argmax()) == token_id
            ids += (token_id,)


@pytest.mark.parametrize("sampling", [SAMPLED, replace(SAMPLED, temperature=1.0, top_p=1.0)])
def test_logprobs_are_those_of_an_uncached_forward(
    make_engine: MakeEngine, model: LanguageModel, sampling: SamplingParams
) -> None:
    for sample in flat(make_engine().generate(make_requests(sampling))):
        logits = uncached_logits(model, sample.prompt_ids + sample.token_ids)
        logits = logits[len(sample.prompt_ids) - 1 : -1]
        tokens = torch.tensor(sample.token_ids)[:, None]
        raw = logits.log_softmax(-1).gather(1, tokens)[:, 0]
        assert sample.raw_logprobs == pytest.approx(raw.tolist(), abs=1e-5)
        scaled = logits / sampling.temperature
        for row in scaled if sampling.top_p < 1 else ():
            probs, order = row.softmax(-1).sort(descending=True)
            row[order[int((probs.cumsum(-1) < sampling.top_p).sum()) + 1 :]] = -torch.inf
        drawn_from = scaled.log_softmax(-1).gather(1, tokens)[:, 0]
        assert sample.sampler_logprobs == pytest.approx(drawn_from.tolist(), abs=1e-5)


def test_greedy_sampler_logprobs_are_zero(make_engine: MakeEngine) -> None:
    sample = make_engine().generate(make_requests(GREEDY, samples=1))[0][0]
    assert set(sample.sampler_logprobs) == {0.0}
    assert max(sample.raw_logprobs) < 0


def test_batched_is_one_by_one(make_engine: MakeEngine) -> None:
    requests = make_requests()
    alone = [make_engine(max_num_seqs=1).generate([request])[0] for request in requests]
    assert_same(make_engine().generate(requests), alone)


def test_order_of_requests_does_not_matter(make_engine: MakeEngine) -> None:
    requests = make_requests()
    backwards = make_engine().generate(requests[::-1])[::-1]
    assert_same(make_engine().generate(requests), backwards)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_num_batched_tokens": 5, "max_num_seqs": 4},  # chunked prefill, few rows
        {"max_num_batched_tokens": 64, "max_num_seqs": 64},
        {"block_size": 16, "num_blocks": 64},
        {"block_size": 1, "num_blocks": 700},
        {"enable_prefix_caching": False},
        {"touch_cache": True},
        {"num_blocks": 16, "max_model_len": 64},  # preemption
        {"num_blocks": 12, "max_model_len": 48, "enable_prefix_caching": False},
    ],
)
def test_arrangement_does_not_change_results(
    make_engine: MakeEngine, settings: dict[str, int]
) -> None:
    requests = make_requests()
    engine = make_engine(**settings)
    assert_same(engine.generate(requests), make_engine().generate(requests))
    stats = engine.stats()
    assert stats.num_free_blocks == stats.num_blocks
    assert (stats.num_preemptions > 0) == (settings.get("num_blocks", 99) <= 16)


def test_shared_prefill_is_separate_prefill(make_engine: MakeEngine) -> None:
    """One request of 5 samples = 5 requests of one sample and no sharing of any kind."""
    (request,) = make_requests(lengths=(19,), samples=5)
    apart = [replace(request, num_samples=1, first_sample_index=i) for i in range(5)]
    separate = make_engine(enable_prefix_caching=False)
    shared = make_engine(enable_prefix_caching=False)
    together = shared.generate([request])
    assert_same(together, [list(flat(separate.generate(apart)))])
    assert len({sample.token_ids for sample in together[0]}) == 5


def test_a_group_prefills_once(make_engine: MakeEngine) -> None:
    engine = make_engine(num_blocks=64)
    (request,) = make_requests(lengths=(18,), samples=6)
    engine.add_request(request)
    engine.step()
    # 4 full prompt blocks shared, and a partly filled one for each sample.
    assert engine.stats().num_free_blocks == 64 - 4 - 6
    assert engine.stats().num_running == 6


def test_prefix_cache_across_requests(make_engine: MakeEngine) -> None:
    engine = make_engine()
    requests = make_requests(lengths=(19, 16))
    first = engine.generate(requests)
    assert engine.stats().num_cached_tokens == 0
    assert_same(engine.generate(requests), first)
    # 4 blocks of the first; 3 of the second, whose last token must be computed.
    assert engine.stats().num_cached_tokens == 16 + 12


def test_prefix_cache_within_one_step(make_engine: MakeEngine) -> None:
    (request,) = make_requests(lengths=(19,), samples=1)
    engine = make_engine()
    twins = [request, replace(request, id="other")]
    results = engine.generate(twins)
    assert engine.stats().num_cached_tokens == 16
    assert_same(results, [make_engine().generate([twin])[0] for twin in twins])


def test_repeats_bit_for_bit(make_engine: MakeEngine) -> None:
    requests = make_requests()
    engine = make_engine()
    first = engine.generate(requests)
    engine.reset_prefix_cache()
    assert engine.generate(requests) == first
    assert make_engine().generate(requests) == first


def test_seed_and_sample_index_choose_the_stream(make_engine: MakeEngine) -> None:
    (request,) = make_requests(lengths=(9,), samples=4)
    engine = make_engine()
    (samples,) = engine.generate([request])
    (tail,) = engine.generate([replace(request, first_sample_index=2, num_samples=2)])
    assert [s.token_ids for s in tail] == [s.token_ids for s in samples[2:]]
    assert [s.sample_index for s in tail] == [2, 3]
    (other,) = engine.generate([replace(request, seed=12)])
    assert {s.token_ids for s in other}.isdisjoint({s.token_ids for s in samples})


def test_on_sample_comes_in_order_of_finishing(make_engine: MakeEngine) -> None:
    long, short = make_requests(lengths=(3, 3), samples=2)
    short = replace(short, sampling=replace(SAMPLED, max_tokens=2))
    seen: list[str] = []
    make_engine().generate([long, short], lambda sample: seen.append(sample.request_id))
    assert seen == ["q1", "q1", "q0", "q0"]


def test_reply_stops_at_the_context_limit(make_engine: MakeEngine) -> None:
    engine = make_engine(max_model_len=20)
    (request,) = make_requests(replace(SAMPLED, max_tokens=100), lengths=(15,), samples=2)
    for sample in engine.generate([request])[0]:
        assert (len(sample.token_ids), sample.finish_reason) == (5, "length")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_ids": ()}, "request 'q0': the prompt is empty"),
        ({"prompt_ids": (1,) * 64}, "a prompt of 64 tokens can never fit: max_model_len is 64"),
        ({"prompt_ids": (1, 999)}, "prompt_ids has 999, outside the vocabulary of 258"),
        ({"num_samples": 0}, "num_samples must be 1 or more, not 0"),
        ({"sampling": SamplingParams(stop_token_ids=(-1,))}, "stop_token_ids has -1"),
    ],
)
def test_impossible_requests(
    make_engine: MakeEngine, changes: dict[str, object], message: str
) -> None:
    (request,) = make_requests(lengths=(4,))
    engine = make_engine(num_blocks=16)
    with pytest.raises(ValueError, match=message) as caught:
        engine.generate([request, replace(request, **changes)])
    assert "\n" not in str(caught.value)
    assert not engine.has_unfinished()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_num_batched_tokens": 8}, "must be at least max_num_seqs"),
        ({"num_blocks": None, "kv_cache_bytes": 100}, "holds no block"),
        ({"num_blocks": None, "kv_cache_bytes": 10**17}, "GiB does not fit the memory of cpu"),
        ({"max_model_len": 5000}, "does not fit a KV cache of 1024 tokens"),
        ({"max_model_len": 300}, "exceeds the model's context of 256"),
    ],
)
def test_impossible_settings(
    make_engine: MakeEngine, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_engine(**settings)


def test_an_exception_in_on_sample_leaves_the_engine_usable(make_engine: MakeEngine) -> None:
    engine = make_engine()
    requests = make_requests()

    def interrupt(sample: Sample) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(requests, interrupt)
    assert engine.stats().num_free_blocks == engine.stats().num_blocks
    assert not engine.has_unfinished()
    assert engine.generate(requests) == make_engine().generate(requests)


# ------------------------------------------------------------ weights


def test_load_weights_changes_results_version_and_flushes_the_cache(
    make_engine: MakeEngine, model: LanguageModel
) -> None:
    engine = make_engine()
    requests = make_requests(GREEDY)
    before = engine.generate(requests)
    old = {name: tensor.clone() for name, tensor in model.checkpoint_tensors()}
    assert engine.stats().num_cached_blocks > 0
    engine.load_weights(((name, tensor.flip(0)) for name, tensor in old.items()), version=3)
    assert engine.stats().num_cached_blocks == 0
    changed = engine.generate(requests)
    assert {sample.weights_version for row in changed for sample in row} == {3}
    assert [s.token_ids for s in changed[0]] != [s.token_ids for s in before[0]]
    engine.load_weights(old.items(), version=4)
    restored = engine.generate(requests)
    assert [[replace(s, weights_version=0) for s in row] for row in restored] == before


def test_load_weights_refuses_wrong_tensors_and_changes_nothing(
    make_engine: MakeEngine, model: LanguageModel
) -> None:
    engine = make_engine()
    good = {name: tensor.clone() for name, tensor in model.checkpoint_tensors()}
    name = "model.layers.0.mlp.up_proj.weight"
    zeros = {key: torch.zeros_like(tensor) for key, tensor in good.items()}
    cases = {
        "1 missing tensors: " + name: {k: v for k, v in zeros.items() if k != name},
        "1 unknown tensors: model.extra": {**zeros, "model.extra": torch.zeros(1)},
        r"up_proj.weight has shape \[3\], expected \[64, 32\]": {**zeros, name: torch.zeros(3)},
    }
    for message, tensors in cases.items():
        with pytest.raises(ValueError, match=message):
            engine.load_weights(tensors.items(), version=1)
    assert engine.weights_version == 0
    assert all(torch.equal(good[key], value) for key, value in model.checkpoint_tensors())


def test_load_weights_is_refused_while_requests_run(
    make_engine: MakeEngine, model: LanguageModel
) -> None:
    engine = make_engine()
    engine.add_request(make_requests()[0])
    with pytest.raises(ValueError, match="in flight"):
        engine.load_weights(model.checkpoint_tensors(), version=1)
    with pytest.raises(ValueError, match="add_request"):
        engine.generate(make_requests())


def test_weights_of_nan_are_an_error_and_the_engine_recovers(
    make_engine: MakeEngine, model: LanguageModel
) -> None:
    engine = make_engine()
    requests = make_requests()
    good = {name: tensor.clone() for name, tensor in model.checkpoint_tensors()}
    expected = engine.generate(requests)
    bad = {name: tensor * torch.nan for name, tensor in good.items()}
    engine.load_weights(bad.items(), version=1)
    with pytest.raises(ValueError, match="not finite"):
        engine.generate(requests)
    engine.load_weights(good.items(), version=0)
    assert engine.generate(requests) == expected


def test_bfloat16_generates_and_reports_its_own_logprobs(
    make_engine: MakeEngine, model: LanguageModel
) -> None:
    model.to(torch.bfloat16)
    for sample in flat(make_engine().generate(make_requests())):
        assert len(sample.token_ids) == 14
        assert np.isfinite(sample.sampler_logprobs).all()


@pytest.mark.parametrize(
    "settings", [{}, {"num_blocks": 16, "max_model_len": 64}, {"max_num_batched_tokens": 5}]
)
def test_recorded_routing_is_that_of_an_uncached_forward(
    make_engine: MakeEngine, model: LanguageModel, settings: dict[str, int]
) -> None:
    """Shared prefixes, forks of a prompt, chunks and preemption included."""
    if not isinstance(model, DeepseekV3ForCausalLM):
        with pytest.raises(ValueError, match="record_routing: Qwen2ForCausalLM has no experts"):
            make_engine(record_routing=True)
        return
    if settings.get("max_num_batched_tokens"):
        settings = {**settings, "max_num_seqs": 4}
    for sample in flat(make_engine(record_routing=True, **settings).generate(make_requests())):
        ids = sample.prompt_ids + sample.token_ids[:-1]
        trace = RoutingTrace()
        with torch.inference_mode():
            model(torch.tensor([ids]), torch.arange(len(ids))[None], trace=trace)
        assert sample.routed_experts is not None
        assert sample.routed_experts.shape == (len(ids), 1, 2)
        recorded = torch.from_numpy(sample.routed_experts[:, 0]).sort(1).values
        assert torch.equal(recorded.long(), trace.experts[1].sort(1).values)
