from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r1.models.hf_checkpoint import load_language_model
from r1.training.logprobs import token_loss
from r1.training.packing import PackedTargets, TokenSequence, pack_targets
from r1.training.shared_prompts import pack_replies

GROUPS = [
    ([7, 8, 9], [[1, 2, 3], [4], [5, 6, 1, 2, 3]]),
    ([7], [[3, 3], [2]]),
    ([9, 9, 1, 4], [[8, 7, 6]]),
]


def sequences_of(groups: Sequence[tuple[list[int], list[list[int]]]]) -> list[TokenSequence]:
    return [TokenSequence.of(prompt, reply) for prompt, replies in groups for reply in replies]


def test_a_row_by_hand() -> None:
    (row,) = pack_replies(sequences_of(GROUPS[:1]), 100)
    # The prompt, two tokens of the first reply, none of the second, four of the third.
    assert row.input_ids_BT.tolist() == [[7, 8, 9, 1, 2, 5, 6, 1, 2]]
    assert row.positions_BT.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5, 6]]
    assert row.plan is not None
    assert (row.plan.lengths, row.plan.prefixes) == ((3, 2, 4), (-1, 0, 0))
    assert row.target_places_P.tolist() == [2, 3, 4, 2, 2, 5, 6, 7, 8]
    assert row.targets_P.tolist() == [1, 2, 3, 4, 5, 6, 1, 2, 3]
    assert row.target_counts == (3, 1, 5)


def test_a_group_that_does_not_fit_gets_its_prompt_again() -> None:
    rows = pack_replies(sequences_of(GROUPS[:1]), 7)
    assert sorted(row.input_ids_BT.tolist()[0] for row in rows) == [
        [7, 8, 9, 1, 2],
        [7, 8, 9, 5, 6, 1, 2],
    ]
    with pytest.raises(ValueError, match="7 tokens does not fit into a pack of 6"):
        pack_replies(sequences_of(GROUPS[:1]), 6)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=12
    ),
    st.integers(14, 60),
)
@settings(max_examples=60)
def test_every_target_once_and_rows_within_the_budget(
    made: list[tuple[int, int, int]], max_tokens: int
) -> None:
    sequences = [TokenSequence.of([p] * n, list(range(length))) for p, n, length in made]
    rows = pack_replies(sequences, max_tokens)
    assert all(row.input_ids_BT.numel() <= max_tokens for row in rows)
    found = {i: t.tolist() for row in rows for i, t in row.split(row.targets_P).items()}
    assert found == {i: list(range(length)) for i, (_, _, length) in enumerate(made)}
    plain = sum(row.input_ids_BT.numel() for row in pack_targets(sequences, max_tokens))
    assert sum(row.input_ids_BT.numel() for row in rows) <= plain


@pytest.mark.parametrize("has_kernel", [True, False])
def test_log_probs_and_gradients_equal_those_of_unshared_prompts(
    tiny_policy: Path, has_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_kernel:
        monkeypatch.setattr("r1.models.attention.has_segment_kernel", lambda *_: False)
    rng = np.random.default_rng(0)
    groups = [
        (rng.integers(0, 90, size).tolist(), [rng.integers(0, 90, n).tolist() for n in lengths])
        for size, lengths in ((70, (3, 90, 1, 40)), (5, (20, 4)), (9, (12,)))
    ]
    sequences = sequences_of(groups)
    weights = [float(w) for w in rng.standard_normal(len(sequences))]
    model = load_language_model(tiny_policy)

    def run(rows: Sequence[PackedTargets]) -> tuple[dict[int, torch.Tensor], list[torch.Tensor]]:
        model.zero_grad()
        logprobs: dict[int, torch.Tensor] = {}
        for row in rows:
            hidden_BTD = model(row.input_ids_BT, row.positions_BT, row.plan)
            weights_P = row.spread(weights)

            def loss_of(
                part: torch.Tensor, chosen: slice, weights_P: torch.Tensor = weights_P
            ) -> torch.Tensor:
                return (part * weights_P[chosen]).mean()

            result = token_loss(model, hidden_BTD[0, row.target_places_P], row.targets_P, loss_of)
            (result.loss * len(weights_P) / 100).backward()
            logprobs |= row.split(result.logprobs_N)
        return logprobs, [p.grad.clone() for p in model.parameters() if p.grad is not None]

    expected, expected_gradients = run(pack_targets(sequences, 1000))
    for max_tokens in (1000, 160):
        actual, gradients = run(pack_replies(sequences, max_tokens))
        assert actual.keys() == expected.keys()
        for index in expected:
            torch.testing.assert_close(actual[index], expected[index], atol=1e-5, rtol=1e-5)
        for mine, theirs in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
