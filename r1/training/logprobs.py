"""Log-probs and entropies of target tokens, without the logits of a whole batch.

[tokens, vocabulary] is the memory peak of training. Here logits exist for one
chunk of tokens at a time and are computed again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# Logits held at once, in elements: 64 MB in fp32, 221 tokens of a vocabulary of 75,000.
_MAX_LOGITS = 2**24


class HasLogits(Protocol):
    """A model that turns final hidden states [.., D] into logits [.., V]."""

    def compute_logits(self, hidden: Tensor) -> Tensor: ...


def token_logprobs(
    model: HasLogits,
    hidden_ND: Tensor,
    targets_N: Tensor,
    *,
    temperature: float = 1.0,
    chunk_tokens: int | None = None,
) -> Tensor:
    """Log-prob [N], in fp32, of each target under softmax(logits / temperature).

    Exact and differentiable in the hidden states and the head's weights, tied or
    not. `chunk_tokens` bounds the logits to [chunk_tokens, V]; None chooses a chunk
    of at most 64 MB. Raises ValueError for a temperature that is not positive.
    """

    def logprobs_of_chunk(hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        logits_NV = _scaled_logits(model, hidden_ND, temperature)
        return -F.cross_entropy(logits_NV, targets_N, reduction="none")

    chunk_tokens = chunk_tokens or _chunk_tokens_for(model, hidden_ND)
    return _in_chunks(logprobs_of_chunk, hidden_ND, targets_N, chunk_tokens)


def token_logprobs_and_entropy(
    model: HasLogits,
    hidden_ND: Tensor,
    targets_N: Tensor,
    *,
    temperature: float = 1.0,
    chunk_tokens: int | None = None,
) -> tuple[Tensor, Tensor]:
    """As `token_logprobs`, and the entropy [N] in nats of the same distributions.

    The entropy is a measurement: no gradient flows through it.
    """

    def both_of_chunk(hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        logits_NV = _scaled_logits(model, hidden_ND, temperature)
        logprobs_N = -F.cross_entropy(logits_NV, targets_N, reduction="none")
        return torch.stack([logprobs_N, _entropy(logits_NV.detach())])

    chunk_tokens = chunk_tokens or _chunk_tokens_for(model, hidden_ND)
    both_2N = _in_chunks(both_of_chunk, hidden_ND, targets_N, chunk_tokens)
    return both_2N[0], both_2N[1].detach()


def _scaled_logits(model: HasLogits, hidden_ND: Tensor, temperature: float) -> Tensor:
    if temperature <= 0:
        raise ValueError(f"log-probs need a temperature above 0, not {temperature}")
    logits_NV = model.compute_logits(hidden_ND).float()
    return logits_NV if temperature == 1.0 else logits_NV / temperature


def _entropy(logits_NV: Tensor) -> Tensor:
    logprobs_NV = logits_NV.log_softmax(dim=-1)
    # A logit of -inf (a forbidden token) adds 0, not 0 * -inf = nan.
    return -(logprobs_NV.exp() * logprobs_NV.clamp(min=-1e30)).sum(dim=-1)


def _chunk_tokens_for(model: HasLogits, hidden_ND: Tensor) -> int:
    with torch.no_grad():
        vocabulary = model.compute_logits(hidden_ND[:1]).shape[-1]
    return max(1, _MAX_LOGITS // vocabulary)


def _in_chunks(
    compute: Callable[[Tensor, Tensor], Tensor],
    hidden_ND: Tensor,
    targets_N: Tensor,
    chunk_tokens: int,
) -> Tensor:
    assert hidden_ND.shape[0] == targets_N.shape[0], (hidden_ND.shape, targets_N.shape)
    if hidden_ND.shape[0] <= chunk_tokens:
        # One chunk is within the bound, so its logits may stay for the backward pass.
        return compute(hidden_ND, targets_N)
    chunks = zip(hidden_ND.split(chunk_tokens), targets_N.split(chunk_tokens), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([compute(*chunk) for chunk in chunks], dim=-1)
    return torch.cat(
        [
            checkpoint(compute, *chunk, use_reentrant=False, preserve_rng_state=False)
            for chunk in chunks
        ],
        dim=-1,
    )
