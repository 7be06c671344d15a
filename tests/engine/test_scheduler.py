"""The scheduler alone: a fake sampler, random loads, and what must always hold."""

from __future__ import annotations

from collections import deque

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from r1.engine.block_manager import BlockManager
from r1.engine.input_batch import InputBatch
from r1.engine.sampler import SampledTokens
from r1.engine.scheduler import ScheduledBatch, Scheduler
from r1.engine.sequence import Sequence, SequenceGroup
from r1.records import GenerationRequest

BLOCK_SIZE = 3


def make_scheduler(num_blocks: int, max_num_seqs: int, budget: int, caching: bool) -> Scheduler:
    rows = InputBatch(max_num_seqs, num_blocks * BLOCK_SIZE, BLOCK_SIZE)
    return Scheduler(BlockManager(num_blocks), rows, budget, caching)


def make_group(
    name: str, arrival: int, prompt: list[int], samples: int, reply: int
) -> SequenceGroup:
    request = GenerationRequest(name, tuple(prompt), num_samples=samples)
    tokens = np.array(prompt, np.int64)
    return SequenceGroup(
        deque(
            Sequence(request, index, arrival + index, 0, (), len(prompt) + reply, tokens)
            for index in range(samples)
        )
    )


def check(scheduler: Scheduler, batch: ScheduledBatch, budget: int) -> None:
    """Budget, blocks and reference counts of one scheduled step."""
    rows, manager = scheduler.input_batch, scheduler.block_manager
    num_tokens = len(batch.decode_slots) + sum(c.stop - c.start for c in batch.chunks)
    assert 0 < num_tokens <= budget
    assert all(chunk.stop > chunk.start for chunk in batch.chunks)
    in_use = [slot for slot, sequence in enumerate(rows.sequences) if sequence is not None]
    assert len(in_use) + len(rows.free_slots) == len(rows.sequences)
    tables = [rows.block_ids(slot) for slot in in_use]
    held = [block for table in tables for block in table]
    assert manager.ref_counts == [held.count(block) for block in range(manager.num_blocks)]
    written = []
    for slot in batch.decode_slots.tolist():
        position = int(rows.num_tokens[slot]) - 1
        written.append(rows.block_ids(slot)[position // BLOCK_SIZE])
    # Nobody writes into a block that another sequence reads.
    assert all(manager.ref_counts[block] == 1 for block in written)
    assert len(set(written)) == len(written)


@settings(max_examples=60)
@given(
    loads=st.lists(
        st.tuples(st.integers(1, 14), st.integers(1, 4), st.integers(1, 10)), min_size=1, max_size=8
    ),
    num_blocks=st.integers(8, 30),
    max_num_seqs=st.integers(1, 6),
    spare_budget=st.integers(0, 12),
    caching=st.booleans(),
    cancel_at=st.integers(0, 30),
)
def test_everything_finishes_within_its_bounds(
    loads: list[tuple[int, int, int]],
    num_blocks: int,
    max_num_seqs: int,
    spare_budget: int,
    caching: bool,
    cancel_at: int,
) -> None:
    budget = max_num_seqs + spare_budget
    scheduler = make_scheduler(num_blocks, max_num_seqs, budget, caching)
    rows = scheduler.input_batch
    arrival = 0
    expected: dict[tuple[str, int], int] = {}
    for index, (length, samples, reply) in enumerate(loads):
        scheduler.add(make_group(f"r{index}", arrival, [1] * length, samples, reply))
        arrival += samples
        expected |= {(f"r{index}", i): length + reply for i in range(samples)}
    finished: dict[tuple[str, int], int] = {}
    for step in range(2000):
        if not scheduler.has_unfinished():
            break
        if step == cancel_at:
            for sequence in scheduler.cancel("r0"):
                expected.pop((sequence.request.id, sequence.sample_index))
            continue
        batch = scheduler.schedule()
        check(scheduler, batch, budget)
        slots = scheduler.advance(batch)
        if len(slots) == 0:
            continue
        zeros = np.zeros(len(slots), np.float32)
        rows.append_tokens(slots, SampledTokens(np.full(len(slots), 2), zeros, zeros))
        is_ended = rows.num_tokens[slots] >= rows.max_total_tokens[slots]
        for sequence in scheduler.finish(slots[is_ended]):
            key = (sequence.request.id, sequence.sample_index)
            assert key not in finished
            finished[key] = len(sequence.token_ids)
    assert finished == expected
    assert scheduler.block_manager.num_free_blocks == num_blocks
    assert len(rows.free_slots) == max_num_seqs


def test_the_last_to_arrive_is_preempted_and_comes_back_first() -> None:
    scheduler = make_scheduler(num_blocks=4, max_num_seqs=4, budget=16, caching=False)
    rows = scheduler.input_batch
    scheduler.add(make_group("old", 0, [1] * 3, 1, 9))
    scheduler.add(make_group("new", 1, [1] * 3, 1, 9))
    scheduler.add(make_group("third", 2, [1] * 3, 1, 9))
    batch = scheduler.schedule()
    while scheduler.num_preemptions < 2:
        slots = scheduler.advance(batch)
        zeros = np.zeros(len(slots), np.float32)
        rows.append_tokens(slots, SampledTokens(np.full(len(slots), 2), zeros, zeros))
        batch = scheduler.schedule()
    running = [rows.sequences[slot] for slot in scheduler.running]
    assert [sequence.request.id for sequence in running if sequence] == ["old"]
    assert [group.sequences[0].request.id for group in scheduler.waiting] == ["new", "third"]
    preempted = scheduler.waiting[0].sequences[0]
    assert preempted.token_ids.tolist() == [1, 1, 1, 2, 2, 2, 2]
    assert len(preempted.sampler_logprobs) == 4
