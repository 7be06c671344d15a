"""llama.cpp through llama-cpp-python's low-level calls: many sequences in one batch."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from typing import Any

import llama_cpp
from worker import serve

BATCH_TOKENS = 2048


class Peer:
    """One model, opened once; a context for each call."""

    def open(self, model: str, dtype: str, device: str, num_threads: int) -> dict[str, Any]:
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        # Repacked weights crash on Q4_1 here.
        parameters.use_extra_bufts = not model.endswith("Q4_1.gguf")
        self.model = llama_cpp.llama_model_load_from_file(model.encode(), parameters)
        if not self.model:
            raise ValueError(f"llama.cpp cannot open {model}")
        self.num_threads = num_threads
        info = llama_cpp.llama_print_system_info().decode()
        return {"version": f"llama-cpp-python {llama_cpp.__version__}", "info": info}

    def generate(
        self, prompts: Sequence[Sequence[int]], num_tokens: Sequence[int]
    ) -> dict[str, Any]:
        """Prompts first, then a token of every sequence a step, sampled at temperature 1."""
        steps = max(num_tokens)
        context = self._context(len(prompts), max(map(len, prompts)) + steps)
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_dist(0))
        batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)
        try:
            started = time.perf_counter()
            tokens: list[int] = []
            for first, last in _chunks([len(prompt) for prompt in prompts]):
                ends = []
                batch.n_tokens = 0
                for sequence in range(first, last):
                    for place, token in enumerate(prompts[sequence]):
                        is_end = place == len(prompts[sequence]) - 1
                        _put(batch, token, place, sequence, is_end)
                    ends.append(batch.n_tokens - 1)
                _decode(context, batch)
                tokens += [llama_cpp.llama_sampler_sample(chain, context, end) for end in ends]
            first_seconds = time.perf_counter() - started
            for step in range(1, steps):
                batch.n_tokens = 0
                for row, token in enumerate(tokens):
                    _put(batch, token, len(prompts[row]) + step - 1, row, True)
                _decode(context, batch)
                rows = range(len(prompts))
                tokens = [llama_cpp.llama_sampler_sample(chain, context, row) for row in rows]
            seconds = time.perf_counter() - started
            return {"seconds": seconds, "first_seconds": first_seconds, "num_first": len(prompts)}
        finally:
            llama_cpp.llama_batch_free(batch)
            llama_cpp.llama_sampler_free(chain)
            llama_cpp.llama_free(context)

    def _context(self, num_sequences: int, length: int) -> Any:
        parameters = llama_cpp.llama_context_default_params()
        # Each sequence's share of the cache is rounded to a multiple of 256.
        parameters.n_ctx = num_sequences * (-(-length // 256) * 256)
        parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
        parameters.n_seq_max = num_sequences
        parameters.n_threads = parameters.n_threads_batch = self.num_threads
        context = llama_cpp.llama_init_from_model(self.model, parameters)
        if not context:
            raise MemoryError(f"no context for {num_sequences} sequences of {length}")
        return context


def _chunks(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Prompts first..last that are computed together, at most BATCH_TOKENS."""
    chunks, first, total = [], 0, 0
    for index, length in enumerate(lengths):
        if total + length > BATCH_TOKENS:
            chunks.append((first, index))
            first, total = index, 0
        total += length
    return [*chunks, (first, len(lengths))]


def _put(batch: Any, token: int, place: int, sequence: int, needs_logits: bool) -> None:
    row = batch.n_tokens
    batch.token[row], batch.pos[row] = token, place
    batch.n_seq_id[row], batch.seq_id[row][0] = 1, ctypes.c_int32(sequence)
    batch.logits[row] = needs_logits
    batch.n_tokens = row + 1


def _decode(context: Any, batch: Any) -> None:
    code = llama_cpp.llama_decode(context, batch)
    if code:
        raise RuntimeError(f"llama_decode returned {code}")


if __name__ == "__main__":
    peer = Peer()
    serve({"open": peer.open, "generate": peer.generate})
