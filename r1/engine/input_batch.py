"""The running sequences as arrays, one row ("slot") each.

A decode step touches Python objects only for sequences that end: everything that
it needs of the others (last token, position, block table, sampling settings) is
read and written for all rows at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r1.engine.sampler import SampledTokens, SamplingBatch
from r1.engine.sequence import Sequence
from r1.models.attention import steps_within


@dataclass(frozen=True, slots=True)
class NewTokens:
    """What a step adds to its rows: `counts` tokens to each of `slots`, one after another.

    `last_rows` are the packed places of the hidden states that gave each row's last token.
    """

    slots: np.ndarray
    counts: np.ndarray
    tokens: SampledTokens
    last_rows: np.ndarray


class InputBatch:
    """Persistent arrays of `max_num_seqs` rows; `token_ids` and tables widen as needed."""

    def __init__(self, max_num_seqs: int, max_model_len: int, block_size: int) -> None:
        self.block_size = block_size
        self.max_model_len = max_model_len
        self.sequences: list[Sequence | None] = [None] * max_num_seqs
        self.free_slots = list(range(max_num_seqs - 1, -1, -1))
        width = min(256, max_model_len)
        self.token_ids = np.zeros((max_num_seqs, width), np.int64)
        self.sampler_logprobs = np.zeros((max_num_seqs, width), np.float32)
        self.raw_logprobs = np.zeros((max_num_seqs, width), np.float32)
        self.block_table = np.zeros((max_num_seqs, -(-width // block_size)), np.int64)
        self.stop_ids = np.full((max_num_seqs, 2), -1, np.int64)
        self.num_tokens = np.zeros(max_num_seqs, np.int64)
        # Drafts stand in `token_ids` behind the tokens proper.
        self.num_drafts = np.zeros(max_num_seqs, np.int64)
        self.num_prompt_tokens = np.zeros(max_num_seqs, np.int64)
        self.num_blocks = np.zeros(max_num_seqs, np.int64)
        self.max_total_tokens = np.zeros(max_num_seqs, np.int64)
        self.min_tokens = np.zeros(max_num_seqs, np.int64)
        self.arrival = np.zeros(max_num_seqs, np.int64)
        self.has_stop_strings = np.zeros(max_num_seqs, bool)
        self.is_streaming = np.zeros(max_num_seqs, bool)
        self.has_begun = np.zeros(max_num_seqs, bool)  # as its stream has
        self.temperature = np.ones(max_num_seqs, np.float64)
        self.top_k = np.zeros(max_num_seqs, np.int64)
        self.top_p = np.ones(max_num_seqs, np.float64)
        self.min_p = np.zeros(max_num_seqs, np.float64)
        self.stream_key = np.zeros(max_num_seqs, np.uint64)
        self.num_top_logprobs = np.zeros(max_num_seqs, np.int64)
        self.is_constrained = np.zeros(max_num_seqs, bool)
        self.asked_from = np.zeros(max_num_seqs, np.int64)  # the constraint's `next_length`

    def add(self, sequence: Sequence, block_ids: list[int]) -> int:
        """Give a sequence a row with its tokens, blocks and settings; returns the slot."""
        slot = self.free_slots.pop()
        sequence.slot = slot
        self.sequences[slot] = sequence
        num_tokens = len(sequence.token_ids)
        self._widen(num_tokens)
        self.num_tokens[slot] = num_tokens
        self.num_drafts[slot] = 0
        self.num_prompt_tokens[slot] = sequence.num_prompt_tokens
        self.token_ids[slot, :num_tokens] = sequence.token_ids
        reply = slice(sequence.num_prompt_tokens, num_tokens)
        self.sampler_logprobs[slot, reply] = sequence.sampler_logprobs
        self.raw_logprobs[slot, reply] = sequence.raw_logprobs
        self.block_table[slot, : len(block_ids)] = block_ids
        self.num_blocks[slot] = len(block_ids)
        self.max_total_tokens[slot] = sequence.max_total_tokens
        self.arrival[slot] = sequence.arrival
        self.has_stop_strings[slot] = bool(sequence.sampling.stop)
        self.is_streaming[slot] = sequence.stream is not None
        self.has_begun[slot] = sequence.stream is not None and sequence.stream.has_begun
        self.stream_key[slot] = sequence.stream_key
        self.num_top_logprobs[slot] = sequence.options.num_top_logprobs
        constraint = sequence.options.constraint
        self.is_constrained[slot] = constraint is not None
        self.asked_from[slot] = 0 if constraint is None else constraint.next_length
        self._set_sampling(slot, sequence)
        return slot

    def _set_sampling(self, slot: int, sequence: Sequence) -> None:
        sampling = sequence.sampling
        self.min_tokens[slot] = sampling.min_tokens
        self.temperature[slot] = sampling.temperature
        self.top_k[slot] = sampling.top_k
        self.top_p[slot] = sampling.top_p
        self.min_p[slot] = sampling.min_p
        missing = len(sequence.stop_token_ids) - self.stop_ids.shape[1]
        if missing > 0:
            self.stop_ids = np.pad(self.stop_ids, ((0, 0), (0, missing)), constant_values=-1)
        self.stop_ids[slot] = -1
        self.stop_ids[slot, : len(sequence.stop_token_ids)] = sequence.stop_token_ids

    def remove(self, slot: int) -> Sequence:
        """Free a row; the sequence takes its tokens and log-probs with it."""
        sequence = self.sequences[slot]
        assert sequence is not None
        num_tokens = self.num_tokens[slot]
        reply = slice(sequence.num_prompt_tokens, num_tokens)
        sequence.token_ids = self.token_ids[slot, :num_tokens].copy()
        sequence.sampler_logprobs = self.sampler_logprobs[slot, reply].copy()
        sequence.raw_logprobs = self.raw_logprobs[slot, reply].copy()
        sequence.slot = -1
        self.sequences[slot] = None
        self.num_blocks[slot] = 0
        self.free_slots.append(slot)
        return sequence

    def append_block(self, slot: int, block_id: int) -> None:
        """Give a row one more block."""
        index = self.num_blocks[slot]
        if index == self.block_table.shape[1]:
            self.block_table = np.pad(self.block_table, ((0, 0), (0, max(4, index // 2))))
        self.block_table[slot, index] = block_id
        self.num_blocks[slot] = index + 1

    def block_ids(self, slot: int) -> list[int]:
        """The blocks of a row, in order."""
        return self.block_table[slot, : self.num_blocks[slot]].tolist()

    def append_tokens(
        self, slots: np.ndarray, sampled: SampledTokens, counts: np.ndarray | None = None
    ) -> None:
        """Add one sampled token to each of these rows, or as many as `counts` says."""
        index = self.num_tokens[slots]
        self.num_tokens[slots] += 1 if counts is None else counts
        if counts is not None:
            index, slots = np.repeat(index, counts) + steps_within(counts), np.repeat(slots, counts)
        self._widen(int(index.max()) + 1)
        self.token_ids[slots, index] = sampled.token_ids
        self.sampler_logprobs[slots, index] = sampled.sampler_logprobs
        self.raw_logprobs[slots, index] = sampled.raw_logprobs

    def append_drafts(self, slots: np.ndarray, token_ids: np.ndarray) -> None:
        """Add one draft to each of these rows, behind the drafts that it has."""
        index = self.num_tokens[slots] + self.num_drafts[slots]
        self._widen(int(index.max()) + 1)
        self.token_ids[slots, index] = token_ids
        self.num_drafts[slots] += 1

    def sampling_batch(self, slots: np.ndarray, num_ahead: np.ndarray) -> SamplingBatch:
        """The sampling settings for the next token of these rows, or one further ahead.

        A row with a constraint is asked for its next token only.
        """
        positions = self.num_tokens[slots] + num_ahead - self.num_prompt_tokens[slots]
        is_too_short = positions < self.min_tokens[slots]
        return SamplingBatch(
            temperature=self.temperature[slots],
            top_k=self.top_k[slots],
            top_p=self.top_p[slots],
            min_p=self.min_p[slots],
            stream_keys=self.stream_key[slots],
            positions=positions,
            banned_ids=np.where(is_too_short[:, None], self.stop_ids[slots], -1),
            allowed=self._allowed(slots),
            num_top_logprobs=self.num_top_logprobs[slots],
        )

    def _allowed(self, slots: np.ndarray) -> np.ndarray:
        """What each row's constraint allows next: objects, a bool array or None."""
        lengths = self.num_tokens[slots] - self.num_prompt_tokens[slots]
        is_asked = self.is_constrained[slots] & (lengths >= self.asked_from[slots])
        if not is_asked.any():
            return np.empty(0, object)
        allowed = np.full(len(slots), None, object)
        for index in np.flatnonzero(is_asked):
            slot = slots[index]
            sequence = self.sequences[slot]
            assert sequence is not None and sequence.options.constraint is not None
            constraint = sequence.options.constraint
            reply = slice(sequence.num_prompt_tokens, self.num_tokens[slot])
            allowed[index] = constraint.allowed(self.token_ids[slot, reply])
            self.asked_from[slot] = constraint.next_length
        return allowed

    def ended_by_token(self, slots: np.ndarray) -> np.ndarray:
        """Which rows' last token is one of their EOS or stop ids."""
        last = self.token_ids[slots, self.num_tokens[slots] - 1]
        return (last[:, None] == self.stop_ids[slots]).any(axis=1)

    def _widen(self, num_tokens: int) -> None:
        width = self.token_ids.shape[1]
        if num_tokens <= width:
            return
        more = ((0, 0), (0, min(max(2 * width, num_tokens), self.max_model_len) - width))
        self.token_ids = np.pad(self.token_ids, more)
        self.sampler_logprobs = np.pad(self.sampler_logprobs, more)
        self.raw_logprobs = np.pad(self.raw_logprobs, more)
        missing = -(-self.token_ids.shape[1] // self.block_size) - self.block_table.shape[1]
        self.block_table = np.pad(self.block_table, ((0, 0), (0, max(0, missing))))
