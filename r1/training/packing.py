"""Sequences of any length into packed rows: many segments, no padding.

A packed row is [1, N]: its segments lie end to end with positions that restart
at 0, and attention stays within a segment. Rows are planned as the R1 report
does it: sort by length, deal over the data-parallel ranks, best-fit into chunks
of a fixed token budget, the same number of chunks on each rank.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from r1.models.attention import AttentionPlan


@dataclass(frozen=True)
class TokenSequence:
    """Token ids [T] (int32) and which of them are trained on, [T] (bool).

    The first token is never a target: nothing comes before it to predict it from.
    """

    token_ids: NDArray[np.int32]
    is_target: NDArray[np.bool_]

    @classmethod
    def of(cls, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> TokenSequence:
        """A prompt that is only read, then a completion of which every token is a target."""
        is_target = np.zeros(len(prompt_ids) + len(completion_ids), dtype=np.bool_)
        is_target[max(len(prompt_ids), 1) :] = True
        return cls(np.array([*prompt_ids, *completion_ids], dtype=np.int32), is_target)

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def num_targets(self) -> int:
        return int(np.count_nonzero(self.is_target[1:]))


@dataclass(frozen=True)
class PackedRow:
    """One forward pass: S sequences in a row of N tokens.

    `input_ids_BT` and `positions_BT` are [1, N]. `sequence_indices` names the
    sequences of the batch, in the order in which they lie in the row; `ends` are the
    places in the row after each one's last token. `plan` is for the model where positions
    alone do not tell what attends to what.
    """

    input_ids_BT: Tensor
    positions_BT: Tensor
    sequence_indices: tuple[int, ...]
    ends: tuple[int, ...]
    plan: AttentionPlan | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class PackedTargets(PackedRow):
    """A row with the P places that predict a target token.

    Hidden state `target_places_P[p]` of the row predicts `targets_P[p]`. The targets
    of a sequence are consecutive and in its order: `target_counts[s]` for each.
    """

    target_places_P: Tensor
    targets_P: Tensor
    target_counts: tuple[int, ...]

    def at_targets(self, hidden_BTD: Tensor) -> Tensor:
        """The row's hidden states that predict a target: [P, D].

        The last token of a shared prompt predicts the first token of every reply, and its
        gradient is their sum. That of indexing (`index_put_`) adds in the order in which
        threads come, so that a busy machine changed the bits of a run; index_select's adds
        in order.
        """
        return hidden_BTD[0].index_select(0, self.target_places_P)

    def gather(self, values: Sequence[Sequence[float] | Tensor]) -> Tensor:
        """Per-token values of the whole batch's sequences as this row's [P], fp32.

        `values[i]` belongs to sequence i and has a number for each of its targets.
        """
        parts = [torch.as_tensor(values[i], dtype=torch.float32) for i in self.sequence_indices]
        assert tuple(map(len, parts)) == self.target_counts, "one value for each target"
        return torch.cat(parts).to(self.targets_P.device)

    def spread(self, values: Sequence[float]) -> Tensor:
        """One value a sequence of the whole batch, repeated over its targets: [P], fp32."""
        of_sequences = torch.tensor([values[i] for i in self.sequence_indices])
        counts = torch.tensor(self.target_counts)
        return of_sequences.float().repeat_interleave(counts).to(self.targets_P.device)

    def split(self, values_P: Tensor) -> dict[int, Tensor]:
        """The reverse of `gather`: this row's [P] by the index of its sequence."""
        parts = values_P.split(list(self.target_counts))
        return dict(zip(self.sequence_indices, parts, strict=True))


def plan_packs(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Group sequences (by index) into packs of at most `max_tokens`, best-fit decreasing.

    Every index appears once; the order depends on the lengths alone. Raises
    ValueError for a sequence that is longer than a pack.
    """
    return plan_packs_for_ranks(lengths, max_tokens, num_ranks=1)[0]


def plan_packs_for_ranks(
    lengths: Sequence[int], max_tokens: int, *, num_ranks: int
) -> list[list[list[int]]]:
    """As `plan_packs` for each of `num_ranks` ranks, with equal numbers of packs.

    result[rank] is a list of packs. A rank that packed tighter than another splits its
    fullest packs, and has empty packs once nothing is left to split, so that every rank
    takes part in the same number of forward passes.
    """
    if lengths and max(lengths) > max_tokens:
        raise ValueError(
            f"a sequence of {max(lengths)} tokens does not fit into a pack of {max_tokens}"
        )
    longest_first = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    dealt: list[list[int]] = [[] for _ in range(num_ranks)]
    for place, index in enumerate(longest_first):
        turn, rank = divmod(place, num_ranks)
        # There and back again, so that no rank always gets the longer one.
        dealt[rank if turn % 2 == 0 else num_ranks - 1 - rank].append(index)
    plans = [_best_fit(indices, lengths, max_tokens) for indices in dealt]
    num_packs = max(map(len, plans))
    for packs in plans:
        while len(packs) < num_packs:
            _split_one(packs, lengths)
    return plans


def _best_fit(indices: list[int], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    packs: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (tokens left, pack), sorted
    for index in indices:
        place = bisect_left(free, (lengths[index], -1))
        if place < len(free):
            left, pack = free.pop(place)
        else:
            left, pack = max_tokens, len(packs)
            packs.append([])
        packs[pack].append(index)
        insort(free, (left - lengths[index], pack))
    return packs


def _split_one(packs: list[list[int]], lengths: Sequence[int]) -> None:
    divisible = [pack for pack in packs if len(pack) > 1]
    if not divisible:
        packs.append([])
        return
    fullest = max(divisible, key=lambda pack: sum(lengths[i] for i in pack))
    packs.append(fullest[1::2])
    fullest[:] = fullest[::2]


def pack_targets(
    sequences: Sequence[TokenSequence], max_tokens: int, *, device: torch.device | str = "cpu"
) -> list[PackedTargets]:
    """Pack sequences for next-token training, at most `max_tokens` of input a row.

    The last token of a sequence predicts nothing and is not fed. Sequences without a
    target are left out. Raises ValueError for a sequence that does not fit.
    """
    kept = [index for index, sequence in enumerate(sequences) if sequence.num_targets]
    packs = plan_packs([len(sequences[index]) - 1 for index in kept], max_tokens)
    return [_lay_out_targets(sequences, [kept[place] for place in pack], device) for pack in packs]


def pack_whole(
    sequences: Sequence[TokenSequence], max_tokens: int, *, device: torch.device | str = "cpu"
) -> list[PackedRow]:
    """Pack whole sequences, last token included: for a score read at each one's end."""
    packs = plan_packs([len(sequence) for sequence in sequences], max_tokens)
    return [lay_out([sequences[i].token_ids for i in pack], pack, device) for pack in packs]


def lay_out(
    rows: Sequence[NDArray[np.int32]], indices: Sequence[int], device: torch.device | str
) -> PackedRow:
    """Token ids end to end in one row; `indices` are the names that the row keeps for them."""
    positions = np.concatenate([np.arange(len(row)) for row in rows])
    ends = cast(list[int], np.cumsum([len(row) for row in rows]).tolist())
    return PackedRow(
        torch.from_numpy(np.concatenate(rows).astype(np.int64))[None].to(device),
        torch.from_numpy(positions)[None].to(device),
        tuple(indices),
        tuple(ends),
    )


def _lay_out_targets(
    sequences: Sequence[TokenSequence], indices: Sequence[int], device: torch.device | str
) -> PackedTargets:
    chosen = [sequences[index] for index in indices]
    row = lay_out([sequence.token_ids[:-1] for sequence in chosen], indices, device)
    predicts = np.concatenate([sequence.is_target[1:] for sequence in chosen])
    following = np.concatenate([sequence.token_ids[1:] for sequence in chosen])
    return PackedTargets(
        **vars(row),
        target_places_P=torch.from_numpy(np.flatnonzero(predicts)).to(device),
        targets_P=torch.from_numpy(following[predicts].astype(np.int64)).to(device),
        target_counts=tuple(sequence.num_targets for sequence in chosen),
    )
