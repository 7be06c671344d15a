"""Packed rows in which a prompt stands once, before all the replies to it.

The replies of a group differ only after their prompt. Their attention reads its keys and
values, so that its layers are computed once, and its gradient is the sum over the replies:
the same as of rows in which each reply brings its own copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from r1.models.attention import AttentionPlan
from r1.training.packing import PackedTargets, TokenSequence, plan_packs


def pack_replies(
    sequences: Sequence[TokenSequence], max_tokens: int, *, device: torch.device | str = "cpu"
) -> list[PackedTargets]:
    """As `pack_targets`; sequences with the same tokens before their first target share them.

    Replies that do not fit behind one copy of their prompt get another. Raises ValueError
    for a sequence that does not fit by itself.
    """
    families = list(_families(sequences, max_tokens))
    sizes = [_num_fed(sequences, family) for family in families]
    return [
        _lay_out(
            [[sequences[i] for i in families[place]] for place in pack],
            [i for place in pack for i in families[place]],
            device,
        )
        for pack in plan_packs(sizes, max_tokens)
    ]


def _prompt_length(sequence: TokenSequence) -> int:
    return 1 + int(np.argmax(sequence.is_target[1:]))


def _num_fed(sequences: Sequence[TokenSequence], family: Sequence[int]) -> int:
    """Tokens of a family's row: the prompt, and each reply without its last token."""
    shared = _prompt_length(sequences[family[0]])
    return shared + sum(len(sequences[i]) - 1 - shared for i in family)


def _families(sequences: Sequence[TokenSequence], max_tokens: int) -> Iterable[list[int]]:
    """Indices of the sequences with targets, together where the prompt is the same."""
    groups: dict[bytes, list[int]] = {}
    for index, sequence in enumerate(sequences):
        if sequence.num_targets:
            prompt = sequence.token_ids[: _prompt_length(sequence)].tobytes()
            groups.setdefault(prompt, []).append(index)
    for group in groups.values():
        family: list[int] = []
        for index in group:
            if family and _num_fed(sequences, [*family, index]) > max_tokens:
                yield family
                family = []
            family.append(index)
        yield family


def _lay_out(
    families: Sequence[Sequence[TokenSequence]],
    indices: Sequence[int],
    device: torch.device | str,
) -> PackedTargets:
    tokens, positions, places, targets = [], [], [], []
    lengths: list[int] = []
    prefixes: list[int] = []

    def add_segment(token_ids: np.ndarray, first_position: int, prefix: int) -> None:
        tokens.append(token_ids)
        positions.append(first_position + np.arange(len(token_ids)))
        lengths.append(len(token_ids))
        prefixes.append(prefix)

    ends = []
    for family in families:
        shared = _prompt_length(family[0])
        prefix, prompt_start = len(lengths), sum(lengths)
        is_alone = len(family) == 1
        if not is_alone:
            add_segment(family[0].token_ids[:shared], 0, -1)
        for sequence in family:
            start = sum(lengths)
            if is_alone:
                add_segment(sequence.token_ids[:-1], 0, -1)
            elif len(sequence) - 1 > shared:
                add_segment(sequence.token_ids[shared:-1], shared, prefix)
            # Where each fed token of the sequence lies in the row.
            fed = np.arange(len(sequence) - 1)
            row_places = np.where(fed < shared, prompt_start + fed, start + fed - shared)
            if is_alone:
                row_places = start + fed
            predicts = sequence.is_target[1:]
            places.append(row_places[predicts])
            targets.append(sequence.token_ids[1:][predicts])
            ends.append(sum(lengths))

    def to_device(parts: Sequence[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)

    return PackedTargets(
        to_device(tokens)[None],
        to_device(positions)[None],
        tuple(indices),
        tuple(ends),
        target_places_P=to_device(places),
        targets_P=to_device(targets),
        target_counts=tuple(map(len, targets)),
        plan=AttentionPlan(tuple(lengths), tuple(prefixes), device),
    )
