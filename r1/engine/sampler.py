"""Tokens from logits: one uniform number a token, whatever else is in the batch.

The uniform is a hash of (seed, request id, sample index, position in the reply),
a counter-based generator in the sense of Salmon et al. 2011 ("Parallel random
numbers: as easy as 1, 2, 3"), so a sample does not depend on its batch, on
preemption or on a resume. The token is where the cumulative distribution passes it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from r1.kernels.fused import Kernels, inference_kernels_for
from r1.kernels.targets import target_logprobs
from r1.models.language_model import LanguageModel

# How many of the most probable tokens to look at before sorting a whole vocabulary: a
# trained model's top-p lies within the first few almost always.
CANDIDATE_COUNTS = (64, 1024)
# Bounds the logits held at once (rows x vocabulary).
MAX_LOGITS = 2**24


@dataclass(frozen=True, slots=True)
class SamplingBatch:
    """Sampling settings of B rows, each field an array of length B.

    `stream_keys` (uint64) and `positions` (0 for a reply's first token) choose the
    uniform. `banned_ids` [B, any] are token ids that may not come, padded with -1; `allowed`
    holds for each row None, or a bool array [V] of the only ones that may (empty: no row has).
    """

    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray
    min_p: np.ndarray
    stream_keys: np.ndarray
    positions: np.ndarray
    banned_ids: np.ndarray
    allowed: np.ndarray
    num_top_logprobs: np.ndarray

    def rows(self, start: int, stop: int) -> SamplingBatch:
        """The settings of rows start..stop."""
        return SamplingBatch(
            *(getattr(self, name)[start:stop] for name in SamplingBatch.__dataclass_fields__)
        )


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """One token a row: ids (int64) and both log-probs (float32), numpy, length B.

    `sampler_logprobs` belong to the distribution drawn from (0.0 where greedy),
    `raw_logprobs` to the model's softmax at temperature 1 with nothing cut off. `top_ids` and
    `top_logprobs` [B, K] are the most probable tokens by the latter, where a row asks for K.
    """

    token_ids: np.ndarray
    sampler_logprobs: np.ndarray
    raw_logprobs: np.ndarray
    top_ids: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.int64))
    top_logprobs: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def rows(self, index: np.ndarray) -> SampledTokens:
        """Some of the rows."""
        names = SampledTokens.__dataclass_fields__
        return SampledTokens(*(getattr(self, name)[index] for name in names))


def stream_key(seed: int, request_id: str, sample_index: int) -> int:
    """The 64-bit key of one sample's random stream; stable between processes."""
    text = f"{seed}\x00{sample_index}\x00{request_id}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def uniforms(stream_keys: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Uniforms in [0, 1) of 53 bits: splitmix64 (Steele et al. 2014) at a counter."""
    state = stream_keys + (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(
        0x9E3779B97F4A7C15
    )
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def sample_states(
    model: LanguageModel, hidden_BD: torch.Tensor, batch: SamplingBatch
) -> SampledTokens:
    """`sample` from a model's hidden states, as many at a time as their logits take memory."""
    step = max(1, MAX_LOGITS // model.head_weight.shape[0])
    parts = []
    for first in range(0, len(hidden_BD), step):
        is_whole = len(hidden_BD) <= step
        logits_BV = model.compute_logits(hidden_BD if is_whole else hidden_BD[first : first + step])
        rows = batch if is_whole else batch.rows(first, first + step)
        part = sample(logits_BV, rows)
        parts.append(_with_exact_logprobs(part, logits_BV, rows) if model.is_exact else part)
    if len(parts) == 1:
        return parts[0]
    return SampledTokens(
        np.concatenate([part.token_ids for part in parts]),
        np.concatenate([part.sampler_logprobs for part in parts]),
        np.concatenate([part.raw_logprobs for part in parts]),
        _concatenate([part.top_ids for part in parts]),
        _concatenate([part.top_logprobs for part in parts]),
    )


def sample(logits_BV: torch.Tensor, batch: SamplingBatch) -> SampledTokens:
    """Draw one token a row, in the order temperature, top-k, top-p, min-p.

    top-p counts over what top-k left, renormalised (as transformers does); tokens
    that tie with the last one kept are kept. Raises ValueError when the logits of
    a row are not finite.
    """
    if (kernels := inference_kernels_for(logits_BV)) is not None:
        token_ids, sampler_logprobs, raw_logprobs = _sample_in_c(kernels, logits_BV, batch)
    else:
        token_ids, sampler_logprobs, raw_logprobs = _sample_in_torch(logits_BV.float(), batch)
    if not np.isfinite(raw_logprobs).all():
        raise ValueError("the model's logits are not finite (NaN or Inf): check its weights")
    num_top = min(int(batch.num_top_logprobs.max(initial=0)), logits_BV.shape[1])
    if num_top == 0:
        empty = np.empty((len(token_ids), 0))
        none = empty.astype(np.int64), empty.astype(np.float32)
        return SampledTokens(token_ids, sampler_logprobs, raw_logprobs, *none)
    all_logprobs_BV = torch.log_softmax(logits_BV.float(), dim=-1)
    top_BK = all_logprobs_BV.topk(num_top, dim=-1)
    top = top_BK.indices.cpu().numpy(), top_BK.values.cpu().numpy()
    return SampledTokens(token_ids, sampler_logprobs, raw_logprobs, *top)


def _with_exact_logprobs(
    sampled: SampledTokens, logits_BV: torch.Tensor, batch: SamplingBatch
) -> SampledTokens:
    """The same tokens with their log-probs as the trainer computes them.

    Where a row is greedy, cut or constrained the trainer has no such distribution, and the
    sampler's stays.
    """
    vocab_size = logits_BV.shape[1]
    token_ids_B = torch.from_numpy(sampled.token_ids).to(logits_BV.device)

    def logprobs(rows: np.ndarray, temperature: float) -> np.ndarray:
        index = torch.from_numpy(rows).to(logits_BV.device)
        return target_logprobs(logits_BV[index], token_ids_B[index], temperature)[0].cpu().numpy()

    raw_logprobs = logprobs(np.arange(len(logits_BV)), 1.0)
    is_cut = (batch.top_k > 0) & (batch.top_k < vocab_size)
    is_cut |= (batch.top_p < 1) | (batch.min_p > 0) | (batch.banned_ids >= 0).any(axis=1)
    is_whole = ~is_cut
    if len(batch.allowed):
        is_whole &= np.array([mask is None for mask in batch.allowed])
    sampler_logprobs = sampled.sampler_logprobs.copy()
    for temperature in np.unique(batch.temperature[is_whole & (batch.temperature > 0)]).tolist():
        rows = np.flatnonzero(is_whole & (batch.temperature == temperature))
        is_raw = temperature == 1.0
        sampler_logprobs[rows] = raw_logprobs[rows] if is_raw else logprobs(rows, temperature)
    return replace(sampled, sampler_logprobs=sampler_logprobs, raw_logprobs=raw_logprobs)


def _sample_in_c(
    kernels: Kernels, logits_BV: torch.Tensor, batch: SamplingBatch
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids and both log-probs, from a few passes over each row in cache."""
    num_rows, vocab_size = logits_BV.shape
    masks = [None if mask is None else np.ascontiguousarray(mask, bool) for mask in batch.allowed]
    assert all(mask is None or len(mask) == vocab_size for mask in masks)
    settings = (
        batch.temperature,
        batch.top_k,
        batch.top_p,
        batch.min_p,
        uniforms(batch.stream_keys, batch.positions),
        np.ascontiguousarray(batch.banned_ids),
    )
    addresses = np.zeros(num_rows, np.int64)
    addresses[: len(masks)] = [0 if mask is None else mask.ctypes.data for mask in masks]
    token_ids = np.empty(num_rows, np.int64)
    sampler_logprobs, raw_logprobs = np.empty((2, num_rows), np.float32)
    logits_BV = logits_BV.contiguous()
    kernels.c_sample(
        *(array.ctypes.data for array in (token_ids, sampler_logprobs, raw_logprobs)),
        logits_BV.data_ptr(),
        num_rows,
        vocab_size,
        *(array.ctypes.data for array in settings),
        batch.banned_ids.shape[1],
        addresses.ctypes.data,
        torch.get_num_threads(),
    )
    return token_ids, sampler_logprobs, raw_logprobs


def _sample_in_torch(
    logits_BV: torch.Tensor, batch: SamplingBatch
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    raw_logits_BV = logits_BV
    raw_normalizer_B = torch.logsumexp(logits_BV, dim=-1)
    logits_BV = _restrict(_ban(logits_BV, batch.banned_ids), batch.allowed)
    greedy_B = batch.temperature == 0
    if greedy_B.all():
        token_ids_B = logits_BV.argmax(dim=-1)
        sampler_logprobs = np.zeros(len(greedy_B), np.float32)
    else:
        token_ids_B, sampler_logprobs = _draw(logits_BV, batch, greedy_B)
    chosen_B = raw_logits_BV.gather(1, token_ids_B[:, None])[:, 0]
    raw_logprobs = (chosen_B - raw_normalizer_B).cpu().numpy()
    return token_ids_B.cpu().numpy(), sampler_logprobs, raw_logprobs


def _draw(
    logits_BV: torch.Tensor, batch: SamplingBatch, greedy_B: np.ndarray
) -> tuple[torch.Tensor, np.ndarray]:
    scaled_BV = _scale(logits_BV, batch.temperature, greedy_B)
    scaled_BV = _truncate(scaled_BV, batch, greedy_B)
    probs_BV = torch.softmax(scaled_BV, dim=-1)
    cumulative_BV = probs_BV.cumsum(dim=-1)
    uniform_B = torch.from_numpy(uniforms(batch.stream_keys, batch.positions))
    token_ids_B = _invert(cumulative_BV, uniform_B.to(logits_BV.device))
    if greedy_B.any():
        is_greedy_B = torch.from_numpy(greedy_B).to(logits_BV.device)
        token_ids_B = torch.where(is_greedy_B, logits_BV.argmax(dim=-1), token_ids_B)
    chosen_B = scaled_BV.gather(1, token_ids_B[:, None])[:, 0]
    logprobs = (chosen_B - torch.logsumexp(scaled_BV, dim=-1)).cpu().numpy()
    return token_ids_B, np.where(greedy_B, np.float32(0.0), logprobs)


def _invert(cumulative_BV: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
    """The first token whose cumulative probability exceeds the uniform's share of the total."""
    total_B = cumulative_BV[:, -1]
    # Rounding up to the total itself would step past the last token that has mass.
    below_total_B = torch.nextafter(total_B, torch.zeros_like(total_B))
    target_B = torch.minimum((uniform_B * total_B.double()).float(), below_total_B)
    token_ids_BT = torch.searchsorted(cumulative_BV, target_B[:, None], right=True)
    return token_ids_BT[:, 0].clamp_(max=cumulative_BV.shape[1] - 1)


def _ban(logits_BV: torch.Tensor, banned_ids: np.ndarray) -> torch.Tensor:
    rows, columns = np.nonzero(banned_ids >= 0)
    if len(rows) == 0:
        return logits_BV
    logits_BV = logits_BV.clone()
    logits_BV[torch.from_numpy(rows), torch.from_numpy(banned_ids[rows, columns])] = -torch.inf
    return logits_BV


def _restrict(logits_BV: torch.Tensor, allowed: np.ndarray) -> torch.Tensor:
    rows = [row for row, mask in enumerate(allowed) if mask is not None]
    if not rows:
        return logits_BV
    mask_BV = torch.from_numpy(np.stack([allowed[row] for row in rows])).to(logits_BV.device)
    index = torch.tensor(rows, device=logits_BV.device)
    return logits_BV.index_copy(0, index, logits_BV[index].masked_fill(~mask_BV, -torch.inf))


def _scale(logits_BV: torch.Tensor, temperature: np.ndarray, greedy_B: np.ndarray) -> torch.Tensor:
    if (temperature == 1).all():
        return logits_BV
    divisor_B = torch.from_numpy(np.where(greedy_B, 1.0, temperature).astype(np.float32))
    return logits_BV / divisor_B.to(logits_BV.device)[:, None]


def _truncate(scaled_BV: torch.Tensor, batch: SamplingBatch, greedy_B: np.ndarray) -> torch.Tensor:
    """Put -inf where top-k, top-p or min-p leave no mass; untouched rows cost nothing."""
    vocab_size = scaled_BV.shape[1]
    has_top_k = (batch.top_k > 0) & (batch.top_k < vocab_size)
    is_cut = (has_top_k | (batch.top_p < 1) | (batch.min_p > 0)) & ~greedy_B
    rows = np.flatnonzero(is_cut)
    if len(rows) == 0:
        return scaled_BV
    index = torch.from_numpy(rows).to(scaled_BV.device)
    cut_BV = scaled_BV[index]
    probs_BV = torch.softmax(cut_BV, dim=-1)
    top_k = np.where(has_top_k, batch.top_k, vocab_size)[rows]
    threshold_B = _threshold(probs_BV, top_k, batch.top_p[rows], batch.min_p[rows])
    cut_BV = cut_BV.masked_fill(probs_BV < threshold_B[:, None], -torch.inf)
    return cut_BV if len(rows) == len(is_cut) else scaled_BV.index_copy(0, index, cut_BV)


def _threshold(
    probs_BV: torch.Tensor, top_k: np.ndarray, top_p: np.ndarray, min_p: np.ndarray
) -> torch.Tensor:
    """The smallest probability that each row keeps.

    Looks at the CANDIDATE_COUNTS most probable tokens first: only a row whose cut
    lies beyond them is sorted whole.
    """
    device, vocab_size = probs_BV.device, probs_BV.shape[1]
    k_B = torch.from_numpy(top_k).to(device)
    p_B = torch.from_numpy(top_p).to(device, torch.float32)
    threshold_B = torch.from_numpy(min_p).to(device, torch.float32) * probs_BV.amax(dim=-1)
    open_rows = torch.from_numpy(np.flatnonzero((top_k < vocab_size) | (top_p < 1))).to(device)
    for width in (*(n for n in CANDIDATE_COUNTS if n < vocab_size), vocab_size):
        if len(open_rows) == 0:
            break
        values_BV = probs_BV[open_rows].topk(width, dim=-1).values
        k, p = k_B[open_rows], p_B[open_rows]
        cumulative_BV = values_BV.cumsum(dim=-1)
        last_B = (k - 1).clamp(max=width - 1)
        total_B = cumulative_BV.gather(1, last_B[:, None])[:, 0]
        # Without top-k the total is 1, seen or not.
        total_B = torch.where(k >= vocab_size, torch.ones_like(total_B), total_B)
        reached_B = torch.searchsorted(cumulative_BV, (p * total_B)[:, None])[:, 0]
        cut_B = torch.where(p < 1, torch.minimum(reached_B, k - 1), k - 1)
        is_seen_B = (cut_B < width) & ((k <= width) | (k >= vocab_size))
        if width == vocab_size:
            is_seen_B[:] = True
        found_B = values_BV.gather(1, cut_B.clamp(max=width - 1)[:, None])[:, 0]
        seen = open_rows[is_seen_B]
        threshold_B[seen] = torch.maximum(threshold_B[seen], found_B[is_seen_B])
        open_rows = open_rows[~is_seen_B]
    return threshold_B


def _concatenate(parts: list[np.ndarray]) -> np.ndarray:
    """Rows of different widths as one array, zeros behind the shorter ones."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])
