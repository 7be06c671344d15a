"""Decode steps recorded as CUDA graphs, so that one launch replays a model's hundreds.

A recording repeats the same kernels on the same memory. So the inputs of a step are copied
into buffers that stay, and rows are padded to one of a few sizes, each recorded when it first
comes (the method of vLLM and of nano-vllm's `capture_cudagraph`). A padded row has no item and
no slot: it reads nothing of the cache and writes nothing to it, and its output is dropped.
Weights are read where they lie, so copying new ones into them needs no new recording.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from r1.engine.input_batch import InputBatch
from r1.engine.kv_cache import PagedKVCache
from r1.engine.paged_attention import BoundPagedCache, PagedPlan
from r1.engine.step_packing import PackedStep
from r1.kernels.on_gpu import Tiles
from r1.models.language_model import LanguageModel

SIZES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Numbers of a row beside its block table: token, position, slot, and the four of an item.
_ROW_NUMBERS = 7

_RECORDING = threading.Lock()

# Runs a computation once; returns what runs it again, and the tensor that then has its result.
Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]


class CudaRecorder:
    """`Record` by CUDA graphs, which share one pool of memory: they never run at once."""

    def __init__(self, device: torch.device) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(device)

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        # Before, on the same stream: kernels are compiled and libraries make their
        # workspaces, which a recording must not (torch's notes on CUDA graphs).
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            compute()
        torch.cuda.current_stream().wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the GPU for another model that is served; they must
        # only not record as well.
        place = {"pool": self.pool, "stream": self.stream}
        with _RECORDING, torch.cuda.graph(graph, **place, capture_error_mode="thread_local"):
            result = compute()
        return graph.replay, result


class DecodeGraphs:
    """The recordings of one model over one cache."""

    def __init__(
        self, model: LanguageModel, kv_cache: PagedKVCache, input_batch: InputBatch, record: Record
    ) -> None:
        assert kv_cache.paged is not None
        self.model, self.kernels, self.layers = model, kv_cache.paged, kv_cache.layers
        self.record = record
        self.max_rows = padded_size(len(input_batch.sequences)) or SIZES[-1]
        num_blocks = -(-input_batch.max_model_len // input_batch.block_size)
        device = kv_cache.layers[0].device
        self.numbers = torch.zeros(self.max_rows * _ROW_NUMBERS, dtype=torch.int32, device=device)
        self.tables = torch.zeros(self.max_rows, num_blocks, dtype=torch.int32, device=device)
        self._recorded: dict[int, tuple[Callable[[], None], Tensor]] = {}
        self._place: tuple[int, int] | None = None
        self._is_off = False

    def run(self, token_ids: np.ndarray, packed: PackedStep) -> Tensor | None:
        """Hidden states [N, D] of a step, valid until the next; None for a step of another kind."""
        plan, size = packed.metadata, padded_size(len(token_ids))
        if self._is_off or size is None or size > self.max_rows:
            return None
        if not (isinstance(plan, PagedPlan) and plan.is_decode):
            return None
        self._fill(size, token_ids, packed.positions, plan)
        # All weights move together, where they do.
        place = self.model.embedding_weight.data_ptr(), self.model.model.norm.weight.data_ptr()
        if place != self._place:
            self._recorded.clear()
            self._place = place
        if size not in self._recorded and not self._can_record(size):
            return None
        replay, hidden_ND = self._recorded[size]
        replay()
        return hidden_ND[: len(token_ids)]

    def _can_record(self, size: int) -> bool:
        """Record this size; where the GPU refuses, say so once and never ask again."""
        try:
            self._recorded[size] = self.record(lambda: self._compute(size))
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            logging.getLogger(__name__).warning("decoding without CUDA graphs: %s", reason)
            self._recorded.clear()
            self._is_off = True
        return not self._is_off

    def _compute(self, size: int) -> Tensor:
        parts = self.numbers[: size * _ROW_NUMBERS].split([size, size, size, 4 * size])
        token_ids, positions, write_slots, items = parts
        tiles = Tiles(items.view(size, 4), self.tables, num_tokens=1)
        bound = BoundPagedCache(self.kernels, self.layers, write_slots, [tiles])
        return self.model(token_ids[None], positions[None], bound)[0]

    def _fill(
        self, size: int, token_ids: np.ndarray, positions: np.ndarray, plan: PagedPlan
    ) -> None:
        (items, _), num_rows = plan.launches[0], len(token_ids)
        numbers = np.zeros((_ROW_NUMBERS, size), np.int32)
        numbers[:3, :num_rows] = token_ids, positions, plan.write_slots
        numbers[2, num_rows:] = -1
        numbers[3:].reshape(size, 4)[:num_rows] = items
        flat = torch.from_numpy(numbers.ravel())
        self.numbers[: flat.numel()].copy_(flat, non_blocking=True)
        tables = torch.from_numpy(plan.tables)
        self.tables[:num_rows, : tables.shape[1]].copy_(tables, non_blocking=True)


def padded_size(num_rows: int) -> int | None:
    """The smallest recorded size that holds so many rows; None where none does."""
    return next((size for size in SIZES if size >= num_rows), None)
