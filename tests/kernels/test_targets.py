"""Log-probs and their gradients by the C kernel against those by torch."""

from __future__ import annotations

import pytest
import torch

from r1.kernels import targets
from r1.kernels.targets import logit_gradients, target_logprobs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("vocab_size", [5, 16, 53])
def test_slices_of_wider_tensors(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, vocab_size: int
) -> None:
    """Logits, targets and weights that do not lie in one piece."""
    torch.manual_seed(0)
    logits_NV = torch.randn(7, 2 * vocab_size).to(dtype)[:, ::2]
    logits_NV[:, 2] = -torch.inf
    targets_N = torch.randint(3, vocab_size, (7, 3))[:, 1]
    weights_N = torch.randn(7, 2)[:, 0]
    found = []
    for _ in range(2):
        measured = target_logprobs(logits_NV, targets_N, 0.7)
        copy_NV = logits_NV.contiguous()
        gradients_NV = logit_gradients(copy_NV, targets_N, measured[1], weights_N, 0.7)
        assert gradients_NV is copy_NV and bool((gradients_NV[:, 2] == 0).all())
        found.append([*measured, gradients_NV])
        monkeypatch.setattr(targets, "_functions", lambda dtype: None)
    for by_kernel, by_torch in zip(*found, strict=True):
        torch.testing.assert_close(by_kernel, by_torch, rtol=1e-2, atol=1e-5)
