"""Self-speculative decoding: the same samples in fewer steps, whatever the drafts are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from r1.engine.engine import Engine, EngineConfig
from r1.engine.sampler import sample
from r1.engine.stream_options import StreamOptions
from r1.models.architectures import build_model
from r1.models.deepseek_v3 import DeepseekV3ForCausalLM
from r1.records import GenerationRequest, Sample, SamplingParams
from r1.text.tokenizer import Tokenizer
from tests.engine.conftest import DEEPSEEK_V3, VOCAB_SIZE
from tests.small_models import deepseek_v3

MakeEngine = Callable[..., Engine]
FIRST, COUNT = ord("a") - ord("!"), 20  # the tokenizer's id of "a"
flat = chain.from_iterable


def ids_of(letters: str) -> tuple[int, ...]:
    return tuple(FIRST + ord(letter) - ord("a") for letter in letters)


def build(**changes: Any) -> DeepseekV3ForCausalLM:
    config = deepseek_v3(VOCAB_SIZE, **DEEPSEEK_V3 | {"num_nextn_predict_layers": 1} | changes)
    model = build_model(config, seed=7)
    assert isinstance(model, DeepseekV3ForCausalLM)
    return model


@pytest.fixture(scope="module")
def counting() -> DeepseekV3ForCausalLM:
    """Has learnt to say the letters a to t in turn, at times leaving one out; so has its layer."""
    torch.manual_seed(0)
    model = build(initializer_range=0.05).requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    rows, length = 24, 16
    positions_BT = torch.arange(length).expand(rows, -1)
    for _ in range(120):
        steps_BT = 1 + (torch.rand(rows, length) < 0.2).long()
        steps_BT[:, 0] = torch.randint(COUNT, (rows,))
        ids_BT = steps_BT.cumsum(1) % COUNT + FIRST
        hidden_BTD = model(ids_BT, positions_BT)
        drafted_BTD = model.draft(hidden_BTD[:, :-1], ids_BT[:, 1:], positions_BT[:, :-1])
        losses = [
            torch.nn.functional.cross_entropy(model.compute_logits(states).flatten(0, 1), targets)
            for states, targets in (
                (hidden_BTD[:, :-1], ids_BT[:, 1:].flatten()),
                (drafted_BTD[:, :-1], ids_BT[:, 2:].flatten()),
            )
        ]
        optimizer.zero_grad()
        torch.autograd.backward(losses)
        optimizer.step()
    return model.requires_grad_(False)


@pytest.fixture
def make(counting: DeepseekV3ForCausalLM, tokenizer: Tokenizer) -> MakeEngine:
    def make(
        speculative_tokens: int = 0, model: DeepseekV3ForCausalLM = counting, **settings: object
    ) -> Engine:
        values = {"block_size": 4, "num_blocks": 256, "max_num_seqs": 64}
        values |= {"speculative_tokens": speculative_tokens, **settings}
        return Engine(model, tokenizer, EngineConfig.model_validate(values))

    return make


SAMPLED = SamplingParams(temperature=1.0, max_tokens=14, ignore_eos=True)
CUT = SamplingParams(temperature=0.9, top_p=0.95, top_k=9, min_p=0.01, max_tokens=14)
GREEDY = SamplingParams(temperature=0.0, max_tokens=14)


def requests_of(
    sampling: SamplingParams = SAMPLED, seed: int = 11, num_samples: int = 3, **changes: Any
) -> list[GenerationRequest]:
    """Prompts that begin to count, of several lengths; one of them is full blocks."""
    return [
        GenerationRequest(
            id=f"q{length}",
            prompt_ids=tuple(FIRST + (length + i) % COUNT for i in range(length)),
            sampling=replace(sampling, **changes),
            num_samples=num_samples,
            seed=seed,
        )
        for length in (1, 7, 16, 30)
    ]


def assert_same(left: list[list[Sample]], right: list[list[Sample]]) -> None:
    """Equal but for rounding in the log-probs."""
    for a, b in zip(flat(left), flat(right), strict=True):
        assert a.sampler_logprobs == pytest.approx(b.sampler_logprobs, abs=1e-5)
        assert a.raw_logprobs == pytest.approx(b.raw_logprobs, abs=1e-5)
        nothing = {"sampler_logprobs": (), "raw_logprobs": (), "routed_experts": None}
        assert replace(a, **nothing) == replace(b, **nothing)


@pytest.mark.parametrize("num_drafts", [1, 3])
@pytest.mark.parametrize("sampling", [SAMPLED, CUT, GREEDY], ids=["sampled", "cut", "greedy"])
def test_samples_are_those_without_drafts(
    make: MakeEngine, num_drafts: int, sampling: SamplingParams
) -> None:
    for seed in (1, 2):
        engine = make(num_drafts)
        requests = requests_of(sampling, seed)
        assert_same(engine.generate(requests), make().generate(requests))
        stats = engine.stats()
        assert 0.5 < (stats.acceptance_rate or 0) <= 1
        assert stats.num_free_blocks == stats.num_blocks
        assert stats.num_generated_tokens == 4 * 3 * 14


def test_drafts_that_are_worth_nothing_change_nothing(make: MakeEngine) -> None:
    model = build()
    engine = make(2, model)
    assert_same(engine.generate(requests_of()), make(0, model).generate(requests_of()))
    assert engine.stats().num_accepted_tokens < 0.2 * engine.stats().num_draft_tokens


@pytest.mark.parametrize(
    "settings",
    [
        {"max_num_batched_tokens": 12, "max_num_seqs": 4},  # chunked prefill, few rows
        {"block_size": 1, "num_blocks": 700},
        {"block_size": 16, "num_blocks": 64},
        {"enable_prefix_caching": False},
        {"num_blocks": 16, "max_model_len": 64},  # preemption
        {"num_blocks": 12, "max_model_len": 48, "enable_prefix_caching": False},
        {"record_routing": True},
    ],
)
def test_arrangement_does_not_change_results(make: MakeEngine, settings: dict[str, int]) -> None:
    requests = requests_of()
    engine = make(2, **settings)
    assert_same(engine.generate(requests), make().generate(requests))
    stats = engine.stats()
    assert stats.num_free_blocks == stats.num_blocks
    assert stats.num_accepted_tokens > 0
    assert (stats.num_preemptions > 0) == (settings.get("num_blocks", 99) <= 16)
    # Again, with every prompt in the prefix cache.
    assert_same(engine.generate(requests), make().generate(requests))


@pytest.mark.parametrize(
    "changes",
    [
        {"max_tokens": 1},
        {"max_tokens": 2},
        {"max_tokens": 5},
        {"stop_token_ids": ids_of("em")},
        {"stop_token_ids": ids_of("em"), "min_tokens": 6},
        {"stop": ("fg", "q")},
        {"stop": ("fg", "q"), "min_tokens": 4},
        {"stop": ("gh",), "stop_token_ids": ids_of("i")},
    ],
)
def test_replies_end_within_an_accepted_run(make: MakeEngine, changes: dict[str, Any]) -> None:
    for sampling in (GREEDY, SAMPLED):
        requests = requests_of(sampling, **changes)
        engine, plain = make(3), make()
        samples = engine.generate(requests)
        assert_same(samples, plain.generate(requests))
        reasons = {sample.finish_reason for sample in flat(samples)}
        assert ("stop" in reasons) == ("max_tokens" not in changes)
        stats = engine.stats()
        assert stats.num_generated_tokens == plain.stats().num_generated_tokens
        assert stats.num_free_blocks == stats.num_blocks


def test_few_steps_for_many_tokens(make: MakeEngine) -> None:
    (request,) = requests_of(GREEDY, num_samples=1, max_tokens=60)[1:2]
    engine = make(3)
    engine.generate([request])
    assert make().generate([request])[0][0].token_ids[:3] == ids_of("opq")
    stats = engine.stats()
    assert stats.num_generated_tokens == 60
    assert stats.num_steps <= 25
    assert stats.acceptance_rate is not None and stats.acceptance_rate > 0.6


def drawn_from(logits_TV: torch.Tensor, sampling: SamplingParams) -> torch.Tensor:
    """Log-probs after temperature and top-k."""
    scaled_TV = logits_TV / sampling.temperature
    if sampling.top_k:
        least_T1 = scaled_TV.topk(sampling.top_k).values[:, -1:]
        scaled_TV = scaled_TV.masked_fill(scaled_TV < least_T1, -torch.inf)
    return scaled_TV.log_softmax(-1)


def uncached_logits(model: DeepseekV3ForCausalLM, ids: tuple[int, ...]) -> torch.Tensor:
    with torch.inference_mode():
        return model.compute_logits(model(torch.tensor([ids]), torch.arange(len(ids))[None]))[0]


def test_logprobs_are_those_of_an_uncached_forward(
    make: MakeEngine, counting: DeepseekV3ForCausalLM
) -> None:
    sampling = replace(SAMPLED, temperature=0.8, top_k=3)
    for one in flat(make(2).generate(requests_of(sampling))):
        logits = uncached_logits(counting, one.prompt_ids + one.token_ids)
        logits = logits[len(one.prompt_ids) - 1 : -1]
        tokens = torch.tensor(one.token_ids)[:, None]
        raw = logits.log_softmax(-1).gather(1, tokens)[:, 0]
        assert one.raw_logprobs == pytest.approx(raw.tolist(), abs=1e-5)
        expected = drawn_from(logits, sampling).gather(1, tokens)[:, 0]
        assert one.sampler_logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_distribution_is_the_models(make: MakeEngine, counting: DeepseekV3ForCausalLM) -> None:
    """All replies of 5 tokens against their exact probabilities: a chi-square test.

    31 degrees of freedom: 61.1 is the 99.9% quantile.
    """
    sampling = replace(SAMPLED, temperature=3.0, top_k=2, max_tokens=5)
    request = replace(requests_of(sampling)[1], num_samples=4000)
    probs: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(5):
        grown = {}
        for reply, prob in probs.items():
            logits = uncached_logits(counting, request.prompt_ids + reply)[-1:]
            row = drawn_from(logits, sampling)[0].exp()
            for token in row.nonzero()[:, 0].tolist():
                grown[*reply, token] = prob * float(row[token])
        probs = grown
    assert len(probs) == 32
    engine = make(2, max_num_seqs=512, num_blocks=3000)
    replies = [one.token_ids for one in engine.generate([request])[0]]
    assert engine.stats().num_accepted_tokens > 2000
    counts = np.array([replies.count(reply) for reply in probs])
    expected = np.array(list(probs.values())) * len(replies)
    assert expected.min() > 5
    assert counts.sum() == len(replies)
    assert ((counts - expected) ** 2 / expected).sum() < 61.1


@pytest.mark.parametrize("num_drafts", [1, 2])
@pytest.mark.parametrize("settings", [{}, {"max_num_batched_tokens": 6, "max_num_seqs": 2}])
def test_drafts_are_those_of_an_uncached_forward(
    make: MakeEngine, counting: DeepseekV3ForCausalLM, num_drafts: int, settings: dict[str, int]
) -> None:
    """The layer's cache holds what it should: as many drafts are accepted as without one."""
    sampling = replace(SAMPLED, temperature=2.0, max_tokens=40)
    (request,) = requests_of(sampling, num_samples=1)[3:]
    engine = make(num_drafts, block_size=128, num_blocks=8, **settings)
    (reply,) = engine.generate([request])[0]
    expected = replay_drafts(counting, engine, request, reply)
    stats = engine.stats()
    assert (stats.num_draft_tokens, stats.num_accepted_tokens) == expected
    assert 0 < expected[1] < expected[0]


def replay_drafts(
    model: DeepseekV3ForCausalLM, engine: Engine, request: GenerationRequest, reply: Sample
) -> tuple[int, int]:
    """How many tokens are drafted and accepted, computed anew for every step."""
    rows = engine._rows
    rows.add(engine._new_group(request, None).sequences[0], [])
    slot = np.array([rows.sequences.index(next(filter(None, rows.sequences)))])
    ids, num_tokens = request.prompt_ids + reply.token_ids, len(request.prompt_ids) + 1
    num_drafted = num_accepted = 0
    while num_tokens < len(ids):
        known = torch.tensor([ids[:num_tokens]])
        positions = torch.arange(num_tokens + 9)[None]
        states, following = model(known, positions[:, :num_tokens])[:, :-1], known[:, 1:]
        is_going_on = True
        drafts = min(engine.config.speculative_tokens, len(ids) - num_tokens - 1)
        for place in range(num_tokens, num_tokens + drafts):
            hidden = model.draft(states, following, positions[:, : states.shape[1]])[:, -1:]
            ahead = np.array([place - len(request.prompt_ids)])
            drafted = sample(model.compute_logits(hidden[0]), rows.sampling_batch(slot, ahead))
            token_id = int(drafted.token_ids[0])
            states = torch.cat((states, hidden), 1)
            following = torch.cat((following, torch.tensor([[token_id]])), 1)
            num_drafted += 1
            is_going_on &= token_id == ids[place]
            num_accepted += is_going_on
            num_tokens += is_going_on
        num_tokens += 1
    return num_drafted, num_accepted


def test_streamed_tokens_come_with_their_alternatives(make: MakeEngine) -> None:
    engine = make(3)
    (request,) = requests_of(num_samples=1, stop=("k",), max_tokens=40)[:1]
    engine.add_request(request, StreamOptions(num_top_logprobs=2))
    outputs = []
    while engine.has_unfinished():
        outputs += engine.step()
    assert max(len(one.new_token_ids) for one in outputs) > 1
    sample = outputs[-1].finished
    assert sample is not None and sample.finish_reason == "stop"
    assert [one.finished for one in outputs[:-1]] == [None] * (len(outputs) - 1)
    assert tuple(flat(one.new_token_ids for one in outputs)) == sample.token_ids
    assert "".join(one.new_text for one in outputs) == sample.text
    assert tuple(flat(one.raw_logprobs for one in outputs)) == sample.raw_logprobs
    alternatives = list(flat(one.top_logprobs for one in outputs))
    assert list(map(len, alternatives)) == [2] * len(sample.token_ids)
    assert_same([[sample]], make().generate([request]))


def test_a_constraint_is_asked_token_by_token(make: MakeEngine) -> None:
    class Vowels:
        lengths: list[int] = []
        next_length = 0

        def allowed(self, reply_ids: np.ndarray) -> np.ndarray:
            self.lengths.append(len(reply_ids))
            return np.isin(np.arange(258), ids_of("aeio"))

    engine, constraint = make(2), Vowels()
    (request,) = requests_of(num_samples=1)[:1]
    engine.add_request(request, StreamOptions(constraint=constraint))
    engine.add_request(replace(request, id="free"))
    finished = {}
    while engine.has_unfinished():
        finished |= {one.request_id: one.finished for one in engine.step() if one.finished}
    assert set(finished["q1"].token_ids) <= set(ids_of("aeio"))
    assert constraint.lengths == list(range(14))
    assert engine.stats().num_accepted_tokens > 0


def test_new_weights_serve_the_drafts_too(
    make: MakeEngine, counting: DeepseekV3ForCausalLM
) -> None:
    engine = make(2, build())
    engine.generate(requests_of(GREEDY))
    engine.load_weights(counting.checkpoint_tensors(), version=1)
    before = engine.stats().num_accepted_tokens
    samples = engine.generate(requests_of(GREEDY))
    assert_same(
        samples,
        [
            [replace(s, weights_version=1) for s in row]
            for row in make().generate(requests_of(GREEDY))
        ],
    )
    assert engine.stats().num_accepted_tokens - before > 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_num_batched_tokens": 100}, r"max_num_seqs \* \(1 \+ speculative_tokens\) = 192"),
        ({"model": build(num_nextn_predict_layers=0)}, "has no multi-token-prediction layer"),
    ],
)
def test_impossible_settings(make: MakeEngine, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make(2, **settings)
    assert "\n" not in str(caught.value)
