"""One step on the model: pack the scheduled tokens, run it, sample the next tokens."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from r1.engine.input_batch import InputBatch
from r1.engine.kv_cache import AttentionBucket, AttentionMetadata, PagedKVCache
from r1.engine.routing_cache import RoutingCache
from r1.engine.sampler import SampledTokens, sample
from r1.engine.scheduler import PrefillChunk, ScheduledBatch
from r1.models.language_model import LanguageModel
from r1.models.moe import RoutingTrace

# Decoding rows are sorted by length and attend in buckets of this many, so that few
# rows are padded to the longest of all.
DECODE_BUCKET_ROWS = 64
# Bounds the attention mask of a prefill bucket (rows x query tokens x key tokens) ...
MAX_PREFILL_SCORES = 2**22
# ... and the logits held at once (rows x vocabulary).
MAX_LOGITS = 2**24


class PackedTokens(NamedTuple):
    """Ids, positions and flat cache slots of N packed tokens, int64 [N] each."""

    ids: np.ndarray
    positions: np.ndarray
    write_slots: np.ndarray


class ModelRunner:
    """Runs scheduled batches on one model over one cache."""

    def __init__(
        self,
        model: LanguageModel,
        kv_cache: PagedKVCache,
        input_batch: InputBatch,
        routing_cache: RoutingCache | None = None,
    ) -> None:
        self.model = model
        self.kv_cache = kv_cache
        self.routing_cache = routing_cache
        self.input_batch = input_batch
        self.block_size = input_batch.block_size
        weight = model.head_weight
        self.dtype, self.device = weight.dtype, weight.device
        self.vocab_size = weight.shape[0]

    @torch.inference_mode()
    def execute(self, batch: ScheduledBatch) -> SampledTokens | None:
        """Compute a batch and sample a token for every sequence that is due one.

        In the order of `Scheduler.advance`: the decode slots, then the members of the
        groups whose prefill ends. None when only parts of prompts were computed.
        """
        order = np.argsort(self.input_batch.num_tokens[batch.decode_slots], kind="stable")
        decode_slots = batch.decode_slots[order]
        chunks = sorted(batch.chunks, key=lambda chunk: (chunk.stop, chunk.start))
        packed, buckets = self._pack(decode_slots, chunks)
        metadata = AttentionMetadata(self._to_device(packed.write_slots), buckets)
        hidden_BTD = self._forward(packed, metadata)
        self._fork(batch.chunks)
        rows, slots = self._sampled_rows(batch, order, chunks)
        return self._sample(hidden_BTD[0], rows, slots) if len(rows) else None

    def _forward(self, packed: PackedTokens, metadata: AttentionMetadata) -> torch.Tensor:
        inputs = (
            self._to_device(packed.ids)[None],
            self._to_device(packed.positions)[None],
            self.kv_cache.bind(metadata),
        )
        if self.routing_cache is None:
            return self.model(*inputs)
        trace = RoutingTrace()
        hidden_BTD = self.model(*inputs, trace=trace)
        self.routing_cache.store(metadata.write_slots, trace)
        return hidden_BTD

    def _sampled_rows(
        self, batch: ScheduledBatch, order: np.ndarray, chunks: list[PrefillChunk]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Packed rows whose logits are sampled, and the slots that their tokens go to."""
        decode_rows = np.empty(len(order), np.int64)
        decode_rows[order] = np.arange(len(order))
        ends = len(order) + np.cumsum(
            [chunk.stop - chunk.start for chunk in chunks], dtype=np.int64
        )
        end_of_group = {id(chunk.group): end for chunk, end in zip(chunks, ends, strict=True)}
        rows, slots = [decode_rows], [batch.decode_slots]
        for chunk in batch.chunks:
            if chunk.is_last:
                members = [sequence.slot for sequence in chunk.group.sequences]
                rows.append(np.full(len(members), end_of_group[id(chunk.group)] - 1))
                slots.append(np.array(members))
        return np.concatenate(rows), np.concatenate(slots)

    def _sample(
        self, hidden_ND: torch.Tensor, rows: np.ndarray, slots: np.ndarray
    ) -> SampledTokens:
        sampling = self.input_batch.sampling_batch(slots)
        hidden_BD = hidden_ND.index_select(0, self._to_device(rows))
        step = max(1, MAX_LOGITS // self.vocab_size)
        parts = [
            sample(
                self.model.compute_logits(hidden_BD[start : start + step]),
                sampling.rows(start, start + step),
            )
            for start in range(0, len(rows), step)
        ]
        if len(parts) == 1:
            return parts[0]
        return SampledTokens(
            np.concatenate([part.token_ids for part in parts]),
            np.concatenate([part.sampler_logprobs for part in parts]),
            np.concatenate([part.raw_logprobs for part in parts]),
            _concatenate([part.top_ids for part in parts]),
            _concatenate([part.top_logprobs for part in parts]),
        )

    def _fork(self, chunks: list[PrefillChunk]) -> None:
        """Give each member of a prefilled group its own copy of the partly filled block."""
        sources, targets = [], []
        for chunk in chunks:
            index, num_filled = divmod(len(chunk.group.token_ids), self.block_size)
            if chunk.is_last and num_filled:
                leader, *followers = (sequence.slot for sequence in chunk.group.sequences)
                table = self.input_batch.block_table
                sources += [table[leader, index]] * len(followers)
                targets += table[followers, index].tolist()
        if targets:
            self.kv_cache.copy_blocks(sources, targets)
            if self.routing_cache is not None:
                self.routing_cache.copy_blocks(sources, targets)

    # ------------------------------------------------------------ packing

    def _pack(
        self, decode_slots: np.ndarray, chunks: list[PrefillChunk]
    ) -> tuple[PackedTokens, list[AttentionBucket]]:
        table = self.input_batch.block_table
        positions = self.input_batch.num_tokens[decode_slots] - 1
        parts = [
            PackedTokens(
                self.input_batch.token_ids[decode_slots, positions],
                positions,
                self._flat_slots(table[decode_slots, positions // self.block_size], positions),
            )
        ]
        buckets = self._decode_buckets(decode_slots)
        for chunk in chunks:
            slot = chunk.group.sequences[0].slot
            positions = np.arange(chunk.start, chunk.stop)
            blocks = table[slot, positions // self.block_size]
            ids = chunk.group.token_ids[chunk.start : chunk.stop]
            parts.append(PackedTokens(ids, positions, self._flat_slots(blocks, positions)))
        buckets += self._prefill_buckets(len(decode_slots), chunks)
        return PackedTokens(
            *(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        ), buckets

    def _flat_slots(self, block_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return block_ids * self.block_size + positions % self.block_size

    def _decode_buckets(self, slots: np.ndarray) -> list[AttentionBucket]:
        """Buckets of rows sorted by length; a row sees its own tokens 0..num_tokens."""
        buckets = []
        for first in range(0, len(slots), DECODE_BUCKET_ROWS):
            rows = slots[first : first + DECODE_BUCKET_ROWS]
            lengths = self.input_batch.num_tokens[rows]
            block_ids, num_keys = self._read_blocks(rows, int(lengths[-1]))
            mask_BS = self._mask(np.arange(num_keys) < lengths[:, None])
            last = first + len(rows)
            buckets.append(
                AttentionBucket(first, last, len(rows), block_ids, mask_BS[:, None, None])
            )
        return buckets

    def _prefill_buckets(self, first: int, chunks: list[PrefillChunk]) -> list[AttentionBucket]:
        """Consecutive chunks (sorted by context) in buckets of bounded padding and mask."""
        buckets, start = [], 0
        while start < len(chunks):
            stop, longest = start, 0
            while stop < len(chunks):
                longest = max(longest, chunks[stop].stop - chunks[stop].start)
                scores = (stop + 1 - start) * longest * chunks[stop].stop
                is_alike = 2 * chunks[start].stop >= chunks[stop].stop
                if stop > start and (scores > MAX_PREFILL_SCORES or not is_alike):
                    break
                stop += 1
            buckets.append(self._prefill_bucket(first, chunks[start:stop]))
            first, start = buckets[-1].last, stop
        return buckets

    def _prefill_bucket(self, first: int, chunks: list[PrefillChunk]) -> AttentionBucket:
        slots = np.array([chunk.group.sequences[0].slot for chunk in chunks])
        starts = np.array([chunk.start for chunk in chunks])
        lengths = np.array([chunk.stop - chunk.start for chunk in chunks])
        block_ids, num_keys = self._read_blocks(slots, max(chunk.stop for chunk in chunks))
        steps = np.arange(lengths.max())
        is_real = steps < lengths[:, None]
        # A padded query repeats its row's last token; its output is dropped.
        steps = np.minimum(steps, lengths[:, None] - 1)
        offsets = np.cumsum(lengths) - lengths
        query_positions = starts[:, None] + steps
        mask_BTS = self._mask(np.arange(num_keys) <= query_positions[:, :, None])
        return AttentionBucket(
            first,
            first + int(lengths.sum()),
            len(chunks),
            block_ids,
            mask_BTS[:, None],
            self._to_device((offsets[:, None] + steps).ravel()),
            self._to_device(np.flatnonzero(is_real)),
        )

    def _read_blocks(self, slots: np.ndarray, num_tokens: int) -> tuple[torch.Tensor, int]:
        """Block ids that cover `num_tokens` of each row, flat, and how many tokens they hold."""
        num_blocks = -(-num_tokens // self.block_size)
        block_ids = self.input_batch.block_table[slots, :num_blocks]
        return self._to_device(block_ids.ravel()), num_blocks * self.block_size

    def _mask(self, is_visible: np.ndarray) -> torch.Tensor:
        visible = self._to_device(is_visible)
        return torch.zeros(visible.shape, dtype=self.dtype, device=self.device).masked_fill_(
            ~visible, -torch.inf
        )

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)


def _concatenate(parts: list[np.ndarray]) -> np.ndarray:
    """Rows of different widths as one array, zeros behind the shorter ones."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])
