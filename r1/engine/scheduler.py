"""Which tokens the next step computes: continuous batching with chunked prefill.

Every running sequence decodes one token a step, behind which its drafts are verified,
and what is left of the step's token budget prefills prompts, in order of arrival
(Sarathi-Serve, Agrawal et al. 2024; vLLM's scheduler). When blocks run out, the sequence
that came last gives its blocks back, waits, and is computed again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from r1.engine.block_manager import BlockManager
from r1.engine.input_batch import InputBatch
from r1.engine.sequence import Sequence, SequenceGroup, hash_blocks


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Tokens start..stop of a group's prompt; `is_last` if the prompt ends there."""

    group: SequenceGroup
    start: int
    stop: int

    @property
    def is_last(self) -> bool:
        return self.stop == len(self.group.token_ids)


@dataclass(frozen=True, slots=True)
class ScheduledBatch:
    """One step's work: the slots that decode, and the chunks that prefill."""

    decode_slots: np.ndarray
    chunks: list[PrefillChunk]


class Scheduler:
    """Queues of waiting, prefilling and running sequences over one pool of blocks.

    Invariant: a sequence alone always fits (the engine refuses longer ones), so the
    oldest one always makes progress and the queue always drains.
    """

    def __init__(
        self,
        block_manager: BlockManager,
        input_batch: InputBatch,
        max_num_batched_tokens: int,
        enable_prefix_caching: bool,
        speculative_tokens: int = 0,
    ) -> None:
        self.block_manager = block_manager
        self.input_batch = input_batch
        self.block_size = input_batch.block_size
        self.max_num_batched_tokens = max_num_batched_tokens
        self.enable_prefix_caching = enable_prefix_caching
        self.speculative_tokens = speculative_tokens
        self.waiting: deque[SequenceGroup] = deque()
        self.prefilling: list[SequenceGroup] = []
        self.running = np.empty(0, np.int64)
        self.num_preemptions = 0
        self.num_cached_tokens = 0

    def add(self, group: SequenceGroup) -> None:
        """Queue a group behind all others."""
        self.waiting.append(group)

    def has_unfinished(self) -> bool:
        """Whether any sequence waits, prefills or runs."""
        return bool(self.waiting or self.prefilling or len(self.running))

    def schedule(self) -> ScheduledBatch:
        """Choose the next step's tokens and give them blocks; never empty while work is left."""
        num_preemptions = self.num_preemptions
        self._grow_running()
        if self.speculative_tokens:
            self._look_ahead()
        budget = self.max_num_batched_tokens - len(self.running)
        if self.speculative_tokens:
            budget -= int(self.input_batch.num_drafts[self.running].sum())
        chunks: list[PrefillChunk] = []
        for group in self.prefilling:
            if budget <= 0:
                break
            chunks.append(self._chunk(group, budget))
            budget -= chunks[-1].stop - chunks[-1].start
        while budget > 0 and self.waiting and num_preemptions == self.num_preemptions:
            group = self._admit()
            if group is None:
                break
            chunks.append(self._chunk(group, budget))
            budget -= chunks[-1].stop - chunks[-1].start
        assert chunks or len(self.running) or not self.has_unfinished()
        return ScheduledBatch(self.running, chunks)

    def advance(self, batch: ScheduledBatch) -> np.ndarray:
        """Record that a batch was computed; returns the slots that have a token to sample.

        They are the decode slots in their order, then every member of the groups whose
        prefill ended, in the order of the chunks.
        """
        joined = []
        for chunk in batch.chunks:
            chunk.group.num_computed_tokens = chunk.stop
            if chunk.is_last:
                joined += [sequence.slot for sequence in chunk.group.sequences]
                self.prefilling.remove(chunk.group)
        if joined:
            self.running = np.concatenate([self.running, np.array(joined, np.int64)])
        return self.running

    def finish(self, slots: np.ndarray) -> list[Sequence]:
        """Take running rows out and free their blocks."""
        if len(slots) == 0:
            return []
        self.running = self.running[~np.isin(self.running, slots)]
        for slot in slots[self.input_batch.is_streaming[slots]].tolist():
            self._remember_blocks(slot)
        return [self._release(slot) for slot in slots.tolist()]

    def cancel(self, request_id: str) -> list[Sequence]:
        """Take out every sequence of a request, wherever it is; returns them by index."""
        rows = self.input_batch.sequences
        mine = [s for s in self.running.tolist() if _request_id(rows[s]) == request_id]
        cancelled = self.finish(np.array(mine, np.int64))
        for group in [g for g in self.prefilling if g.sequences[0].request.id == request_id]:
            self.prefilling.remove(group)
            cancelled += [self._release(sequence.slot) for sequence in group.sequences]
        for group in [g for g in self.waiting if g.sequences[0].request.id == request_id]:
            self.waiting.remove(group)
            cancelled += group.sequences
        return sorted(cancelled, key=lambda sequence: sequence.sample_index)

    def abort_all(self) -> None:
        """Drop everything and forget the prefix cache (a step failed half-way)."""
        self.waiting.clear()
        self.finish(self.running)
        for group in self.prefilling:
            for sequence in group.sequences:
                self._release(sequence.slot)
        self.prefilling.clear()
        self.block_manager.reset_prefix_cache()

    # ------------------------------------------------------------ blocks

    def _grow_running(self) -> None:
        """Give a block to every row whose next token needs one, the oldest rows first."""
        rows = self.input_batch
        is_full = rows.num_tokens[self.running] > rows.num_blocks[self.running] * self.block_size
        needy = self.running[is_full]
        for slot in needy[np.argsort(rows.arrival[needy])].tolist():
            while rows.sequences[slot] is not None and self.block_manager.num_free_blocks == 0:
                self._preempt_last()
            if rows.sequences[slot] is not None:
                rows.append_block(slot, self.block_manager.allocate(1)[0])

    def _look_ahead(self) -> None:
        """Give rows blocks for this step's tokens and the drafts after them, while there are some.

        Drafts reach as far as a row's blocks do, so that nobody is preempted for them.
        """
        rows = self.input_batch
        # All drafts accepted, one token more, and as many drafts again.
        last = rows.num_tokens[self.running] + 2 * self.speculative_tokens + 1
        last = np.minimum(last, rows.max_total_tokens[self.running])
        missing = -(-last // self.block_size) - rows.num_blocks[self.running]
        for index in np.flatnonzero(missing > 0):
            count = min(int(missing[index]), self.block_manager.num_free_blocks)
            for block_id in self.block_manager.allocate(count):
                rows.append_block(int(self.running[index]), block_id)

    def _preempt_last(self) -> None:
        rows = self.input_batch
        arrivals = rows.arrival[self.running]
        last = self.running[arrivals.argmax()] if len(self.running) else -1
        group = max(self.prefilling, key=lambda group: group.arrival, default=None)
        self.num_preemptions += 1
        if group is None or (last >= 0 and rows.arrival[last] > group.arrival):
            self.running = self.running[self.running != last]
            self._remember_blocks(int(last))
            self.waiting.appendleft(SequenceGroup(deque([self._release(int(last))])))
            return
        self.prefilling.remove(group)
        for sequence in group.sequences:
            self._release(sequence.slot)
        group.num_computed_tokens = 0
        self.waiting.appendleft(group)

    def _release(self, slot: int) -> Sequence:
        self.block_manager.release(self.input_batch.block_ids(slot))
        return self.input_batch.remove(slot)

    def _remember_blocks(self, slot: int) -> None:
        """Make a running row's full blocks findable, for its return or a chat's next turn."""
        if not self.enable_prefix_caching:
            return
        rows = self.input_batch
        # The last token has been sampled but its keys and values are not computed yet.
        computed = rows.token_ids[slot, : rows.num_tokens[slot] - 1]
        hashes = hash_blocks(computed, self.block_size)
        for block_id, block_hash in zip(rows.block_ids(slot), hashes, strict=False):
            self.block_manager.register(block_id, block_hash)

    # ------------------------------------------------------------ admission

    def _admit(self) -> SequenceGroup | None:
        """Start as many of the first waiting group's sequences as fit; None if none does."""
        group = self.waiting[0]
        num_tokens = len(group.token_ids)
        if self.enable_prefix_caching and not group.block_hashes:
            group.block_hashes = hash_blocks(group.token_ids, self.block_size)
        # At least one token is computed: its logits give the first sampled token.
        usable = group.block_hashes[: (num_tokens - 1) // self.block_size]
        cached = self.block_manager.match_prefix(usable)
        num_shared, num_private = divmod(num_tokens, self.block_size)
        num_private = min(num_private, 1)
        free = self.block_manager.num_free_blocks - self.block_manager.num_free_among(cached)
        free -= num_shared - len(cached)
        count = min(len(group.sequences), len(self.input_batch.free_slots))
        # Room for one more block for everyone that runs, or preemption would follow at once.
        count = min(count, (free - len(self.running)) // (num_private + 1))
        if count < 1:
            if len(self.running) or self.prefilling:
                return None
            count = 1
        self.block_manager.share(cached)
        shared = cached + self.block_manager.allocate(num_shared - len(cached))
        admitted = SequenceGroup(deque(), group.block_hashes, len(cached) * self.block_size)
        for index in range(count):
            sequence = group.sequences.popleft()
            if index > 0:
                self.block_manager.share(shared)
            # What a preempted sequence finds again was its own.
            if len(sequence.token_ids) == sequence.num_prompt_tokens:
                sequence.num_cached_tokens = admitted.num_computed_tokens
            self.input_batch.add(sequence, shared + self.block_manager.allocate(num_private))
            admitted.sequences.append(sequence)
        if not group.sequences:
            self.waiting.popleft()
        self.num_cached_tokens += admitted.num_computed_tokens
        self.prefilling.append(admitted)
        return admitted

    def _chunk(self, group: SequenceGroup, budget: int) -> PrefillChunk:
        """The group's next tokens; the blocks that they fill become findable.

        Already now, before they are computed: within a step every layer writes all its
        keys and values before it reads any, so a group of the same step may share them.
        """
        start = group.num_computed_tokens
        stop = min(len(group.token_ids), start + budget)
        slot = group.sequences[0].slot
        first, last = start // self.block_size, stop // self.block_size
        for index in range(first, min(last, len(group.block_hashes))):
            block_id = int(self.input_batch.block_table[slot, index])
            self.block_manager.register(block_id, group.block_hashes[index])
        return PrefillChunk(group, start, stop)


def _request_id(sequence: Sequence | None) -> str | None:
    return None if sequence is None else sequence.request.id
