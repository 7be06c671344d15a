from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from r1.models.attention import MIN_FILL, AttentionPlan, segment_attention


def positions_of(lengths: list[int]) -> Tensor:
    return torch.cat([torch.arange(length) for length in lengths])[None]


def masked_attention(
    segments: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float
) -> Tensor:
    """The textbook form: scores of all pairs, a mask, a softmax. Shapes [N, H or G, K]."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = torch.einsum("nhk,mhk->hnm", query, key) * scale
    is_visible = (segments[:, None] == segments[None]).tril()
    weights = scores.masked_fill(~is_visible, -torch.inf).softmax(-1)
    return torch.einsum("hnm,mhk->nhk", weights, value)


def test_equal_rows_need_no_moving():
    plan = AttentionPlan.from_positions(torch.arange(7).expand(3, 7))
    assert plan.buckets == ((3, 7),)
    assert plan.pad_index is None


def test_plan_of_a_packed_row():
    plan = AttentionPlan.from_positions(positions_of([2, 4, 3]))
    assert plan.buckets == ((2, 4), (1, 2))
    assert plan.pad_index is not None and plan.unpad_index is not None
    # The segment of 4, the segment of 3 with its last token repeated, the segment of 2.
    assert plan.pad_index.tolist() == [2, 3, 4, 5, 6, 7, 8, 8, 0, 1]
    assert plan.unpad_index.tolist() == [8, 9, 0, 1, 2, 3, 4, 5, 6]


def test_padding_tokens_are_segments_of_their_own():
    plan = AttentionPlan.from_positions(torch.tensor([[0, 0, 0, 1, 2], [0, 1, 2, 0, 0]]))
    assert plan.buckets == ((2, 3), (4, 1))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
@settings(max_examples=50)
def test_plan_keeps_every_token_once_and_bounds_padding(lengths):
    plan = AttentionPlan.from_positions(positions_of(lengths))
    num_tokens = sum(lengths)
    if plan.pad_index is None or plan.unpad_index is None:
        assert len(lengths) == 1
        return
    assert plan.pad_index[plan.unpad_index].tolist() == list(range(num_tokens))
    assert len(plan.pad_index) <= num_tokens / MIN_FILL
    assert sum(rows * length for rows, length in plan.buckets) == len(plan.pad_index)


@pytest.mark.parametrize("lengths", [[5], [1, 1, 1], [6, 2, 9, 1, 3], [4, 4], [1, 17]])
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_values_and_gradients_equal_masked_attention(lengths, num_kv_heads):
    torch.manual_seed(1)
    positions, num_tokens = positions_of(lengths), sum(lengths)
    segments = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    shapes = ((4, 8), (num_kv_heads, 8), (num_kv_heads, 8))
    ours = [torch.randn(1, num_tokens, *shape, requires_grad=True) for shape in shapes]
    theirs = [tensor.detach()[0].clone().requires_grad_() for tensor in ours]
    weight = torch.randn(num_tokens, 4, 8)

    plan = AttentionPlan.from_positions(positions)
    output = segment_attention(plan, *ours, scale=0.3)
    expected = masked_attention(segments, *theirs, scale=0.3)
    (output[0] * weight).sum().backward()
    (expected * weight).sum().backward()

    assert torch.allclose(output[0], expected, atol=1e-5)
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.grad is not None and reference.grad is not None
        assert torch.allclose(mine.grad[0], reference.grad, atol=1e-5)
