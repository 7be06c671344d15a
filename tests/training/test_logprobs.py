from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from r1.training.logprobs import token_logprobs, token_loss

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

    @property
    def head_weight(self) -> Tensor:
        return self.lm_head.weight

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
        (logprobs * weights).sin().sum().backward()
    else:
        result = token_loss(
            model,
            hidden,
            targets,
            lambda part, chosen: (part * weights[chosen]).sin().sum(),
            temperature=temperature,
            chunk_tokens=chunk_tokens,
        )
        result.loss.backward()
        logprobs = result.logprobs_N
        measured = token_logprobs(
            model, hidden, targets, temperature=temperature, chunk_tokens=chunk_tokens
        )
        assert torch.equal(logprobs, measured)
    return [logprobs.detach(), *[p.grad for p in model.parameters() if p.grad is not None]]


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk_tokens", [1, 5, 23, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunks_equal_the_full_computation(
    is_tied: bool, temperature: float, chunk_tokens: int, dtype: torch.dtype
) -> None:
    model = Head(is_tied=is_tied, dtype=dtype)
    full = gradients(model, chunk_tokens=None, temperature=temperature)
    chunked = gradients(model, chunk_tokens=chunk_tokens, temperature=temperature)
    assert len(full) == len(chunked) == (2 if is_tied else 3)
    for expected, actual in zip(full, chunked, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_entropy_equals_the_full_computation_and_has_no_gradient() -> None:
    model = Head(is_tied=False, dtype=torch.float32)
    hidden = torch.randn(11, HIDDEN, requires_grad=True)
    targets = torch.arange(11)
    result = token_loss(
        model, hidden, targets, lambda part, _: part.sum(), temperature=0.5, chunk_tokens=4
    )
    expected = torch.distributions.Categorical(logits=model.compute_logits(hidden) / 0.5)
    torch.testing.assert_close(result.entropy_N, expected.entropy().detach())
    torch.testing.assert_close(result.logprobs_N, expected.log_prob(targets).detach())
    assert not result.entropy_N.requires_grad and result.loss.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_entropy_with_a_forbidden_token(dtype: torch.dtype) -> None:
    class Forbidding(Head):
        def compute_logits(self, hidden: Tensor) -> Tensor:
            return hidden.new_tensor([[0.0, 0.0, -torch.inf]]).repeat(hidden.shape[0], 1)

    hidden, targets = torch.zeros(2, HIDDEN, dtype=dtype), torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        result = token_loss(Forbidding(is_tied=False), hidden, targets, lambda part, _: part.sum())
    assert result.entropy_N.tolist() == pytest.approx([0.693147] * 2)


def test_logits_exist_for_one_chunk_at_a_time_and_once() -> None:
    model = Head(is_tied=True, dtype=torch.float32)
    hidden = torch.randn(1000, HIDDEN, requires_grad=True)
    targets = torch.zeros(1000, dtype=torch.long)
    result = token_loss(model, hidden, targets, lambda part, _: part.sum(), chunk_tokens=64)
    result.loss.backward()
    assert model.shapes == [64] * 15 + [40]
    assert hidden.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_close_as_its_rounding(dtype: torch.dtype) -> None:
    model = Head(is_tied=False, dtype=torch.float32)
    hidden, targets = torch.randn(40, HIDDEN), torch.arange(40)

    def weight_gradient(head: Head, states: Tensor) -> Tensor:
        result = token_loss(head, states, targets, lambda part, _: 1e-5 * part.sum())
        assert result.logprobs_N.dtype == torch.float32
        scale = 4096.0 if states.dtype == torch.float16 else 1.0
        (gradient,) = torch.autograd.grad(result.loss * scale, head.lm_head.weight)
        return gradient.float() / scale

    expected = weight_gradient(model, hidden)
    actual = weight_gradient(model.to(dtype), hidden.to(dtype))
    assert (actual - expected).norm() < 0.01 * expected.norm()


def test_no_tokens_and_a_bad_temperature() -> None:
    model = Head(is_tied=False)
    empty = torch.zeros(0, HIDDEN, dtype=torch.float64)
    assert token_logprobs(model, empty, torch.zeros(0, dtype=torch.long)).shape == (0,)
    with pytest.raises(ValueError, match="temperature above 0"):
        token_logprobs(model, empty, torch.zeros(0, dtype=torch.long), temperature=0.0)
