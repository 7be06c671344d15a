"""Log-probs of target tokens and losses of them, without the logits of a whole batch.

[tokens, vocabulary] is the memory peak of training. Here logits exist for one chunk of
tokens at a time; the chunk's loss and its gradients in the hidden states and the head are
computed while they do, so that nothing is computed again in the backward pass (Liger,
arXiv:2410.10989).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from r1.kernels.targets import logit_gradients, target_logprobs

# Logits held at once, in elements: 64 MB in bf16, 682 tokens of a vocabulary of 49,152.
MAX_LOGITS = 2**25
# fp16 would lose the gradients of logits, most of which are below 6e-8.
_FP16_SCALE = 2.0**12

LossOfTokens = Callable[[Tensor, slice], Tensor]


class HasLogits(Protocol):
    """A model that turns final hidden states [.., D] into logits [.., V]."""

    @property
    def head_weight(self) -> Tensor: ...

    def compute_logits(self, hidden: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """A loss to differentiate; the log-probs [N] and entropies [N] are measurements, fp32."""

    loss: Tensor
    logprobs_N: Tensor
    entropy_N: Tensor


@torch.no_grad()
def token_logprobs(
    model: HasLogits,
    hidden_ND: Tensor,
    targets_N: Tensor,
    *,
    temperature: float = 1.0,
    chunk_tokens: int | None = None,
) -> Tensor:
    """Log-prob [N], in fp32, of each target under softmax(logits / temperature).

    A measurement, without gradients: see `token_loss`. `chunk_tokens` bounds the logits
    to [chunk_tokens, V]; None chooses. Raises ValueError for a temperature that is not
    positive.
    """
    _check(temperature)
    parts = [
        target_logprobs(model.compute_logits(hidden_ND[chunk]), targets_N[chunk], temperature)[0]
        for chunk in _chunks(model, hidden_ND, chunk_tokens)
    ]
    return torch.cat(parts) if parts else hidden_ND.new_empty(0, dtype=torch.float32)


def token_loss(
    model: HasLogits,
    hidden_ND: Tensor,
    targets_N: Tensor,
    loss_of: LossOfTokens,
    *,
    temperature: float = 1.0,
    chunk_tokens: int | None = None,
) -> TokenLoss:
    """A loss that is a sum over tokens, each a function of its own target's log-prob.

    `loss_of(logprobs, tokens)` is the part of the loss of the tokens in that slice of N.
    Exact, and differentiable in the hidden states and the head's weights, tied or not.
    Raises ValueError for a temperature that is not positive.
    """
    _check(temperature)
    weight_VD = model.head_weight
    work = _Work(
        model,
        targets_N,
        loss_of,
        temperature,
        _chunks(model, hidden_ND, chunk_tokens),
        torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad),
    )
    return TokenLoss(*_TokenLoss.apply(hidden_ND, weight_VD, work))


@dataclass(frozen=True, slots=True)
class _Work:
    model: HasLogits
    targets_N: Tensor
    loss_of: LossOfTokens
    temperature: float
    chunks: list[slice]
    is_trained: bool


class _TokenLoss(torch.autograd.Function):
    """Its gradients are ready when the forward pass is: the loss's own only scales them."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, work: _Work
    ) -> tuple[Tensor, Tensor, Tensor]:
        is_trained, temperature = work.is_trained, work.temperature
        ctx.scale = _FP16_SCALE if hidden_ND.dtype == torch.float16 else 1.0
        hidden_gradient = torch.empty_like(hidden_ND) if is_trained else None
        weight_gradient = torch.zeros_like(weight_VD) if is_trained and not work.chunks else None
        loss = torch.zeros((), device=hidden_ND.device)
        measured = torch.empty(2, len(hidden_ND), device=hidden_ND.device)
        for chunk in work.chunks:
            targets_C = work.targets_N[chunk]
            logits_CV = work.model.compute_logits(hidden_ND[chunk])
            logprobs_C, lse_C, measured[1, chunk] = target_logprobs(
                logits_CV, targets_C, temperature
            )
            measured[0, chunk] = logprobs_C
            with torch.enable_grad():
                part = work.loss_of(logprobs_C.requires_grad_(is_trained), chunk)
            loss += part.detach()
            if hidden_gradient is None:
                continue
            (gradient_C,) = torch.autograd.grad(part, logprobs_C)
            gradient_CV = logit_gradients(
                logits_CV, targets_C, lse_C, gradient_C * ctx.scale, temperature
            )
            torch.mm(gradient_CV, weight_VD, out=hidden_gradient[chunk])
            if weight_gradient is None:
                weight_gradient = gradient_CV.t() @ hidden_ND[chunk]
            else:
                weight_gradient.addmm_(gradient_CV.t(), hidden_ND[chunk])
            # Before the next chunk's exist.
            del logits_CV, gradient_CV
        if is_trained:
            ctx.save_for_backward(hidden_gradient, weight_gradient)
        logprobs_N, entropy_N = measured.unbind()
        ctx.mark_non_differentiable(logprobs_N, entropy_N)
        return loss, logprobs_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        factor = gradients[0].item() / ctx.scale
        both = (g if factor == 1.0 else g * factor for g in ctx.saved_tensors)
        return *both, None


def _check(temperature: float) -> None:
    if temperature <= 0:
        raise ValueError(f"log-probs need a temperature above 0, not {temperature}")


def _chunks(model: HasLogits, hidden_ND: Tensor, chunk_tokens: int | None) -> list[slice]:
    size = chunk_tokens or max(1, MAX_LOGITS // len(model.head_weight))
    return [slice(first, first + size) for first in range(0, len(hidden_ND), size)]
