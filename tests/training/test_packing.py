from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r1.training.packing import (
    TokenSequence,
    pack_targets,
    pack_whole,
    plan_packs,
    plan_packs_for_ranks,
)

LENGTHS = st.lists(st.integers(1, 32), max_size=40)


def test_best_fit_fills_the_gaps() -> None:
    assert plan_packs([3, 7, 5, 5, 2], 10) == [[1, 0], [2, 3], [4]]
    assert plan_packs([], 10) == []


def test_a_sequence_longer_than_a_pack_is_refused() -> None:
    with pytest.raises(ValueError, match="11 tokens does not fit into a pack of 10"):
        plan_packs([3, 11], 10)


@given(LENGTHS, st.integers(1, 4))
def test_every_sequence_once_within_the_budget_and_equal_counts(
    lengths: list[int], num_ranks: int
) -> None:
    ranks = plan_packs_for_ranks(lengths, 32, num_ranks=num_ranks)
    packs = [pack for rank in ranks for pack in rank]
    assert sorted(index for pack in packs for index in pack) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in pack) <= 32 for pack in packs)
    assert len({len(rank) for rank in ranks}) == 1
    if num_ranks == 1:
        # Best-fit never leaves two packs that would go into one.
        fills = sorted(sum(lengths[index] for index in pack) for pack in packs)
        assert len(fills) < 2 or fills[0] + fills[1] > 32


def test_a_row_by_hand() -> None:
    sequences = [TokenSequence.of([1, 2], [3, 4]), TokenSequence.of([], [5, 6, 7, 8, 9])]
    (row,) = pack_targets(sequences, 16)
    assert row.input_ids_BT.tolist() == [[5, 6, 7, 8, 1, 2, 3]]
    assert row.positions_BT.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert row.sequence_indices == (1, 0)
    assert row.ends == (4, 7)
    assert row.target_places_P.tolist() == [0, 1, 2, 3, 5, 6]
    assert row.targets_P.tolist() == [6, 7, 8, 9, 3, 4]
    assert row.target_counts == (4, 2)
    values = row.gather([[0.1, 0.2], [1.0, 2.0, 3.0, 4.0]])
    assert values.tolist() == pytest.approx([1, 2, 3, 4, 0.1, 0.2])
    assert row.spread([7.0, 8.0]).tolist() == [8, 8, 8, 8, 7, 7]
    assert {i: v.tolist() for i, v in row.split(values).items()} == {
        1: [1, 2, 3, 4],
        0: pytest.approx([0.1, 0.2]),
    }


def test_whole_sequences_end_where_they_say() -> None:
    (row,) = pack_whole([TokenSequence.of([1], [2]), TokenSequence.of([3, 4, 5], [6])], 8)
    assert row.input_ids_BT.tolist() == [[3, 4, 5, 6, 1, 2]]
    assert [row.input_ids_BT[0, end - 1].item() for end in row.ends] == [6, 2]


def test_sequences_without_a_target_are_left_out() -> None:
    nothing = TokenSequence(np.array([1, 2]), np.array([True, False]))
    assert nothing.num_targets == 0
    assert pack_targets([nothing, TokenSequence.of([1], [])], 8) == []


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=12), st.integers(14, 40))
def test_packed_rows_hold_the_same_predictions(
    shapes: list[tuple[int, int]], max_tokens: int
) -> None:
    sequences = [
        TokenSequence.of(range(100 * i, 100 * i + p), range(100 * i + p, 100 * i + p + c))
        for i, (p, c) in enumerate(shapes)
    ]
    predictions = set()
    for row in pack_targets(sequences, max_tokens):
        inputs = row.input_ids_BT[0]
        assert len(inputs) <= max_tokens
        starts = torch.tensor([0, *row.ends[:-1]])
        assert (row.positions_BT[0] == 0).nonzero()[:, 0].tolist() == starts.tolist()
        predictions |= set(
            zip(inputs[row.target_places_P].tolist(), row.targets_P.tolist(), strict=True)
        )
    # A sequence's first token is predicted by nothing, even where the prompt is empty.
    expected = {
        (100 * i + t - 1, 100 * i + t)
        for i, (p, c) in enumerate(shapes)
        for t in range(max(p, 1), p + c)
    }
    assert predictions == expected
