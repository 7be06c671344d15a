"""One step on the model: pack the scheduled tokens, run it, sample the next tokens."""

from __future__ import annotations

import contextlib

import numpy as np
import torch

from r1.engine.decode_graphs import CudaRecorder, DecodeGraphs
from r1.engine.input_batch import InputBatch, NewTokens
from r1.engine.kv_cache import PagedKVCache
from r1.engine.routing_cache import RoutingCache
from r1.engine.sampler import SampledTokens, sample_states
from r1.engine.scheduler import PrefillChunk, ScheduledBatch
from r1.engine.spans import Spans
from r1.engine.speculator import Speculator
from r1.engine.step_packing import PackedStep, StepPacker
from r1.models.attention import steps_within
from r1.models.language_model import LanguageModel
from r1.models.moe import RoutingTrace


class ModelRunner:
    """Runs scheduled batches on one model over one cache."""

    def __init__(
        self,
        model: LanguageModel,
        kv_cache: PagedKVCache,
        input_batch: InputBatch,
        routing_cache: RoutingCache | None = None,
        speculative_tokens: int = 0,
    ) -> None:
        self.model = model
        self.kv_cache = kv_cache
        self.routing_cache = routing_cache
        self.input_batch = input_batch
        self.packer = StepPacker(input_batch, kv_cache, model.is_exact)
        self.speculator = (
            Speculator(model, kv_cache, self.packer, speculative_tokens)
            if speculative_tokens
            else None
        )
        # Latent attention, experts and exact mode choose their kernels by what a step holds.
        self.graphs = None
        if kv_cache.paged is not None and not model.is_exact:
            recorder = CudaRecorder(self.packer.device)
            self.graphs = DecodeGraphs(model, kv_cache, input_batch, recorder)

    @torch.inference_mode()
    def execute(self, batch: ScheduledBatch) -> NewTokens | None:
        """Compute a batch and add tokens to the row of every sequence that is due some.

        In the order of `Scheduler.advance`: the decode slots, then the members of the
        groups whose prefill ends. None when only parts of prompts were computed.
        """
        rows, slots = self.input_batch, batch.decode_slots
        num_tokens = rows.num_tokens[slots]
        decode = Spans(slots, num_tokens - 1, num_tokens + rows.num_drafts[slots])
        prefill = [_prefill_spans(batch.chunks)] if batch.chunks else []
        with self._on_device():
            packed = self.packer.pack(decode, *prefill)
            sampled = _sampled_rows(batch, packed)
            hidden_ND = self._forward(packed, None if self.speculator else sampled[1])
            new = self._sample(*sampled, hidden_ND)
            if self.speculator is not None:
                self.speculator.draft(packed, hidden_ND, new)
            self._fork(batch.chunks)
        return new

    def _on_device(self) -> contextlib.AbstractContextManager[object]:
        """The model's GPU as the thread's current one: Triton launches and recordings use it."""
        device = self.packer.device
        return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()

    def _forward(self, packed: PackedStep, wanted: np.ndarray | None) -> torch.Tensor:
        """Hidden states [N, D]; of those that are not wanted there may be none."""
        token_ids = self.input_batch.token_ids[packed.slots, packed.positions]
        if self.graphs is not None and (hidden := self.graphs.run(token_ids, packed)) is not None:
            return hidden
        inputs = (
            self.packer.to_device(token_ids)[None],
            self.packer.to_device(packed.positions)[None],
            self.kv_cache.bind(packed.metadata, wanted),
        )
        if self.routing_cache is None:
            return self.model(*inputs)[0]
        trace = RoutingTrace()
        hidden_BTD = self.model(*inputs, trace=trace)
        self.routing_cache.store(packed.write_slots, trace)
        return hidden_BTD[0]

    def _sample(
        self, slots: np.ndarray, first_rows: np.ndarray, hidden_ND: torch.Tensor
    ) -> NewTokens | None:
        """Sample after every row's last token and after each of its drafts; keep what agrees."""
        if len(slots) == 0:
            return None
        rows = self.input_batch
        if self.speculator is None:
            counts, num_ahead = np.ones_like(slots), np.zeros_like(slots)
            sampled = self._sample_at(hidden_ND, first_rows, slots, num_ahead)
            rows.append_tokens(slots, sampled)
        else:
            counts = rows.num_drafts[slots] + 1
            num_ahead = steps_within(counts)
            places = np.repeat(first_rows, counts) + num_ahead
            sampled = self._sample_at(hidden_ND, places, np.repeat(slots, counts), num_ahead)
            sampled, counts = self.speculator.accept(slots, sampled)
            rows.append_tokens(slots, sampled, counts)
        return NewTokens(slots, counts, sampled, first_rows + counts - 1)

    def _sample_at(
        self, hidden_ND: torch.Tensor, places: np.ndarray, slots: np.ndarray, num_ahead: np.ndarray
    ) -> SampledTokens:
        """A token after each of these packed places, of these rows."""
        hidden_BD = hidden_ND.index_select(0, self.packer.to_device(places))
        sampling = self.input_batch.sampling_batch(slots, num_ahead)
        return sample_states(self.model, hidden_BD, sampling)

    def _fork(self, chunks: list[PrefillChunk]) -> None:
        """Give each member of a prefilled group its own copy of the partly filled block."""
        sources, targets = [], []
        for chunk in chunks:
            index, num_filled = divmod(len(chunk.group.token_ids), self.input_batch.block_size)
            if chunk.is_last and num_filled:
                leader, *followers = (sequence.slot for sequence in chunk.group.sequences)
                table = self.input_batch.block_table
                sources += [table[leader, index]] * len(followers)
                targets += table[followers, index].tolist()
        if targets:
            self.kv_cache.copy_blocks(sources, targets)
            if self.routing_cache is not None:
                self.routing_cache.copy_blocks(sources, targets)


def _prefill_spans(chunks: list[PrefillChunk]) -> Spans:
    places = [(chunk.group.sequences[0].slot, chunk.start, chunk.stop) for chunk in chunks]
    return Spans(*np.array(places, np.int64).reshape(-1, 3).T)


def _sampled_rows(batch: ScheduledBatch, packed: PackedStep) -> tuple[np.ndarray, np.ndarray]:
    """The slots that get tokens, and the packed rows whose logits give each its first one."""
    num_decoding = len(batch.decode_slots)
    if not batch.chunks:
        return batch.decode_slots, packed.firsts
    slots, rows = [batch.decode_slots], [packed.firsts[:num_decoding]]
    for chunk, first in zip(batch.chunks, packed.firsts[num_decoding:].tolist(), strict=True):
        if chunk.is_last:
            members = [sequence.slot for sequence in chunk.group.sequences]
            slots.append(np.array(members))
            rows.append(np.full(len(members), first + chunk.stop - chunk.start - 1))
    return np.concatenate(slots), np.concatenate(rows)
