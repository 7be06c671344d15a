"""Self-speculative decoding: drafts by multi-token prediction, verified by the model itself.

The layer that DeepSeek-V3 was trained with to predict the token after the next (report,
arXiv:2412.19437, section 5.4.3) drafts a few tokens; the next step computes them all and
keeps those that the model agrees with. Draft and model draw with the same random number at
a position, each from its own final distribution, and a draft is accepted when both drew the
same token (Daliri et al. 2024, "Coupling without communication and drafter-invariant
speculative decoding", arXiv:2408.07978). So every token is the one that the model draws
without drafts: not only its distribution is kept, as with the acceptance test of Leviathan
et al. 2023 (arXiv:2211.17192), but the sample itself, wherever a step or a preemption
happens to cut the drafts.
"""

from __future__ import annotations

import numpy as np
import torch

from r1.engine.input_batch import NewTokens
from r1.engine.kv_cache import PagedKVCache
from r1.engine.sampler import SampledTokens, sample_states
from r1.engine.spans import Spans
from r1.engine.step_packing import PackedStep, StepPacker
from r1.models.deepseek_v3 import DeepseekV3ForCausalLM
from r1.models.language_model import LanguageModel


class Speculator:
    """Drafts up to `num_tokens` tokens a row with the model's multi-token-prediction layer.

    The layer's keys and values lie in the cache beside those of the model's own layers, at
    the same places. An entry belongs to its token and the next one, so the last one of a
    prefix that several replies share is that of the first reply: a draft may suffer, the
    result cannot.
    """

    def __init__(
        self, model: LanguageModel, kv_cache: PagedKVCache, packer: StepPacker, num_tokens: int
    ) -> None:
        assert isinstance(model, DeepseekV3ForCausalLM), "engine_config refuses others"
        self.model = model
        self.kv_cache = kv_cache
        self.packer = packer
        self.input_batch = packer.input_batch
        self.num_tokens = num_tokens
        self.num_drafts = 0
        self.num_accepted = 0

    def accept(self, slots: np.ndarray, sampled: SampledTokens) -> tuple[SampledTokens, np.ndarray]:
        """Of each row's tokens those that follow agreed drafts only, and how many they are.

        `sampled` are 1 + drafts tokens a row. What follows a stop token is dropped too.
        """
        rows = self.input_batch
        counts = rows.num_drafts[slots] + 1
        steps = np.arange(counts.max())
        is_drawn_BT = steps < counts[:, None]
        drawn_BT = np.full(is_drawn_BT.shape, -1)
        drawn_BT[is_drawn_BT] = sampled.token_ids
        places_BT = rows.num_tokens[slots][:, None] + steps[:-1]
        drafts_BT = rows.token_ids[slots[:, None], places_BT.clip(max=rows.token_ids.shape[1] - 1)]
        is_stop_BT = (drawn_BT[:, :-1, None] == rows.stop_ids[slots][:, None]).any(-1)
        goes_on_BT = (drawn_BT[:, :-1] == drafts_BT) & ~is_stop_BT & is_drawn_BT[:, 1:]
        counts_kept = 1 + np.logical_and.accumulate(goes_on_BT, axis=1).sum(1)
        self.num_drafts += int(counts.sum()) - len(counts)
        self.num_accepted += int(counts_kept.sum()) - len(counts)
        is_kept_BT = steps < counts_kept[:, None]
        return sampled.rows(is_kept_BT[is_drawn_BT]), counts_kept

    def draft(self, packed: PackedStep, hidden_ND: torch.Tensor, new: NewTokens | None) -> None:
        """Compute the layer for a step's tokens, then draft for the rows that got new ones."""
        rows = self.input_batch
        next_places = np.minimum(packed.positions + 1, rows.token_ids.shape[1] - 1)
        hidden_ND = self._predict(packed, hidden_ND, rows.token_ids[packed.slots, next_places])
        if new is None:
            return
        rows.num_drafts[new.slots] = 0
        # Replies to one prompt have had its last token in common: it was followed by the first's.
        _, firsts = np.unique(new.last_rows, return_index=True)
        slots, places = new.slots[firsts], new.last_rows[firsts]
        for num_drafted in range(self.num_tokens):
            is_open = num_drafted < self._num_allowed(slots)
            slots, places = slots[is_open], places[is_open]
            if len(slots) == 0:
                return
            hidden_BD = hidden_ND.index_select(0, self.packer.to_device(places))
            sampling = rows.sampling_batch(slots, rows.num_drafts[slots])
            token_ids = sample_states(self.model, hidden_BD, sampling).token_ids
            rows.append_drafts(slots, token_ids)
            if num_drafted + 1 < self.num_tokens:
                stops = rows.num_tokens[slots] + num_drafted
                packed = self.packer.pack(Spans(slots, stops - 1, stops))
                order = np.argsort(packed.firsts)
                hidden_BD = hidden_BD[self.packer.to_device(order)]
                hidden_ND = self._predict(packed, hidden_BD, token_ids[order])
                places = packed.firsts

    def _num_allowed(self, slots: np.ndarray) -> np.ndarray:
        """Drafts that a row has blocks and use for; a constraint is asked token by token."""
        rows = self.input_batch
        num_tokens = rows.num_tokens[slots]
        room = rows.num_blocks[slots] * rows.block_size - num_tokens
        # The step that verifies drafts gives one token more than it accepts.
        left = rows.max_total_tokens[slots] - num_tokens - 1
        return np.where(rows.is_constrained[slots], 0, np.minimum(room, left))

    def _predict(
        self, packed: PackedStep, hidden_ND: torch.Tensor, next_ids: np.ndarray
    ) -> torch.Tensor:
        to_device = self.packer.to_device
        return self.model.draft(
            hidden_ND[None],
            to_device(next_ids)[None],
            to_device(packed.positions)[None],
            self.kv_cache.bind(packed.metadata),
        )[0]
