from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from r1.engine.sampler import SamplingBatch, sample, stream_key, uniforms
from r1.kernels.native import load_kernels


@pytest.fixture(params=["c", "torch"], autouse=True)
def sampler_path(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways to sample; the C kernels serve where nothing is to be differentiated."""
    if request.param == "c" and load_kernels() is None:
        pytest.skip("no C compiler")
    with torch.set_grad_enabled(request.param == "torch"):
        yield


def settings(num_rows: int, **values: Any) -> SamplingBatch:
    """Rows with the given settings; row b is reply position b of one stream."""

    def full(value: Any, dtype: Any) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, dtype), (num_rows,)).copy()

    return SamplingBatch(
        temperature=full(values.get("temperature", 1.0), np.float64),
        top_k=full(values.get("top_k", 0), np.int64),
        top_p=full(values.get("top_p", 1.0), np.float64),
        min_p=full(values.get("min_p", 0.0), np.float64),
        stream_keys=full(values.get("key", stream_key(0, "q", 0)), np.uint64),
        positions=np.arange(num_rows),
        banned_ids=np.asarray(values.get("banned_ids", np.full((num_rows, 1), -1)), np.int64),
        allowed=values.get("allowed", np.full(num_rows, None, object)),
        num_top_logprobs=full(values.get("num_top_logprobs", 0), np.int64),
    )


def support_and_probs(probs: list[float], **values: Any) -> dict[int, float]:
    """Every token drawn in 400 draws, with the probability that the sampler reports."""
    logits = torch.tensor(probs).log().expand(400, -1)
    result = sample(logits, settings(400, **values))
    pairs = zip(result.token_ids.tolist(), np.exp(result.sampler_logprobs).tolist(), strict=True)
    return {token: round(prob, 5) for token, prob in pairs}


TABLE = [0.5, 0.25, 0.125, 0.0625, 0.0625]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.0625, 4: 0.0625}),
        ({"top_k": 1}, {0: 1.0}),
        ({"top_k": 2}, {0: 0.66667, 1: 0.33333}),
        ({"top_k": 4}, {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.0625, 4: 0.0625}),  # 3 and 4 tie
        ({"top_k": 99}, {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.0625, 4: 0.0625}),
        ({"top_p": 0.4}, {0: 1.0}),
        ({"top_p": 0.5}, {0: 1.0}),  # just reached by the first token
        ({"top_p": 0.6}, {0: 0.66667, 1: 0.33333}),
        ({"top_p": 0.8}, {0: 0.57143, 1: 0.28571, 2: 0.14286}),
        ({"min_p": 0.2}, {0: 0.57143, 1: 0.28571, 2: 0.14286}),  # 0.125 >= 0.2 * 0.5
        ({"min_p": 0.3}, {0: 0.66667, 1: 0.33333}),
        ({"min_p": 1.0}, {0: 1.0}),
        # top-p counts over what top-k left: 0.5 / 0.75 = 0.667 >= 0.6.
        ({"top_k": 2, "top_p": 0.6}, {0: 1.0}),
        ({"top_k": 3, "top_p": 0.8, "min_p": 0.4}, {0: 0.66667, 1: 0.33333}),
        # Temperature first: 0.5 squares the odds to 4 : 1 : 1/4 : 1/16 : 1/16.
        ({"temperature": 0.5, "top_k": 2}, {0: 0.8, 1: 0.2}),
        ({"temperature": 0.5, "min_p": 0.2}, {0: 0.8, 1: 0.2}),
        ({"temperature": 0.0, "top_p": 0.1}, {0: 1.0}),
    ],
)
def test_truncation_by_hand(values: dict[str, float], expected: dict[int, float]) -> None:
    assert support_and_probs(TABLE, **values) == pytest.approx(expected, abs=2e-5)


def test_order_of_the_vocabulary_does_not_matter() -> None:
    shuffled = [0.0625, 0.25, 0.125, 0.5, 0.0625]
    assert support_and_probs(shuffled, top_p=0.6) == {3: 0.66667, 1: 0.33333}


def test_wide_vocabulary_falls_back_to_a_whole_sort() -> None:
    """Rows whose cut lies within the first candidates, within the next ones, and beyond."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 3000, generator=generator) * 0.1
    logits[0, :4] += 20.0
    top_k = np.array([0, 2000, 0, 300])
    result = sample(logits, settings(4, top_p=[0.9, 1.0, 0.9, 0.8], top_k=top_k))
    for row, (p, k) in enumerate(((0.9, 3000), (1.0, 2000), (0.9, 3000), (0.8, 300))):
        probs, order = logits[row].softmax(-1).sort(descending=True)
        share = probs[:k].cumsum(-1) / probs[:k].sum()
        num_kept = int((share < p).sum()) + 1 if p < 1 else k
        kept = order[:num_kept].tolist()
        token = int(result.token_ids[row])
        assert token in kept
        expected = float(logits[row, token] - logits[row, kept].logsumexp(-1))
        assert result.sampler_logprobs[row] == pytest.approx(expected, abs=1e-5)


def test_distribution_is_the_softmax() -> None:
    """Chi-square with 19 degrees of freedom: 43.8 is the 99.9% quantile."""
    logits = torch.randn(20, generator=torch.Generator().manual_seed(3)) * 2
    num_draws, temperature = 20_000, 0.7
    result = sample(logits.expand(num_draws, -1), settings(num_draws, temperature=temperature))
    counts = np.bincount(result.token_ids, minlength=20)
    expected = (logits / temperature).softmax(-1).numpy() * num_draws
    assert ((counts - expected) ** 2 / expected).sum() < 43.8


def test_both_logprobs() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    result = sample(logits, settings(1, temperature=2.0, top_k=2))
    token = int(result.token_ids[0])
    assert result.raw_logprobs[0] == pytest.approx(float(logits.log_softmax(-1)[0, token]))
    pair = torch.tensor([2.0, 3.0]) / 2.0
    assert result.sampler_logprobs[0] == pytest.approx(float(pair.log_softmax(-1)[token - 1]))
    greedy = sample(logits, settings(1, temperature=0.0))
    assert (greedy.token_ids[0], greedy.sampler_logprobs[0]) == (2, 0.0)
    assert greedy.raw_logprobs[0] == pytest.approx(3 - math.log(sum(map(math.exp, range(4)))))


def test_rows_are_independent_of_their_batch() -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(5))
    mixed = settings(
        6,
        temperature=[1.0, 0.0, 0.7, 1.0, 1.3, 0.0],
        top_p=[1.0, 0.5, 0.9, 1.0, 1.0, 1.0],
        top_k=[0, 0, 0, 5, 0, 0],
        min_p=[0.0, 0.0, 0.0, 0.0, 0.1, 0.0],
    )
    whole = sample(logits, mixed)
    for row in range(6):
        alone = sample(logits[row : row + 1], mixed.rows(row, row + 1))
        assert alone.token_ids[0] == whole.token_ids[row]
        assert alone.sampler_logprobs[0] == pytest.approx(whole.sampler_logprobs[row], abs=1e-6)


def test_banned_ids_never_come_and_leave_the_raw_logprob() -> None:
    logits = torch.tensor([[9.0, 1.0, 1.0]]).expand(50, -1)
    result = sample(logits, settings(50, banned_ids=[[0, -1]] * 50))
    assert set(result.token_ids.tolist()) == {1, 2}
    assert result.sampler_logprobs == pytest.approx(np.full(50, math.log(0.5)), abs=1e-6)
    assert result.raw_logprobs[0] == pytest.approx(float(logits[0].log_softmax(-1)[1]), abs=1e-5)


def test_token_without_mass_never_comes() -> None:
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]).expand(2000, -1)
    assert set(sample(logits, settings(2000)).token_ids.tolist()) == {1, 3}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    logits = torch.zeros(2, 4)
    logits[1, 2] = bad
    for temperature in (0.0, 1.0):
        with pytest.raises(ValueError, match="not finite"):
            sample(logits, settings(2, temperature=temperature))


def test_uniforms_are_fixed_numbers() -> None:
    """Pinned: a change here changes every sample of every seed."""
    key = stream_key(17, "math/3", 2)
    assert key == 16_819_457_975_794_714_059
    assert uniforms(np.array([key], np.uint64), np.array([5]))[0] == 0.7349450118602867
    keys = {stream_key(s, r, i) for s in (0, 1) for r in ("a", "b") for i in range(50)}
    assert len(keys) == 200


def test_uniforms_are_uniform() -> None:
    keys = np.array([stream_key(0, f"q{i}", 0) for i in range(100)], np.uint64)
    values = uniforms(np.repeat(keys, 100), np.tile(np.arange(100), 100))
    assert values.min() >= 0 and values.max() < 1
    counts = np.histogram(values, bins=20, range=(0, 1))[0]
    assert ((counts - 500) ** 2 / 500).sum() < 43.8
    grid = values.reshape(100, 100)
    assert abs(np.corrcoef(grid[:, 0], grid[:, 1])[0, 1]) < 0.3


def test_an_allowed_mask_leaves_its_tokens_only_and_the_raw_logprob_as_it_was() -> None:
    allowed = np.full(400, None, object)
    allowed[:200] = [np.array([False, True, True, False, False])] * 200
    result = sample(torch.tensor(TABLE).log().expand(400, -1), settings(400, allowed=allowed))
    assert set(result.token_ids[:200].tolist()) == {1, 2}
    assert set(result.token_ids[200:].tolist()) == {0, 1, 2, 3, 4}
    first = result.token_ids[0]
    assert np.exp(result.sampler_logprobs[0]) == pytest.approx({1: 2 / 3, 2: 1 / 3}[first])
    assert np.exp(result.raw_logprobs[0]) == pytest.approx(TABLE[first])


def test_top_logprobs_are_the_models_own_for_the_rows_that_ask() -> None:
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(2, -1)
    batch = replace(settings(2, temperature=0.5), num_top_logprobs=np.array([0, 2]))
    result = sample(logits, batch)
    assert result.top_ids[1].tolist() == [1, 2]
    assert np.exp(result.top_logprobs[1]) == pytest.approx([0.6, 0.3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("vocab_size", [5, 1000, 49_152])
def test_both_ways_draw_the_same(dtype: torch.dtype, vocab_size: int) -> None:
    """Flat and peaked rows of every setting; a uniform on an edge may fall to either side."""
    if load_kernels() is None:
        pytest.skip("no C compiler")
    generator, rng = torch.Generator().manual_seed(1), np.random.default_rng(1)
    num_rows = 48
    scales = torch.linspace(0.1, 12, num_rows)[:, None]
    logits = (torch.randn(num_rows, vocab_size, generator=generator) * scales).to(dtype)
    batch = replace(
        settings(num_rows),
        temperature=rng.choice([0.0, 0.6, 1.0, 1.3], num_rows),
        top_k=rng.choice([0, 1, 20, 3000], num_rows),
        top_p=rng.choice([1.0, 0.95, 0.5], num_rows),
        min_p=rng.choice([0.0, 0.05], num_rows),
    )
    batch.banned_ids[::5, 0] = 3
    batch.allowed[7] = np.arange(vocab_size) % 2 == 0
    with torch.no_grad():
        found = sample(logits, batch)
    with torch.enable_grad():
        expected = sample(logits, batch)
    is_same = found.token_ids == expected.token_ids
    assert is_same.mean() >= 0.95
    for name in ("sampler_logprobs", "raw_logprobs"):
        difference = (getattr(found, name) - getattr(expected, name))[is_same]
        assert np.abs(difference).max() < 2e-5
