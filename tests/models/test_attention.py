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
    is_visible: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float
) -> Tensor:
    """The textbook form: scores of all pairs, a mask, a softmax. Shapes [N, H or G, K]."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = torch.einsum("nhk,mhk->hnm", query, key) * scale
    weights = scores.masked_fill(~is_visible, -torch.inf).softmax(-1)
    return torch.einsum("hnm,mhk->nhk", weights, value)


def test_equal_rows_need_no_moving():
    padding = AttentionPlan.from_positions(torch.arange(7).expand(3, 7)).padding
    assert padding.buckets == ((3, 7),)
    assert padding.pad_index is None


def test_plan_of_a_packed_row():
    padding = AttentionPlan.from_positions(positions_of([2, 4, 3])).padding
    assert padding.buckets == ((2, 4), (1, 2))
    assert padding.pad_index is not None and padding.unpad_index is not None
    # The segment of 4, the segment of 3 with its last token repeated, the segment of 2.
    assert padding.pad_index.tolist() == [2, 3, 4, 5, 6, 7, 8, 8, 0, 1]
    assert padding.unpad_index.tolist() == [8, 9, 0, 1, 2, 3, 4, 5, 6]


def test_plan_of_a_shared_prefix():
    padding = AttentionPlan((2, 1, 2), (-1, 0, 0)).padding
    assert padding.pad_index is not None and padding.unpad_index is not None
    # Prefix and last reply, prefix and first reply; the prefix for itself.
    assert padding.buckets == ((2, 4), (1, 2))
    assert padding.pad_index.tolist() == [0, 1, 3, 4, 0, 1, 2, 2, 0, 1]
    assert padding.unpad_index.tolist() == [8, 9, 6, 2, 3]
    copies = [(tokens.tolist(), slots.tolist()) for tokens, slots in padding.copies]
    assert copies == [([0, 1], [4, 5]), ([0, 1], [0, 1])]


def test_padding_tokens_are_segments_of_their_own():
    plan = AttentionPlan.from_positions(torch.tensor([[0, 0, 0, 1, 2], [0, 1, 2, 0, 0]]))
    assert plan.lengths == (1, 1, 3, 3, 1, 1)
    assert plan.padding.buckets == ((2, 3), (4, 1))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
@settings(max_examples=50)
def test_plan_keeps_every_token_once_and_bounds_padding(lengths):
    plan = AttentionPlan.from_positions(positions_of(lengths)).padding
    num_tokens = sum(lengths)
    if plan.pad_index is None or plan.unpad_index is None:
        assert len(set(lengths)) == 1
        return
    assert plan.pad_index[plan.unpad_index].tolist() == list(range(num_tokens))
    assert len(plan.pad_index) <= num_tokens / MIN_FILL
    assert sum(rows * length for rows, length in plan.buckets) == len(plan.pad_index)


LAYOUTS = [
    ([5], [-1]),
    ([1, 1, 1], [-1, -1, -1]),
    ([6, 2, 9, 1, 3], [-1] * 5),
    ([64, 65, 200], [-1] * 3),
    ([70, 30, 1, 130, 3, 4, 5], [-1, 0, 0, 0, -1, 4, -1]),
]


@pytest.mark.parametrize(("lengths", "prefixes"), LAYOUTS)
@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("is_padded", [False, True])
def test_values_and_gradients_equal_masked_attention(
    lengths, prefixes, num_kv_heads, is_padded, monkeypatch
):
    if is_padded:
        monkeypatch.setattr("r1.models.attention.has_segment_kernel", lambda *_: False)
    torch.manual_seed(1)
    num_tokens = sum(lengths)
    segments = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    before = torch.tensor(prefixes)[segments]
    is_visible = (segments[:, None] == segments[None]) | (before[:, None] == segments[None])
    shapes = ((4, 16), (num_kv_heads, 16), (num_kv_heads, 16))
    ours = [torch.randn(1, num_tokens, *shape, requires_grad=True) for shape in shapes]
    theirs = [tensor.detach()[0].clone().requires_grad_() for tensor in ours]
    weight = torch.randn(num_tokens, 4, 16)

    plan = AttentionPlan(tuple(lengths), tuple(prefixes))
    output = segment_attention(plan, *ours, scale=0.3)
    expected = masked_attention(is_visible.tril(), *theirs, scale=0.3)
    (output[0] * weight).sum().backward()
    (expected * weight).sum().backward()

    assert torch.allclose(output[0], expected, atol=1e-5)
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.grad is not None and reference.grad is not None
        assert torch.allclose(mine.grad[0], reference.grad, atol=2e-5)


@pytest.mark.parametrize("head_dim", [16, 32, 96, 192])
def test_half_precision_is_as_close_as_its_rounding(head_dim):
    torch.manual_seed(0)
    plan = AttentionPlan((70, 33, 90), (-1, 0, -1))
    exact = [torch.randn(1, 193, heads, head_dim, requires_grad=True) for heads in (6, 2, 2)]
    rounded = [t.detach().bfloat16().requires_grad_() for t in exact]
    weight = torch.randn(1, 193, 6, head_dim)
    outputs = [segment_attention(plan, *side, scale=head_dim**-0.5) for side in (exact, rounded)]
    for output in outputs:
        (output * weight).sum().backward()
    pairs = [
        (outputs[0], outputs[1]),
        *((a.grad, b.grad) for a, b in zip(exact, rounded, strict=True)),
    ]
    for expected, actual in pairs:
        assert expected is not None and actual is not None
        assert (actual.float() - expected).norm() < 0.01 * expected.norm()


def test_every_run_has_the_same_bits():
    torch.manual_seed(0)
    plan = AttentionPlan((70, 33, 90, 400), (-1, 0, 0, -1))
    inputs = [torch.randn(1, 593, heads, 32, requires_grad=True) for heads in (6, 2, 2)]
    runs = []
    for _ in range(3):
        output = segment_attention(plan, *inputs, scale=0.2)
        runs.append((output, *torch.autograd.grad(output.square().sum(), inputs)))
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))
