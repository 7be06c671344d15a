"""Log-probs of target tokens and their gradients over rows of logits: one pass each, in C.

Without the kernels torch computes the same, with copies of the logits in fp32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from r1.kernels.native import kernel_functions


@functools.cache
def _functions(dtype: torch.dtype) -> list[Callable[..., None]] | None:
    return kernel_functions(dtype, "target_logprobs", "logit_gradients")


def target_logprobs(
    logits_NV: Tensor, targets_N: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """In fp32 [N], under softmax(logits / temperature): each target's log-prob, the
    logarithm of the softmax's sum, and the entropy in nats."""
    functions = _functions(logits_NV.dtype) if logits_NV.device.type == "cpu" else None
    if functions is None:
        scores_NV = logits_NV.float() / temperature
        lse_N = scores_NV.logsumexp(-1)
        logprobs_N = scores_NV.gather(-1, targets_N[:, None])[:, 0] - lse_N
        # A logit of -inf (a forbidden token) adds 0, not 0 * -inf = nan.
        scores_NV = scores_NV.sub_(lse_N[:, None]).clamp_(min=-1e30)
        return logprobs_N, lse_N, -(scores_NV.exp() * scores_NV).sum(-1)
    logits_NV, targets_N = logits_NV.contiguous(), targets_N.contiguous()
    results = torch.empty(3, len(logits_NV)).unbind()
    pointers = (t.data_ptr() for t in (logits_NV, targets_N, *results))
    functions[0](*pointers, *logits_NV.shape, temperature, torch.get_num_threads())
    return results[0], results[1], results[2]


def logit_gradients(
    logits_NV: Tensor, targets_N: Tensor, lse_N: Tensor, weights_N: Tensor, temperature: float
) -> Tensor:
    """`weights_N` times the gradient of each target's log-prob, written over the logits."""
    functions = _functions(logits_NV.dtype) if logits_NV.device.type == "cpu" else None
    # Named, so that copies live until the call.
    targets_N, weights_N = targets_N.contiguous(), weights_N.float().contiguous()
    if functions is None or not logits_NV.is_contiguous():
        gradients_NV = (logits_NV.float() / temperature).sub_(lse_N[:, None]).exp_().neg_()
        gradients_NV[torch.arange(len(targets_N), device=targets_N.device), targets_N] += 1.0
        gradients_NV *= (weights_N / temperature)[:, None]
        return logits_NV.copy_(gradients_NV)
    pointers = (t.data_ptr() for t in (logits_NV, targets_N, lse_N, weights_N))
    functions[1](*pointers, *logits_NV.shape, temperature, torch.get_num_threads())
    return logits_NV
