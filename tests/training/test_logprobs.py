from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from r1.training.logprobs import token_logprobs, token_logprobs_and_entropy

HIDDEN, VOCABULARY = 8, 50


class Head(nn.Module):
    """An embedding and a head, tied or not, that records the logits it has made."""

    def __init__(self, *, is_tied: bool, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(VOCABULARY, HIDDEN, dtype=dtype)
        self.lm_head = nn.Linear(HIDDEN, VOCABULARY, bias=False, dtype=dtype)
        if is_tied:
            self.lm_head.weight = self.embed_tokens.weight
        self.shapes: list[int] = []

    def compute_logits(self, hidden: Tensor) -> Tensor:
        self.shapes.append(hidden.shape[0])
        return self.lm_head(hidden)


def gradients(model: Head, *, chunk_tokens: int | None, temperature: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(VOCABULARY, (23,), generator=generator)
    targets = torch.randint(VOCABULARY, (23,), generator=generator)
    weights = torch.randn(23, generator=generator)
    model.zero_grad()
    hidden = model.embed_tokens(ids).tanh()
    if chunk_tokens is None:
        logits = model.compute_logits(hidden).float() / temperature
        logprobs = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    else:
        logprobs = token_logprobs(
            model, hidden, targets, temperature=temperature, chunk_tokens=chunk_tokens
        )
    (logprobs * weights).sum().backward()
    return [logprobs.detach(), *[p.grad for p in model.parameters() if p.grad is not None]]


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk_tokens", [1, 5, 23, 100])
def test_chunks_equal_the_full_computation(
    is_tied: bool, temperature: float, chunk_tokens: int
) -> None:
    model = Head(is_tied=is_tied)
    full = gradients(model, chunk_tokens=None, temperature=temperature)
    chunked = gradients(model, chunk_tokens=chunk_tokens, temperature=temperature)
    assert len(full) == len(chunked) == (2 if is_tied else 3)
    for expected, actual in zip(full, chunked, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-6)


def test_entropy_equals_the_full_computation_and_has_no_gradient() -> None:
    model = Head(is_tied=False, dtype=torch.float32)
    hidden = torch.randn(11, HIDDEN, requires_grad=True)
    targets = torch.arange(11)
    logprobs, entropy = token_logprobs_and_entropy(
        model, hidden, targets, temperature=0.5, chunk_tokens=4
    )
    expected = torch.distributions.Categorical(logits=model.compute_logits(hidden) / 0.5)
    torch.testing.assert_close(entropy, expected.entropy().detach())
    torch.testing.assert_close(logprobs, expected.log_prob(targets))
    assert not entropy.requires_grad and logprobs.requires_grad


def test_entropy_with_a_forbidden_token() -> None:
    class Forbidding(Head):
        def compute_logits(self, hidden: Tensor) -> Tensor:
            return torch.tensor([[0.0, 0.0, -torch.inf]]).repeat(hidden.shape[0], 1)

    _, entropy = token_logprobs_and_entropy(
        Forbidding(is_tied=False), torch.zeros(2, HIDDEN), torch.zeros(2, dtype=torch.long)
    )
    assert entropy.tolist() == pytest.approx([0.693147] * 2)


def test_logits_exist_for_one_chunk_at_a_time() -> None:
    model = Head(is_tied=True, dtype=torch.float32)
    hidden = torch.randn(1000, HIDDEN, requires_grad=True)
    targets = torch.zeros(1000, dtype=torch.long)
    saved: list[int] = []

    def record(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        logprobs = token_logprobs(model, hidden, targets, chunk_tokens=64)
    assert max(saved, default=0) < 64 * VOCABULARY
    logprobs.sum().backward()
    assert max(model.shapes) == 64
    assert len(model.shapes) == 2 * 16  # once forward, once again in the backward pass


def test_half_precision_models_give_fp32_logprobs() -> None:
    model = Head(is_tied=True, dtype=torch.bfloat16)
    hidden = torch.randn(3, HIDDEN, dtype=torch.bfloat16)
    assert token_logprobs(model, hidden, torch.zeros(3, dtype=torch.long)).dtype == torch.float32


def test_no_tokens_and_a_bad_temperature() -> None:
    model = Head(is_tied=False)
    empty = torch.zeros(0, HIDDEN, dtype=torch.float64)
    assert token_logprobs(model, empty, torch.zeros(0, dtype=torch.long)).shape == (0,)
    with pytest.raises(ValueError, match="temperature above 0"):
        token_logprobs(model, empty, torch.zeros(0, dtype=torch.long), temperature=0.0)
