"""One reply in the making, and the group of replies that still share one prompt."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from r1.engine.detokenizer import IncrementalDetokenizer
from r1.engine.reply_stream import ReplyStream
from r1.engine.stream_options import StreamOptions
from r1.records import GenerationRequest, SamplingParams


@dataclass(eq=False, slots=True)
class Sequence:
    """One sample of one request.

    `token_ids` (prompt and reply) and the two log-prob arrays (of the reply) are
    current only while the sequence waits; while it runs its row of the
    `InputBatch` holds them. `arrival` orders all sequences of an engine: the one
    that came last is preempted first. `num_cached_tokens` of the prompt came from the prefix cache.
    """

    request: GenerationRequest
    sample_index: int
    arrival: int
    stream_key: int
    stop_token_ids: tuple[int, ...]
    max_total_tokens: int
    token_ids: np.ndarray
    sampler_logprobs: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    raw_logprobs: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    detokenizer: IncrementalDetokenizer | None = None
    stream: ReplyStream | None = None
    options: StreamOptions = field(default_factory=StreamOptions)
    num_cached_tokens: int = 0
    slot: int = -1
    routed_experts: np.ndarray | None = None

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.request.prompt_ids)

    @property
    def sampling(self) -> SamplingParams:
        return self.request.sampling


@dataclass(eq=False, slots=True)
class SequenceGroup:
    """Sequences whose tokens are equal so far: they are prefilled once.

    A fresh request is one group; a preempted sequence comes back as a group of
    its own. `num_computed_tokens` counts the prefilled ones while the group runs.
    """

    sequences: deque[Sequence]
    block_hashes: list[bytes] = field(default_factory=list)
    num_computed_tokens: int = 0

    @property
    def token_ids(self) -> np.ndarray:
        return self.sequences[0].token_ids

    @property
    def arrival(self) -> int:
        return self.sequences[-1].arrival


def hash_blocks(token_ids: np.ndarray, block_size: int) -> list[bytes]:
    """Chained hashes of the full blocks: equal hash = equal tokens from the start on.

    blake2b and not `hash()`: stable between processes, and no two prompts of
    different users can be made to collide.
    """
    hashes: list[bytes] = []
    parent = b""
    data = np.ascontiguousarray(token_ids, dtype=np.int64)
    for start in range(0, len(data) // block_size * block_size, block_size):
        digest = hashlib.blake2b(parent, digest_size=16)
        digest.update(data[start : start + block_size].tobytes())
        parent = digest.digest()
        hashes.append(parent)
    return hashes
